//! What becomes of a login that is pending when a factor was right, or wrong: the same for codes, recovery codes and passkeys.

use axum::response::Response;
use http::StatusCode;
use http::header::{HeaderMap, SET_COOKIE};
use tokio::sync::oneshot;

use super::pending::PendingLogin;
use super::{complete, device};
use crate::auth::factors::{Checked, Sent, Wrong};
use crate::clock::boot_now;
use crate::portal::admin;
use crate::portal::login::{NotAdmitted, Wanted, pages};
use crate::portal::page::{Page, answer, redirect};
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::portal::web_sessions::Purpose;
use crate::session::{Reason, State};
use crate::store::Entry;
use crate::tracker::Whose;
use crate::types::UserMessage;

/// Where what was typed comes from, and when.
pub(in crate::portal) fn sent(visit: &Visit) -> Sent {
    Sent { client: visit.client(), at: boot_now(), wall: visit.time() }
}

/// Waits until it is on disk that something was spent or changed.
///
/// # Errors
/// When it is not.
pub(in crate::portal) async fn keep(site: &Site, entries: Vec<Entry>) -> Result<(), NotAdmitted> {
    let (tell, told) = oneshot::channel();
    let answer = Box::new(move |outcome| {
        // Whoever asked may have gone.
        let _ = tell.send(outcome);
    });
    site.parts().journal.submit(entries, Some(answer));
    match told.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(unkept)) => Err(NotAdmitted::at_this_moment(unkept.problem)),
        Err(_) => Err(NotAdmitted::at_this_moment("the gateway is stopping".into())),
    }
}

/// See `second_factor/done.html`.
#[derive(askama::Template)]
#[template(path = "second_factor/done.html")]
struct Done {
    page: Page,
    /// Whether the authenticator's clock is ahead; else it is behind.
    is_ahead: bool,
    url: String,
}

/// A factor was right: whoever's login was pending is logged in, and led on to where they wanted. `remember`: they want this browser
/// to be remembered.
pub(in crate::portal) async fn finish(
    site: &Site,
    visit: &Visit,
    login: &PendingLogin,
    mut checked: Checked,
    remember: bool,
) -> Response {
    let drift = checked.drift;
    let remembered = if remember { device::remember(site, visit, login) } else { None };
    let remembered = remembered.map(|(cookie, entries)| {
        checked.entries.extend(entries);
        cookie
    });
    let cookies = match complete(site, visit, login, checked).await {
        Ok(cookies) => cookies,
        Err(not) => return not_admitted(visit, &not),
    };
    if remembered.is_some() {
        device::tell(site, visit, login);
    }
    let mut response = led_on(site, visit, login, drift);
    for cookie in cookies.into_iter().chain(remembered) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// On to where they wanted, or first to what they should know about their authenticator's clock.
fn led_on(site: &Site, visit: &Visit, login: &PendingLogin, drift: i64) -> Response {
    let to = onward(site, visit, login);
    match (drift, login.purpose, to) {
        (0, Purpose::Admin, url) => redirect(visit, StatusCode::SEE_OTHER, &url.url),
        (0, Purpose::User, to) => pages::go_on(site, visit, to.wanted),
        (drift, _, to) => {
            if let Some(wanted) = &to.wanted {
                site.pending().forget(visit.client(), wanted.id());
            }
            answer(visit, StatusCode::OK, &Done { page: visit.page(), is_ahead: drift > 0, url: to.url })
        }
    }
}

/// Where somebody goes who is logged in.
pub(super) struct Onward {
    /// As an address.
    pub(super) url: String,
    /// What a user wanted.
    pub(super) wanted: Option<Wanted>,
}

pub(super) fn onward(site: &Site, visit: &Visit, login: &PendingLogin) -> Onward {
    match login.purpose {
        Purpose::Admin => Onward { url: admin::access::next(&login.to).to_owned(), wanted: None },
        Purpose::User => {
            let wanted = Wanted::find(site, visit, &login.to);
            Onward { url: wanted.as_ref().map_or("/", Wanted::url).to_owned(), wanted }
        }
    }
}

pub(super) fn not_admitted(visit: &Visit, not: &NotAdmitted) -> Response {
    visit.problem(not.status, "You are not logged in", &not.message)
}

/// A factor was not right. `Ok`: what the page says that asks for it once more. `Err`: the login was pending for long enough, and the
/// person is at the password again.
///
/// # Errors
/// The answer, where there is nothing more to try.
pub(in crate::portal) async fn failed(
    site: &Site,
    visit: &Visit,
    headers: &HeaderMap,
    login: &PendingLogin,
    wrong: Wrong,
) -> Result<UserMessage, Response> {
    if !wrong.is_try() || site.fail_pending(visit) {
        return Ok(wrong.user_message());
    }
    let message = UserMessage::new("Too many codes were wrong. Log in with your password once more.");
    Err(match login.purpose {
        Purpose::Admin => admin::login::again(site, visit, StatusCode::FORBIDDEN, &login.to, &message),
        Purpose::User => {
            end_waiting(site, visit, login).await;
            let wanted = Wanted::find(site, visit, &login.to);
            pages::once_more(site, visit, headers, wanted, message).await
        }
    })
}

/// Ends the session of the proxy that has waited for the factor.
pub(super) async fn end_waiting(site: &Site, visit: &Visit, login: &PendingLogin) {
    let (client, who) = (visit.client(), std::sync::Arc::clone(&login.identity));
    let waits = site.parts().tracker.ask(move |view| {
        let session = view.table.session(client);
        session
            .is_some_and(|session| session.identity == who && matches!(session.state, State::Waiting { .. }))
    });
    if waits.await == Some(true) {
        // It would end by itself before long.
        let _ = site.parts().tracker.end(Whose::Client(client), Reason::Logout, None).await;
    }
}
