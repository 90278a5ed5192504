//! `explain`, for people.

use jiff::Timestamp;

use super::bans;
use super::lists;
use super::show::{age, bytes, moment, plain, text, until};
use crate::admin::wire;
use crate::clock::wall_now;

pub(super) fn explanation(explained: &wire::Explanation) -> String {
    let mut out = format!(
        "{}: a request without credentials gets {}: {}\n\n",
        explained.client,
        match explained.decision.as_str() {
            "allow" => "served",
            "deny" => "refused (403)",
            "step-up" => "asked for a second factor (403)",
            _ => "asked to authenticate (407)",
        },
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
    if let Some(end) = explained.held_until {
        out.push_str(&format!("\n\nnobody is logged in silently until {} ({})", moment(end), away(end)));
    }
    if !explained.bans.is_empty() {
        out.push_str(&format!("\n\nbanned from sending passwords\n{}", bans::lines(&explained.bans)));
    }
    if !explained.sessions.is_empty() {
        out.push_str(&lists::table(&explained.sessions, lists::SESSIONS));
    }
    if let Some(walk) = &explained.walk {
        out.push_str("\n\nthe conditions, for the request that was described\n");
        out.push_str(&steps(&walk.steps));
    }
    let passwords = match (explained.basic.tls, explained.basic.plain) {
        (true, true) => "on every connection",
        (true, false) => "under TLS only",
        (false, true) => "without TLS only",
        (false, false) => "nowhere",
    };
    out.push_str(&format!("\n\npasswords (Basic) are asked for {passwords}"));
    if let Some((newest, older)) = explained.recent.split_first() {
        out.push_str("\n\nthe last decisions about real requests\n");
        out.push_str(&decision(newest));
        out.push_str(&steps(&newest.steps));
        for earlier in older {
            out.push('\n');
            out.push_str(decision(earlier).trim_end());
        }
    }
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

/// The steps of the conditions, the one that decided against Kerberos marked.
fn steps(steps: &[wire::Step]) -> String {
    let mut table = plain();
    table.set_header(["", "CONDITION", "OUTCOME", "WHY"]);
    for step in steps {
        let mark = if step.decides { "->" } else { "" };
        table.add_row([mark, &step.step, &step.outcome.replace('-', " "), &step.why]);
    }
    text(&table)
}

/// What a real request came to: a line of its own for the request, one for the result, one for the ticket.
fn decision(decision: &wire::Decision) -> String {
    let mut out = format!(
        "{}  {} {}  {}\n    {}",
        moment(decision.at),
        decision.method,
        decision.url,
        decision.user_agent.as_deref().unwrap_or("(no User-Agent)"),
        decision.result.replace('-', " "),
    );
    if !decision.offered.is_empty() {
        out.push_str(&format!(" ({})", decision.offered.join(", ")));
    }
    if let Some(user) = &decision.user {
        out.push_str(&format!(": {user}"));
    }
    if let Some(method) = &decision.proved_by {
        out.push_str(&format!(" by {method}"));
    }
    if let Some(cause) = &decision.cause {
        out.push_str(&format!(" ({cause})"));
    }
    if let Some(why) = &decision.why {
        out.push_str(&format!(": {why}"));
    }
    out.push('\n');
    if let Some(ticket) = &decision.ticket {
        let version =
            ticket.key_version.map(|version| format!(", key version {version}")).unwrap_or_default();
        out.push_str(&format!(
            "    ticket of {} for {}, {}{version}, accepted until {}; {}, {} bytes, flags {}\n",
            ticket.principal,
            ticket.service,
            ticket.enctype,
            moment(ticket.accepted_until),
            ticket.mechanism,
            ticket.token_bytes,
            ticket.flags,
        ));
    }
    out
}

fn away(at: Timestamp) -> String {
    if at >= wall_now() { until(at) } else { format!("{} ago", age(Some(at))) }
}
