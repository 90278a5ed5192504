//! The mail server: whether mail could be handed over. None is sent.

use std::time::Duration;

use super::{Check, within};
use crate::config::Config;
use crate::mail::{Found, Settings, probe};

const MAIL: &str = "mail";
/// So long it is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn check(config: &Config) -> Check {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let settings = Settings::of(&config.mail, None, host);
    let server = settings.server.as_ref().map(ToString::to_string).unwrap_or_default();
    let found = within(PATIENCE, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(probe(&settings)),
            Err(error) => Found::Bad(error.to_string()),
        }
    });
    judge(&server, found.unwrap_or_else(|| Found::Bad(format!("the mail server {server} does not answer"))))
}

fn judge(server: &str, found: Found) -> Check {
    match found {
        Found::Off => Check::skipped(
            MAIL,
            "no mail is sent (mail.smtp is empty): who has lost their second factor needs a recovery code or an operator",
        ),
        Found::Good { is_secure, user } => {
            let how = if is_secure {
                "under TLS, with a trusted certificate"
            } else {
                "on this host itself, without TLS"
            };
            let who = user.map_or_else(|| "nobody logs in".to_owned(), |user| format!("{user} is logged in"));
            Check::ok(MAIL, format!("the mail server {server} takes mail {how}; {who}"))
        }
        Found::Bad(why) => {
            // What helps stands behind it, where it is known.
            let (finding, remedy) = match why.rsplit_once(": ").filter(|(_, remedy)| is_order(remedy)) {
                Some((finding, remedy)) => (finding.to_owned(), remedy.to_owned()),
                None => (why, "see mail.smtp, and whether a firewall is in between".to_owned()),
            };
            Check::failed(MAIL, finding, remedy)
        }
    }
}

/// Whether it says what to do.
fn is_order(text: &str) -> bool {
    ["set ", "correct ", "switch ", "install ", "leave "].iter().any(|verb| text.starts_with(verb))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn what_helps_stands_apart() {
        let bad = |why: &str| judge("m:25", Found::Bad(why.into()));
        let known = bad("the mail server m:25 does not offer STARTTLS, and so on: switch TLS on there");
        assert_eq!((known.state, known.remedy.as_deref()), (State::Failed, Some("switch TLS on there")));
        let other = bad("the mail server m:25 says: 554 no");
        assert_eq!(other.finding, "the mail server m:25 says: 554 no");
        let good = judge("m:25", Found::Good { is_secure: true, user: Some("gw".into()) });
        assert_eq!(
            good.finding,
            "the mail server m:25 takes mail under TLS, with a trusted certificate; gw is logged in"
        );
        assert_eq!(judge("", Found::Off).state, State::Skipped);
    }
}
