//! MIT's own interface to Kerberos, as far as GSSAPI has no words for it: keytabs, keys, what a ticket says.
//!
//! The declarations are those of `krb5/krb5.h` (MIT 1.20); libgssapi-sys has none of them.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint, c_void};
use std::ptr;

use super::GssError;

pub(super) type Code = i32;
pub(super) type ContextHandle = *mut c_void;
pub(super) type KeytabHandle = *mut c_void;
pub(super) type Cursor = *mut c_void;
pub(super) type PrincipalHandle = *mut c_void;
pub(super) type CacheHandle = *mut c_void;
pub(super) type OptionsHandle = *mut c_void;
pub(super) type TicketHandle = *mut c_void;
pub(super) type ProfileHandle = *mut c_void;

/// `krb5_keyblock`
#[repr(C)]
pub(super) struct KeyBlock {
    pub(super) magic: i32,
    pub(super) kind: i32,
    pub(super) length: c_uint,
    pub(super) contents: *mut u8,
}

/// `krb5_keytab_entry`
#[repr(C)]
pub(super) struct Entry {
    pub(super) magic: i32,
    pub(super) principal: PrincipalHandle,
    pub(super) timestamp: i32,
    pub(super) version: c_uint,
    pub(super) key: KeyBlock,
}

/// `krb5_data`
#[repr(C)]
pub(super) struct Data {
    pub(super) magic: i32,
    pub(super) length: c_uint,
    pub(super) bytes: *mut u8,
}

impl Data {
    pub(super) const fn empty() -> Self {
        Self { magic: 0, length: 0, bytes: ptr::null_mut() }
    }
}

/// `krb5_ticket_times`: seconds since 1970, to be read without a sign.
#[repr(C)]
pub(super) struct Times {
    pub(super) authenticated: i32,
    pub(super) start: i32,
    pub(super) end: i32,
    pub(super) renew_until: i32,
}

/// `krb5_creds`
#[repr(C)]
pub(super) struct Creds {
    pub(super) magic: i32,
    pub(super) client: PrincipalHandle,
    pub(super) server: PrincipalHandle,
    pub(super) key: KeyBlock,
    pub(super) times: Times,
    pub(super) is_for_second_key: c_uint,
    pub(super) flags: i32,
    pub(super) addresses: *mut c_void,
    pub(super) ticket: Data,
    pub(super) second_ticket: Data,
    pub(super) authorisation: *mut c_void,
}

impl Creds {
    pub(super) const fn empty() -> Self {
        Self {
            magic: 0,
            client: ptr::null_mut(),
            server: ptr::null_mut(),
            key: KeyBlock { magic: 0, kind: 0, length: 0, contents: ptr::null_mut() },
            times: Times { authenticated: 0, start: 0, end: 0, renew_until: 0 },
            is_for_second_key: 0,
            flags: 0,
            addresses: ptr::null_mut(),
            ticket: Data::empty(),
            second_ticket: Data::empty(),
            authorisation: ptr::null_mut(),
        }
    }
}

/// `krb5_verify_init_creds_opt`
#[repr(C)]
pub(super) struct VerifyOptions {
    pub(super) flags: i32,
    pub(super) no_fail: c_int,
}

/// `krb5_trace_info`
#[repr(C)]
pub(super) struct TraceInfo {
    pub(super) message: *const c_char,
}

/// `krb5_trace_callback`
pub(super) type TraceCallback = unsafe extern "C" fn(ContextHandle, *const TraceInfo, *mut c_void);

/// `krb5_post_recv_fn`
pub(super) type ReceiveHook = unsafe extern "C" fn(
    ContextHandle,
    *mut c_void,
    Code,
    *const Data,
    *const Data,
    *const Data,
    *mut *mut Data,
) -> Code;

pub(super) const KRB5_KT_END: Code = -1_765_328_202;
pub(super) const KRB5_GC_NO_STORE: i32 = 8;
/// `MAX_KEYTAB_NAME_LEN`
pub(super) const MAX_NAME: usize = 1_100;

#[link(name = "krb5")]
unsafe extern "C" {
    pub(super) fn krb5_init_context(context: *mut ContextHandle) -> Code;
    pub(super) fn krb5_free_context(context: ContextHandle);
    pub(super) fn krb5_get_error_message(context: ContextHandle, code: Code) -> *const c_char;
    pub(super) fn krb5_free_error_message(context: ContextHandle, message: *const c_char);
    pub(super) fn krb5_kt_default_name(context: ContextHandle, name: *mut c_char, size: c_int) -> Code;
    pub(super) fn krb5_kt_resolve(
        context: ContextHandle,
        name: *const c_char,
        keytab: *mut KeytabHandle,
    ) -> Code;
    pub(super) fn krb5_kt_close(context: ContextHandle, keytab: KeytabHandle) -> Code;
    pub(super) fn krb5_kt_start_seq_get(
        context: ContextHandle,
        keytab: KeytabHandle,
        cursor: *mut Cursor,
    ) -> Code;
    pub(super) fn krb5_kt_next_entry(
        context: ContextHandle,
        keytab: KeytabHandle,
        entry: *mut Entry,
        cursor: *mut Cursor,
    ) -> Code;
    pub(super) fn krb5_kt_end_seq_get(
        context: ContextHandle,
        keytab: KeytabHandle,
        cursor: *mut Cursor,
    ) -> Code;
    pub(super) fn krb5_kt_add_entry(context: ContextHandle, keytab: KeytabHandle, entry: *mut Entry) -> Code;
    pub(super) fn krb5_aname_to_localname(
        context: ContextHandle,
        principal: PrincipalHandle,
        size: c_int,
        name: *mut c_char,
    ) -> Code;
    pub(super) fn krb5_unparse_name(
        context: ContextHandle,
        principal: PrincipalHandle,
        name: *mut *mut c_char,
    ) -> Code;
    pub(super) fn krb5_free_unparsed_name(context: ContextHandle, name: *mut c_char);
    pub(super) fn krb5_free_keytab_entry_contents(context: ContextHandle, entry: *mut Entry) -> Code;
    pub(super) fn krb5_parse_name(
        context: ContextHandle,
        name: *const c_char,
        principal: *mut PrincipalHandle,
    ) -> Code;
    pub(super) fn krb5_free_principal(context: ContextHandle, principal: PrincipalHandle);
    pub(super) fn krb5_get_permitted_enctypes(context: ContextHandle, enctypes: *mut *mut i32) -> Code;
    pub(super) fn krb5_free_enctypes(context: ContextHandle, enctypes: *mut i32);
    pub(super) fn krb5_cc_new_unique(
        context: ContextHandle,
        kind: *const c_char,
        hint: *const c_char,
        cache: *mut CacheHandle,
    ) -> Code;
    pub(super) fn krb5_cc_destroy(context: ContextHandle, cache: CacheHandle) -> Code;
    pub(super) fn krb5_cc_default(context: ContextHandle, cache: *mut CacheHandle) -> Code;
    pub(super) fn krb5_cc_close(context: ContextHandle, cache: CacheHandle) -> Code;
    pub(super) fn krb5_cc_get_principal(
        context: ContextHandle,
        cache: CacheHandle,
        principal: *mut PrincipalHandle,
    ) -> Code;
    pub(super) fn krb5_cc_initialize(
        context: ContextHandle,
        cache: CacheHandle,
        principal: PrincipalHandle,
    ) -> Code;
    pub(super) fn krb5_cc_store_cred(context: ContextHandle, cache: CacheHandle, creds: *mut Creds) -> Code;
    pub(super) fn krb5_get_init_creds_opt_alloc(context: ContextHandle, options: *mut OptionsHandle) -> Code;
    pub(super) fn krb5_get_init_creds_opt_free(context: ContextHandle, options: OptionsHandle);
    pub(super) fn krb5_get_init_creds_opt_set_out_ccache(
        context: ContextHandle,
        options: OptionsHandle,
        cache: CacheHandle,
    ) -> Code;
    pub(super) fn krb5_get_init_creds_keytab(
        context: ContextHandle,
        creds: *mut Creds,
        client: PrincipalHandle,
        keytab: KeytabHandle,
        start: i32,
        service: *const c_char,
        options: OptionsHandle,
    ) -> Code;
    pub(super) fn krb5_get_init_creds_password(
        context: ContextHandle,
        creds: *mut Creds,
        client: PrincipalHandle,
        password: *const c_char,
        prompter: *const c_void,
        prompter_data: *mut c_void,
        start: i32,
        service: *const c_char,
        options: OptionsHandle,
    ) -> Code;
    pub(super) fn krb5_get_init_creds_opt_set_tkt_life(options: OptionsHandle, seconds: i32);
    pub(super) fn krb5_get_init_creds_opt_set_renew_life(options: OptionsHandle, seconds: i32);
    pub(super) fn krb5_get_init_creds_opt_set_forwardable(options: OptionsHandle, on: c_int);
    pub(super) fn krb5_get_init_creds_opt_set_proxiable(options: OptionsHandle, on: c_int);
    pub(super) fn krb5_get_init_creds_opt_set_canonicalize(options: OptionsHandle, on: c_int);
    pub(super) fn krb5_get_init_creds_opt_set_anonymous(options: OptionsHandle, on: c_int);
    pub(super) fn krb5_get_init_creds_opt_set_change_password_prompt(options: OptionsHandle, on: c_int);
    pub(super) fn krb5_verify_init_creds(
        context: ContextHandle,
        creds: *mut Creds,
        server: PrincipalHandle,
        keytab: KeytabHandle,
        cache: *mut CacheHandle,
        options: *mut VerifyOptions,
    ) -> Code;
    pub(super) fn krb5_get_default_realm(context: ContextHandle, realm: *mut *mut c_char) -> Code;
    pub(super) fn krb5_free_default_realm(context: ContextHandle, realm: *mut c_char);
    pub(super) fn krb5_get_profile(context: ContextHandle, profile: *mut ProfileHandle) -> Code;
    pub(super) fn profile_get_subsection_names(
        profile: ProfileHandle,
        path: *const *const c_char,
        names: *mut *mut *mut c_char,
    ) -> c_long;
    pub(super) fn profile_free_list(list: *mut *mut c_char);
    pub(super) fn profile_abandon(profile: ProfileHandle);
    pub(super) fn krb5_free_cred_contents(context: ContextHandle, creds: *mut Creds);
    pub(super) fn krb5_get_credentials(
        context: ContextHandle,
        options: i32,
        cache: CacheHandle,
        wanted: *mut Creds,
        creds: *mut *mut Creds,
    ) -> Code;
    pub(super) fn krb5_free_creds(context: ContextHandle, creds: *mut Creds);
    pub(super) fn krb5_decode_ticket(der: *const Data, ticket: *mut TicketHandle) -> Code;
    pub(super) fn krb5_free_ticket(context: ContextHandle, ticket: TicketHandle);
    pub(super) fn krb5_server_decrypt_ticket_keytab(
        context: ContextHandle,
        keytab: KeytabHandle,
        ticket: TicketHandle,
    ) -> Code;
    pub(super) fn krb5_set_kdc_recv_hook(context: ContextHandle, hook: ReceiveHook, data: *mut c_void);
    pub(super) fn krb5_set_trace_callback(
        context: ContextHandle,
        callback: TraceCallback,
        data: *mut c_void,
    ) -> Code;
}

/// The library's context. Only one thread uses it at a time.
#[derive(Debug)]
pub(super) struct LibraryContext(pub(super) ContextHandle);

impl LibraryContext {
    pub(super) fn new() -> Result<Self, GssError> {
        let mut context = ptr::null_mut();
        // SAFETY: the pointer is to a live local.
        match unsafe { krb5_init_context(&raw mut context) } {
            0 => Ok(Self(context)),
            code => Err(GssError::plain(format!("the Kerberos configuration cannot be read (error {code})"))),
        }
    }

    /// A principal in words.
    pub(super) fn unparse(&self, principal: PrincipalHandle) -> Result<String, GssError> {
        let mut name = ptr::null_mut();
        // SAFETY: the context and the principal are valid; the string is the library's, copied and given back to it.
        unsafe {
            self.check(krb5_unparse_name(self.0, principal, &raw mut name))?;
            let text = CStr::from_ptr(name).to_string_lossy().into_owned();
            krb5_free_unparsed_name(self.0, name);
            Ok(text)
        }
    }

    /// What the library says of `code`, unless that is no error.
    pub(super) fn check(&self, code: Code) -> Result<(), GssError> {
        if code == 0 { Ok(()) } else { Err(GssError::plain(self.words(code))) }
    }

    /// What the library says of an error.
    pub(super) fn words(&self, code: Code) -> String {
        // SAFETY: the context is valid; the library answers with a string of its own, which is given back to it.
        unsafe {
            let message = krb5_get_error_message(self.0, code);
            let text = CStr::from_ptr(message).to_string_lossy().into_owned();
            krb5_free_error_message(self.0, message);
            text
        }
    }
}

impl Drop for LibraryContext {
    fn drop(&mut self) {
        // SAFETY: the context is ours and is not used after this.
        unsafe { krb5_free_context(self.0) };
    }
}

/// A principal that the library allocated.
pub(super) struct Principal<'a> {
    pub(super) handle: PrincipalHandle,
    context: &'a LibraryContext,
}

impl<'a> Principal<'a> {
    /// Makes one of its words.
    pub(super) fn parse(context: &'a LibraryContext, name: &str) -> Result<Self, GssError> {
        let name = CString::new(name).map_err(|_| GssError::plain("a principal with a NUL character"))?;
        let mut handle = ptr::null_mut();
        // SAFETY: the context is valid, the name a string, and the last pointer to a live local.
        context.check(unsafe { krb5_parse_name(context.0, name.as_ptr(), &raw mut handle) })?;
        Ok(Self { handle, context })
    }

    /// The owner of a cache.
    pub(super) fn of_cache(context: &'a LibraryContext, cache: CacheHandle) -> Result<Self, GssError> {
        let mut handle = ptr::null_mut();
        // SAFETY: context and cache are valid, and the last pointer is to a live local.
        context.check(unsafe { krb5_cc_get_principal(context.0, cache, &raw mut handle) })?;
        Ok(Self { handle, context })
    }
}

impl Drop for Principal<'_> {
    fn drop(&mut self) {
        // SAFETY: the principal is ours and is not used after this.
        unsafe { krb5_free_principal(self.context.0, self.handle) };
    }
}
