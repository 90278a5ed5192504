//! What is asked of a table, in the address of its page: read into types, and written back into links.

use std::fmt::Write as _;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use crate::ops::{Column, Select, StandingFilter, Table};
use crate::portal::visit::Visit;
use crate::types::UserMessage;

/// Nobody looks for a longer text.
const TEXT_MOST: usize = 100;

/// The query as it comes. A form sends what is left empty, too: empty is absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Raw {
    q: String,
    state: String,
    method: String,
    sort: String,
    order: String,
    page: String,
}

/// As axum hands it over.
pub(super) type Extracted = Result<Query<Raw>, QueryRejection>;

/// What is asked of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Of which, and what.
    pub(super) select: Select,
    /// The text that is looked for, as it was typed.
    pub(super) typed: String,
}

impl Asked {
    /// What is asked; or the page that says that it cannot be.
    pub(super) fn read(visit: &Visit, table: Table, query: Extracted) -> Result<Self, Box<Response>> {
        query.ok().and_then(|Query(raw)| Self::parse(table, raw)).ok_or_else(|| {
            let message = UserMessage::new(
                "Its address asks for what the table does not have. Begin with the whole table.",
            );
            Box::new(visit.problem(StatusCode::BAD_REQUEST, "This cannot be asked of the page", &message))
        })
    }

    fn parse(table: Table, raw: Raw) -> Option<Self> {
        let Raw { q, state, method, sort, order, page } = raw;
        let mut select = Select::all(table);
        let typed = q.trim().to_owned();
        if typed.chars().count() > TEXT_MOST {
            return None;
        }
        select.text = typed.to_lowercase();
        if !state.is_empty() {
            let standing = StandingFilter::ALL.into_iter().find(|standing| standing.as_str() == state)?;
            select.standing = Some(standing);
        }
        if !method.is_empty() {
            select.method = Some(method.parse().ok()?);
        }
        if !sort.is_empty() {
            select.sort = Column::of(&sort).filter(|column| table.columns().contains(column))?;
            select.is_descending = false;
        }
        match order.as_str() {
            "" => {}
            "ascending" => select.is_descending = false,
            "descending" => select.is_descending = true,
            _ => return None,
        }
        if !page.is_empty() {
            let number: usize = page.parse().ok().filter(|number| *number > 0)?;
            select.page = Some(number - 1);
        }
        Some(Self { select, typed })
    }

    /// Whether only some rows are wanted.
    pub(super) fn is_filtered(&self) -> bool {
        let Select { standing, method, .. } = self.select;
        !self.typed.is_empty() || standing.is_some() || method.is_some()
    }

    /// The same, sorted by this column: the other way round where it is that already.
    pub(super) fn sorted_by(&self, column: Column) -> Self {
        let is_descending = if self.select.sort == column {
            !self.select.is_descending
        } else {
            // What people look for first: the most.
            column.is_sum()
        };
        let select = Select { sort: column, is_descending, page: Some(0), ..self.select.clone() };
        Self { select, typed: self.typed.clone() }
    }

    /// The same on this page, from 0 on.
    pub(super) fn on_page(&self, page: usize) -> Self {
        Self { select: Select { page: Some(page), ..self.select.clone() }, typed: self.typed.clone() }
    }

    /// The query of an address that asks for this, with its question mark; empty for what is shown anyway.
    pub(super) fn query(&self) -> String {
        let Select { table, standing, method, sort, is_descending, page, .. } = &self.select;
        let mut query = String::new();
        let mut add = |name: &str, value: &str| {
            let mark = if query.is_empty() { '?' } else { '&' };
            // A string takes everything.
            let _ = write!(query, "{mark}{name}={}", encoded(value));
        };
        if !self.typed.is_empty() {
            add("q", &self.typed);
        }
        if let Some(standing) = standing {
            add("state", standing.as_str());
        }
        if let Some(method) = method {
            add("method", method.as_str());
        }
        let usual = Select::all(*table);
        if (usual.sort, usual.is_descending) != (*sort, *is_descending) {
            add("sort", sort.as_str());
            add("order", order(*is_descending));
        }
        if let Some(page) = page.filter(|page| *page > 0) {
            add("page", &(page + 1).to_string());
        }
        query
    }
}

/// The word for an order, as `aria-sort` has it, too.
pub(super) const fn order(is_descending: bool) -> &'static str {
    if is_descending { "descending" } else { "ascending" }
}

/// A text within an address (RFC 3986, section 2.1): everything but unreserved characters is escaped.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // A string takes everything.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::Method;

    fn parse(table: Table, query: &str) -> Option<Asked> {
        let uri: http::Uri = format!("/status{query}").parse().unwrap();
        Query::<Raw>::try_from_uri(&uri).ok().and_then(|Query(raw)| Asked::parse(table, raw))
    }

    #[test]
    fn what_is_absent_or_empty_is_as_usual_and_garbage_is_refused() {
        let usual = parse(Table::Sessions, "").unwrap();
        assert_eq!(usual.select, Select::all(Table::Sessions));
        let empty = parse(Table::Sessions, "?q=&state=&method=&sort=&order=&page=").unwrap();
        assert_eq!(empty, usual);
        assert_eq!(usual.query(), "");
        for garbage in [
            "?sort=password",
            "?sort=licences",
            "?order=sideways",
            "?page=0",
            "?page=-1",
            "?page=99999999999999999999999",
            "?state=dead",
            "?method=magic",
            "?q=a&q=b",
        ] {
            assert_eq!(parse(Table::Sessions, garbage), None, "{garbage}");
        }
        assert_eq!(parse(Table::Sessions, &format!("?q={}", "x".repeat(101))), None);
        assert!(parse(Table::Users, "?sort=licences&unknown=1").is_some());
    }

    #[test]
    fn a_column_is_sorted_the_other_way_round_when_it_is_chosen_again() {
        let usual = parse(Table::Sessions, "?page=7&q=a").unwrap();
        let by_user = usual.sorted_by(Column::User);
        assert_eq!((by_user.select.is_descending, by_user.select.page), (false, Some(0)));
        assert!(by_user.sorted_by(Column::User).select.is_descending);
        assert!(usual.sorted_by(Column::Sent).select.is_descending, "the most first");
        assert_eq!(by_user.query(), "?q=a&sort=user&order=ascending");
    }

    proptest! {
        /// A link asks for what it was made of, whatever was typed.
        #[test]
        fn links_read_back(
            typed in "\\PC{0,40}",
            table in prop::sample::select(&Table::ALL[..]),
            standing in prop::option::of(prop::sample::select(&StandingFilter::ALL[..])),
            method in prop::option::of(prop::sample::select(&Method::ALL[..])),
            column in 0_usize..20,
            is_descending in any::<bool>(),
            page in 0_usize..1_000,
        ) {
            let columns = table.columns();
            let asked = Asked {
                select: Select {
                    table,
                    text: typed.trim().to_lowercase(),
                    standing,
                    method,
                    sort: columns[column % columns.len()],
                    is_descending,
                    page: Some(page),
                },
                typed: typed.trim().to_owned(),
            };
            prop_assert_eq!(parse(table, &asked.query()), Some(asked));
        }
    }
}
