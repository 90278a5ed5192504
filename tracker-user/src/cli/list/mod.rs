//! Lists for operators with thousands of rows: filtered, sorted, cut to columns and to the width of the terminal.
//!
//! What a row has is typed: numbers are compared as numbers, addresses as addresses, moments as moments. As JSON the rows are what
//! the daemon said, in the same choice and order.

mod cell;
mod choice;
mod layout;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub(super) use self::cell::Cell;
pub(super) use self::choice::{Choice, Wrong};
pub(super) use self::layout::{Colour, Paint};
use super::args::{View, When};

/// A column of a list of `T`.
pub(super) struct Column<T> {
    /// As `--sort`, `--columns` and `--filter` name it.
    pub(super) name: &'static str,
    /// What it has of a row.
    pub(super) cell: fn(&T) -> Cell,
    /// Its place in the order in which columns give way to a narrow terminal, the highest first; 0 stays, and whatever is above
    /// [`HIDDEN`] is shown only when it is asked for.
    pub(super) gives_way: u8,
    /// How a cell stands out.
    pub(super) paint: fn(&Cell) -> Option<Colour>,
}

/// From here on a column is shown only when it is asked for.
pub(super) const HIDDEN: u8 = 100;

/// A column that does not stand out.
pub(super) const fn column<T>(name: &'static str, gives_way: u8, cell: fn(&T) -> Cell) -> Column<T> {
    Column { name, cell, gives_way, paint: |_| None }
}

/// What becomes of a list.
pub(super) struct Listed {
    /// For people.
    pub(super) text: String,
    /// For programs: the rows as they came.
    pub(super) json: Value,
}

/// What there is to say below a list, and when it is empty.
pub(super) struct Words {
    /// There is no row at all.
    pub(super) empty: &'static str,
    /// No more rows than this unless `--limit` or `--all` says so.
    pub(super) most: usize,
    /// How more are had.
    pub(super) more: &'static str,
}

/// How it is shown: to whom, and how wide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    /// The width of the terminal; `None`: nobody cuts.
    pub(super) width: Option<usize>,
    /// Whether colours are understood.
    pub(super) paint: Paint,
}

impl Screen {
    /// The one that standard output goes to.
    pub(super) fn stdout(colour: When) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let width = is_terminal.then(terminal_size::terminal_size).flatten().map(|(width, _)| width.0.into());
        let plain = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let paint = match colour {
            When::Always => true,
            When::Never => false,
            When::Auto => is_terminal && !plain("NO_COLOR") && !dumb,
        };
        Self { width, paint: Paint(paint) }
    }
}

/// Makes a list of what the daemon said.
///
/// # Errors
/// When the view names a column that there is not, or the daemon is of another version.
pub(super) fn list<T: DeserializeOwned>(
    value: &Value,
    columns: &[Column<T>],
    view: &View,
    words: &Words,
    screen: Screen,
) -> Result<Listed, Wrong> {
    let choice = Choice::of(view, columns)?;
    let rows = value.as_array().cloned().unwrap_or_default();
    let total = rows.len();
    let mut typed = Vec::with_capacity(total);
    for row in rows {
        let item: T =
            serde_json::from_value(row.clone()).map_err(|error| Wrong::Version(error.to_string()))?;
        typed.push((item, row));
    }
    let mut chosen: Vec<&(T, Value)> = typed.iter().filter(|(item, _)| choice.holds(item, columns)).collect();
    choice.sort(&mut chosen, columns);
    let matching = chosen.len();
    let most = view.limit.unwrap_or(words.most);
    // A program is given all of them unless it has said how many.
    let for_programs = view.limit.unwrap_or(usize::MAX);

    let named: Vec<&Column<T>> = choice.columns(columns);
    let json = chosen.iter().take(for_programs).map(|(item, row)| match &view.columns[..] {
        [] => row.clone(),
        _ => Value::Object(
            named
                .iter()
                .map(|column| (column.name.replace('-', "_"), (column.cell)(item).json()))
                .collect::<Map<_, _>>(),
        ),
    });
    let json = Value::Array(json.collect());

    let text = if total == 0 {
        words.empty.to_owned()
    } else if matching == 0 {
        format!("none of {total} matches")
    } else {
        let cells = |item: &T| named.iter().map(|column| (column.cell)(item)).collect();
        let cells: Vec<Vec<Cell>> = chosen.iter().take(most).map(|(item, _)| cells(item)).collect();
        let heads: Vec<layout::Head> = named
            .iter()
            .map(|column| layout::Head {
                name: column.name,
                gives_way: if view.columns.is_empty() { column.gives_way } else { 0 },
                paint: column.paint,
            })
            .collect();
        let mut text = layout::table(&heads, &cells, screen);
        let shown = matching.min(most);
        if shown < matching {
            text.push_str(&format!("\n{} more; {}", matching - shown, words.more));
        } else if matching < total {
            text.push_str(&format!("\n{matching} of {total}"));
        }
        text
    };
    Ok(Listed { text, json })
}

/// All rows in the daemon's order, whatever is typed already.
pub(super) fn plain<T>(rows: &[T], columns: &[Column<T>]) -> String {
    let named: Vec<&Column<T>> = columns.iter().filter(|column| column.gives_way < HIDDEN).collect();
    let cells = |item: &T| named.iter().map(|column| (column.cell)(item)).collect();
    let cells: Vec<Vec<Cell>> = rows.iter().map(cells).collect();
    let head = |column: &&Column<T>| layout::Head { name: column.name, gives_way: 0, paint: column.paint };
    let heads: Vec<layout::Head> = named.iter().map(head).collect();
    layout::table(&heads, &cells, Screen { width: None, paint: Paint(false) })
}
