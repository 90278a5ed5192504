//! The tables of sessions, hosts and users: sorted, filtered and paged on the server.

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use super::failed;
use super::query::{Asked, Extracted, encoded, order};
use super::user::link as user_link;
use super::words::{Clock, between, bytes, filled, number, rate, span};
use crate::links::shown;
use crate::ops::{Column, Row, Selection, Snapshot, StandingFilter, Table, Usage, Value};
use crate::pages::Language;
use crate::portal::admin::Viewing;
use crate::portal::page::{Page, answer};
use crate::portal::site::Site;
use crate::types::{ClientAddr, Method};

/// So many users or addresses are named in a cell; the others are counted.
const NAMED: usize = 3;

/// A page with a table.
#[derive(Template)]
#[template(path = "status_table.html")]
struct Shown {
    page: Page,
    heading: &'static str,
    table: &'static str,
    caption: String,
    asked: Asked,
    states: Vec<Choice>,
    methods: Vec<Choice>,
    heads: Vec<Head>,
    rows: Rows,
    count: String,
    /// The query of this page.
    query: String,
    /// What a form that filters keeps: how it is sorted.
    sort: &'static str,
    order: &'static str,
    previous: Option<String>,
    next: Option<String>,
    place: String,
}

/// Something to choose.
struct Choice {
    word: &'static str,
    label: &'static str,
    is_chosen: bool,
}

/// A column's head.
pub(super) struct Head {
    pub(super) label: &'static str,
    link: String,
    /// `aria-sort`; `None` where it is not sorted by this.
    sort: Option<&'static str>,
    pub(super) class: &'static str,
}

impl Head {
    /// Of a table that is not sorted by its heads.
    pub(super) const fn plain(column: Column) -> Self {
        Self { label: label(column), link: String::new(), sort: None, class: class(column) }
    }
}

/// The body and the foot of a table: what is sent live.
#[derive(Template)]
#[template(path = "status_rows.html")]
pub(super) struct Rows {
    language: Language,
    rows: Vec<Line>,
    sums: Vec<Cell>,
    empty: &'static str,
    columns: usize,
}

/// A row.
struct Line {
    /// What tells it from the others.
    key: String,
    cells: Vec<Cell>,
}

/// A cell.
#[derive(Default)]
struct Cell {
    class: &'static str,
    /// A moment, for programs.
    moment: Option<String>,
    text: String,
    /// Where the text leads.
    link: Option<String>,
    /// Further texts, and where they lead.
    more: Vec<(String, Option<String>)>,
    /// So many more are not shown.
    others: usize,
}

/// The page of one table.
pub(super) async fn show(
    Viewing(visit): Viewing,
    State(site): State<Site>,
    query: Extracted,
    table: Table,
) -> Response {
    let asked = match Asked::read(&visit, table, query) {
        Ok(asked) => asked,
        Err(refused) => return *refused,
    };
    let (snapshot, selection) = match site.parts().ops.select(asked.select.clone()).await {
        Ok(selected) => selected,
        Err(error) => return failed(&visit, &error),
    };
    let (page, language) = (visit.page(), visit.language());
    let clock = Clock::here();
    let rows = Rows::new(language, &clock, table, &snapshot, &selection);
    let head = |column: &Column| Head {
        label: label(*column),
        link: format!("/status/{}{}", table.as_str(), asked.sorted_by(*column).query()),
        sort: (asked.select.sort == *column).then(|| order(asked.select.is_descending)),
        class: class(*column),
    };
    let to = |page: usize| format!("/status/{}{}", table.as_str(), asked.on_page(page).query());
    let (number_of, pages) = (selection.page, selection.pages());
    let place = language.t("Page {page} of {pages}");
    let caption = filled(language.t("Times are in {zone}"), &[("zone", &clock.zone(snapshot.taken))]);
    let shown = Shown {
        heading: heading(table),
        table: table.as_str(),
        caption,
        states: states(table, asked.select.standing),
        methods: methods(asked.select.method),
        heads: table.columns().iter().map(head).collect(),
        count: count(language, table, &selection),
        query: asked.query(),
        sort: asked.select.sort.as_str(),
        order: order(asked.select.is_descending),
        previous: number_of.checked_sub(1).map(to),
        next: (number_of + 1 < pages).then(|| to(number_of + 1)),
        place: filled(place, &[("page", &number(number_of as u64 + 1)), ("pages", &number(pages as u64))]),
        rows,
        asked,
        page,
    };
    answer(&visit, StatusCode::OK, &shown).into_response()
}

/// How many rows there are, in a sentence.
pub(super) fn count(language: &Language, table: Table, selection: &Selection) -> String {
    let sentence = match table {
        _ if selection.total == 0 => "None",
        Table::Sessions if selection.matching == selection.total => "{from}–{to} of {matching} sessions",
        Table::Sessions => "{from}–{to} of {matching} sessions that match, of {all}",
        Table::Hosts if selection.matching == selection.total => "{from}–{to} of {matching} hosts",
        Table::Hosts => "{from}–{to} of {matching} hosts that match, of {all}",
        Table::Users if selection.matching == selection.total => "{from}–{to} of {matching} users",
        Table::Users => "{from}–{to} of {matching} users that match, of {all}",
    };
    let first = selection.first();
    let last = if first == 0 { 0 } else { first + selection.rows.len() - 1 };
    let shown = |value: usize| number(value as u64);
    filled(
        language.t(sentence),
        &[
            ("from", &shown(first)),
            ("to", &shown(last)),
            ("matching", &shown(selection.matching)),
            ("all", &shown(selection.total)),
        ],
    )
}

impl Rows {
    pub(super) fn new(
        language: &Language,
        clock: &Clock,
        table: Table,
        snapshot: &Snapshot,
        selection: &Selection,
    ) -> Self {
        let rows = selection.rows.iter().filter_map(|place| snapshot.row(table, *place));
        let sums = (&selection.usage, selection.licences);
        Self::of(language, clock, snapshot, table.columns(), rows, sums)
    }

    /// These rows; at their foot what all use, and the licences that all take.
    pub(super) fn of<'a>(
        language: &Language,
        clock: &Clock,
        snapshot: &'a Snapshot,
        columns: &[Column],
        rows: impl Iterator<Item = Row<'a>>,
        (usage, licences): (&Usage, u64),
    ) -> Self {
        let line = |row: Row<'_>| Line {
            key: key(row),
            cells: columns.iter().map(|column| cell(language, clock, snapshot, row, *column)).collect(),
        };
        let sum = |column: &Column| {
            let text = match column {
                Column::Licences => number(licences),
                Column::Connections => number(usage.connections.into()),
                Column::Received => bytes(usage.received),
                Column::Sent => bytes(usage.sent),
                Column::ReceiveRate => rate(usage.receive_rate),
                Column::SendRate => rate(usage.send_rate),
                _ => String::new(),
            };
            Cell { class: class(*column), text, ..Cell::default() }
        };
        Self {
            language: language.clone(),
            rows: rows.map(line).collect(),
            // The first has the word for it.
            sums: columns.iter().skip(1).map(sum).collect(),
            empty: "Nobody",
            columns: columns.len(),
        }
    }
}

/// What tells a row from the others of its table.
fn key(row: Row<'_>) -> String {
    match row {
        Row::Session(session) => session.id.to_string(),
        Row::Host(host, _) => shown(host.client).to_string(),
        Row::User(user) => user.identity.key().to_owned(),
    }
}

fn cell(language: &Language, clock: &Clock, snapshot: &Snapshot, row: Row<'_>, column: Column) -> Cell {
    let cell = Cell { class: class(column), ..Cell::default() };
    match row.value(column) {
        Value::Nothing | Value::Since(None) => Cell { text: "–".into(), ..cell },
        Value::User(who) => {
            Cell { text: who.to_string(), link: Some(user_link(who)), ..cell }
        }
        Value::Users(sessions) => {
            let mut names: Vec<(String, Option<String>)> = Vec::new();
            let mut known: Vec<&str> = Vec::new();
            for session in sessions {
                if !known.contains(&session.identity.key()) {
                    known.push(session.identity.key());
                    if names.len() < NAMED {
                        names.push((session.identity.to_string(), Some(user_link(&session.identity))));
                    }
                }
                if known.len() > 100 {
                    break;
                }
            }
            listed(cell, names.into_iter(), known.len())
        }
        Value::Client(client, port) => {
            let text = match port {
                Some(port) => format!("{} :{port}", shown(client)),
                None => shown(client).to_string(),
            };
            Cell { text, link: Some(session_link(client)), ..cell }
        }
        Value::Clients(served, others) => {
            let all = served.iter().chain(others);
            let named =
                all.take(NAMED).map(|client| (shown(*client).to_string(), Some(session_link(*client))));
            listed(cell, named, served.len() + others.len())
        }
        Value::Device(device) => Cell { text: device.to_string(), ..cell },
        Value::Moment(moment) => {
            Cell { text: clock.moment(moment), moment: Some(moment.to_string()), ..cell }
        }
        Value::Since(Some(since)) => Cell { text: span(between(since, snapshot.taken)), ..cell },
        Value::Rate(value) => Cell { text: rate(value), ..cell },
        Value::Bytes(value) => Cell { text: bytes(value), ..cell },
        Value::Number(value) => Cell { text: number(value), ..cell },
        Value::Word("") => Cell { text: "–".into(), ..cell },
        Value::Word(word) => Cell { text: language.t(word).to_owned(), ..cell },
    }
}

/// Several in a cell, of so many in all.
fn listed(cell: Cell, named: impl Iterator<Item = (String, Option<String>)>, all: usize) -> Cell {
    let mut named = named;
    let Some((text, link)) = named.next() else { return Cell { text: "–".into(), ..cell } };
    let more: Vec<_> = named.collect();
    let others = all.saturating_sub(1 + more.len());
    Cell { text, link, more, others, ..cell }
}

/// The page of whoever is at an address.
pub(super) fn session_link(client: ClientAddr) -> String {
    format!("/status/session/{}", encoded(&shown(client).to_string()))
}

const fn heading(table: Table) -> &'static str {
    match table {
        Table::Sessions => "Sessions",
        Table::Hosts => "Hosts",
        Table::Users => "Users",
    }
}

/// What is written above a column.
pub(super) const fn label(column: Column) -> &'static str {
    match column {
        Column::User => "User",
        Column::Users => "Users",
        Column::Address => "Address",
        Column::Addresses => "Addresses",
        Column::Device => "Device",
        Column::Login => "Login",
        Column::Duration => "Duration",
        Column::Inactivity => "Inactivity",
        Column::ReceiveRate => "Receives",
        Column::SendRate => "Sends",
        Column::Received => "Received",
        Column::Sent => "Sent",
        Column::Connections => "Connections",
        Column::Method => "Method",
        Column::Mode => "Mode",
        Column::State => "State",
        Column::Deadline => "Deadline",
        Column::Licences => "Licences",
        Column::Opened => "Opened",
        Column::Closed => "Closed",
    }
}

pub(super) const fn class(column: Column) -> &'static str {
    match column {
        _ if column.is_sum() => "n",
        Column::Duration | Column::Inactivity => "n",
        Column::Login | Column::Deadline | Column::Opened | Column::Closed => "t",
        _ => "",
    }
}

fn states(table: Table, chosen: Option<StandingFilter>) -> Vec<Choice> {
    let offered = StandingFilter::ALL
        .into_iter()
        .filter(|standing| table == Table::Hosts || *standing != StandingFilter::Nobody);
    let choice = |standing: StandingFilter| Choice {
        word: standing.as_str(),
        label: standing.as_str(),
        is_chosen: chosen == Some(standing),
    };
    offered.map(choice).collect()
}

fn methods(chosen: Option<Method>) -> Vec<Choice> {
    let choice = |method: Method| Choice {
        word: method.as_str(),
        label: method.as_str(),
        is_chosen: chosen == Some(method),
    };
    Method::ALL.into_iter().map(choice).collect()
}
