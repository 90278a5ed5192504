//! A line to the KDCs, with the keys of a keytab: what a client does to get a ticket, done to see what comes of it.
//!
//! The library tells only whether it worked. What the KDC said in the clear (its time, the version of the key that a ticket
//! is made with) is replies on the way, and so is whom the library turned to. Nothing is written to a disk.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_void};
use std::path::Path;
use std::ptr;

use jiff::Timestamp;

use super::GssError;
use super::keytab::{Keytab, Open};
use super::krb5::{
    CacheHandle, Code, ContextHandle, Creds, Data, KRB5_GC_NO_STORE, LibraryContext, OptionsHandle,
    Principal, TraceInfo, krb5_cc_close, krb5_cc_default, krb5_cc_destroy, krb5_cc_initialize,
    krb5_cc_new_unique, krb5_cc_store_cred, krb5_decode_ticket, krb5_free_cred_contents, krb5_free_creds,
    krb5_free_enctypes, krb5_free_ticket, krb5_get_credentials, krb5_get_init_creds_keytab,
    krb5_get_init_creds_opt_alloc, krb5_get_init_creds_opt_free, krb5_get_init_creds_opt_set_out_ccache,
    krb5_get_permitted_enctypes, krb5_server_decrypt_ticket_keytab, krb5_set_kdc_recv_hook,
    krb5_set_trace_callback,
};
use crate::clock::wall_now;

/// Why there was no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No KDC of the realm answers.
    NoAnswer,
    /// The names of the realm's KDCs have no address.
    NoAddress,
    /// Nothing says where the realm's KDCs are, or the one that was asked serves another realm.
    NoRealm,
    /// The KDC does not know who asks.
    ClientUnknown,
    /// The KDC does not know what is asked for.
    ServiceUnknown,
    /// Two accounts have the name.
    Duplicate,
    /// The key is not the account's.
    WrongKey,
    /// The account is locked or disabled.
    Locked,
    /// The account's password has expired.
    Expired,
    /// No encryption type is common to the KDC and this host.
    Enctype,
    /// The clocks differ by too much.
    Skew,
    /// Something else; the library's words say what.
    Other,
}

/// A question that got no ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub why: Why,
    /// The library's words.
    pub text: String,
}

impl From<GssError> for Refusal {
    fn from(error: GssError) -> Self {
        Self { why: Why::Other, text: error.text }
    }
}

/// The meaning of the error codes in `krb5/krb5.h`.
pub(super) const fn why(code: Code) -> Why {
    match code {
        // KRB5_KDC_UNREACH
        -1_765_328_228 => Why::NoAnswer,
        // KRB5_REALM_CANT_RESOLVE, KRB5_EAI_FAIL, KRB5_EAI_NODATA, KRB5_EAI_NONAME, KRB5_EAI_SERVICE; EAGAIN is the resolver's
        -1_765_328_164 | -1_765_328_145..=-1_765_328_142 | libc::EAGAIN => Why::NoAddress,
        // KRB5_REALM_UNKNOWN, KRB5KDC_ERR_WRONG_REALM, KRB5_CONFIG_NODEFREALM
        -1_765_328_230 | -1_765_328_316 | -1_765_328_160 => Why::NoRealm,
        // KRB5KDC_ERR_C_PRINCIPAL_UNKNOWN
        -1_765_328_378 => Why::ClientUnknown,
        // KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN
        -1_765_328_377 => Why::ServiceUnknown,
        // KRB5KDC_ERR_PRINCIPAL_NOT_UNIQUE
        -1_765_328_376 => Why::Duplicate,
        // KRB5KDC_ERR_PREAUTH_FAILED, KRB5KRB_AP_ERR_BAD_INTEGRITY, KRB5_PREAUTH_FAILED
        -1_765_328_360 | -1_765_328_353 | -1_765_328_174 => Why::WrongKey,
        // KRB5KDC_ERR_CLIENT_REVOKED
        -1_765_328_366 => Why::Locked,
        // KRB5KDC_ERR_NAME_EXP, KRB5KDC_ERR_KEY_EXP
        -1_765_328_383 | -1_765_328_361 => Why::Expired,
        // KRB5KDC_ERR_ETYPE_NOSUPP, KRB5_CONFIG_ETYPE_NOSUPP
        -1_765_328_370 | -1_765_328_147 => Why::Enctype,
        // KRB5KRB_AP_ERR_SKEW, KRB5_KDCREP_SKEW
        -1_765_328_347 | -1_765_328_236 => Why::Skew,
        _ => Why::Other,
    }
}

/// A message of a KDC, and when it came.
#[derive(Debug)]
pub(in crate::auth) struct KdcMessage {
    /// DER: KRB-ERROR, AS-REP or TGS-REP.
    pub(in crate::auth) message: Vec<u8>,
    /// By this host's clock.
    pub(in crate::auth) at: Timestamp,
}

/// What the library's callbacks write to.
struct Callbacks {
    replies: RefCell<Vec<KdcMessage>>,
    traced: Box<dyn Fn(&str)>,
}

/// The line. (Declared in this order: the cache is destroyed by `drop`, then the context goes, which still calls `traced`.)
pub(in crate::auth) struct KdcLine {
    cache: CacheHandle,
    keys: Open,
    _keytab: Keytab,
    callbacks: Box<Callbacks>,
}

impl KdcLine {
    /// Opens the keytab; asks nobody yet. `traced` is told, line by line, what the library does.
    pub(in crate::auth) fn open(
        keytab: Option<&Path>,
        traced: impl Fn(&str) + 'static,
    ) -> Result<Self, GssError> {
        let keytab = Keytab::load(keytab)?;
        let keys = keytab.open()?;
        let context = &keys.context;
        let mut cache = ptr::null_mut();
        // SAFETY: the context is valid, the kind a string, no hint is given, and the last pointer is to a live local.
        let code = unsafe { krb5_cc_new_unique(context.0, c"MEMORY".as_ptr(), ptr::null(), &raw mut cache) };
        context.check(code)?;
        let callbacks = Box::new(Callbacks { replies: RefCell::default(), traced: Box::new(traced) });
        let data = (&raw const *callbacks).cast_mut().cast::<c_void>();
        // SAFETY: the callbacks are of the declared types; `callbacks` stays where it is and outlives the context. A library
        // without tracing says so, and is good enough.
        unsafe {
            krb5_set_kdc_recv_hook(context.0, received, data);
            krb5_set_trace_callback(context.0, traced_line, data);
        }
        Ok(Self { cache, keys, _keytab: keytab, callbacks })
    }

    /// Logs in as `client` by its key in the keytab, for a ticket to `service`; `None`: for the ticket that others are
    /// asked for with, which is kept for [`Self::ask`]. Returns the KDC's time in seconds since 1970.
    pub(in crate::auth) fn log_in(&self, client: &str, service: Option<&str>) -> Result<i64, Refusal> {
        let context = &self.keys.context;
        let client = Principal::parse(context, client)?;
        let service = service.map(|name| CString::new(name).unwrap_or_default());
        let options = InitOptions::new(context)?;
        if service.is_none() {
            // SAFETY: context, options and cache are valid.
            let code =
                unsafe { krb5_get_init_creds_opt_set_out_ccache(context.0, options.handle, self.cache) };
            context.check(code)?;
        }
        let service = service.as_ref().map_or(ptr::null(), |name| name.as_ptr());
        let mut creds = Creds::empty();
        // SAFETY: all handles are valid, `creds` is a live local that the library fills in, `service` is a string or null.
        let code = unsafe {
            krb5_get_init_creds_keytab(
                context.0,
                &raw mut creds,
                client.handle,
                self.keys.keytab,
                0,
                service,
                options.handle,
            )
        };
        refused(context, code)?;
        let seconds = i64::from(creds.times.authenticated.cast_unsigned());
        // SAFETY: it was filled in, and is freed once.
        unsafe { krb5_free_cred_contents(context.0, &raw mut creds) };
        Ok(seconds)
    }

    /// Asks for a ticket to `service`, as `client`, who was logged in last.
    pub(in crate::auth) fn ask(&self, client: &str, service: &str) -> Result<(), Refusal> {
        let context = &self.keys.context;
        let (client, service) = (Principal::parse(context, client)?, Principal::parse(context, service)?);
        let mut wanted = Creds { client: client.handle, server: service.handle, ..Creds::empty() };
        let mut creds = ptr::null_mut();
        // SAFETY: all handles are valid; the library reads `wanted` and answers with creds of its own, freed once.
        let code = unsafe {
            let code = krb5_get_credentials(context.0, 0, self.cache, &raw mut wanted, &raw mut creds);
            if code == 0 {
                krb5_free_creds(context.0, creds);
            }
            code
        };
        refused(context, code)
    }

    /// Takes the ticket of the user who runs this program for [`Self::ask`], from their own cache, which stays as it is.
    /// Returns who that is. Asks the KDC where it is a user of another realm than `realm`.
    pub(in crate::auth) fn borrow(&self, realm: &str) -> Result<String, Refusal> {
        let context = &self.keys.context;
        let own = OwnCache::open(context)?;
        let client = Principal::of_cache(context, own.handle)?;
        let name = context.unparse(client.handle)?;
        let home = name.rsplit_once('@').map_or(realm, |(_, home)| home);
        let server = Principal::parse(context, &format!("krbtgt/{realm}@{home}"))?;
        let mut wanted = Creds { client: client.handle, server: server.handle, ..Creds::empty() };
        let mut creds = ptr::null_mut();
        // SAFETY: all handles are valid; the library reads `wanted` and answers with creds of its own, which are freed once,
        // after the other cache has made a copy of them.
        let code = unsafe {
            let code = krb5_get_credentials(
                context.0,
                KRB5_GC_NO_STORE,
                own.handle,
                &raw mut wanted,
                &raw mut creds,
            );
            refused(context, code)?;
            let mut code = krb5_cc_initialize(context.0, self.cache, client.handle);
            if code == 0 {
                code = krb5_cc_store_cred(context.0, self.cache, creds);
            }
            krb5_free_creds(context.0, creds);
            code
        };
        refused(context, code)?;
        Ok(name)
    }

    /// What KDCs have said since this was last asked, oldest first.
    pub(in crate::auth) fn replies(&self) -> Vec<KdcMessage> {
        self.callbacks.replies.take()
    }

    /// Whether some key of the keytab opens a ticket, as when a client sends it.
    pub(in crate::auth) fn opens(&self, ticket: &[u8]) -> bool {
        let context = &self.keys.context;
        let Ok(length) = ticket.len().try_into() else { return false };
        // The library reads through this pointer and never writes.
        let der = Data { magic: 0, length, bytes: ticket.as_ptr().cast_mut() };
        let mut decoded = ptr::null_mut();
        // SAFETY: the handles are valid; the ticket is the library's own copy, freed once.
        unsafe {
            if krb5_decode_ticket(&raw const der, &raw mut decoded) != 0 {
                return false;
            }
            let code = krb5_server_decrypt_ticket_keytab(context.0, self.keys.keytab, decoded);
            krb5_free_ticket(context.0, decoded);
            code == 0
        }
    }
}

impl Drop for KdcLine {
    fn drop(&mut self) {
        // SAFETY: the cache is ours and is not used after this; its context still lives.
        unsafe { krb5_cc_destroy(self.keys.context.0, self.cache) };
    }
}

/// The encryption types that the Kerberos configuration permits, by number.
pub(in crate::auth) fn permitted() -> Result<Vec<i32>, GssError> {
    let context = LibraryContext::new()?;
    let mut list = ptr::null_mut();
    // SAFETY: the context is valid and the pointer to a live local.
    context.check(unsafe { krb5_get_permitted_enctypes(context.0, &raw mut list) })?;
    let mut permitted = Vec::new();
    // SAFETY: the library answers with a list that ends with 0, to be given back to it.
    unsafe {
        let mut next = list;
        while *next != 0 {
            permitted.push(*next);
            next = next.add(1);
        }
        krb5_free_enctypes(context.0, list);
    }
    Ok(permitted)
}

fn refused(context: &LibraryContext, code: Code) -> Result<(), Refusal> {
    if code == 0 { Ok(()) } else { Err(Refusal { why: why(code), text: context.words(code) }) }
}

/// Calls with what a KDC answered: `krb5_post_recv_fn`.
unsafe extern "C" fn received(
    _: ContextHandle,
    data: *mut c_void,
    code: Code,
    _: *const Data,
    _: *const Data,
    reply: *const Data,
    _: *mut *mut Data,
) -> Code {
    if code == 0 && !data.is_null() && !reply.is_null() {
        // SAFETY: `data` is the `Callbacks` that the hook was set with, which outlive the context; the reply is the library's, and
        // lasts for this call.
        let (callbacks, bytes) = unsafe {
            let Data { length, bytes, .. } = *reply;
            let bytes: &[u8] =
                if bytes.is_null() { &[] } else { std::slice::from_raw_parts(bytes, length as usize) };
            (&*data.cast::<Callbacks>(), bytes)
        };
        if let Ok(mut replies) = callbacks.replies.try_borrow_mut() {
            replies.push(KdcMessage { message: bytes.to_vec(), at: wall_now() });
        }
    }
    code
}

/// Calls with a line of what the library does: `krb5_trace_callback`. Without a line when the context goes.
unsafe extern "C" fn traced_line(_: ContextHandle, info: *const TraceInfo, data: *mut c_void) {
    if info.is_null() || data.is_null() {
        return;
    }
    // SAFETY: as in `received`; the message is a string that lasts for this call.
    let (callbacks, message) = unsafe { (&*data.cast::<Callbacks>(), CStr::from_ptr((*info).message)) };
    (callbacks.traced)(&message.to_string_lossy());
}

/// The cache of the user who runs this program (`KRB5CCNAME`). There may be nothing in it.
struct OwnCache<'a> {
    handle: CacheHandle,
    context: &'a LibraryContext,
}

impl<'a> OwnCache<'a> {
    fn open(context: &'a LibraryContext) -> Result<Self, GssError> {
        let mut handle = ptr::null_mut();
        // SAFETY: the context is valid and the pointer to a live local.
        context.check(unsafe { krb5_cc_default(context.0, &raw mut handle) })?;
        Ok(Self { handle, context })
    }
}

impl Drop for OwnCache<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and is not used after this; what it stands for stays.
        unsafe { krb5_cc_close(self.context.0, self.handle) };
    }
}

/// How to log in.
pub(super) struct InitOptions<'a> {
    pub(super) handle: OptionsHandle,
    context: &'a LibraryContext,
}

impl<'a> InitOptions<'a> {
    pub(super) fn new(context: &'a LibraryContext) -> Result<Self, GssError> {
        let mut handle = ptr::null_mut();
        // SAFETY: the context is valid and the pointer to a live local.
        context.check(unsafe { krb5_get_init_creds_opt_alloc(context.0, &raw mut handle) })?;
        Ok(Self { handle, context })
    }
}

impl Drop for InitOptions<'_> {
    fn drop(&mut self) {
        // SAFETY: the options are ours and are not used after this.
        unsafe { krb5_get_init_creds_opt_free(self.context.0, self.handle) };
    }
}
