//! The past, for people.

use super::show::{moment, name, plain, right, span, text};
use crate::admin::wire;
use crate::clock::wall_now;
use crate::store::Tenure;

pub(super) fn history(tenures: &[wire::Tenure], limit: usize) -> String {
    if tenures.is_empty() {
        return "nobody".into();
    }
    let mut table = plain();
    table.set_header(["CLIENT", "USER", "METHOD", "FROM", "UNTIL", "LASTED", "STALE", "ENDED BY", "SESSION"]);
    for wire::Tenure { tenure, state } in tenures {
        let end = tenure.until.unwrap_or_else(wall_now);
        table.add_row([
            tenure.client.clone(),
            name(&tenure.user, &tenure.domain),
            tenure.method.clone(),
            moment(tenure.from),
            tenure.until.map_or_else(|| format!("still ({state})"), moment),
            span(end.duration_since(tenure.from).as_secs_f64().max(0.0)),
            stale(tenure),
            ended(tenure),
            tenure.session.clone(),
        ]);
    }
    right(&mut table, &[5]);
    let mut out = text(&table);
    if tenures.len() == limit {
        out.push_str(&format!("\nthe newest {limit}; --limit shows more"));
    }
    out
}

fn ended(tenure: &Tenure) -> String {
    match (&tenure.reason, &tenure.by) {
        (Some(reason), Some(by)) => format!("{reason} ({by})"),
        (Some(reason), None) => reason.clone(),
        (None, _) => "-".into(),
    }
}

/// The last stale period, and how many there were.
fn stale(tenure: &Tenure) -> String {
    let Some(last) = tenure.stale.last() else { return "-".into() };
    let more = tenure.stale_count.saturating_sub(1);
    let last = match last.until {
        Some(until) => {
            let lasted = span(until.duration_since(last.from).as_secs_f64().max(0.0));
            format!("{lasted} from {} ({})", moment(last.from), last.reason)
        }
        None => format!("since {} ({})", moment(last.from), last.reason),
    };
    if more == 0 { last } else { format!("{last}, {more} earlier") }
}
