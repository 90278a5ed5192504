//! A keytab in memory: the file is read when it is loaded, and not again with every handshake.
//!
//! GSSAPI knows keytabs by name only; what MIT's library keeps under `MEMORY:name` lives as long as something holds it. Its
//! functions for keytabs are not in libgssapi-sys: the declarations here are those of `krb5/krb5.h` (MIT 1.20).

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Credential, GssError};

type Code = i32;
type ContextHandle = *mut c_void;
type KeytabHandle = *mut c_void;
type Cursor = *mut c_void;

/// `krb5_keyblock`
#[repr(C)]
struct KeyBlock {
    magic: i32,
    kind: i32,
    length: c_uint,
    contents: *mut u8,
}

/// `krb5_keytab_entry`
#[repr(C)]
struct Entry {
    magic: i32,
    principal: *mut c_void,
    timestamp: i32,
    version: c_uint,
    key: KeyBlock,
}

const KRB5_KT_END: Code = -1_765_328_202;
/// `MAX_KEYTAB_NAME_LEN`
const MAX_NAME: usize = 1_100;

#[link(name = "krb5")]
unsafe extern "C" {
    fn krb5_init_context(context: *mut ContextHandle) -> Code;
    fn krb5_free_context(context: ContextHandle);
    fn krb5_get_error_message(context: ContextHandle, code: Code) -> *const c_char;
    fn krb5_free_error_message(context: ContextHandle, message: *const c_char);
    fn krb5_kt_default_name(context: ContextHandle, name: *mut c_char, size: c_int) -> Code;
    fn krb5_kt_resolve(context: ContextHandle, name: *const c_char, keytab: *mut KeytabHandle) -> Code;
    fn krb5_kt_close(context: ContextHandle, keytab: KeytabHandle) -> Code;
    fn krb5_kt_start_seq_get(context: ContextHandle, keytab: KeytabHandle, cursor: *mut Cursor) -> Code;
    fn krb5_kt_next_entry(
        context: ContextHandle,
        keytab: KeytabHandle,
        entry: *mut Entry,
        cursor: *mut Cursor,
    ) -> Code;
    fn krb5_kt_end_seq_get(context: ContextHandle, keytab: KeytabHandle, cursor: *mut Cursor) -> Code;
    fn krb5_kt_add_entry(context: ContextHandle, keytab: KeytabHandle, entry: *mut Entry) -> Code;
    fn krb5_free_keytab_entry_contents(context: ContextHandle, entry: *mut Entry) -> Code;
}

/// The keys that handshakes are accepted with.
#[derive(Debug)]
pub(in crate::auth) struct Keytab {
    name: CString,
    /// Holds what is in memory under that name.
    _memory: Option<Open>,
}

impl Keytab {
    /// Reads `keytab`, or what the environment and the Kerberos configuration name; `None` if that names nothing. A keytab
    /// that is no file is used where it is.
    pub(in crate::auth) fn load(keytab: Option<&Path>) -> Result<Self, GssError> {
        let name = match keytab {
            Some(path) => CString::new(path.as_os_str().as_bytes())
                .map_err(|_| GssError::plain("a path with a NUL character"))?,
            None => default_name()?,
        };
        if !is_file(&name) {
            return Ok(Self { name, _memory: None });
        }
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let in_memory = CString::new(format!("MEMORY:tracker-{number}")).unwrap_or_default();
        let memory = Open::resolve(&in_memory)?;
        Open::resolve(&name)?.copy_to(&memory)?;
        Ok(Self { name: in_memory, _memory: Some(memory) })
    }

    /// The right to accept by these keys. The library locks a credential for as long as it verifies a token with it, so
    /// that each thread wants its own.
    pub(in crate::auth) fn credential(&self) -> Result<Credential, GssError> {
        Credential::acquire(&self.name)
    }
}

/// What the environment and the Kerberos configuration name as the keytab, such as `FILE:/etc/krb5.keytab`.
pub(in crate::auth) fn default_name() -> Result<CString, GssError> {
    let context = LibraryContext::new()?;
    let mut name = [0_u8; MAX_NAME];
    // SAFETY: the context is valid, and the buffer as long as is said.
    let code = unsafe { krb5_kt_default_name(context.0, name.as_mut_ptr().cast(), MAX_NAME as c_int) };
    context.check(code)?;
    let name =
        CStr::from_bytes_until_nul(&name).map_err(|_| GssError::plain("the keytab's name is too long"))?;
    Ok(name.to_owned())
}

/// Whether a keytab's name is a file's: it has no kind, or the kind of files.
fn is_file(name: &CStr) -> bool {
    let name = name.to_bytes();
    name.starts_with(b"/")
        || name.starts_with(b"FILE:")
        || name.starts_with(b"WRFILE:")
        || !name.contains(&b':')
}

/// The library's context. Only one thread uses it at a time.
#[derive(Debug)]
struct LibraryContext(ContextHandle);

impl LibraryContext {
    fn new() -> Result<Self, GssError> {
        let mut context = ptr::null_mut();
        // SAFETY: the pointer is to a live local.
        match unsafe { krb5_init_context(&raw mut context) } {
            0 => Ok(Self(context)),
            code => Err(GssError::plain(format!("the Kerberos configuration cannot be read (error {code})"))),
        }
    }

    fn check(&self, code: Code) -> Result<(), GssError> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the context is valid; the library answers with a string of its own, which is given back to it.
        let text = unsafe {
            let message = krb5_get_error_message(self.0, code);
            let text = CStr::from_ptr(message).to_string_lossy().into_owned();
            krb5_free_error_message(self.0, message);
            text
        };
        Err(GssError::plain(text))
    }
}

impl Drop for LibraryContext {
    fn drop(&mut self) {
        // SAFETY: the context is ours and is not used after this.
        unsafe { krb5_free_context(self.0) };
    }
}

/// A keytab that is open. (Declared in this order: it is closed before its context goes.)
#[derive(Debug)]
struct Open {
    keytab: KeytabHandle,
    context: LibraryContext,
}

// SAFETY: after it is made, it is only dropped, by one thread.
unsafe impl Send for Open {}
// SAFETY: as above; nothing can be done with a reference to it that touches the handles, but by its maker.
unsafe impl Sync for Open {}

impl Open {
    fn resolve(name: &CStr) -> Result<Self, GssError> {
        let context = LibraryContext::new()?;
        let mut keytab = ptr::null_mut();
        // SAFETY: the context is valid, the name a string, and the last pointer to a live local.
        let code = unsafe { krb5_kt_resolve(context.0, name.as_ptr(), &raw mut keytab) };
        context.check(code)?;
        Ok(Self { keytab, context })
    }

    /// Adds all entries to another keytab.
    fn copy_to(&self, other: &Self) -> Result<(), GssError> {
        let mut cursor = ptr::null_mut();
        // SAFETY: the handles are valid, and the cursor is a live local.
        let code = unsafe { krb5_kt_start_seq_get(self.context.0, self.keytab, &raw mut cursor) };
        self.context.check(code)?;
        let copied = self.copy_from(&mut cursor, other);
        // SAFETY: as above; the cursor was begun, and is not used after this.
        unsafe { krb5_kt_end_seq_get(self.context.0, self.keytab, &raw mut cursor) };
        copied
    }

    fn copy_from(&self, cursor: &mut Cursor, other: &Self) -> Result<(), GssError> {
        loop {
            let key = KeyBlock { magic: 0, kind: 0, length: 0, contents: ptr::null_mut() };
            let mut entry = Entry { magic: 0, principal: ptr::null_mut(), timestamp: 0, version: 0, key };
            // SAFETY: the handles are valid, the cursor was begun; the library fills the entry in, unless it fails.
            let code = unsafe { krb5_kt_next_entry(self.context.0, self.keytab, &raw mut entry, cursor) };
            if code == KRB5_KT_END {
                return Ok(());
            }
            self.context.check(code)?;
            // SAFETY: the entry was filled in; the other keytab copies it, and it is freed once.
            let code = unsafe {
                let code = krb5_kt_add_entry(other.context.0, other.keytab, &raw mut entry);
                krb5_free_keytab_entry_contents(self.context.0, &raw mut entry);
                code
            };
            other.context.check(code)?;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and is not used after this; its context still lives.
        unsafe { krb5_kt_close(self.context.0, self.keytab) };
    }
}
