//! Which realms the Kerberos configuration knows.

use std::ffi::{CStr, c_char};
use std::ptr;

use super::GssError;
use super::krb5::{
    LibraryContext, ProfileHandle, krb5_free_default_realm, krb5_get_default_realm, krb5_get_profile,
    profile_abandon, profile_free_list, profile_get_subsection_names,
};

/// More are not read.
const MOST: usize = 256;

/// The realms of krb5.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::auth) struct Realms {
    /// The default realm, if there is one.
    pub(in crate::auth) default: Option<String>,
    /// Those that have a section in `[realms]`.
    pub(in crate::auth) named: Vec<String>,
}

/// Reads them. Blocks.
pub(in crate::auth) fn realms() -> Result<Realms, GssError> {
    let context = LibraryContext::new()?;
    Ok(Realms { default: default(&context), named: named(&context)? })
}

fn default(context: &LibraryContext) -> Option<String> {
    let mut realm = ptr::null_mut();
    // SAFETY: the context is valid and the pointer to a live local; the string is the library's, copied and given back to it.
    unsafe {
        if krb5_get_default_realm(context.0, &raw mut realm) != 0 {
            return None;
        }
        let text = CStr::from_ptr(realm).to_str().ok().map(str::to_owned);
        krb5_free_default_realm(context.0, realm);
        text.filter(|realm| !realm.is_empty())
    }
}

fn named(context: &LibraryContext) -> Result<Vec<String>, GssError> {
    let profile = Profile::of(context)?;
    let path: [*const c_char; 2] = [c"realms".as_ptr(), ptr::null()];
    let mut list: *mut *mut c_char = ptr::null_mut();
    let mut realms = Vec::new();
    // SAFETY: the profile is valid, the path a list of strings that ends with a null pointer, the last pointer is to a live
    // local. The library answers with such a list of its own, to be given back to it; without a section, with an error.
    unsafe {
        if profile_get_subsection_names(profile.0, path.as_ptr(), &raw mut list) != 0 || list.is_null() {
            return Ok(realms);
        }
        let mut next = list;
        while !(*next).is_null() && realms.len() < MOST {
            if let Ok(name) = CStr::from_ptr(*next).to_str() {
                realms.push(name.to_owned());
            }
            next = next.add(1);
        }
        profile_free_list(list);
    }
    Ok(realms)
}

/// The configuration as a tree.
struct Profile(ProfileHandle);

impl Profile {
    fn of(context: &LibraryContext) -> Result<Self, GssError> {
        let mut profile = ptr::null_mut();
        // SAFETY: the context is valid and the pointer to a live local.
        context.check(unsafe { krb5_get_profile(context.0, &raw mut profile) })?;
        Ok(Self(profile))
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // SAFETY: it is ours and is not used after this.
        unsafe { profile_abandon(self.0) };
    }
}
