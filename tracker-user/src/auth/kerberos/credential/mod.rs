//! The acceptor's side of GSSAPI, made safe: the credential (the keytab) and the contexts of handshakes.
//!
//! libgssapi's own `ServerCtx` loses the token that a refused client should get, and asks for name, mechanism and flags
//! with calls of their own; one call of `gss_accept_sec_context` gives all of them. Delegated credentials are not asked
//! for, so the library drops them at once.
#![expect(unsafe_code, reason = "GSSAPI is a C library; this is the only place that calls it")]

mod kdc;
mod keytab;
mod krb5;
mod localname;
mod password;
mod realms;
mod ticket;

use std::ffi::{CStr, c_void};
use std::ptr;
use std::time::Duration;

use libgssapi::error::{Error, MajorFlags};
use libgssapi_sys as sys;

pub(super) use kdc::{KdcLine, permitted};
pub use kdc::{Refusal, Why};
pub use keytab::KeytabEntry;
pub(super) use keytab::{Keytab, default_name};
pub(super) use localname::local_name;
pub(super) use password::{Refused, Said};
pub(super) use realms::{Realms, realms};
pub(super) use ticket::Opened;

use super::token::{OID_KRB5, OID_MS_KRB5, OID_SPNEGO};
use crate::outside;

/// How much is kept of what the library says, in bytes: two names of usual length and all of its own words.
const MOST_TEXT: usize = 512;

/// What GSSAPI said, in words. Must be made on the thread that made the failing call: the details are kept per thread.
#[derive(Clone, Debug)]
pub(super) struct GssError {
    /// Major and minor text.
    pub(super) text: String,
    /// A token for the peer, which tells it why.
    pub(super) answer: Option<Vec<u8>>,
}

impl GssError {
    fn new(major: u32, minor: u32) -> Self {
        let error = Error { major: MajorFlags::from_bits_retain(major), minor };
        Self::plain(error.to_string())
    }

    /// In one line, both ends of it: it goes into logs and audit trails, and the library repeats between its own words the
    /// names that clients have sent.
    pub(super) fn plain(text: impl AsRef<str>) -> Self {
        Self { text: outside::shown_ends(text.as_ref(), MOST_TEXT), answer: None }
    }
}

const fn oid(bytes: &'static [u8]) -> sys::gss_OID_desc {
    // The library reads through this pointer and never writes.
    sys::gss_OID_desc { length: bytes.len() as u32, elements: bytes.as_ptr().cast_mut().cast::<c_void>() }
}

/// The right to accept handshakes for any principal of a keytab.
#[derive(Debug)]
pub(super) struct Credential(sys::gss_cred_id_t);

// SAFETY: MIT's credentials carry their own lock and may be used by several threads at once; the handle is only freed
// by the last owner.
unsafe impl Send for Credential {}
// SAFETY: as above.
unsafe impl Sync for Credential {}

impl Credential {
    /// Acquires it from the keytab of that name.
    fn acquire(keytab: &CStr) -> Result<Self, GssError> {
        // Whatever else is installed on this machine stays out. The library finds a credential for a bare token by the
        // number that the token has.
        let mut mechanisms = [oid(OID_SPNEGO), oid(OID_KRB5), oid(OID_MS_KRB5)];
        let mut wanted = sys::gss_OID_set_desc { count: 3, elements: mechanisms.as_mut_ptr() };
        let mut element = sys::gss_key_value_element_desc { key: c"keytab".as_ptr(), value: keytab.as_ptr() };
        let store = sys::gss_key_value_set_desc { count: 1, elements: &raw mut element };
        let mut minor = 0;
        let mut handle: sys::gss_cred_id_t = ptr::null_mut();
        // SAFETY: every pointer is to a live local of the type asked for or null where that means "default"; the library
        // copies what it keeps.
        let major = unsafe {
            sys::gss_acquire_cred_from(
                &raw mut minor,
                ptr::null_mut(),
                sys::_GSS_C_INDEFINITE,
                &raw mut wanted,
                sys::GSS_C_ACCEPT as sys::gss_cred_usage_t,
                &raw const store,
                &raw mut handle,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        if major != sys::GSS_S_COMPLETE {
            return Err(GssError::new(major, minor));
        }
        let credential = Self(handle);

        // Within SPNEGO, too, only Kerberos is spoken.
        let mut kerberos = [oid(OID_KRB5)];
        let mut inner = sys::gss_OID_set_desc { count: 1, elements: kerberos.as_mut_ptr() };
        // SAFETY: the handle was just acquired, the set is a live local, and the library copies it.
        let major = unsafe { sys::gss_set_neg_mechs(&raw mut minor, credential.0, &raw mut inner) };
        if major != sys::GSS_S_COMPLETE {
            return Err(GssError::new(major, minor));
        }
        Ok(credential)
    }
}

impl Drop for Credential {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the handle is ours and is not used after this.
        unsafe { sys::gss_release_cred(&raw mut minor, &raw mut self.0) };
    }
}

/// One handshake.
#[derive(Debug)]
pub(super) struct Context(sys::gss_ctx_id_t);

// SAFETY: a context may be used by one thread at a time, whichever; `accept` takes it exclusively.
unsafe impl Send for Context {}

/// What one leg of a handshake came to.
#[derive(Debug)]
pub(super) enum Step {
    /// The peer has to answer this.
    Continue(Vec<u8>),
    /// The peer is who it says.
    Done(Peer),
}

/// The peer of a finished handshake.
#[derive(Debug)]
pub(super) struct Peer {
    /// The principal, as displayed.
    pub(super) principal: Vec<u8>,
    /// A last token for the peer.
    pub(super) answer: Option<Vec<u8>>,
    /// Whether it was Kerberos that proved it.
    pub(super) kerberos: bool,
    /// Whether the peer chose to be nobody.
    pub(super) anonymous: bool,
    /// How long the ticket is valid.
    pub(super) lifetime: Duration,
    /// The context's flags, as in RFC 2744.
    pub(super) flags: u32,
}

impl Context {
    pub(super) const fn new() -> Self {
        Self(ptr::null_mut())
    }

    /// One leg; `bindings` name the channel that the token came through (RFC 5929), where it is one that can be named: a
    /// client that bound its token to another channel is refused, one that bound it to none is not. Blocks: it reads and
    /// writes the replay cache.
    pub(super) fn accept(
        &mut self,
        credential: &Credential,
        token: &[u8],
        bindings: Option<&[u8]>,
    ) -> Result<Step, GssError> {
        let mut minor = 0;
        // The library reads through this pointer and never writes.
        let mut input =
            sys::gss_buffer_desc { length: token.len(), value: token.as_ptr().cast_mut().cast::<c_void>() };
        let mut channel = bindings.map(channel);
        let mut name = Name(ptr::null_mut());
        let mut mechanism: sys::gss_OID = ptr::null_mut();
        let mut answer = Buffer::empty();
        let mut flags = 0;
        let mut seconds = 0;
        // SAFETY: context and credential are valid handles (a null context begins a handshake), every other pointer is
        // to a live local or null where that means "not wanted"; what the library allocates is owned by `name` and
        // `answer`, which free it.
        let major = unsafe {
            sys::gss_accept_sec_context(
                &raw mut minor,
                &raw mut self.0,
                credential.0,
                &raw mut input,
                channel.as_mut().map_or(ptr::null_mut(), ptr::from_mut),
                &raw mut name.0,
                &raw mut mechanism,
                &raw mut answer.0,
                &raw mut flags,
                &raw mut seconds,
                ptr::null_mut(),
            )
        };
        let answer = answer.take();
        match major {
            sys::GSS_S_COMPLETE => {}
            sys::_GSS_S_CONTINUE_NEEDED => return Ok(Step::Continue(answer.unwrap_or_default())),
            _ => return Err(GssError { answer, ..GssError::new(major, minor) }),
        }
        let kerberos = if mechanism.is_null() {
            false
        } else {
            // SAFETY: the library hands out pointers to static object identifiers (RFC 2744, section 3.2).
            let bytes = unsafe {
                std::slice::from_raw_parts((*mechanism).elements.cast::<u8>(), (*mechanism).length as usize)
            };
            bytes == OID_KRB5 || bytes == OID_MS_KRB5
        };
        Ok(Step::Done(Peer {
            principal: name.display()?,
            answer,
            kerberos,
            anonymous: flags & sys::GSS_C_ANON_FLAG != 0,
            lifetime: Duration::from_secs(seconds.into()),
            flags,
        }))
    }
}

/// Bindings that consist of application data alone, as those of TLS do (RFC 5554, section 2).
fn channel(data: &[u8]) -> sys::gss_channel_bindings_struct {
    let buffer = |bytes: &[u8]| sys::gss_buffer_desc {
        length: bytes.len(),
        // The library reads through this pointer and never writes.
        value: bytes.as_ptr().cast_mut().cast::<c_void>(),
    };
    sys::gss_channel_bindings_struct {
        initiator_addrtype: sys::GSS_C_AF_UNSPEC,
        initiator_address: buffer(&[]),
        acceptor_addrtype: sys::GSS_C_AF_UNSPEC,
        acceptor_address: buffer(&[]),
        application_data: buffer(data),
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        if !self.0.is_null() {
            let mut minor = 0;
            // SAFETY: the handle is ours and is not used after this; no final token is wanted.
            unsafe { sys::gss_delete_sec_context(&raw mut minor, &raw mut self.0, ptr::null_mut()) };
        }
    }
}

/// A name that the library allocated.
struct Name(sys::gss_name_t);

impl Name {
    fn display(&self) -> Result<Vec<u8>, GssError> {
        let mut minor = 0;
        let mut text = Buffer::empty();
        // SAFETY: the name is ours (a null one is answered with an error), the buffer is a live local.
        let major =
            unsafe { sys::gss_display_name(&raw mut minor, self.0, &raw mut text.0, ptr::null_mut()) };
        match major {
            sys::GSS_S_COMPLETE => Ok(text.take().unwrap_or_default()),
            _ => Err(GssError::new(major, minor)),
        }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if !self.0.is_null() {
            let mut minor = 0;
            // SAFETY: the name is ours and is not used after this.
            unsafe { sys::gss_release_name(&raw mut minor, &raw mut self.0) };
        }
    }
}

/// Bytes that the library allocated.
struct Buffer(sys::gss_buffer_desc);

impl Buffer {
    const fn empty() -> Self {
        Self(sys::gss_buffer_desc { length: 0, value: ptr::null_mut() })
    }

    /// A copy of what is in it, unless that is nothing.
    fn take(self) -> Option<Vec<u8>> {
        if self.0.value.is_null() || self.0.length == 0 {
            return None;
        }
        // SAFETY: the library filled the buffer in: `length` readable bytes at `value`, until they are released.
        Some(unsafe { std::slice::from_raw_parts(self.0.value.cast::<u8>(), self.0.length) }.to_vec())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: the bytes are the library's and are not used after this; an empty buffer is left alone.
        unsafe { sys::gss_release_buffer(&raw mut minor, &raw mut self.0) };
    }
}
