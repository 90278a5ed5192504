//! Bans, as the store keeps them: in the same boot by the same clock, anywhere else by wall time. And the secret that hides
//! the names in them.

use jiff::Timestamp;
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::content::STATE;
use super::embedded::{Store, existing};
use super::error::StoreError;
use super::sessions::{nanos, shift};
use super::text;
use crate::clock::{Anchor, BootTime};
use crate::types::ClientAddr;

/// By what the ban stands on: [`StoredBan::key`].
const BANS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("bans");
/// The name of the secret.
const SECRET: &str = "names-secret";

/// A ban. A moment is kept in nanoseconds since `booted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBan {
    /// The word for what it stands on.
    pub scope: String,
    /// The address that it names, if any.
    #[serde(with = "text::optional", default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientAddr>,
    /// The account that it names, if any: a keyed hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<[u8; 16]>,
    /// The account, where it is known that there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The wrong secrets that led to it.
    pub tries: u32,
    since: i64,
    until: i64,
    last: i64,
    /// The boot that the numbers above belong to.
    boot: String,
    /// The wall time at the beginning of that boot, as the wall clock was set when this was written.
    booted: Timestamp,
}

/// The moments of a ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BanTimes {
    /// When it began.
    pub since: BootTime,
    /// When it ends.
    pub until: BootTime,
    /// When somebody last tried.
    pub last: BootTime,
}

impl StoredBan {
    /// A ban that stands on nothing yet.
    #[must_use]
    pub fn new(scope: &str, tries: u32, times: BanTimes, boot: &str, anchor: &Anchor) -> Self {
        let BanTimes { since, until, last } = times;
        Self {
            scope: scope.into(),
            client: None,
            name: None,
            account: None,
            tries,
            since: nanos(since),
            until: nanos(until),
            last: nanos(last),
            boot: boot.into(),
            booted: anchor.wall(BootTime::default()),
        }
    }

    /// What tells it from every other: there is one ban of each.
    #[must_use]
    pub fn key(&self) -> String {
        key(&self.scope, self.client, self.name)
    }

    /// Its moments in this boot's time; none where it names what has another name now (a link-local address after a
    /// reboot: interfaces have other numbers). Wherever the wall clock was set to, it lasts no longer than it would have.
    #[must_use]
    pub fn times(&self, boot: &str, anchor: &Anchor, now: BootTime) -> Option<BanTimes> {
        let there = |nanos: i64| BootTime::from_nanos(nanos.cast_unsigned());
        if self.boot == boot {
            let [since, until, last] = [self.since, self.until, self.last].map(there);
            return Some(BanTimes { since, until, last });
        }
        if self.client.is_some_and(|client| client.link().is_some()) {
            return None;
        }
        let moment = |nanos: i64| anchor.boot(shift(self.booted, nanos));
        let lasts = there(self.until).since(there(self.since));
        let [since, until, last] = [self.since, self.until, self.last].map(moment);
        Some(BanTimes { since: since.min(now), until: until.min(now.after(lasts)), last: last.min(now) })
    }
}

/// See [`StoredBan::key`].
#[must_use]
pub fn key(scope: &str, client: Option<ClientAddr>, name: Option<[u8; 16]>) -> String {
    let client = client.map(|client| client.to_string()).unwrap_or_default();
    let name = name.map(|name| format!("{:032x}", u128::from_be_bytes(name))).unwrap_or_default();
    format!("{scope} {client} {name}")
}

impl Store {
    /// The bans, those that are over included. What cannot be read is left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn bans(&self) -> Result<Vec<StoredBan>, StoreError> {
        self.read(|read| {
            let Some(table) = existing(read.open_table(BANS))? else { return Ok(Vec::new()) };
            let mut bans = Vec::new();
            for entry in table.iter()? {
                match serde_json::from_slice(entry?.1.value()) {
                    Ok(ban) => bans.push(ban),
                    Err(error) => tracing::warn!(%error, "a ban in the store cannot be read: left out"),
                }
            }
            Ok(bans)
        })
    }

    /// The secret that hides what was typed for names, the same for as long as the database is; `fresh` becomes it where
    /// there is none.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn names_secret(&self, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        let kept = self.read(|read| {
            let Some(table) = existing(read.open_table(STATE))? else { return Ok(None) };
            Ok(table.get(SECRET)?.and_then(|value| <[u8; 32]>::try_from(value.value()).ok()))
        })?;
        if let Some(kept) = kept {
            return Ok(kept);
        }
        self.transaction(|write| {
            write.open_table(STATE)?.insert(SECRET, fresh.as_slice())?;
            Ok(())
        })?;
        Ok(fresh)
    }
}

/// Writes what has become of bans, by key; `None`: it is over.
pub(super) fn write<'a>(
    write: &WriteTransaction,
    bans: impl IntoIterator<Item = (&'a String, &'a Option<Box<StoredBan>>)>,
) -> Result<(), redb::Error> {
    let mut table = write.open_table(BANS)?;
    for (key, ban) in bans {
        match ban {
            Some(ban) => {
                let value = serde_json::to_vec(ban).unwrap_or_default();
                table.insert(key.as_str(), value.as_slice())?.map(drop)
            }
            None => table.remove(key.as_str())?.map(drop),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::clock::boot_now;
    use crate::store::{Entry, Journal};

    fn ban(now: BootTime) -> StoredBan {
        let times = BanTimes {
            since: now.before(Duration::from_secs(60)),
            until: now.after(Duration::from_secs(240)),
            last: now.before(Duration::from_secs(30)),
        };
        let ban = StoredBan::new("pair", 3, times, "this", &Anchor::from_offset(1_000_000));
        StoredBan { client: "192.0.2.1".parse().ok(), name: Some([7; 16]), ..ban }
    }

    #[test]
    fn a_ban_is_kept_and_forgotten_and_the_secret_stays_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Arc::new(Store::open(directory.path(), None).unwrap());
        let kept = ban(boot_now());
        let (mut secret, other) = ([1; 32], StoredBan { name: Some([8; 16]), ..kept.clone() });
        for (round, expected) in [vec![kept.clone(), other.clone()], vec![other.clone()]].iter().enumerate() {
            let store = open();
            let journal = Journal::start(Arc::clone(&store)).unwrap();
            let entries = match round {
                0 => [&kept, &other].map(|ban| Entry::Ban(ban.key(), Some(Box::new(ban.clone())))).to_vec(),
                _ => vec![Entry::Ban(kept.key(), None)],
            };
            let (tell, told) = mpsc::channel();
            journal.submit(entries, Some(Box::new(move |outcome| tell.send(outcome).unwrap())));
            told.recv().unwrap().unwrap();
            assert_eq!(&store.bans().unwrap(), expected);
            secret = store.names_secret(secret).unwrap();
            assert_eq!((secret, store.names_secret([9; 32]).unwrap()), ([1; 32], [1; 32]));
            journal.close();
            store.close();
        }
        assert_eq!(open().bans().unwrap(), [other]);
    }

    #[test]
    fn a_ban_lasts_as_long_over_a_reboot_and_never_longer_whatever_the_wall_clock_says() {
        let now = boot_now();
        let (ban, anchor) = (ban(now), Anchor::from_offset(1_000_000));
        let left = |ban: &StoredBan, boot, anchor| ban.times(boot, &anchor, now).map(|t| t.until.since(now));
        let hours = |hours: i64| Anchor::from_offset(1_000_000 + hours * 3_600_000_000_000);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(left(&ban, "this", hours(7)), seconds(240), "the same boot has the same clock");
        assert_eq!(left(&ban, "next", anchor), seconds(240));
        assert_eq!(left(&ban, "next", hours(-7)), seconds(300), "the clock was set back");
        assert_eq!(left(&ban, "next", hours(7)), seconds(0), "and forward");
        let on_a_link = StoredBan { client: "fe80::1%2".parse().ok(), ..ban };
        assert!(left(&on_a_link, "this", anchor).is_some() && left(&on_a_link, "next", anchor).is_none());
    }
}
