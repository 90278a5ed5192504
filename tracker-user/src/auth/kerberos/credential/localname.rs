//! What krb5.conf's `auth_to_local` rules make of a principal.

use std::ffi::{CStr, c_int};

use super::GssError;
use super::krb5::{Code, LibraryContext, Principal, krb5_aname_to_localname};

const KRB5_LNAME_NOTRANS: Code = -1_765_328_208;
/// Longer names are nobody's.
const MAX_LOCAL_NAME: usize = 512;

/// The local name of a principal by the rules as they are now; `None` where no rule makes one. Blocks: the configuration
/// is read, and a rule may be a plug-in's. The error is in the library's words.
pub(in crate::auth) fn local_name(principal: &str) -> Result<Option<String>, String> {
    translate(principal).map_err(|error| error.text)
}

fn translate(principal: &str) -> Result<Option<String>, GssError> {
    // A context of its own for each call: it costs little beside the ticket, and sees the rules as they are now.
    let context = LibraryContext::new()?;
    let principal = Principal::parse(&context, principal)?;
    let mut name = [0_u8; MAX_LOCAL_NAME];
    // SAFETY: context and principal are valid, and the buffer as long as is said; the library only reads the principal.
    let code = unsafe {
        krb5_aname_to_localname(
            context.0,
            principal.handle,
            MAX_LOCAL_NAME as c_int,
            name.as_mut_ptr().cast(),
        )
    };
    if code == KRB5_LNAME_NOTRANS {
        return Ok(None);
    }
    context.check(code)?;
    let name =
        CStr::from_bytes_until_nul(&name).map_err(|_| GssError::plain("a local name without an end"))?;
    let name = name.to_str().map_err(|_| GssError::plain("the local name is not UTF-8"))?;
    Ok(Some(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::auth::kerberos::names::{BadName, NameRules};

    const RULES: &str = "[libdefaults]
 default_realm = EXAMPLE.TEST
 dns_lookup_realm = false
[realms]
 EXAMPLE.TEST = {
  auth_to_local = RULE:[1:$1@$0](^.*@OTHER\\.TEST$)s/@.*//
  auth_to_local = RULE:[1:$1@$0](^.*@PREFIX\\.TEST$)s/@.*//s/^/p-/
  auth_to_local = RULE:[2:$1;$2](^.*;admin$)s/;admin$//
  auth_to_local = RULE:[1:$1@$0](^odd@ODD\\.TEST$)s/@/\\\\/
  auth_to_local = DEFAULT
 }
";
    const AGAIN: &str = "TRACKER_LOCALNAME_AGAIN";

    /// The library reads its environment: this program is run again, with an environment of its own.
    #[test]
    fn rules_of_a_real_configuration_make_names() {
        if std::env::var_os(AGAIN).is_some() {
            return by_those_rules();
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("krb5.conf");
        std::fs::write(&file, RULES).unwrap();
        let again = Command::new(std::env::current_exe().unwrap())
            .args(["rules_of_a_real_configuration_make_names", "--nocapture"])
            .env("KRB5_CONFIG", file)
            .env(AGAIN, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&again.stdout);
        assert!(again.status.success() && said.contains("1 passed"), "{again:?}");
    }

    fn by_those_rules() {
        for (principal, local) in [
            ("alice@EXAMPLE.TEST", Some("alice")),
            ("alice@OTHER.TEST", Some("alice")),
            ("alice@PREFIX.TEST", Some("p-alice")),
            ("alice@THIRD.TEST", None),
            ("alice/admin@EXAMPLE.TEST", Some("alice")),
            ("HTTP/proxy.example.test@EXAMPLE.TEST", None),
        ] {
            assert_eq!(local_name(principal).unwrap().as_deref(), local, "{principal}");
        }
        assert!(local_name("a@b@c").unwrap_err().contains("alformed"));
        assert!(local_name("a\0b@EXAMPLE.TEST").is_err());

        let rules = NameRules::default().with_auth_to_local(true);
        let identity = |principal: &str| rules.identity(principal.as_bytes(), local_name);
        let (here, there) = (identity("alice@EXAMPLE.TEST").unwrap(), identity("alice@OTHER.TEST").unwrap());
        assert_eq!((here.user(), there.user()), ("alice", "alice"));
        assert_ne!(here, there, "the realm takes part, whatever the rules say");
        assert_eq!(identity("alice/admin@EXAMPLE.TEST").unwrap(), here, "within a realm, rules decide");
        assert_eq!(identity("bob@PREFIX.TEST").unwrap().to_string(), "p-bob@PREFIX.TEST");
        assert!(matches!(identity("alice@THIRD.TEST"), Err(BadName::NoRule(_))));
        assert!(matches!(identity("HTTP/proxy.example.test@EXAMPLE.TEST"), Err(BadName::Service(_))));
        assert!(matches!(identity("odd@ODD.TEST"), Err(BadName::Local { .. })));
    }
}
