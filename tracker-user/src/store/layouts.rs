//! The layouts that earlier versions wrote, as they were, and the steps from each to the next. Nothing else knows them.
//!
//! Up to layout 2 a session had a number of 64 bits, shown as 16 hexadecimal digits, and the history was one of tenures.

use jiff::{SignedDuration, Timestamp};
use redb::{ReadableTable, TableDefinition, TableHandle as _, WriteTransaction};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::content::SESSIONS;
use super::events::EVENTS;
use super::history::{History, HistoryEntry};
use super::users;
use crate::clock::{Anchor, BootTime};
use crate::links;
use crate::types::{ClientAddr, GatewayId, SessionId};

type Tenures<'a> = TableDefinition<'a, ([u8; 16], i64, u64), &'static [u8]>;

/// By client, beginning in microseconds of wall time, and session.
const TENURES: Tenures<'_> = TableDefinition::new("tenures");
/// Indices of these.
const INDICES: [&str; 3] = ["tenures-by-start", "tenures-by-end", "tenures-by-user"];
/// So many tenures of a client were searched for the one that an event speaks of.
const SEARCHED: usize = 64;
/// A tenure named so many stale periods.
const STALE_PERIODS: usize = 32;

/// What a step needs of an event of layout 1.
#[derive(Deserialize)]
struct Event {
    time: Timestamp,
    event: String,
    client: Option<String>,
    user: Option<String>,
    domain: Option<String>,
    realm: Option<String>,
    session: Option<String>,
    method: Option<String>,
    reason: Option<String>,
    by: Option<String>,
    duration: Option<f64>,
}

#[derive(Default, Serialize, Deserialize)]
struct Tenure {
    session: String,
    client: String,
    user: String,
    domain: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    realm: Option<String>,
    method: String,
    from: Timestamp,
    until: Option<Timestamp>,
    reason: Option<String>,
    by: Option<String>,
    stale: Vec<StalePeriod>,
    stale_count: u32,
}

#[derive(Serialize, Deserialize)]
struct StalePeriod {
    from: Timestamp,
    until: Option<Timestamp>,
    reason: String,
}

impl Tenure {
    fn begun(event: &Event, from: Timestamp) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            session: text(&event.session),
            client: text(&event.client),
            user: text(&event.user),
            domain: text(&event.domain),
            realm: event.realm.clone(),
            method: text(&event.method),
            from,
            ..Self::default()
        }
    }

    fn end_stale(&mut self, at: Timestamp) {
        if let Some(last) = self.stale.last_mut().filter(|period| period.until.is_none()) {
            last.until = Some(at);
        }
    }
}

/// From layout 1 to layout 2, which has tenures: those that the kept events tell of. Their indices are left out, as the
/// next step makes others.
pub(super) fn tenures_from_events(write: &WriteTransaction, _: GatewayId) -> Result<(), redb::Error> {
    let mut tenures = write.open_table(TENURES)?;
    for entry in write.open_table(EVENTS)?.iter()? {
        let Ok(event) = serde_json::from_slice::<Event>(entry?.1.value()) else { continue };
        let client = event.client.as_deref().and_then(|client| links::parse(client).ok());
        let session = event.session.as_deref().and_then(|session| u64::from_str_radix(session, 16).ok());
        let (Some(ClientAddr(client)), Some(session)) = (client, session) else { continue };
        let mut found = None;
        if event.event != "login" {
            let of_client = (client, i64::MIN, 0)..=(client, i64::MAX, u64::MAX);
            for entry in tenures.range(of_client)?.rev().take(SEARCHED) {
                let (key, value) = entry?;
                if key.value().2 == session {
                    found = serde_json::from_slice(value.value())
                        .ok()
                        .map(|tenure: Tenure| (key.value(), tenure));
                    break;
                }
            }
        }
        let begun = |from: Timestamp| ((client, from.as_microsecond(), session), Tenure::begun(&event, from));
        let (key, mut tenure) = match (found, event.duration) {
            (Some(found), _) => found,
            (None, _) if event.event == "login" => begun(event.time),
            (None, Some(duration)) => {
                let lasted = SignedDuration::try_from_secs_f64(duration).unwrap_or_default();
                begun(event.time.checked_sub(lasted).unwrap_or(event.time))
            }
            (None, None) => continue,
        };
        match event.event.as_str() {
            "login" => {}
            "renewed" => tenure.end_stale(event.time),
            "stale" => {
                tenure.end_stale(event.time);
                let reason = event.reason.clone().unwrap_or_default();
                tenure.stale.push(StalePeriod { from: event.time, until: None, reason });
                tenure.stale_count += 1;
                if tenure.stale.len() > STALE_PERIODS {
                    tenure.stale.remove(0);
                }
            }
            "ended" => {
                tenure.end_stale(event.time);
                tenure.until = Some(event.time);
                tenure.reason.clone_from(&event.reason);
                tenure.by.clone_from(&event.by);
            }
            _ => continue,
        }
        let value = serde_json::to_vec(&tenure).unwrap_or_default();
        tenures.insert(key, value.as_slice())?;
    }
    Ok(())
}

/// From layout 2 to layout 3: sessions have a number that is this gateway's, and tenures are the history's entries. Events
/// stay: they say what was logged then.
pub(super) fn number_by_gateway(write: &WriteTransaction, gateway: GatewayId) -> Result<(), redb::Error> {
    let mut history = History::open(write)?;
    for entry in write.open_table(TENURES)?.iter()? {
        let (key, value) = entry?;
        let (client, from, number) = key.value();
        let session = SessionId::new(gateway, number);
        // What cannot be read is what nobody could read before, either.
        if let Some(entry) = history_entry(value.value(), session) {
            history.put((client, from, session.to_bits()), &entry)?;
        }
    }
    write.delete_table(TENURES)?;
    for table in write.list_tables()?.collect::<Vec<_>>() {
        if INDICES.contains(&table.name()) {
            write.delete_table(table)?;
        }
    }
    let mut sessions = write.open_table(SESSIONS)?;
    let mut kept = Vec::new();
    for entry in sessions.iter()? {
        let (client, value) = entry?;
        kept.push((client.value(), session(value.value(), gateway)));
    }
    for (client, session) in kept {
        match session {
            Some(session) => sessions.insert(client, session.as_slice())?.map(drop),
            None => sessions.remove(client)?.map(drop),
        };
    }
    Ok(())
}

/// From layout 3 to layout 4, which has the gateway's own users. An earlier version must not open it: it would let in whom
/// they are not asked about.
pub(super) fn users_and_bans(write: &WriteTransaction, _: GatewayId) -> Result<(), redb::Error> {
    users::create(write)
}

/// From layout 4 to layout 5: the gateway's own users have roles. An earlier version must not open it: it would take
/// administrators for users, and write that down.
pub(super) fn roles(write: &WriteTransaction, _: GatewayId) -> Result<(), redb::Error> {
    users::roles_of_administrators(write)
}

/// The policy in force as versions up to layout 2 kept it: as the configuration that it was made of. No step converts it, as
/// only a configuration's reader can. It stands until the first transaction of a run writes the policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ConfiguredPolicy {
    /// What the configuration says where it differs from the defaults.
    pub config: String,
    since: i64,
    boot: String,
    offset: i64,
}

impl ConfiguredPolicy {
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok()
    }

    /// Since when it was in force; in another boot than `boot` every gap that the records know of came after.
    #[must_use]
    pub fn since(&self, boot: &str) -> BootTime {
        if self.boot == boot { BootTime::from_nanos(self.since.cast_unsigned()) } else { BootTime::default() }
    }

    /// How the clocks stood to each other, if that was in this boot.
    #[must_use]
    pub fn anchor(&self, boot: &str) -> Option<Anchor> {
        (self.boot == boot).then(|| Anchor::from_offset(self.offset))
    }
}

/// A tenure of layout 2 as an entry of the history.
fn history_entry(value: &[u8], session: SessionId) -> Option<HistoryEntry> {
    let mut tenure: Value = serde_json::from_slice(value).ok()?;
    let fields = tenure.as_object_mut()?;
    fields.insert("session".into(), session.to_string().into());
    // An empty word said that it is not known.
    if fields.get("method").is_some_and(|method| method == "") {
        fields.insert("method".into(), Value::Null);
    }
    serde_json::from_value(tenure).ok()
}

/// A session of layout 2 in the form of layout 3.
fn session(value: &[u8], gateway: GatewayId) -> Option<Vec<u8>> {
    let mut session: Value = serde_json::from_slice(value).ok()?;
    let fields = session.as_object_mut()?;
    let id = SessionId::new(gateway, fields.get("id")?.as_u64()?);
    fields.insert("id".into(), id.to_string().into());
    serde_json::to_vec(&session).ok()
}
