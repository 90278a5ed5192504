//! A table as a file for a spreadsheet: all rows that match, as programs read them.

use std::convert::Infallible;

use axum::extract::State;
use axum::response::Response;
use futures_util::stream;

use super::failed;
use super::query::{Asked, Extracted};
use super::words::between;
use crate::links::shown;
use crate::ops::{Row, Select, Snapshot, Table, Value};
use crate::portal::admin::Viewing;
use crate::portal::csv::{download, row};
use crate::portal::site::Site;

/// So many rows are written at once.
const PORTION: usize = 256;

/// The file of one table.
pub(super) async fn send(
    Viewing(visit): Viewing,
    State(site): State<Site>,
    query: Extracted,
    table: Table,
) -> Response {
    let asked = match Asked::read(&visit, table, query) {
        Ok(asked) => asked,
        Err(refused) => return *refused,
    };
    let all = Select { page: None, ..asked.select };
    let (snapshot, selection) = match site.parts().ops.select(all).await {
        Ok(selected) => selected,
        Err(error) => return failed(&visit, &error),
    };
    let name = match table {
        Table::Sessions => "sessions.csv",
        Table::Hosts => "hosts.csv",
        Table::Users => "users.csv",
    };
    let columns: Vec<&str> = table.columns().iter().map(|column| column.as_str()).collect();
    let portions = stream::unfold((snapshot, selection.rows, 0), move |(snapshot, rows, from)| async move {
        let portion = rows.get(from..rows.len().min(from + PORTION)).filter(|portion| !portion.is_empty())?;
        let known = portion.iter().filter_map(|place| snapshot.row(table, *place));
        let text: String = known.map(|row| written(table, row, &snapshot)).collect();
        Some((Ok::<_, Infallible>(text), (snapshot, rows, from + PORTION)))
    });
    download(name, &columns, portions)
}

fn written(table: Table, of: Row<'_>, snapshot: &Snapshot) -> String {
    let values: Vec<String> =
        table.columns().iter().map(|column| value(of.value(*column), snapshot)).collect();
    row(values.iter().map(String::as_str))
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
