//! `explain`, for people.

use jiff::Timestamp;

use super::show::{age, bytes, moment, plain, text, until};
use crate::admin::wire;
use crate::clock::wall_now;

pub(super) fn explanation(explained: &wire::Explanation) -> String {
    let mut out = format!(
        "{}: a request without credentials gets {}: {}\n\n",
        explained.client,
        if explained.decision == "allow" { "served" } else { "asked to authenticate (407)" },
        explained.why,
    );
    let mut table = plain();
    table.set_header(["", "RULE", "FINDING"]);
    for finding in &explained.findings {
        let mut said = finding.finding.clone();
        if let Some(since) = finding.since {
            said.push_str(&format!("; since {} ({} ago)", moment(since), age(Some(since))));
        }
        if let Some(end) = finding.until {
            said.push_str(&format!("; until {} ({})", moment(end), away(end)));
        }
        table.add_row([if finding.decides { "->" } else { "" }.to_owned(), finding.rule.clone(), said]);
    }
    out.push_str(&text(&table));
    if let Some(record) = &explained.record {
        let gap = |gap: &Option<wire::Gap>| {
            gap.as_ref()
                .map_or_else(|| "none".into(), |gap| format!("{} to {}", moment(gap.from), moment(gap.until)))
        };
        let at = |at: Option<Timestamp>| at.map_or_else(|| "never".into(), moment);
        let mut table = plain();
        for (name, value) in [
            ("open connections", record.open_connections.to_string()),
            ("opened", at(record.opened)),
            ("closed", at(record.closed)),
            ("last traffic", at(record.last_traffic)),
            ("long closed period", gap(&record.closed_gap)),
            ("long silence", gap(&record.traffic_gap)),
            ("received", bytes(record.bytes_received as f64)),
            ("sent", bytes(record.bytes_sent as f64)),
        ] {
            table.add_row([name.to_owned(), value]);
        }
        out.push_str(&format!("\n\nthe kernel's record\n{}", text(&table)));
    }
    if !explained.ends.is_empty() {
        out.push_str("\n\nwhat would change that\n");
        let lines: Vec<String> = explained.ends.iter().map(|end| format!(" - {end}")).collect();
        out.push_str(&lines.join("\n"));
    }
    out
}

fn away(at: Timestamp) -> String {
    if at >= wall_now() { until(at) } else { format!("{} ago", age(Some(at))) }
}
