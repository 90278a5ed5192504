//! A table as a file for a spreadsheet (RFC 4180): all rows that match, typed values, and nothing that a spreadsheet would carry
//! out.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

use super::query::{Asked, Extracted};
use super::words::between;
use super::{Looker, failed};
use crate::links::shown;
use crate::ops::{Row, Select, Snapshot, Table, Value};
use crate::portal::site::Site;

/// So many rows are written at once.
const PORTION: usize = 256;

/// The file of one table.
pub(super) async fn send(
    Looker(visit): Looker,
    State(site): State<Site>,
    query: Extracted,
    table: Table,
) -> Response {
    let asked = match Asked::read(&visit, table, query) {
        Ok(asked) => asked,
        Err(refused) => return refused,
    };
    let all = Select { page: None, ..asked.select };
    let (snapshot, selection) = match site.parts().ops.select(all).await {
        Ok(selected) => selected,
        Err(error) => return failed(&visit, &error),
    };
    let name = format!("{}-{}.csv", table.as_str(), snapshot.taken.strftime("%Y%m%d-%H%M%SZ"));
    let fields = [
        (CONTENT_TYPE, "text/csv; charset=utf-8; header=present".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    let state = (snapshot, selection.rows, Some(0));
    let body = stream::unfold(state, move |(snapshot, rows, from)| async move {
        let from = from?;
        let end = (from + PORTION).min(rows.len());
        let mut text = if from == 0 { head(table) } else { String::new() };
        for place in rows.get(from..end).unwrap_or_default() {
            if let Some(row) = snapshot.row(table, *place) {
                write_row(&mut text, table, row, &snapshot);
            }
        }
        let next = (end < rows.len()).then_some(end);
        Some((Ok::<_, Infallible>(text), (snapshot, rows, next)))
    });
    (fields, Body::from_stream(body)).into_response()
}

fn head(table: Table) -> String {
    let mut text = String::new();
    table.columns().iter().enumerate().for_each(|(index, column)| {
        field(&mut text, index == 0, column.as_str());
    });
    text.push_str("\r\n");
    text
}

fn write_row(text: &mut String, table: Table, row: Row<'_>, snapshot: &Arc<Snapshot>) {
    for (index, column) in table.columns().iter().enumerate() {
        field(text, index == 0, &value(row.value(*column), snapshot));
    }
    text.push_str("\r\n");
}

/// A value as programs read it: times in UTC (RFC 3339), durations in seconds, amounts in bytes.
fn value(value: Value<'_>, snapshot: &Snapshot) -> String {
    match value {
        Value::Nothing | Value::Since(None) => String::new(),
        Value::User(who) => who.to_string(),
        Value::Users(sessions) => {
            let mut names: Vec<String> = sessions.iter().map(|row| row.identity.to_string()).collect();
            names.sort_unstable();
            names.dedup();
            names.join(" ")
        }
        Value::Client(client, Some(port)) => format!("{} {port}", shown(client)),
        Value::Client(client, None) => shown(client).to_string(),
        Value::Clients(served, others) => {
            let all = served.iter().chain(others).map(|client| shown(*client).to_string());
            all.collect::<Vec<String>>().join(" ")
        }
        Value::Device(device) => device.to_string(),
        Value::Moment(moment) => moment.to_string(),
        Value::Since(Some(since)) => between(since, snapshot.taken).as_secs().to_string(),
        Value::Rate(rate) => format!("{rate:.0}"),
        Value::Bytes(number) | Value::Number(number) => number.to_string(),
        Value::Word(word) => word.to_owned(),
    }
}

/// A field, quoted.
fn field(text: &mut String, is_first: bool, value: &str) {
    if !is_first {
        text.push(',');
    }
    // A string takes everything.
    let _ = write!(text, "\"{}\"", harmless(value).replace('"', "\"\""));
}

/// The same, so that no spreadsheet takes it for a formula: users choose their names.
fn harmless(value: &str) -> Cow<'_, str> {
    if value
        .starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'])
    {
        format!("'{value}").into()
    } else {
        value.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_is_a_formula_and_none_breaks_out() {
        for (value, written) in [
            ("alice", "\"alice\""),
            ("=1+1", "\"'=1+1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("+49", "\"'+49\""),
            ("-1", "\"'-1\""),
            ("\tx", "\"'\tx\""),
            ("a\",=1,\"", "\"a\"\",=1,\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("", "\"\""),
        ] {
            let mut text = String::new();
            field(&mut text, true, value);
            assert_eq!(text, written);
        }
        assert_eq!(
            head(Table::Hosts),
            "\"address\",\"users\",\"state\",\"inactivity\",\"receive-rate\",\"send-rate\",\"received\",\"sent\",\
             \"connections\",\"opened\",\"closed\",\"device\"\r\n"
        );
    }
}
