//! Which rows of a snapshot are shown, and in which order. Pure.

use std::cmp::Ordering;

use super::value::{Column, Value};
use super::{HostRow, Kinds, SessionRow, Snapshot, Usage, UserRow};
use crate::ops::Standing;
use crate::types::Method;

/// So many rows are a page.
pub(super) const PAGE: usize = 100;

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// A row for each session.
    Sessions,
    /// For each address that the observer knows.
    Hosts,
    /// For each user with a session.
    Users,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 3] = [Self::Sessions, Self::Hosts, Self::Users];

    /// Its word, in addresses of pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Hosts => "hosts",
            Self::Users => "users",
        }
    }

    /// Its columns, in their order.
    #[must_use]
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Sessions => &[
                Column::User,
                Column::Address,
                Column::State,
                Column::Login,
                Column::Duration,
                Column::Inactivity,
                Column::ReceiveRate,
                Column::SendRate,
                Column::Received,
                Column::Sent,
                Column::Connections,
                Column::Method,
                Column::Mode,
                Column::Deadline,
                Column::Device,
            ],
            Self::Hosts => &[
                Column::Address,
                Column::Users,
                Column::State,
                Column::Inactivity,
                Column::ReceiveRate,
                Column::SendRate,
                Column::Received,
                Column::Sent,
                Column::Connections,
                Column::Opened,
                Column::Closed,
                Column::Device,
            ],
            Self::Users => &[
                Column::User,
                Column::Addresses,
                Column::State,
                Column::Licences,
                Column::Login,
                Column::Duration,
                Column::Inactivity,
                Column::ReceiveRate,
                Column::SendRate,
                Column::Received,
                Column::Sent,
                Column::Connections,
            ],
        }
    }
}

/// Whether somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandingFilter {
    /// There is a session that stands so.
    Is(Standing),
    /// There is none.
    Nobody,
}

impl StandingFilter {
    /// All there are.
    pub const ALL: [Self; 4] =
        [Self::Is(Standing::Active), Self::Is(Standing::Waiting), Self::Is(Standing::Stale), Self::Nobody];

    /// Its word, in addresses of pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Is(standing) => standing.as_str(),
            Self::Nobody => "nobody",
        }
    }
}

/// What is wanted of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Select {
    /// Which.
    pub table: Table,
    /// Only rows with this text in user, address or device, in lower case; empty: all.
    pub text: String,
    /// Only those.
    pub standing: Option<StandingFilter>,
    /// Only those with a session that was proved so.
    pub method: Option<Method>,
    /// By which column.
    pub sort: Column,
    /// From the greatest on.
    pub is_descending: bool,
    /// Which page, from 0 on, of [`PAGE`] rows; one behind the last is the last. `None`: all rows.
    pub page: Option<usize>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The rows, by their place in the snapshot's table.
    pub rows: Vec<u32>,
    /// Which page it is.
    pub page: usize,
    /// How many rows match, on all pages.
    pub matching: usize,
    /// How many there are in the table.
    pub total: usize,
    /// What the matching ones use together,
    pub usage: Usage,
    /// and the licences, where the table has them.
    pub licences: u64,
}

impl Selection {
    /// How many pages the matching rows are: at least one.
    #[must_use]
    pub const fn pages(&self) -> usize {
        let pages = self.matching.div_ceil(PAGE);
        if pages == 0 { 1 } else { pages }
    }

    /// The number of the first row on the page, from 1 on; 0 where there is none.
    #[must_use]
    pub const fn first(&self) -> usize {
        if self.rows.is_empty() { 0 } else { self.page * PAGE + 1 }
    }
}

/// A row of whichever table.
#[derive(Clone, Copy, Debug)]
pub enum Row<'a> {
    /// A session.
    Session(&'a SessionRow),
    /// A host.
    Host(&'a HostRow, &'a Snapshot),
    /// A user.
    User(&'a UserRow),
}

impl<'a> Row<'a> {
    /// What stands in a column; [`Value::Nothing`] in those that the table does not have.
    #[must_use]
    pub fn value(self, column: Column) -> Value<'a> {
        match self {
            Self::Session(row) => row.value(column),
            Self::Host(row, snapshot) => row.value(column, snapshot),
            Self::User(row) => row.value(column),
        }
    }

    const fn usage(self) -> &'a Usage {
        match self {
            Self::Session(row) => &row.usage,
            Self::Host(row, _) => &row.usage,
            Self::User(row) => &row.usage,
        }
    }

    const fn licences(self) -> u32 {
        match self {
            Self::User(row) => row.licences,
            Self::Session(_) | Self::Host(..) => 0,
        }
    }

    fn kinds(self) -> Kinds {
        match self {
            Self::Session(row) => row.kinds(),
            Self::Host(row, _) => row.kinds,
            Self::User(row) => row.kinds,
        }
    }
}

impl Snapshot {
    /// How many rows a table has.
    #[must_use]
    pub const fn len(&self, table: Table) -> usize {
        match table {
            Table::Sessions => self.sessions.len(),
            Table::Hosts => self.hosts.len(),
            Table::Users => self.users.len(),
        }
    }

    /// A row of a table.
    #[must_use]
    pub fn row(&self, table: Table, place: u32) -> Option<Row<'_>> {
        let place = place as usize;
        match table {
            Table::Sessions => self.sessions.get(place).map(Row::Session),
            Table::Hosts => self.hosts.get(place).map(|row| Row::Host(row, self)),
            Table::Users => self.users.get(place).map(Row::User),
        }
    }

    /// The rows that are wanted.
    #[must_use]
    pub fn select(&self, wanted: &Select) -> Selection {
        let table = wanted.table;
        let mut buffer = String::new();
        let mut selection = Selection { total: self.len(table), ..Selection::default() };
        // There are no more of them: `MOST`.
        for place in 0..u32::try_from(selection.total).unwrap_or(u32::MAX) {
            let Some(row) = self.row(table, place).filter(|row| wanted.accepts(*row, &mut buffer)) else {
                continue;
            };
            selection.usage.add(row.usage());
            selection.licences += u64::from(row.licences());
            selection.rows.push(place);
        }
        selection.matching = selection.rows.len();
        let order = |a: &u32, b: &u32| self.order(wanted, *a, *b);
        match wanted.page {
            None => selection.rows.sort_unstable_by(order),
            Some(page) => {
                selection.page = page.min(selection.pages() - 1);
                let from = selection.page * PAGE;
                cut(&mut selection.rows, from, order);
            }
        }
        selection
    }

    /// The order of two rows. There are no two that it does not tell apart.
    fn order(&self, wanted: &Select, a: u32, b: u32) -> Ordering {
        let (Some(first), Some(second)) = (self.row(wanted.table, a), self.row(wanted.table, b)) else {
            return a.cmp(&b);
        };
        let (first, second) = (first.value(wanted.sort), second.value(wanted.sort));
        let order = first.compare(&second);
        // What is not known comes last, wherever the order begins.
        let order = if wanted.is_descending && !(first.is_nothing() || second.is_nothing()) {
            order.reverse()
        } else {
            order
        };
        order.then_with(|| a.cmp(&b))
    }
}

/// Leaves the page that begins at `from`, in order. Only that page is sorted.
fn cut(rows: &mut Vec<u32>, from: usize, order: impl Fn(&u32, &u32) -> Ordering) {
    let end = (from + PAGE).min(rows.len());
    if end < rows.len() {
        rows.select_nth_unstable_by(end, &order);
        rows.truncate(end);
    }
    if 0 < from && from < rows.len() {
        rows.select_nth_unstable_by(from, &order);
    }
    rows.drain(..from.min(rows.len()));
    rows.sort_unstable_by(order);
    rows.shrink_to_fit();
}

impl Select {
    /// A table as it is shown to whoever wants nothing else: the busiest or the newest first.
    #[must_use]
    pub const fn all(table: Table) -> Self {
        let (sort, is_descending) = match table {
            Table::Sessions => (Column::Login, true),
            Table::Hosts => (Column::SendRate, true),
            Table::Users => (Column::User, false),
        };
        Self { table, text: String::new(), standing: None, method: None, sort, is_descending, page: Some(0) }
    }

    fn accepts(&self, row: Row<'_>, buffer: &mut String) -> bool {
        const SEARCHED: [Column; 5] =
            [Column::User, Column::Users, Column::Address, Column::Addresses, Column::Device];
        let kinds = row.kinds();
        self.standing.is_none_or(|standing| kinds.are(standing))
            && self.method.is_none_or(|method| kinds.have(method))
            && (self.text.is_empty()
                || self
                    .table
                    .columns()
                    .iter()
                    .filter(|column| SEARCHED.contains(column))
                    .any(|column| row.value(*column).has(&self.text, buffer)))
    }
}
