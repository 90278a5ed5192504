//! Tables for people.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::bans;
use super::certificates;
use super::lists;
use crate::admin::wire;
use crate::audit::Actor;
use crate::clock::wall_now;
use crate::types::DisplayName;

pub(super) fn status(status: &wire::Status) -> String {
    let observer = match (&status.observer.cgroup, &status.observer.because) {
        (Some(cgroup), _) => match &status.observer.pinned {
            Some(pinned) if pinned.adopted => {
                format!("ebpf, attached to {cgroup}, goes on from an earlier run")
            }
            Some(_) => format!("ebpf, attached to {cgroup}, pinned"),
            None => format!("ebpf, attached to {cgroup}, not pinned"),
        },
        (None, Some(because)) => format!("proxy (the kernel's is not available: {because})"),
        (None, None) => status.observer.mode.clone(),
    };
    let licences = match status.licences.max {
        Some(max) => format!("{} of {max}", status.licences.used),
        None => format!("{}, no limit", status.licences.used),
    };
    let mut rows = vec![
        ("trackerd", format!("{}, process {}, up {}", status.version, status.pid, age(Some(status.started)))),
        ("configuration", status.config.clone().unwrap_or_else(|| "embedded defaults".into())),
        ("listening on", status.listen.join(", ")),
        ("observer", format!("{observer}; {} records", status.observer.records)),
        ("timeouts", status.timeouts.clone()),
        ("sessions", sessions(&status.sessions)),
        ("users", status.users.to_string()),
        ("local users", status.local_users.count.to_string()),
        ("licences", licences),
        ("connections", status.connections.to_string()),
        ("bans", if status.bans == 0 { "none".into() } else { status.bans.to_string() }),
        ("store", store(&status.store)),
    ];
    for certificate in &status.certificates {
        rows.push(("certificate", certificates::in_short(certificate)));
    }
    for (what, count) in &status.observer.errors {
        rows.push(("observer error", format!("{what}: {count}")));
    }
    if status.warnings.is_empty() {
        rows.push(("warnings", "none".into()));
    }
    for warning in &status.warnings {
        rows.push(("WARNING", warning.clone()));
    }
    let mut table = plain();
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    text(&table)
}

fn sessions(counts: &wire::SessionCounts) -> String {
    let mut text = format!("{} active, {} stale", counts.active, counts.stale);
    if counts.waiting > 0 {
        text.push_str(&format!(", {} {WAITING}", counts.waiting));
    }
    text
}

/// What the API says of a session or a host, for people.
fn state(state: &str) -> &str {
    if state == "waiting" { WAITING } else { state }
}

/// What people read for `waiting`, the state of a session.
pub(super) const WAITING: &str = "waiting for the second factor";

fn store(store: &wire::StoreStatus) -> String {
    let mut text = format!("{}, {}", store.path, bytes(store.bytes as f64));
    if store.waiting > 0 {
        text.push_str(&format!("; {} entries wait for the disk", store.waiting));
    }
    if store.problem.is_some() {
        text.push_str("; FAILING");
    }
    text
}

pub(super) fn session(detail: &wire::SessionDetail) -> String {
    let mut out = if detail.sessions.is_empty() {
        one_session(&detail.session)
    } else {
        let text = "many users share this address: each connection has a session of its own";
        format!("{text}\n\n{}", lists::table(&detail.sessions, lists::SESSIONS))
    };
    out.push_str("\n\n");
    out.push_str(&connections(detail));
    out.push_str("\n\n");
    if !detail.bans.is_empty() {
        out.push_str(&format!("banned from sending passwords\n{}\n\n", bans::lines(&detail.bans)));
    }
    for event in &detail.history {
        out.push_str(&audit_line(event));
        out.push('\n');
    }
    out.trim_end().to_owned()
}

fn one_session(session: &wire::Session) -> String {
    let said = state(&session.state);
    let state =
        session.reason.as_ref().map_or_else(|| said.to_owned(), |reason| format!("{said} ({reason})"));
    let open = session.open_connections;
    let clock = match (session.mode.as_str(), open, session.closed) {
        ("session", 1.., _) if session.opened.is_some() => {
            format!("stands still while connections are open ({open})")
        }
        ("session", 0, Some(closed)) => {
            format!("runs since the last connection closed at {}", moment(closed))
        }
        ("session", 1.., Some(closed)) => {
            format!("runs since {}: all {open} connections were ended by the client", moment(closed))
        }
        ("session", _, None) => "runs since the login".into(),
        ("traffic", ..) => {
            let since = session.last_traffic.map_or_else(|| "the login".into(), moment);
            format!("runs since data last moved at {since}")
        }
        _ => "runs since the login or the last renewal".into(),
    };
    let user = name(&session.user, &session.domain);
    let user = session.realm.as_ref().map_or_else(|| user.clone(), |realm| format!("{user}, of {realm}"));
    let mut table = plain();
    for (key, value) in [
        ("session", session.id.clone()),
        ("client", session.client.clone()),
        ("user", user),
        ("proved by", format!("{} at {}", session.method, moment(session.authenticated))),
        ("created", moment(session.created)),
        ("state", state),
        ("mode", session.mode.clone()),
        ("clock", clock),
        ("expires", session.expires.map_or_else(|| "no deadline runs".into(), until)),
        ("device", session.device.clone().unwrap_or_else(|| "not known".into())),
        ("received", bytes(session.bytes_received as f64)),
        ("sent", bytes(session.bytes_sent as f64)),
    ] {
        table.add_row([key.to_owned(), value]);
    }
    text(&table)
}

fn connections(detail: &wire::SessionDetail) -> String {
    if detail.connections.is_empty() {
        return "no connection to the proxy is open".into();
    }
    let mut table = plain();
    table.set_header(["PORT", "VIA", "SINCE", "CARRIES", "RECEIVED", "SENT"]);
    for connection in &detail.connections {
        table.add_row([
            connection.port.to_string(),
            connection.via.clone().unwrap_or_else(|| "-".into()),
            moment(connection.since),
            connection.carries.clone(),
            bytes(connection.bytes_received as f64),
            bytes(connection.bytes_sent as f64),
        ]);
    }
    right(&mut table, &[0, 4, 5]);
    text(&table)
}

pub(super) fn logged_out(ended: &wire::LoggedOut) -> String {
    if ended.ended.is_empty() {
        return "nobody was logged in".into();
    }
    let mut lines: Vec<String> = ended.ended.iter().map(logged_out_line).collect();
    lines.extend(ended.warning.as_ref().map(|warning| format!("WARNING: {warning}")));
    lines.join("\n")
}

pub(super) fn local_users(users: &[wire::LocalUser]) -> String {
    if users.is_empty() {
        return "there are no local users".into();
    }
    let mut table = plain();
    table.set_header(["USER", "STATE", "ROLE", "CREATED", "CHANGED", "LAST LOGIN"]);
    for user in users {
        let state = match (user.disabled, user.must_change) {
            (true, _) => "disabled",
            (false, true) => "must change the password",
            (false, false) => "enabled",
        };
        table.add_row([
            user.name.clone(),
            state.into(),
            user.role.to_string(),
            moment(user.created),
            moment(user.changed),
            user.last_login.map_or_else(|| "-".into(), moment),
        ]);
    }
    text(&table)
}

/// What was done to a user, and whom it logged out from where.
pub(super) fn user_changed(changed: &wire::UserChanged, done: &str) -> String {
    let mut lines = vec![format!("{} {done}", changed.name)];
    lines.extend(changed.ended.iter().map(logged_out_line));
    lines.extend(changed.warning.as_ref().map(|warning| format!("WARNING: {warning}")));
    lines.join("\n")
}

pub(super) fn reloaded(wire::Reloaded { changed }: &wire::Reloaded) -> String {
    match changed.as_slice() {
        [] => "read again: no setting has changed".into(),
        changed => format!("read again: changed is {}", changed.join(", ")),
    }
}

fn logged_out_line(ended: &wire::EndedSession) -> String {
    format!("{} was logged out from {}", name(&ended.user, &ended.domain), ended.client)
}

pub(super) fn settings(settings: &[wire::Setting]) -> String {
    let mut table = plain();
    table.set_header(["KEY", "VALUE", "FROM", "CHANGES"]);
    for setting in settings {
        table.add_row([
            setting.key.clone(),
            shown(&setting.value).to_owned(),
            origin(setting),
            if setting.live { "live" } else { "at start" }.into(),
        ]);
    }
    text(&table)
}

/// Where a setting's value comes from, and what stands underneath.
pub(super) fn origin(setting: &wire::Setting) -> String {
    let underneath = match &setting.file {
        Some(file) => format!("the file says {}", shown(file)),
        None => format!("the default is {}", shown(&setting.default)),
    };
    match (setting.source, &setting.set_by, setting.set_at) {
        (wire::Source::Default, ..) => "default".into(),
        (wire::Source::File, ..) => "file".into(),
        (wire::Source::Set, Some(by), Some(at)) => {
            format!("set {} by {}; {underneath}", moment(at), account(by))
        }
        (wire::Source::Set, ..) => format!("set; {underneath}"),
    }
}

fn shown(value: &str) -> &str {
    if value.is_empty() { "\"\"" } else { value }
}

fn account(actor: &Actor) -> String {
    match (&actor.user, actor.uid) {
        (Some(user), _) => user.clone(),
        (None, Some(uid)) => format!("uid {uid}"),
        (None, None) => "somebody".into(),
    }
}

/// An event of the trail, or the note that some were lost.
pub(super) fn event(value: &Value) -> String {
    match serde_json::from_value::<wire::Event>(value.clone()) {
        Ok(event) => audit_line(&event),
        Err(_) => value.get("error").and_then(Value::as_str).map_or_else(|| value.to_string(), str::to_owned),
    }
}

pub(super) fn audit_line(event: &wire::Event) -> String {
    let mut line = format!("{}  {:<8}", moment(event.time), event.event);
    let mut add = |text: String| {
        line.push_str("  ");
        line.push_str(&text);
    };
    if let Some(client) = &event.client {
        add(client.clone());
    }
    if let Some(user) = &event.user {
        add(name(user, event.domain.as_deref().unwrap_or_default()));
    }
    if let Some(method) = &event.method {
        add(method.clone());
    }
    if !event.factors.is_empty() {
        add(format!("with {}", event.factors.join(", ")));
    }
    if let Some(cause) = &event.cause {
        add(cause.clone());
    }
    if let Some(reason) = &event.reason {
        add(reason.clone());
    }
    if let Some(count) = event.count {
        add(match event.event.as_str() {
            "banned" => format!("({count} bans before it have no line)"),
            _ => format!("({count} more like this within a minute)"),
        });
    }
    if let Some(by) = &event.by {
        add(format!("by {by}"));
    }
    if let Some(duration) = event.duration {
        add(format!("after {}", span(duration)));
    }
    if let Some(closed) = event.connections_closed.filter(|closed| *closed > 0) {
        add(format!("{closed} connections closed"));
    }
    if let Some((rx, tx)) = event.rx.zip(event.tx) {
        add(format!("{} received, {} sent", bytes(rx as f64), bytes(tx as f64)));
    }
    if let Some(setting) = &event.setting {
        add(setting.clone());
    }
    if let Some(role) = &event.role {
        add(format!("as {role}"));
    }
    if let Some(before) = &event.before {
        add(format!("(was {})", shown(before)));
    }
    if let Some((used, max)) = event.used.zip(event.max) {
        add(match max {
            0 => format!("{used} in use, without a limit"),
            _ => format!("{used} of {max} in use"),
        });
    }
    if let Some(actor) = &event.actor {
        add(format!("ordered by {actor}"));
    }
    line
}

pub(super) fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

pub(super) fn right(table: &mut Table, columns: &[usize]) {
    for index in columns {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

pub(super) fn text(table: &Table) -> String {
    // Cells have a space on either side, also where the table begins and ends.
    let inner = |line: String| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned();
    table.lines().map(inner).collect::<Vec<_>>().join("\n")
}

pub(super) fn name(user: &str, domain: &str) -> String {
    DisplayName { user, domain }.to_string()
}

pub(super) fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

pub(super) fn until(at: Timestamp) -> String {
    let seconds = at.duration_since(wall_now()).as_secs_f64();
    if seconds >= 0.0 { format!("in {}", span(seconds)) } else { "now".into() }
}

pub(super) fn age(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".into(), |at| span(wall_now().duration_since(at).as_secs_f64().max(0.0)))
}

pub(super) fn span(seconds: f64) -> String {
    let whole = seconds as u64;
    let (days, hours, minutes) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds:.1}s"),
        (0, 0, minutes) => format!("{minutes}m{:02}s", whole % 60),
        (0, hours, minutes) => format!("{hours}h{minutes:02}m"),
        (days, hours, _) => format!("{days}d{hours:02}h"),
    }
}

pub(super) fn bytes(count: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut count, mut unit) = (count, 0);
    while count >= 1024.0 && unit + 1 < UNITS.len() {
        count /= 1024.0;
        unit += 1;
    }
    let unit_name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 { format!("{count:.0} {unit_name}") } else { format!("{count:.1} {unit_name}") }
}
