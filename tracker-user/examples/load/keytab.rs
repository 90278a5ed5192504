//! A keytab in memory, and which one GSSAPI accepts from: calls that no Rust crate has.
#![expect(unsafe_code, reason = "libkrb5 is a C library")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;

use anyhow::{Result, ensure};

/// Larger than `krb5_keytab_entry`, which is only passed through.
type Entry = [u64; 16];
/// `KRB5_KT_END`: there are no more entries.
const END: c_int = -1_765_328_202;
const NAME: &str = "MEMORY:bench";

#[link(name = "krb5")]
unsafe extern "C" {
    fn krb5_init_context(context: *mut *mut c_void) -> c_int;
    fn krb5_kt_resolve(context: *mut c_void, name: *const c_char, keytab: *mut *mut c_void) -> c_int;
    fn krb5_kt_start_seq_get(context: *mut c_void, keytab: *mut c_void, cursor: *mut *mut c_void) -> c_int;
    fn krb5_kt_next_entry(
        context: *mut c_void,
        keytab: *mut c_void,
        entry: *mut Entry,
        cursor: *mut *mut c_void,
    ) -> c_int;
    fn krb5_kt_end_seq_get(context: *mut c_void, keytab: *mut c_void, cursor: *mut *mut c_void) -> c_int;
    fn krb5_kt_add_entry(context: *mut c_void, keytab: *mut c_void, entry: *mut Entry) -> c_int;
}

#[link(name = "gssapi_krb5")]
unsafe extern "C" {
    fn krb5_gss_register_acceptor_identity(keytab: *const c_char) -> u32;
}

/// Copies a keytab into memory, where it stays as long as the process; returns its name.
pub(crate) fn in_memory(file: &Path) -> Result<String> {
    let file = CString::new([b"FILE:", file.as_os_str().as_bytes()].concat())?;
    let memory = CString::new(NAME)?;
    let (mut context, mut from, mut to, mut cursor) =
        (ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    let done = |code: c_int, what: &str| -> Result<()> {
        ensure!(code == 0, "{what}: krb5 error {code}");
        Ok(())
    };
    // SAFETY: every pointer is to a live local; handles are used only after the call that makes them has succeeded; an
    // entry is larger than the library's own type and is only handed back to it. Context, keytab and entries are kept
    // for the life of the process on purpose: the memory keytab lives as long as a handle to it is open.
    unsafe {
        done(krb5_init_context(&raw mut context), "krb5_init_context")?;
        done(krb5_kt_resolve(context, file.as_ptr(), &raw mut from), "krb5_kt_resolve")?;
        done(krb5_kt_resolve(context, memory.as_ptr(), &raw mut to), "krb5_kt_resolve")?;
        done(krb5_kt_start_seq_get(context, from, &raw mut cursor), "krb5_kt_start_seq_get")?;
        loop {
            let mut entry: Entry = [0; 16];
            match krb5_kt_next_entry(context, from, &raw mut entry, &raw mut cursor) {
                END => break,
                code => done(code, "krb5_kt_next_entry")?,
            }
            done(krb5_kt_add_entry(context, to, &raw mut entry), "krb5_kt_add_entry")?;
        }
        done(krb5_kt_end_seq_get(context, from, &raw mut cursor), "krb5_kt_end_seq_get")?;
    }
    Ok(NAME.to_owned())
}

/// Makes this the keytab of credentials that are acquired from now on.
pub(crate) fn accept_from(name: &str) -> Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the name is a live string, which the library copies.
    let code = unsafe { krb5_gss_register_acceptor_identity(name.as_ptr()) };
    ensure!(code == 0, "krb5_gss_register_acceptor_identity: {code}");
    Ok(())
}
