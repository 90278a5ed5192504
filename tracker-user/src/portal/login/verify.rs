//! A name and a password that were typed into a form: whose they are, or what the person is told. Regulated together with those
//! that programs send to the proxy, and as silent about who exists.

use http::StatusCode;

use crate::audit;
use crate::audit::Ground;
use crate::auth::password::{Cause as PasswordCause, Place};
use crate::auth::{Cause, Failure, Password, Proved, Rejection};
use crate::clock::boot_now;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::types::{Method, UserMessage};

/// They prove nobody who may go on.
#[derive(Debug)]
pub(in crate::portal) struct Refused {
    /// Of the answer: the same for everything that is wrong with a name or a password.
    pub(in crate::portal) status: StatusCode,
    /// What happened, in a few words for the person.
    pub(in crate::portal) heading: UserMessage,
    /// What happened and what to do, for the person.
    pub(in crate::portal) message: UserMessage,
    /// The password is right, and has to be changed first.
    pub(in crate::portal) must_change: bool,
    /// The same may be good a moment later: the answer says so (`Retry-After`).
    pub(in crate::portal) retry: bool,
}

impl From<&Failure> for Refused {
    fn from(failure: &Failure) -> Self {
        let cause = match failure {
            Failure::Rejected(rejection) => Some(rejection.cause),
            Failure::Busy | Failure::TimedOut | Failure::Unavailable(_) => None,
        };
        Self {
            status: if cause.is_some() { StatusCode::FORBIDDEN } else { StatusCode::SERVICE_UNAVAILABLE },
            heading: cause.map_or(UserMessage::new("You cannot log in at this moment"), Cause::heading),
            message: failure.user_message(),
            must_change: cause == Some(Cause::Password(PasswordCause::MustChange)),
            retry: cause.is_none(),
        }
    }
}

/// Whose name and password these are that came with this visit. A refusal stands in the audit trail when this returns. Waits for
/// whoever knows the account; what is refused takes always about as long.
///
/// # Errors
/// What the person is told.
pub(in crate::portal) async fn verify(
    site: &Site,
    visit: &Visit,
    name: &str,
    password: Password,
) -> Result<Proved, Refused> {
    let answer = match site.parts().verifier.passwords() {
        Some(passwords) => passwords.verify(name, password, Place::Page, visit.client(), boot_now()).await,
        None => Err(Failure::Unavailable("this gateway verifies no passwords".into())),
    };
    answer.map_err(|failure| {
        tell(site, visit, &failure, Method::Password);
        Refused::from(&failure)
    })
}

/// Puts it into the audit trail that somebody's credentials were refused, who tried to prove themselves by `method`.
pub(super) fn tell(site: &Site, visit: &Visit, failure: &Failure, method: Method) {
    let why = failure.to_string();
    let (ground, method) = match failure {
        Failure::Rejected(Rejection { cause, .. }) => (Ground::Credentials(cause.label()), cause.method()),
        Failure::Unavailable(_) => (Ground::Unavailable, Some(method)),
        Failure::Busy | Failure::TimedOut => {
            tracing::debug!(client = %visit.client(), request = visit.number(), problem = %why, "a login was put off");
            return;
        }
    };
    let refusal = audit::Refusal { client: visit.client(), ground, why: &why, method, user: None };
    site.parts().tracker.refused(&refusal);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(cause: PasswordCause) -> Failure {
        let cause = Cause::Password(cause);
        Failure::Rejected(Rejection { cause, why: format!("why: {}", cause.label()), answer: None })
    }

    #[test]
    fn everything_that_is_wrong_with_a_password_looks_the_same() {
        let wrong = Refused::from(&rejected(PasswordCause::WrongPassword));
        for cause in PasswordCause::ALL.into_iter().filter(|cause| !cause.is_told()) {
            let refused = Refused::from(&rejected(cause));
            assert_eq!(
                (refused.status, &refused.heading, &refused.message, refused.retry),
                (wrong.status, &wrong.heading, &wrong.message, false),
                "{cause:?}"
            );
            assert_eq!(refused.must_change, cause == PasswordCause::MustChange, "{cause:?}");
        }
    }

    #[test]
    fn what_may_be_good_a_moment_later_says_so() {
        for failure in [Failure::Busy, Failure::TimedOut, Failure::Unavailable("no KDC answers".into())] {
            let refused = Refused::from(&failure);
            assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(refused.retry && !refused.must_change, "{failure:?}");
            assert!(!refused.message.as_str().contains("KDC"), "operators' words");
        }
    }
}
