//! The lists, and the columns that each has.

use std::net::SocketAddr;

use jiff::Timestamp;

use super::list::{Cell, Colour, Column, HIDDEN, Words, column};
use super::show::{WAITING, age, name, until};
use crate::admin::wire;
use crate::clock::wall_now;

/// So many rows unless another number is asked for.
pub(super) const SHOWN: usize = 1_000;

const MORE: &str = "--limit NUMBER shows more, --filter and --sort which";

pub(super) const SESSION_WORDS: Words =
    Words { empty: "nobody is logged in", most: SHOWN, more: "--all shows them, --filter and --sort which" };
pub(super) const USER_WORDS: Words = Words { empty: "nobody is logged in", most: SHOWN, more: MORE };
pub(super) const HOST_WORDS: Words = Words { empty: "no client has connected", most: SHOWN, more: MORE };
/// The daemon has counted already.
pub(super) const PAST_WORDS: Words = Words { empty: "nobody", most: usize::MAX, more: MORE };

pub(super) const SESSIONS: &[Column<wire::Session>] = &[
    column("client", 0, session_client),
    column("user", 0, |session| Cell::text(name(&session.user, &session.domain))),
    column("method", 5, |session| Cell::text(&session.method)),
    Column { name: "state", gives_way: 0, cell: |session| state(&session.state), paint: state_colour },
    column("mode", 6, |session| Cell::text(&session.mode)),
    column("created", 4, |session| Cell::Moment(session.created)),
    column("open", 1, |session| Cell::Count(session.open_connections.into())),
    column("last-traffic", 3, |session| ago(session.last_traffic)),
    column("expires", 2, |session| coming(session.expires)),
    column("reason", HIDDEN, |session| Cell::text(session.reason.clone().unwrap_or_default())),
    column("authenticated", HIDDEN, |session| Cell::Moment(session.authenticated)),
    column("duration", HIDDEN, |session| lasting(session.created)),
    column("closed", HIDDEN, |session| ago(session.closed)),
    column("received", HIDDEN, |session| Cell::Bytes(session.bytes_received as f64)),
    column("sent", HIDDEN, |session| Cell::Bytes(session.bytes_sent as f64)),
    column("device", HIDDEN, |session| Cell::text(session.device.clone().unwrap_or_default())),
    column("realm", HIDDEN, |session| Cell::text(session.realm.clone().unwrap_or_default())),
    column("id", HIDDEN, |session| Cell::text(&session.id)),
];

pub(super) const USERS: &[Column<wire::User>] = &[
    column("user", 0, |user| Cell::text(name(&user.user, &user.domain))),
    column("clients", 0, |user| several(&user.clients)),
    column("stale", 2, |user| several(&user.stale_clients)),
    column("licences", 1, |user| Cell::Count(user.licences.into())),
    column("since", 4, |user| Cell::Moment(user.since)),
    column("open", 3, |user| Cell::Count(user.open_connections.into())),
    column("received", 5, |user| Cell::Bytes(user.bytes_received as f64)),
    column("sent", 6, |user| Cell::Bytes(user.bytes_sent as f64)),
    column("devices", HIDDEN, |user| Cell::Count(user.clients.len() as u64)),
    column("realm", HIDDEN, |user| Cell::text(user.realm.clone().unwrap_or_default())),
];

pub(super) const HOSTS: &[Column<wire::Host>] = &[
    column("client", 0, |host| Cell::Address(host.client.clone())),
    column("user", 0, |host| match (&host.user, host.users.as_slice()) {
        (Some(user), _) => Cell::text(name(user, host.domain.as_deref().unwrap_or_default())),
        (None, []) => Cell::Nothing,
        (None, users) => Cell::Several(users.to_vec()),
    }),
    Column {
        name: "state",
        gives_way: 4,
        cell: |host| host.state.as_deref().map_or(Cell::Nothing, state),
        paint: state_colour,
    },
    column("open", 1, |host| Cell::Count(host.open_connections.into())),
    column("rx", 2, |host| Cell::Rate(host.receive_rate)),
    column("tx", 2, |host| Cell::Rate(host.send_rate)),
    column("received", 5, |host| Cell::Bytes(host.bytes_received as f64)),
    column("sent", 5, |host| Cell::Bytes(host.bytes_sent as f64)),
    column("inactive", 3, |host| host.inactivity.map_or(Cell::Nothing, |seconds| Cell::Span(seconds, ""))),
    column("closed", 6, |host| ago(host.closed.filter(|_| host.open_connections == 0))),
    column("opened", HIDDEN, |host| ago(host.opened)),
];

pub(super) const PAST: &[Column<wire::PastSession>] = &[
    column("client", 0, |past| Cell::Address(past.client.clone())),
    column("user", 0, |past| Cell::text(name(&past.user, &past.domain))),
    column("method", 4, |past| Cell::text(&past.method)),
    column("from", 0, |past| Cell::Moment(past.from)),
    column("until", 0, |past| match past.until {
        Some(until) => Cell::Moment(until),
        None => Cell::Text(format!("still ({})", past.state)),
    }),
    column("lasted", 2, |past| {
        let end = past.until.unwrap_or_else(wall_now);
        Cell::Span(end.duration_since(past.from).as_secs_f64().max(0.0), "")
    }),
    column("stale", 7, |past| Cell::text(super::past::stale(past))),
    Column {
        name: "ended-by",
        gives_way: 1,
        cell: |past| Cell::text(super::past::ended(past)),
        paint: |cell| {
            let is_kick = matches!(cell, Cell::Text(text) if text.starts_with("kicked"));
            is_kick.then_some(Colour::Yellow)
        },
    },
    column("received", 5, |past| past.rx.map_or(Cell::Nothing, |moved| Cell::Bytes(moved as f64))),
    column("sent", 5, |past| past.tx.map_or(Cell::Nothing, |moved| Cell::Bytes(moved as f64))),
    column("session", 6, |past| Cell::text(&past.session)),
];

/// What the API says of a session or a host, for people.
fn state(state: &str) -> Cell {
    if state == "waiting" { Cell::Said(state.into(), WAITING) } else { Cell::text(state) }
}

/// Whether requests are served: what is not, stands out.
fn state_colour(cell: &Cell) -> Option<Colour> {
    match cell {
        Cell::Text(text) if text == "active" => Some(Colour::Green),
        Cell::Text(_) | Cell::Said(..) => Some(Colour::Yellow),
        _ => None,
    }
}

/// On a shared host, the connection.
fn session_client(session: &wire::Session) -> Cell {
    Cell::Address(match (session.port, session.client.parse()) {
        (Some(port), Ok(address)) => SocketAddr::new(address, port).to_string(),
        _ => session.client.clone(),
    })
}

fn several(all: &[String]) -> Cell {
    if all.is_empty() { Cell::Nothing } else { Cell::Several(all.to_vec()) }
}

fn ago(at: Option<Timestamp>) -> Cell {
    at.map_or(Cell::Nothing, |at| Cell::Away(at, format!("{} ago", age(Some(at)))))
}

fn coming(at: Option<Timestamp>) -> Cell {
    at.map_or(Cell::Nothing, |at| Cell::Away(at, until(at)))
}

fn lasting(since: Timestamp) -> Cell {
    Cell::Span(wall_now().duration_since(since).as_secs_f64().max(0.0), "")
}

/// Rows as they are, for a place within something else.
pub(super) fn table<T>(rows: &[T], columns: &[Column<T>]) -> String {
    super::list::plain(rows, columns)
}
