//! Tables that keep themselves up to date, by server-sent events: the page's rows once a second, where they have changed.
//!
//! All streams go by the one snapshot that all viewers share. Each has a seat, of which there are few; it ends with the web session
//! that opened it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use askama::Template as _;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};

use super::query::{Asked, Extracted};
use super::table::{Rows, count};
use super::words::Clock;
use crate::ops::{OpsError, Table};
use crate::portal::page::Endless;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::portal::web_sessions::Purpose;

/// So many streams at once,
const SEATS: usize = 32;
/// and of one person.
const SEATS_EACH: usize = 8;
/// How often rows are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// After so many looks at which nothing had changed, something is sent all the same: so that who has gone is found out.
const QUIET: u32 = 15;

/// Who follows.
#[derive(Debug, Default)]
pub(super) struct Seats(Mutex<HashMap<Box<str>, usize>>);

/// A place to follow from, for as long as this is there.
#[derive(Debug)]
struct Seat {
    seats: Arc<Seats>,
    of: Box<str>,
}

impl Seats {
    /// A seat for this person; `None` where there is none.
    fn take(self: &Arc<Self>, of: &str) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(of).copied().unwrap_or_default();
        if own >= SEATS_EACH || taken.values().sum::<usize>() >= SEATS {
            return None;
        }
        taken.insert(of.into(), own + 1);
        Some(Seat { seats: Arc::clone(self), of: of.into() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.of) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.remove(&self.of)),
        }
    }
}

/// A stream, as it runs.
struct Stream {
    site: Site,
    /// What asked for it: it is as good as the login that came with that.
    visit: Visit,
    asked: Asked,
    /// What was sent last.
    sent: Option<u64>,
    quiet: u32,
    _seat: Seat,
}

/// The stream of a table. It is no page: whoever may not look is told so, and led nowhere.
pub(super) async fn follow(
    visit: Visit,
    State(site): State<Site>,
    query: Extracted,
    table: Table,
    seats: Arc<Seats>,
) -> Response {
    let Some(admin) = visit.admin().filter(|admin| admin.role.may_look()) else {
        return StatusCode::FORBIDDEN.into_response();
    };
    let of = admin.identity.key().to_owned();
    let asked = match Asked::read(&visit, table, query) {
        Ok(asked) => asked,
        Err(refused) => return *refused,
    };
    let Some(seat) = seats.take(&of) else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "30")]).into_response();
    };
    let stream = Stream { site, visit, asked, sent: None, quiet: 0, _seat: seat };
    let events = stream::unfold(stream, async |mut stream| {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    let mut response = ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response();
    response.extensions_mut().insert(Endless);
    response
}

impl Stream {
    /// What is sent next; `None` at the end. A browser comes again then, with what it has to prove itself by now.
    async fn next(&mut self) -> Option<String> {
        loop {
            if self.sent.is_some() || self.quiet > 0 {
                tokio::time::sleep(EVERY).await;
            }
            if !self.site.is_still_in(&self.visit, Purpose::Admin) {
                return None;
            }
            self.quiet += 1;
            match self.look().await {
                Ok(Some(events)) => {
                    self.quiet = 0;
                    return Some(events);
                }
                Err(OpsError::Stopping) => return None,
                // It is too busy now: the next look may be luckier.
                Ok(None) | Err(_) => {}
            }
            if self.quiet >= QUIET {
                self.quiet = 1;
                return Some(":\n\n".into());
            }
        }
    }

    /// The rows as they are now; `None` where they are as they were.
    async fn look(&mut self) -> Result<Option<String>, OpsError> {
        let table = self.asked.select.table;
        let (snapshot, selection) = self.site.parts().ops.select(self.asked.select.clone()).await?;
        let rows = Rows::new(self.visit.language(), &Clock::here(), table, &snapshot, &selection);
        // A template that cannot be written is none that has changed.
        let Ok(rows) = rows.render() else { return Ok(None) };
        let count = count(self.visit.language(), table, &selection);
        let mut hasher = DefaultHasher::new();
        (&rows, &count).hash(&mut hasher);
        let is_new = self.sent.replace(hasher.finish()) != Some(hasher.finish());
        Ok(is_new.then(|| event("count", &count) + &event("rows", &rows)))
    }
}

/// An event (HTML, section 9.2.6): each line of its data for itself.
fn event(name: &str, data: &str) -> String {
    let mut text = String::with_capacity(data.len() + 64);
    text.push_str("event: ");
    text.push_str(name);
    text.push('\n');
    for line in data.split(['\n', '\r']) {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_few_and_come_back() {
        let seats = Arc::new(Seats::default());
        let own: Vec<_> = (0..SEATS_EACH).map(|_| seats.take("alice").unwrap()).collect();
        assert!(seats.take("alice").is_none());
        let mut others: Vec<_> =
            (0..SEATS - SEATS_EACH).map(|number| seats.take(&format!("user{number}")).unwrap()).collect();
        assert!(seats.take("another").is_none());
        others.pop();
        drop(own);
        assert!(seats.take("alice").is_some());
        drop(others);
        assert!(seats.0.lock().unwrap().is_empty(), "nothing is left of who has gone");
    }

    #[test]
    fn no_line_of_data_becomes_a_field() {
        assert_eq!(
            event("rows", "<a>\nevent: end\r\nid: 7"),
            "event: rows\ndata: <a>\ndata: event: end\ndata: \ndata: id: 7\n\n"
        );
        assert_eq!(event("count", ""), "event: count\ndata: \n\n");
    }
}
