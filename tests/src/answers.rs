//! How the lab reads what `trackerctl --json` prints: every assumption about names in its documents is in this file.

use std::collections::HashMap;

use serde_json::Value;

/// The elements of a list: the document itself, or its field `key`.
#[must_use]
pub fn list<'a>(document: &'a Value, key: &str) -> Vec<&'a Value> {
    let array = document.as_array().or_else(|| document.get(key)?.as_array());
    array.map(|array| array.iter().collect()).unwrap_or_default()
}

/// The first of these fields that is there and not null.
fn any<'a>(object: &'a Value, names: &[&str]) -> Option<&'a Value> {
    names.iter().find_map(|name| object.get(name)).filter(|value| !value.is_null())
}

/// A value as text, without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text(object: &Value, names: &[&str]) -> String {
    any(object, names).map(plain).unwrap_or_default()
}

fn number(object: &Value, names: &[&str]) -> u64 {
    any(object, names).and_then(Value::as_u64).unwrap_or(0)
}

/// One session, with the fields that the contract names. Times are RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the contract's own names")]
pub struct Session {
    pub id: String,
    pub client: String,
    pub user: String,
    pub domain: String,
    pub method: String,
    pub state: String,
    pub mode: String,
    pub created: String,
    pub authenticated: String,
    pub open_connections: u64,
    pub last_traffic: String,
    pub expires: Option<String>,
    pub device: String,
}

impl Session {
    /// The fields that every session object must have, even if null.
    pub const FIELDS: [&'static str; 13] = [
        "id",
        "client",
        "user",
        "domain",
        "method",
        "state",
        "mode",
        "created",
        "authenticated",
        "open_connections",
        "last_traffic",
        "expires",
        "device",
    ];

    /// Reads one.
    #[must_use]
    pub fn read(object: &Value) -> Self {
        let field = |name| text(object, &[name]);
        Self {
            id: field("id"),
            client: field("client"),
            user: field("user"),
            domain: field("domain"),
            method: field("method"),
            state: field("state"),
            mode: field("mode"),
            created: field("created"),
            authenticated: field("authenticated"),
            open_connections: number(object, &["open_connections"]),
            last_traffic: field("last_traffic"),
            expires: any(object, &["expires"]).map(plain),
            device: field("device"),
        }
    }

    /// True if this is that person's session.
    #[must_use]
    pub fn is_of(&self, user: &str) -> bool {
        same_user(&self.user, user)
    }

    /// True while requests are served on it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.state == "active"
    }
}

/// `sessions` as a list.
#[must_use]
pub fn sessions(document: &Value) -> Vec<Session> {
    list(document, "sessions").into_iter().map(Session::read).collect()
}

/// `session CLIENT`: the object itself, or its field `session`.
#[must_use]
pub fn session(document: &Value) -> Session {
    Session::read(document.get("session").filter(|inner| inner.is_object()).unwrap_or(document))
}

/// A client address as `hosts` shows it: what the kernel has recorded.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "as `trackerctl --json hosts` names them")]
pub struct Host {
    pub client: String,
    pub open_connections: u64,
    pub opened: String,
    pub closed: String,
    pub last_traffic: String,
    pub received: u64,
    pub sent: u64,
}

/// `hosts` as a list.
#[must_use]
pub fn hosts(document: &Value) -> Vec<Host> {
    let read = |object: &Value| Host {
        client: text(object, &["client", "host", "address"]),
        open_connections: number(object, &["open_connections", "open"]),
        opened: text(object, &["opened", "opened_at", "last_opened"]),
        closed: text(object, &["closed", "closed_at", "last_closed"]),
        last_traffic: text(object, &["last_traffic", "traffic_at"]),
        received: number(object, &["received", "rx", "received_bytes", "bytes_received"]),
        sent: number(object, &["sent", "tx", "sent_bytes", "bytes_sent"]),
    };
    list(document, "hosts").into_iter().map(read).collect()
}

/// One line of the audit trail.
#[derive(Clone, Debug, Default)]
#[expect(missing_docs, reason = "as `trackerctl --json events` names them")]
pub struct Event {
    /// `login`, `refusal`, `expiry`, `kick-out`, `logout` or a like word.
    pub kind: String,
    pub client: String,
    pub user: String,
    /// One of the contract's reasons, for ends.
    pub reason: String,
    /// The whole of it.
    pub text: String,
}

/// `events` as a list, oldest first.
#[must_use]
pub fn events(document: &Value) -> Vec<Event> {
    let read = |object: &Value| Event {
        kind: text(object, &["event", "kind", "type"]),
        client: text(object, &["client"]),
        user: text(object, &["user"]),
        reason: text(object, &["reason"]),
        text: object.to_string(),
    };
    list(document, "events").into_iter().map(read).collect()
}

/// True if `shown` names `user`, with or without a domain, in any case.
#[must_use]
pub fn same_user(shown: &str, user: &str) -> bool {
    let shown = shown.rsplit('\\').next().unwrap_or(shown);
    let shown = shown.split('@').next().unwrap_or(shown);
    shown.eq_ignore_ascii_case(user)
}

/// The value that `get KEY` printed: the document itself, its field `value`, or its field KEY.
#[must_use]
pub fn setting(document: &Value, key: &str) -> String {
    any(document, &["value", key]).map_or_else(|| plain(document), plain)
}

/// Which observer `status` says is at work: `ebpf` or `proxy`.
#[must_use]
pub fn observer(status: &Value) -> String {
    let Some(observer) = any(status, &["observer"]) else { return String::new() };
    any(observer, &["mode", "kind", "name"]).map_or_else(|| plain(observer), plain)
}

/// Who the requests for each path were served for, by the access log; users without their domain.
#[must_use]
pub fn served(log: &str) -> HashMap<String, String> {
    let between = |line: &str, before: &str, end: &[char]| {
        let (_, rest) = line.split_once(before)?;
        rest.split(end).next().map(str::to_owned)
    };
    let lines = log.lines().filter(|line| line.contains(" access: "));
    let bare = |shown: String| shown.rsplit('\\').next().map(str::to_owned);
    let pair =
        |line: &str| Some((between(line, " path=\"", &['"'])?, bare(between(line, " user=", &['@', ' '])?)?));
    lines.filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_access_log_tells_who_was_served() {
        let log = "2026 INFO access: client=10.77.0.11 user=alice@EXAMPLE.TEST method=GET path=\"/a\" status=200\n\
                   2026 INFO access: client=10.77.0.11 method=GET path=\"/b\" status=407\n\
                   2026 INFO access: client=10.77.0.11 user=EXAMPLE\\bob method=GET path=\"/c\" status=200\n";
        let served = served(log);
        assert_eq!(served.get("/a").map(String::as_str), Some("alice"));
        assert_eq!(served.get("/c").map(String::as_str), Some("bob"));
        assert_eq!(served.len(), 2);
    }
}
