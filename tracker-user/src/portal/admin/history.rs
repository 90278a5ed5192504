//! Who had which address when.

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
use crate::clock::wall_now;
use crate::links;
use crate::ops::{HISTORY_AT_MOST, OpsError};
use crate::portal::csv;
use crate::portal::page::{Page, answer};
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::store::{HistoryEntry, Wanted};
use crate::types::DisplayName;

const PATH: &str = "/admin/history";
/// So many on a page.
const ROWS: usize = 100;
/// So many pages: whoever looks for more says of whom, or when.
const PAGES: usize = 100;
/// So many rows of a file are made at once.
const AT_ONCE: usize = 500;

/// What was filled into the form above the list.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    user: String,
    client: String,
    at: String,
    page: String,
}

impl Filter {
    /// What is wanted, or which field cannot be read.
    fn wanted(&self, most: usize) -> Result<Wanted, &'static str> {
        let text = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        let client = text(&self.client).map(|client| links::parse(&client)).transpose();
        Ok(Wanted {
            client: client.map_err(|_| "What stands under “Address” is no address.")?,
            user: text(&self.user).map(|user| user.as_str().into()),
            at: typed_moment(&self.at).map_err(|_| "What stands under “At” is no moment.")?,
            most,
        })
    }

    /// Which page, from 1 on.
    fn number(&self) -> usize {
        self.page.parse().unwrap_or(1).clamp(1, PAGES)
    }

    fn url(&self, path: &str, page: Option<usize>) -> String {
        let page = page.map(|page| page.to_string()).unwrap_or_default();
        let fields = [("user", &self.user), ("client", &self.client), ("at", &self.at), ("page", &page)];
        let said: Vec<(&str, &str)> = fields
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        url(path, &said)
    }
}

#[derive(Template)]
#[template(path = "admin/history.html")]
struct History {
    page: Page,
    filter: Filter,
    problem: Option<&'static str>,
    rows: Vec<Row>,
    newer: Option<String>,
    older: Option<String>,
    is_cut: bool,
    file: String,
}

struct Row {
    client: String,
    user: String,
    method: String,
    from: String,
    until: Option<String>,
    lasted: String,
    stale: u32,
    ended: String,
    received: String,
    sent: String,
}

impl Row {
    fn new(entry: &HistoryEntry) -> Self {
        let lasted = entry.until.unwrap_or_else(wall_now).duration_since(entry.from).as_secs_f64();
        let count = |count: Option<u64>| count.map_or_else(|| NONE.to_owned(), bytes);
        Self {
            client: entry.client.clone(),
            user: user(entry),
            method: entry.method.map_or(NONE, |method| method.as_str()).to_owned(),
            from: moment(entry.from),
            until: entry.until.map(moment),
            lasted: span(lasted),
            stale: entry.stale_count,
            ended: ended(entry).unwrap_or_else(|| NONE.to_owned()),
            received: count(entry.rx),
            sent: count(entry.tx),
        }
    }
}

fn user(entry: &HistoryEntry) -> String {
    let shown = DisplayName { user: &entry.user, domain: &entry.domain };
    match &entry.realm {
        Some(realm) => format!("{shown} ({realm})"),
        None => shown.to_string(),
    }
}

fn ended(entry: &HistoryEntry) -> Option<String> {
    let reason = entry.reason?.as_str();
    Some(match &entry.by {
        Some(by) => format!("{reason} ({by})"),
        None => reason.to_owned(),
    })
}

pub(super) async fn list(
    State(site): State<Site>,
    Viewing(visit): Viewing,
    Asked(filter): Asked<Filter>,
) -> Response {
    let number = filter.number();
    // One more tells whether there is another page.
    let wanted = match filter.wanted(number * ROWS + 1) {
        Ok(wanted) => wanted,
        Err(problem) => return page(&visit, filter, Some(problem), Vec::new(), false),
    };
    match site.parts().ops.history(wanted).await {
        Ok(entries) => {
            let has_more = entries.len() > number * ROWS;
            let rows = entries.iter().skip((number - 1) * ROWS).take(ROWS).map(Row::new).collect();
            page(&visit, filter, None, rows, has_more)
        }
        Err(error) => refused(&visit, &error, PATH),
    }
}

fn page(
    visit: &Visit,
    filter: Filter,
    problem: Option<&'static str>,
    rows: Vec<Row>,
    has_more: bool,
) -> Response {
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let number = filter.number();
    let newer = (number > 1).then(|| filter.url(PATH, Some(number - 1)));
    let older = (has_more && number < PAGES).then(|| filter.url(PATH, Some(number + 1)));
    let file = filter.url("/admin/history.csv", None);
    let is_cut = has_more && number == PAGES;
    answer(visit, status, &History { page: visit.page(), filter, problem, rows, newer, older, is_cut, file })
}

pub(super) async fn file(
    State(site): State<Site>,
    Viewing(visit): Viewing,
    Asked(filter): Asked<Filter>,
) -> Response {
    let wanted = match filter.wanted(HISTORY_AT_MOST) {
        Ok(wanted) => wanted,
        Err(problem) => return page(&visit, filter, Some(problem), Vec::new(), false),
    };
    match site.parts().ops.history(wanted).await {
        Ok(entries) => {
            let columns = [
                "client", "user", "realm", "method", "from", "until", "stale", "reason", "by", "received",
                "sent", "session",
            ];
            csv::download("history.csv", &columns, rows(entries))
        }
        Err(error) => refused(&visit, &error, PATH),
    }
}

/// The rows of the file, some at a time: others are answered in between.
fn rows(entries: Vec<HistoryEntry>) -> impl Stream<Item = Result<String, OpsError>> + Send {
    futures_util::stream::try_unfold(entries.into_iter(), async |mut entries| {
        tokio::task::yield_now().await;
        let rows: String = entries.by_ref().take(AT_ONCE).map(|entry| csv_row(&entry)).collect();
        Ok(if rows.is_empty() { None } else { Some((rows, entries)) })
    })
}

fn csv_row(entry: &HistoryEntry) -> String {
    let shown = DisplayName { user: &entry.user, domain: &entry.domain };
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let fields = [
        Some(entry.client.clone()),
        Some(shown.to_string()),
        entry.realm.clone(),
        entry.method.map(|method| method.as_str().to_owned()),
        Some(entry.from.to_string()),
        entry.until.map(|until| until.to_string()),
        Some(entry.stale_count.to_string()),
        entry.reason.map(|reason| reason.as_str().to_owned()),
        entry.by.clone(),
        number(entry.rx),
        number(entry.tx),
        Some(entry.session.to_string()),
    ];
    csv::row(fields.iter().map(|field| field.as_deref().unwrap_or_default()))
}
