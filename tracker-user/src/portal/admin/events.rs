//! The audit trail: what happened, the newest first, with filters, page by page, and as a file.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use futures_util::Stream;
use http::StatusCode;
use serde::Deserialize;

use super::access::Viewing;
use super::answer::{Asked, url};
use super::notice::refused;
use super::show::{NONE, bytes, moment, span, typed_moment};
use crate::audit::Kind;
use crate::links;
use crate::ops::{Ops, OpsError, WantedEvents};
use crate::portal::csv;
use crate::portal::page::{Page, answer};
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::store::StoredEvent;
use crate::types::DisplayName;

/// Which part of the trail a page is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// What was done to second factors, and which were not accepted.
    SecondFactor,
}

impl Part {
    const fn path(self) -> &'static str {
        match self {
            Self::Whole => "/admin/events",
            Self::SecondFactor => "/admin/second-factor/errors",
        }
    }

    const fn file(self) -> &'static str {
        match self {
            Self::Whole => "/admin/events.csv",
            Self::SecondFactor => "/admin/second-factor/errors.csv",
        }
    }

    const fn heading(self) -> &'static str {
        match self {
            Self::Whole => "Events",
            Self::SecondFactor => "Second factor: errors",
        }
    }

    /// The kinds of events that there are in it.
    const fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Whole => &Kind::ALL,
            Self::SecondFactor => &[Kind::SecondFactorRefused, Kind::SecondFactor],
        }
    }

    /// The kind that is shown unless another is chosen; empty: all.
    const fn first(self) -> &'static str {
        match self {
            Self::Whole => "",
            Self::SecondFactor => Kind::SecondFactorRefused.as_str(),
        }
    }
}

/// So many on a page.
const ROWS: usize = 100;
/// So many are read at once for a file.
const AT_ONCE: usize = 500;

/// What was filled into the form above the list.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    /// `None`: nothing was chosen yet.
    kind: Option<String>,
    user: String,
    client: String,
    since: String,
    before: String,
}

impl Filter {
    fn kind(&self, of: Part) -> &str {
        self.kind.as_deref().unwrap_or_else(|| of.first())
    }

    /// What is wanted, or which field cannot be read.
    fn wanted(&self, of: Part, most: usize) -> Result<WantedEvents, &'static str> {
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let client = text(&self.client).map(|client| links::parse(&client)).transpose();
        let before = text(&self.before).map(|place| place.parse()).transpose();
        let kinds = match text(self.kind(of)) {
            Some(kind) => vec![kind],
            None if of == Part::Whole => Vec::new(),
            None => of.kinds().iter().map(|kind| kind.as_str().to_owned()).collect(),
        };
        Ok(WantedEvents {
            kinds,
            user: text(&self.user).map(|user| user.as_str().into()),
            client: client.map_err(|_| "What stands under “Address” is no address.")?,
            since: typed_moment(&self.since).map_err(|_| "What stands under “Since” is no moment.")?,
            before: before.map_err(|_| "This page cannot be found again: begin with the newest.")?,
            most,
        })
    }

    fn url(&self, path: &str, before: Option<String>) -> String {
        let before = before.unwrap_or_default();
        let fields =
            [("user", &self.user), ("client", &self.client), ("since", &self.since), ("before", &before)];
        let kind = self.kind.as_deref().map(|kind| ("kind", kind));
        let said = fields.iter().filter(|(_, value)| !value.is_empty());
        let said = said.map(|(name, value)| (*name, value.as_str()));
        url(path, &kind.into_iter().chain(said).collect::<Vec<(&str, &str)>>())
    }
}

#[derive(Template)]
#[template(path = "admin/events.html")]
struct Events {
    page: Page,
    of: Part,
    filter: Filter,
    problem: Option<&'static str>,
    rows: Vec<Row>,
    newest: Option<String>,
    older: Option<String>,
    file: String,
}

struct Row {
    time: String,
    kind: String,
    client: String,
    user: String,
    what: String,
    actor: String,
}

impl Row {
    fn new(event: &StoredEvent) -> Self {
        Self {
            time: moment(event.time),
            kind: event.event.clone(),
            client: or_none(event.client.clone()),
            user: or_none(user(event)),
            what: or_none(Some(what(event)).filter(|what| !what.is_empty())),
            actor: or_none(event.actor.as_ref().map(ToString::to_string)),
        }
    }
}

fn or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| NONE.to_owned())
}

fn user(event: &StoredEvent) -> Option<String> {
    let domain = event.domain.as_deref().unwrap_or_default();
    let shown = event.user.as_ref().map(|user| DisplayName { user, domain }.to_string())?;
    Some(match &event.realm {
        Some(realm) => format!("{shown} ({realm})"),
        None => shown,
    })
}

/// All else that an event says, in the words that the log and the API have.
fn what(event: &StoredEvent) -> String {
    let mut parts = Vec::new();
    if let Some(setting) = &event.setting {
        parts.push(match &event.before {
            Some(before) => format!("{setting} (before: {before})"),
            None => setting.clone(),
        });
    }
    parts.extend(event.reason.clone());
    parts.extend(event.cause.clone().filter(|cause| event.reason.as_ref() != Some(cause)));
    parts.extend(event.by.as_ref().map(|by| format!("by {by}")));
    parts.extend(event.method.clone());
    parts.extend(Some(event.factors.join(" ")).filter(|factors| !factors.is_empty()));
    parts.extend(event.count.map(|count| format!("and {count} more")));
    parts.extend(event.duration.map(|seconds| format!("lasted {}", span(seconds))));
    parts.extend(event.connections_closed.map(|count| format!("connections closed: {count}")));
    if let (Some(rx), Some(tx)) = (event.rx, event.tx) {
        parts.push(format!("received {}, sent {}", bytes(rx), bytes(tx)));
    }
    parts.join("; ")
}

pub(super) async fn list(
    State(site): State<Site>,
    Viewing(visit): Viewing,
    Asked(filter): Asked<Filter>,
) -> Response {
    listed(&site, &visit, Part::Whole, filter).await
}

pub(super) async fn second_factor(
    State(site): State<Site>,
    Viewing(visit): Viewing,
    Asked(filter): Asked<Filter>,
) -> Response {
    listed(&site, &visit, Part::SecondFactor, filter).await
}

async fn listed(site: &Site, visit: &Visit, of: Part, filter: Filter) -> Response {
    let wanted = match filter.wanted(of, ROWS) {
        Ok(wanted) => wanted,
        Err(problem) => return page(visit, of, filter, Some(problem), Vec::new(), None),
    };
    match site.parts().ops.past_events(wanted).await {
        Ok(told) => {
            let rows = told.events.iter().map(Row::new).collect();
            page(visit, of, filter, None, rows, told.next.map(|next| next.to_string()))
        }
        Err(error) => refused(visit, &error, of.path()),
    }
}

fn page(
    visit: &Visit,
    of: Part,
    filter: Filter,
    problem: Option<&'static str>,
    rows: Vec<Row>,
    next: Option<String>,
) -> Response {
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let newest = (!filter.before.is_empty()).then(|| filter.url(of.path(), None));
    let older = next.map(|next| filter.url(of.path(), Some(next)));
    let file = filter.url(of.file(), None);
    answer(visit, status, &Events { page: visit.page(), of, filter, problem, rows, newest, older, file })
}

pub(super) async fn file(
    State(site): State<Site>,
    Viewing(visit): Viewing,
    Asked(filter): Asked<Filter>,
) -> Response {
    download(&site, &visit, Part::Whole, filter)
}

pub(super) async fn second_factor_file(
    State(site): State<Site>,
    Viewing(visit): Viewing,
    Asked(filter): Asked<Filter>,
) -> Response {
    download(&site, &visit, Part::SecondFactor, filter)
}

fn download(site: &Site, visit: &Visit, of: Part, filter: Filter) -> Response {
    match filter.wanted(of, AT_ONCE) {
        Ok(wanted) => {
            let columns =
                ["time", "event", "client", "user", "realm", "session", "method", "what", "actor", "from"];
            csv::download("events.csv", &columns, rows(site.parts().ops.clone(), wanted))
        }
        Err(problem) => page(visit, of, filter, Some(problem), Vec::new(), None),
    }
}

/// The rows of the file, read as they are sent.
fn rows(ops: Ops, wanted: WantedEvents) -> impl Stream<Item = Result<String, OpsError>> + Send {
    let state = (ops, Some(wanted));
    futures_util::stream::try_unfold(state, async |(ops, wanted)| {
        let Some(wanted) = wanted else { return Ok(None) };
        let told = ops.past_events(wanted.clone()).await?;
        let rows: String = told.events.iter().map(csv_row).collect();
        let next = told.next.map(|next| WantedEvents { before: Some(next), ..wanted });
        Ok(Some((rows, (ops, next))))
    })
}

fn csv_row(event: &StoredEvent) -> String {
    let actor = event.actor.as_ref();
    let from = actor.and_then(|actor| actor.client).map(|client| client.to_string());
    let fields = [
        Some(event.time.to_string()),
        Some(event.event.clone()),
        event.client.clone(),
        user(event),
        event.realm.clone(),
        event.session.clone(),
        event.method.clone(),
        Some(what(event)),
        actor.map(ToString::to_string),
        from,
    ];
    csv::row(fields.iter().map(|field| field.as_deref().unwrap_or_default()))
}
