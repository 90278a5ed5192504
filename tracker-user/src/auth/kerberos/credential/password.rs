//! A password against the KDC of its realm, and that KDC against the keys of a keytab.
//!
//! Whoever answers in a KDC's place accepts any password that is made up with it; only who knows the key of a service of
//! ours is the realm's. So a login counts when a ticket to that service was had by it and a key of the keytab opened it. MIT's
//! function for that *pretends to succeed* where it finds no key (with no service named, or one that the keytab does not
//! have), unless it is told not to: it always is.
//!
//! Nothing is written to a disk: what the library keeps for the time being is in its memory, and freed.

use std::ffi::{c_char, c_int};
use std::ptr;

use zeroize::Zeroizing;

use super::GssError;
use super::kdc::{InitOptions, Why, why};
use super::keytab::{Keytab, Open};
use super::krb5::{
    Code, Creds, LibraryContext, Principal, VerifyOptions, krb5_free_cred_contents,
    krb5_get_init_creds_opt_set_anonymous, krb5_get_init_creds_opt_set_canonicalize,
    krb5_get_init_creds_opt_set_change_password_prompt, krb5_get_init_creds_opt_set_forwardable,
    krb5_get_init_creds_opt_set_proxiable, krb5_get_init_creds_opt_set_renew_life,
    krb5_get_init_creds_opt_set_tkt_life, krb5_get_init_creds_password, krb5_verify_init_creds,
};
use crate::auth::password::Password;

/// A ticket is asked for this long: it is thrown away at once.
const TICKET_SECONDS: i32 = 300;
const NO: c_int = 0;
/// `KRB5_VERIFY_INIT_CREDS_OPT_AP_REQ_NOFAIL`
const AP_REQ_NOFAIL: i32 = 1;

/// What came of a password that proves nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth) enum Said {
    /// It is not the account's.
    WrongPassword,
    /// There is no such account.
    UnknownUser,
    /// It has to be changed first.
    Expired,
    /// The account may not log in, or not so: disabled, locked, of keys that are not permitted here, by policy.
    Disabled,
    /// No trust leads from the account's realm to this gateway.
    NoTrust,
    /// The KDC accepts it, but does not have this gateway's keys.
    FalseKdc,
    /// Nothing says where the realm's KDCs are.
    NoRealm,
    /// No KDC answers.
    Silent,
    /// The clocks differ by too much.
    Skew,
    /// Something else: it proves nobody, and says nothing of the password.
    Other,
}

/// A password that proves nobody.
#[derive(Clone, Debug)]
pub(in crate::auth) struct Refused {
    /// Why.
    pub(in crate::auth) said: Said,
    /// In the library's words.
    pub(in crate::auth) text: String,
}

impl From<GssError> for Refused {
    fn from(error: GssError) -> Self {
        Self { said: Said::Other, text: error.text }
    }
}

impl Keytab {
    /// Logs in as `client` (`user@REALM`, nothing in it quoted), then has the KDC prove itself by the key of one of
    /// `services`, which are principals of this keytab; the first that proves it is enough, and none is no proof. Returns whom
    /// the ticket names. Blocks, and for many seconds where a KDC is silent.
    pub(in crate::auth) fn prove(
        &self,
        client: &str,
        password: &Password,
        services: &[&str],
    ) -> Result<String, Refused> {
        let keys = self.open()?;
        let context = &keys.context;
        let principal = Principal::parse(context, client)?;
        if context.unparse(principal.handle)? != client {
            return Err(GssError::plain("the name would be asked for as another").into());
        }
        let mut creds = log_in(context, &principal, password)?;
        let realm = client.rsplit_once('@').map_or("", |(_, realm)| realm);
        let mut refused = None;
        for service in services {
            let foreign = service.rsplit_once('@').is_none_or(|(_, theirs)| theirs != realm);
            match verify(&keys, &mut creds, service, foreign) {
                Ok(()) => return Ok(context.unparse(creds.creds.client)?),
                // Another service would not do better.
                Err(error) if !matches!(error.said, Said::FalseKdc | Said::NoTrust) => return Err(error),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| GssError::plain("the keytab has no key of this gateway's").into()))
    }
}

/// Asks the KDC for a ticket by the password.
fn log_in<'a>(
    context: &'a LibraryContext,
    client: &Principal<'_>,
    password: &Password,
) -> Result<Ticket<'a>, Refused> {
    let options = InitOptions::new(context)?;
    // SAFETY: the options are valid; what is set are numbers.
    unsafe {
        krb5_get_init_creds_opt_set_tkt_life(options.handle, TICKET_SECONDS);
        krb5_get_init_creds_opt_set_renew_life(options.handle, 0);
        krb5_get_init_creds_opt_set_forwardable(options.handle, NO);
        krb5_get_init_creds_opt_set_proxiable(options.handle, NO);
        krb5_get_init_creds_opt_set_canonicalize(options.handle, NO);
        krb5_get_init_creds_opt_set_anonymous(options.handle, NO);
        krb5_get_init_creds_opt_set_change_password_prompt(options.handle, NO);
    }
    let password = password.reveal();
    // Of the right size from the start: it must not be moved, which would leave a copy behind.
    let mut secret = Zeroizing::new(Vec::with_capacity(password.len().saturating_add(1)));
    secret.extend_from_slice(password.as_bytes());
    secret.push(0);
    let mut ticket = Ticket { creds: Creds::empty(), context };
    // SAFETY: all handles are valid, the password ends with a NUL and outlives the call, `creds` is a live local that the
    // library fills in; null are what is not wanted: somebody who could be asked, and another service than the realm's own.
    let code = unsafe {
        krb5_get_init_creds_password(
            context.0,
            &raw mut ticket.creds,
            client.handle,
            secret.as_ptr().cast::<c_char>(),
            ptr::null(),
            ptr::null_mut(),
            0,
            ptr::null(),
            options.handle,
        )
    };
    refused(context, code, login_said)?;
    Ok(ticket)
}

/// Has the KDC prove itself by the key of `service`.
fn verify(keys: &Open, ticket: &mut Ticket<'_>, service: &str, foreign: bool) -> Result<(), Refused> {
    let context = &keys.context;
    let service = Principal::parse(context, service)?;
    let mut options = VerifyOptions { flags: AP_REQ_NOFAIL, no_fail: 1 };
    // SAFETY: all handles are valid, creds and options are live locals; no cache is wanted back, so the library frees its own.
    let code = unsafe {
        krb5_verify_init_creds(
            context.0,
            &raw mut ticket.creds,
            service.handle,
            keys.keytab,
            ptr::null_mut(),
            &raw mut options,
        )
    };
    refused(context, code, |code| proof_said(code, foreign))
}

fn refused(context: &LibraryContext, code: Code, said: impl FnOnce(Code) -> Said) -> Result<(), Refused> {
    if code == 0 {
        return Ok(());
    }
    let GssError { text, .. } = GssError::plain(context.words(code));
    Err(Refused { said: said(code), text })
}

/// What an error means that the KDC, or the library, had for a login.
const fn login_said(code: Code) -> Said {
    match code {
        // KRB5KDC_ERR_NAME_EXP, which is the account and not its password; KRB5KDC_ERR_NEVER_VALID, KRB5KDC_ERR_POLICY,
        // KRB5KDC_ERR_CLIENT_NOTYET; KRB5_LIBOS_CANTREADPWD, KRB5_LIBOS_PWDINTR: it wants more than a password.
        -1_765_328_383 | -1_765_328_373 | -1_765_328_372 | -1_765_328_363 | -1_765_328_254
        | -1_765_328_252 => Said::Disabled,
        _ => match why(code) {
            Why::WrongKey => Said::WrongPassword,
            Why::ClientUnknown => Said::UnknownUser,
            Why::Expired => Said::Expired,
            Why::Locked | Why::Duplicate | Why::Enctype => Said::Disabled,
            Why::NoRealm => Said::NoRealm,
            Why::NoAnswer | Why::NoAddress => Said::Silent,
            Why::Skew => Said::Skew,
            Why::ServiceUnknown | Why::Other => Said::Other,
        },
    }
}

/// What an error means where the KDC had to prove itself. `foreign`: the service is of another realm than the user.
const fn proof_said(code: Code, foreign: bool) -> Said {
    match code {
        // KRB5_KT_NOTFOUND, KRB5_KT_KVNONOTFOUND; KRB5KRB_AP_ERR_NOT_US, _MODIFIED, _BADKEYVER, _NOKEY, KRB5KRB_AP_WRONG_PRINC
        -1_765_328_203 | -1_765_328_154 | -1_765_328_349 | -1_765_328_343 | -1_765_328_340
        | -1_765_328_339 | -1_765_328_240 => Said::FalseKdc,
        // KRB5KDC_ERR_PATH_NOT_ACCEPTED, KRB5KRB_AP_ERR_ILL_CR_TKT, KRB5KRB_AP_PATH_NOT_ACCEPTED, KRB5KRB_AP_ERR_NO_TGT,
        // KRB5_NO_TKT_IN_RLM
        -1_765_328_356 | -1_765_328_341 | -1_765_328_333 | -1_765_328_317 | -1_765_328_199 => Said::NoTrust,
        _ => match (why(code), foreign) {
            (Why::ServiceUnknown | Why::NoRealm, true) => Said::NoTrust,
            (Why::WrongKey, _) | (Why::ServiceUnknown, false) => Said::FalseKdc,
            (Why::Locked, _) => Said::Disabled,
            (Why::NoAnswer | Why::NoAddress, _) => Said::Silent,
            (Why::Skew, _) => Said::Skew,
            _ => Said::Other,
        },
    }
}

/// A ticket in memory. Its keys are wiped and freed on drop, by the library.
struct Ticket<'a> {
    creds: Creds,
    context: &'a LibraryContext,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        // SAFETY: the creds are ours, filled in or empty, and are not used after this.
        unsafe { krb5_free_cred_contents(self.context.0, &raw mut self.creds) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_says_nothing_of_the_password_and_lets_nobody_in() {
        for code in [1, -1, i32::MAX, i32::MIN, libc::ENOENT, libc::ENOMEM, -1_765_328_384, -1_765_328_237] {
            assert_eq!(login_said(code), Said::Other, "{code}");
            assert_eq!(
                (proof_said(code, false), proof_said(code, true)),
                (Said::Other, Said::Other),
                "{code}"
            );
        }
    }

    /// What the KDC says of the ticket to the service is never about the password.
    #[test]
    fn no_proof_that_fails_is_a_wrong_password() {
        for code in -1_765_328_384..=-1_765_328_120 {
            for foreign in [false, true] {
                let said = proof_said(code, foreign);
                assert!(
                    !matches!(said, Said::WrongPassword | Said::UnknownUser | Said::Expired),
                    "{code}: {said:?}"
                );
            }
        }
        assert_eq!(proof_said(-1_765_328_377, false), Said::FalseKdc);
        assert_eq!(proof_said(-1_765_328_377, true), Said::NoTrust);
    }

    #[test]
    fn each_code_of_a_login_has_its_meaning() {
        for (code, said) in [
            (-1_765_328_353, Said::WrongPassword),
            (-1_765_328_360, Said::WrongPassword),
            (-1_765_328_378, Said::UnknownUser),
            (-1_765_328_361, Said::Expired),
            (-1_765_328_383, Said::Disabled),
            (-1_765_328_366, Said::Disabled),
            (-1_765_328_370, Said::Disabled),
            (-1_765_328_228, Said::Silent),
            (-1_765_328_164, Said::Silent),
            (-1_765_328_230, Said::NoRealm),
            (-1_765_328_347, Said::Skew),
        ] {
            assert_eq!(login_said(code), said, "{code}");
        }
    }
}
