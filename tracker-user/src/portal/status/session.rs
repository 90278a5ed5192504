//! Whoever is at one address: their session, its connections, bans, and who was there before. A session can be ended here.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use super::failed;
use super::table::session_link;
use super::words::{Clock, between, bytes, number, span};
use crate::clock::wall_now;
use crate::links::{parse, shown};
use crate::ops::{BanView, ErrorKind, OpenConnection, SessionDetail, SessionView};
use crate::portal::admin::Viewing;
use crate::portal::admin::fresh::Change;
use crate::portal::page::{Page, answer};
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::store::{HistoryEntry, Wanted};
use crate::tracker::Whose;
use crate::types::{ClientAddr, UserMessage};

/// So many earlier sessions are shown.
const BEFORE: usize = 20;
/// And so many connections, and sessions of a shared host.
const SHOWN: usize = 200;

#[derive(Template)]
#[template(path = "status_session.html")]
struct Shown {
    page: Page,
    address: String,
    link: String,
    /// The newest session; on a shared host one of several.
    sessions: Vec<One>,
    connections: Vec<Connection>,
    bans: Vec<Ban>,
    history: Vec<Before>,
    may_end: bool,
    /// So many are not shown.
    more: usize,
}

/// A session, as a list of what is known of it.
struct One {
    user: String,
    /// The page of that user.
    link: String,
    facts: Vec<(&'static str, String)>,
}

struct Connection {
    port: u16,
    via: String,
    since: String,
    carries: String,
    received: String,
    sent: String,
}

struct Ban {
    on: &'static str,
    who: String,
    since: String,
    until: String,
    tries: u32,
}

struct Before {
    user: String,
    from: String,
    until: String,
    reason: String,
    received: String,
    sent: String,
}

#[derive(Template)]
#[template(path = "status_ended.html")]
pub(super) struct Ended {
    page: Page,
    /// The address or the user that it was about,
    of: String,
    /// and who was logged in there, or where they were.
    those: Vec<String>,
    /// So many are not shown.
    more: usize,
    warning: Option<String>,
}

impl Ended {
    pub(super) fn new(visit: &Visit, of: String, mut those: Vec<String>, warning: Option<String>) -> Self {
        let more = those.len().saturating_sub(SHOWN);
        those.truncate(SHOWN);
        Self { page: visit.page(), of, those, more, warning }
    }
}

/// A form with nothing to fill in.
#[derive(Deserialize)]
pub(super) struct Nothing {}

/// The address in a path; or the page that says that it is none.
fn client(visit: &Visit, address: &str) -> Result<ClientAddr, Box<Response>> {
    parse(address).map_err(|_| {
        let message = UserMessage::new("Choose one from the hosts, or look for it there.");
        Box::new(visit.problem(StatusCode::NOT_FOUND, "This is no address of a client", &message))
    })
}

pub(super) async fn show(
    Viewing(visit): Viewing,
    State(site): State<Site>,
    Path(address): Path<String>,
) -> Response {
    let client = match client(&visit, &address) {
        Ok(client) => client,
        Err(refused) => return *refused,
    };
    let ops = &site.parts().ops;
    let wanted = Wanted { client: Some(client), user: None, at: None, most: BEFORE + 1 };
    let (detail, connections, history) =
        tokio::join!(ops.session(client), ops.connections(client), ops.history(wanted));
    let detail = match detail {
        Ok(detail) => Some(detail),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return failed(&visit, &error),
    };
    let (connections, history) = match (connections, history) {
        (Ok(connections), Ok(history)) => (connections, history),
        (Err(error), _) | (_, Err(error)) => return failed(&visit, &error),
    };
    answer(&visit, StatusCode::OK, &shown_as(&visit, client, detail, &connections, &history))
}

fn shown_as(
    visit: &Visit,
    client: ClientAddr,
    detail: Option<SessionDetail>,
    connections: &[OpenConnection],
    history: &[HistoryEntry],
) -> Shown {
    let clock = Clock::here();
    let (mut sessions, bans) = detail.map_or_else(Default::default, |detail| {
        let all = if detail.sessions.is_empty() { vec![detail.session] } else { detail.sessions };
        (all, detail.bans)
    });
    let more = sessions.len().saturating_sub(SHOWN);
    sessions.truncate(SHOWN);
    let language = visit.language();
    let word = |word: &str| language.t(word).to_owned();
    let one = |session: &SessionView| {
        let moment = |moment| clock.moment(moment);
        let mut facts = vec![
            ("Session", session.id.to_string()),
            ("State", word(session.standing.as_str())),
            ("Method", word(session.method.as_str())),
            ("Mode", word(&session.mode.to_string())),
            ("Login", moment(session.created)),
            ("Duration", span(between(session.created, wall_now()))),
            ("Proved last", moment(session.authenticated)),
            ("Deadline", session.expires.map_or_else(|| word("none runs"), moment)),
        ];
        facts.extend(session.reason.map(|reason| ("Ran out", word(reason.as_str()))));
        facts.extend(session.device.map(|device| ("Device", device.to_string())));
        facts.extend(session.port.map(|port| ("Port", port.to_string())));
        let activity = &session.activity;
        facts.extend([
            ("Connections", number(activity.open_connections.into())),
            ("Last traffic", activity.last_traffic.map_or_else(|| "–".into(), moment)),
            ("Received", bytes(activity.bytes_received)),
            ("Sent", bytes(activity.bytes_sent)),
        ]);
        One { user: session.identity.to_string(), link: super::user::link(&session.identity), facts }
    };
    Shown {
        page: visit.page(),
        address: shown(client).to_string(),
        link: session_link(client),
        sessions: sessions.iter().map(one).collect(),
        connections: connections.iter().take(SHOWN).map(|one| connection(&clock, one)).collect(),
        bans: bans.iter().map(|one| ban(&clock, one)).collect(),
        history: history
            .iter()
            .filter(|entry| entry.until.is_some())
            .take(BEFORE)
            .map(|entry| before(&clock, entry, &word))
            .collect(),
        may_end: visit.role().may_change(),
        more,
    }
}

fn connection(clock: &Clock, connection: &OpenConnection) -> Connection {
    Connection {
        port: connection.port,
        via: connection.via.map(|via| via.to_string()).unwrap_or_default(),
        since: clock.moment(connection.since),
        carries: connection.carries.to_string(),
        received: bytes(connection.bytes_received),
        sent: bytes(connection.bytes_sent),
    }
}

fn ban(clock: &Clock, ban: &BanView) -> Ban {
    Ban {
        on: ban.target.scope(),
        who: ban.identity.as_ref().map(ToString::to_string).unwrap_or_default(),
        since: clock.moment(ban.since),
        until: clock.moment(ban.until),
        tries: ban.tries,
    }
}

fn before(clock: &Clock, entry: &HistoryEntry, word: &dyn Fn(&str) -> String) -> Before {
    let amount = |amount: Option<u64>| amount.map_or_else(|| "–".into(), bytes);
    let user = crate::types::Identity::new(&entry.user, "", &entry.domain);
    let reason = match (&entry.by, entry.reason) {
        (Some(by), Some(reason)) => format!("{} ({by})", word(reason.as_str())),
        (_, Some(reason)) => word(reason.as_str()),
        (_, None) => String::new(),
    };
    Before {
        user: user.to_string(),
        from: clock.moment(entry.from),
        until: entry.until.map(|until| clock.moment(until)).unwrap_or_default(),
        reason,
        received: amount(entry.rx),
        sent: amount(entry.tx),
    }
}

/// Ends every session at an address.
pub(super) async fn end(
    State(site): State<Site>,
    Path(address): Path<String>,
    Change { visit, actor, form: Nothing {}, .. }: Change<Nothing>,
) -> Response {
    let client = match client(&visit, &address) {
        Ok(client) => client,
        Err(refused) => return *refused,
    };
    match site.parts().ops.logout(Whose::Client(client), actor).await {
        Ok(ended) => {
            let users = ended.ended.iter().map(|session| session.identity.to_string()).collect();
            answer(&visit, StatusCode::OK, &Ended::new(&visit, shown(client).to_string(), users, ended.warning))
        }
        Err(error) => failed(&visit, &error),
    }
}
