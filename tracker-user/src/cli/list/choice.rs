//! Which rows and columns are wanted, and in which order.

use std::cmp::Ordering;

use jiff::Timestamp;

use super::{Cell, Column, HIDDEN};
use crate::cli::args::View;
use crate::cli::when;

/// Why a list cannot be made.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum Wrong {
    /// There is no such column.
    #[error("there is no column {given:?}; there are {known}")]
    Column {
        /// What was named.
        given: String,
        /// What could have been.
        known: String,
    },
    /// A filter compares with what cannot be compared.
    #[error("{0:?} cannot be compared: write a number with its unit (10MiB, 5m, 3), or a moment")]
    Value(String),
    /// What the daemon said is not understood.
    #[error("the daemon is of another version: {0}; --json shows what it said")]
    Version(String),
}

/// How a filter compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The words are these, in any case.
    Is,
    /// They are not.
    IsNot,
    /// They contain it.
    Contains,
    More,
    Less,
}

#[derive(Debug)]
enum Filter {
    /// In any of the columns.
    Anywhere(String),
    Column {
        at: usize,
        by: By,
        text: String,
        bound: Option<Bound>,
    },
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    Number(f64),
    Moment(Timestamp),
}

/// See the module.
#[derive(Debug)]
pub(in crate::cli) struct Choice {
    filters: Vec<Filter>,
    /// Columns and whether they are reversed.
    order: Vec<(usize, bool)>,
    columns: Vec<usize>,
}

impl Choice {
    pub(super) fn of<T>(view: &View, columns: &[Column<T>]) -> Result<Self, Wrong> {
        let find = |name: &str| {
            let wanted = name.to_ascii_lowercase().replace('_', "-");
            columns.iter().position(|column| column.name == wanted).ok_or_else(|| Wrong::Column {
                given: name.to_owned(),
                known: columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", "),
            })
        };
        let filters = view.filter.iter().map(|text| filter(text, columns, find)).collect::<Result<_, _>>()?;
        let order = view.sort.iter().map(|text| match text.strip_prefix('-') {
            Some(name) => Ok((find(name)?, true)),
            None => Ok((find(text)?, false)),
        });
        let named = view.columns.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
        let usual =
            || (0..columns.len()).filter(|at| columns.get(*at).is_some_and(|one| one.gives_way < HIDDEN));
        Ok(Self {
            filters,
            order: order.collect::<Result<_, Wrong>>()?,
            columns: if named.is_empty() { usual().collect() } else { named },
        })
    }

    /// Whether a row is wanted.
    pub(super) fn holds<T>(&self, item: &T, columns: &[Column<T>]) -> bool {
        let contains =
            |cell: &Cell, text: &str| cell.words().iter().any(|word| word.to_lowercase().contains(text));
        self.filters.iter().all(|filter| match filter {
            Filter::Anywhere(text) => columns.iter().any(|column| contains(&(column.cell)(item), text)),
            Filter::Column { at, by, text, bound } => {
                let Some(column) = columns.get(*at) else { return false };
                let cell = (column.cell)(item);
                match by {
                    By::Is => cell.words().iter().any(|word| word.to_lowercase() == *text),
                    By::IsNot => cell.words().iter().all(|word| word.to_lowercase() != *text),
                    By::Contains => contains(&cell, text),
                    By::More => compare(&cell, *bound) == Some(Ordering::Greater),
                    By::Less => compare(&cell, *bound) == Some(Ordering::Less),
                }
            }
        })
    }

    /// Sorts rows; those that are alike stay in the daemon's order. What is not known comes last, also where it is reversed.
    pub(super) fn sort<T, R>(&self, rows: &mut [&(T, R)], columns: &[Column<T>]) {
        rows.sort_by(|(a, _), (b, _)| {
            let mut orders = self.order.iter().filter_map(|(at, reversed)| {
                let column = columns.get(*at)?;
                let (a, b) = ((column.cell)(a), (column.cell)(b));
                let either_unknown = matches!(a, Cell::Nothing) || matches!(b, Cell::Nothing);
                let order = a.order(&b);
                Some(if *reversed && !either_unknown { order.reverse() } else { order })
            });
            orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
        });
    }

    pub(super) fn columns<'a, T>(&self, columns: &'a [Column<T>]) -> Vec<&'a Column<T>> {
        self.columns.iter().filter_map(|at| columns.get(*at)).collect()
    }
}

fn filter<T>(
    text: &str,
    columns: &[Column<T>],
    find: impl Fn(&str) -> Result<usize, Wrong>,
) -> Result<Filter, Wrong> {
    let at = text.find(['=', '~', '<', '>', '!']);
    let Some((name, rest)) = at.and_then(|at| text.split_at_checked(at)) else {
        return Ok(Filter::Anywhere(text.to_lowercase()));
    };
    let (by, value) = match rest {
        _ if rest.starts_with("!=") => (By::IsNot, &rest[2..]),
        _ if rest.starts_with('=') => (By::Is, &rest[1..]),
        _ if rest.starts_with('~') => (By::Contains, &rest[1..]),
        _ if rest.starts_with('>') => (By::More, &rest[1..]),
        _ if rest.starts_with('<') => (By::Less, &rest[1..]),
        _ => return Ok(Filter::Anywhere(text.to_lowercase())),
    };
    // A text with such a sign in it may be meant as a whole; a name before it that is no column is a mistake all the same.
    let at = find(name.trim())?;
    debug_assert!(at < columns.len(), "it was found among these");
    let bound = match by {
        By::More | By::Less => Some(bound(value.trim())?),
        By::Is | By::IsNot | By::Contains => None,
    };
    Ok(Filter::Column { at, by, text: value.trim().to_lowercase(), bound })
}

fn bound(text: &str) -> Result<Bound, Wrong> {
    if let Some(number) = number(text) {
        return Ok(Bound::Number(number));
    }
    when::parse(text).map(Bound::Moment).map_err(|_| Wrong::Value(text.to_owned()))
}

/// A number with its unit: of bytes, or of time in seconds.
fn number(text: &str) -> Option<f64> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" | "s" => 1.0,
        "k" | "kib" | "kb" => 1024.0,
        "mib" | "mb" => 1024.0 * 1024.0,
        "g" | "gib" | "gb" => 1024.0 * 1024.0 * 1024.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// How a cell compares with a bound; a span with a moment by how long ago that is.
fn compare(cell: &Cell, bound: Option<Bound>) -> Option<Ordering> {
    match bound? {
        Bound::Number(number) => match (cell.number(), cell.moment()) {
            (Some(own), _) => Some(own.total_cmp(&number)),
            // `created>1h`: longer ago than an hour; `expires<5m`: within five minutes.
            (None, Some(at)) => {
                let away = at.duration_since(crate::clock::wall_now()).as_secs_f64().abs();
                Some(away.total_cmp(&number))
            }
            (None, None) => None,
        },
        Bound::Moment(moment) => Some(cell.moment()?.cmp(&moment)),
    }
}
