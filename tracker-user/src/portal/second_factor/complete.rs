//! The second factor was right: the login that was pending becomes one.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::give::keep;
use super::pending::PendingLogin;
use crate::audit::{Event, TrailEntry};
use crate::auth::factors::Checked;
use crate::clock::boot_now;
use crate::portal::login::NotAdmitted;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::portal::web_sessions::{NotBegun, Purpose};
use crate::session;
use crate::session::Proof;
use crate::types::{Factors, UserMessage};

/// Logs in whoever has shown both factors, and returns the cookies that the answer sets (append each as `Set-Cookie`). A user's
/// session and what was spent for it are on disk in one transaction when this returns; of an operator, who has no session
/// of the proxy, what was spent is.
///
/// # Errors
/// When nobody may be logged in. What was spent stays spent.
pub(in crate::portal) async fn complete(
    site: &Site,
    visit: &Visit,
    login: &PendingLogin,
    checked: Checked,
) -> Result<Vec<HeaderValue>, NotAdmitted> {
    let Checked { factor, entries, drift: _ } = checked;
    let (identity, factors) = (Arc::clone(&login.identity), Factors::NONE.with(factor));
    let cookie = match login.purpose {
        Purpose::User => {
            let proof = Proof {
                client: visit.client(),
                identity: Arc::clone(&identity),
                method: login.method,
                factors,
                enrolled: Factors::NONE,
                at: boot_now(),
                connection: None,
                device: None,
            };
            site.prove_on_pages(proof, entries).await?;
            // Without a login to the pages they are logged in to the proxy all the same.
            site.begin_web_session(visit, &identity, login.purpose, Some(factor)).await.ok()
        }
        Purpose::Admin => {
            keep(site, entries).await?;
            let begun = site.begin_web_session(visit, &identity, login.purpose, Some(factor)).await;
            let cookie = begun.map_err(refused)?;
            let proved = session::Proved { method: login.method, factors };
            let event =
                Event::admin_login(Arc::clone(&identity), visit.client(), site.role_of(&identity), proved);
            site.parts().audit.record(TrailEntry::now(event));
            Some(cookie)
        }
    };
    Ok(cookie.into_iter().chain(site.end_pending(visit)).collect())
}

fn refused(not: NotBegun) -> NotAdmitted {
    match not {
        // They were one when they gave their password.
        NotBegun::Role => NotAdmitted {
            status: StatusCode::FORBIDDEN,
            message: UserMessage::new("You may not administer this gateway any more."),
            retry: false,
            why: "the user is neither an administrator nor a viewer any more".into(),
        },
        NotBegun::NoSession | NotBegun::Unable => {
            NotAdmitted::at_this_moment("no login to the pages can begin".into())
        }
    }
}
