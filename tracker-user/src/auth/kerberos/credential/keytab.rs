//! A keytab in memory: the file is read when it is loaded, and not again with every handshake.
//!
//! GSSAPI knows keytabs by name only; what MIT's library keeps under `MEMORY:name` lives as long as something holds it.

use std::ffi::{CStr, CString, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::krb5::{
    Code, Cursor, Entry, KRB5_KT_END, KeyBlock, KeytabHandle, LibraryContext, MAX_NAME,
    krb5_free_keytab_entry_contents, krb5_kt_add_entry, krb5_kt_close, krb5_kt_default_name,
    krb5_kt_end_seq_get, krb5_kt_next_entry, krb5_kt_resolve, krb5_kt_start_seq_get,
};
use super::{Credential, GssError};

/// The keys that handshakes are accepted with.
#[derive(Debug)]
pub(in crate::auth) struct Keytab {
    name: CString,
    /// Holds what is in memory under that name.
    _memory: Option<Open>,
}

/// A key of a keytab, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeytabEntry {
    /// Whose key it is.
    pub principal: String,
    /// Its version (kvno).
    pub version: u32,
    /// Its encryption type, as numbered by RFC 3961 and its successors.
    pub enctype: i32,
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

    /// What stands in it, without the keys themselves.
    pub(in crate::auth) fn entries(&self) -> Result<Vec<KeytabEntry>, GssError> {
        let mut entries = Vec::new();
        let open = self.open()?;
        open.each(|entry| {
            entries.push(KeytabEntry {
                principal: open.context.unparse(entry.principal)?,
                version: entry.version,
                enctype: entry.key.kind,
            });
            Ok(())
        })?;
        Ok(entries)
    }

    /// Opens it once more, in a context of its own.
    pub(super) fn open(&self) -> Result<Open, GssError> {
        Open::resolve(&self.name)
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

/// A keytab that is open. (Declared in this order: it is closed before its context goes.)
#[derive(Debug)]
pub(super) struct Open {
    pub(super) keytab: KeytabHandle,
    pub(super) context: LibraryContext,
}

// SAFETY: after it is made, it is only dropped, by one thread.
unsafe impl Send for Open {}
// SAFETY: as above; nothing can be done with a reference to it that touches the handles, but by its maker.
unsafe impl Sync for Open {}

impl Open {
    pub(super) fn resolve(name: &CStr) -> Result<Self, GssError> {
        let context = LibraryContext::new()?;
        let mut keytab = ptr::null_mut();
        // SAFETY: the context is valid, the name a string, and the last pointer to a live local.
        let code = unsafe { krb5_kt_resolve(context.0, name.as_ptr(), &raw mut keytab) };
        context.check(code)?;
        Ok(Self { keytab, context })
    }

    pub(super) const fn context(&self) -> &LibraryContext {
        &self.context
    }

    /// Adds all entries to another keytab.
    fn copy_to(&self, other: &Self) -> Result<(), GssError> {
        self.each(|entry| {
            // SAFETY: the handles are valid, and the entry is filled in; the other keytab copies it.
            let code = unsafe { krb5_kt_add_entry(other.context.0, other.keytab, entry) };
            other.context.check(code)
        })
    }

    /// Does `work` with each entry, until it fails.
    pub(super) fn each(
        &self,
        mut work: impl FnMut(&mut Entry) -> Result<(), GssError>,
    ) -> Result<(), GssError> {
        let mut cursor = ptr::null_mut();
        // SAFETY: the handles are valid, and the cursor is a live local.
        let code = unsafe { krb5_kt_start_seq_get(self.context.0, self.keytab, &raw mut cursor) };
        self.context.check(code)?;
        let done = loop {
            match self.next(&mut cursor) {
                Ok(Some(mut entry)) => {
                    let done = work(&mut entry);
                    // SAFETY: the entry was filled in, and is freed once.
                    unsafe { krb5_free_keytab_entry_contents(self.context.0, &raw mut entry) };
                    if done.is_err() {
                        break done;
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        // SAFETY: as above; the cursor was begun, and is not used after this.
        unsafe { krb5_kt_end_seq_get(self.context.0, self.keytab, &raw mut cursor) };
        done
    }

    fn next(&self, cursor: &mut Cursor) -> Result<Option<Entry>, GssError> {
        let key = KeyBlock { magic: 0, kind: 0, length: 0, contents: ptr::null_mut() };
        let mut entry = Entry { magic: 0, principal: ptr::null_mut(), timestamp: 0, version: 0, key };
        // SAFETY: the handles are valid, the cursor was begun; the library fills the entry in, unless it fails.
        let code: Code = unsafe { krb5_kt_next_entry(self.context.0, self.keytab, &raw mut entry, cursor) };
        if code == KRB5_KT_END {
            return Ok(None);
        }
        self.context.check(code)?;
        Ok(Some(entry))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: the handle is ours and is not used after this; its context still lives.
        unsafe { krb5_kt_close(self.context.0, self.keytab) };
    }
}
