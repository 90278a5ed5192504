//! The past, for people.

use super::show::{moment, span};
use crate::admin::wire;

pub(super) fn ended(past: &wire::PastSession) -> String {
    match (&past.reason, &past.by) {
        (Some(reason), Some(by)) => format!("{reason} ({by})"),
        (Some(reason), None) => reason.clone(),
        (None, _) => "-".into(),
    }
}

/// The last stale period, and how many there were.
pub(super) fn stale(past: &wire::PastSession) -> String {
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
