//! The past, for people.

use super::show::{bytes, moment, name, plain, right, span, text};
use crate::admin::wire;
use crate::clock::wall_now;

pub(super) fn history(sessions: &[wire::PastSession], limit: usize) -> String {
    if sessions.is_empty() {
        return "nobody".into();
    }
    let mut table = plain();
    table.set_header([
        "CLIENT", "USER", "METHOD", "FROM", "UNTIL", "LASTED", "STALE", "ENDED BY", "RECEIVED", "SENT",
        "SESSION",
    ]);
    for past in sessions {
        let end = past.until.unwrap_or_else(wall_now);
        table.add_row([
            past.client.clone(),
            name(&past.user, &past.domain),
            past.method.clone(),
            moment(past.from),
            past.until.map_or_else(|| format!("still ({})", past.state), moment),
            span(end.duration_since(past.from).as_secs_f64().max(0.0)),
            stale(past),
            ended(past),
            count(past.rx),
            count(past.tx),
            past.session.clone(),
        ]);
    }
    right(&mut table, &[5, 8, 9]);
    let mut out = text(&table);
    if sessions.len() == limit {
        out.push_str(&format!("\nthe newest {limit}; --limit shows more"));
    }
    out
}

fn count(moved: Option<u64>) -> String {
    moved.map_or_else(|| "-".into(), |moved| bytes(moved as f64))
}

fn ended(past: &wire::PastSession) -> String {
    match (&past.reason, &past.by) {
        (Some(reason), Some(by)) => format!("{reason} ({by})"),
        (Some(reason), None) => reason.clone(),
        (None, _) => "-".into(),
    }
}

/// The last stale period, and how many there were.
fn stale(past: &wire::PastSession) -> String {
    let Some(last) = past.stale.last() else { return "-".into() };
    let more = past.stale_count.saturating_sub(1);
    let last = match last.until {
        Some(until) => {
            let lasted = span(until.duration_since(last.from).as_secs_f64().max(0.0));
            format!("{lasted} from {} ({})", moment(last.from), last.reason)
        }
        None => format!("since {} ({})", moment(last.from), last.reason),
    };
    if more == 0 { last } else { format!("{last}, {more} earlier") }
}
