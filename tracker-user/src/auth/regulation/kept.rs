//! Bans in the store's form, and back.

use std::sync::Arc;

use super::ban::{Ban, NameKey, Target};
use crate::clock::{Anchor, BootTime};
use crate::store::{BanTimes, StoredBan, bans};

/// What the store has a ban under.
pub(super) fn key(target: Target) -> String {
    bans::key(target.scope(), target.address(), target.name().map(|NameKey(name)| name))
}

/// What is to be kept of a ban.
pub(super) fn stored(ban: &Ban, boot: &str, anchor: &Anchor) -> StoredBan {
    let Ban { target, account, since, until, tries, last } = ban;
    let times = BanTimes { since: *since, until: *until, last: *last };
    let mut stored = StoredBan::new(target.scope(), *tries, times, boot, anchor);
    stored.client = target.address();
    stored.name = target.name().map(|NameKey(name)| name);
    stored.account = account.as_deref().map(Into::into);
    stored
}

/// The ban that was kept; none where it means nothing any more.
pub(super) fn restored(stored: &StoredBan, boot: &str, anchor: &Anchor, now: BootTime) -> Option<Ban> {
    let target = match (stored.scope.as_str(), stored.client, stored.name.map(NameKey)) {
        ("address", Some(address), None) => Target::Address(address),
        ("user", None, Some(name)) => Target::User(name),
        ("pair", Some(client), Some(name)) => Target::Pair(client, name),
        _ => return None,
    };
    let BanTimes { since, until, last } = stored.times(boot, anchor, now)?;
    let account = stored.account.as_deref().map(Arc::from);
    Some(Ban { target, account, since, until, tries: stored.tries, last })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::boot_now;

    #[test]
    fn every_kind_of_ban_comes_back_as_it_was() {
        let now = boot_now();
        let (client, name) = ("2001:db8::1".parse().unwrap(), NameKey([9; 16]));
        for (target, account) in [
            (Target::Address(client), None),
            (Target::User(name), None),
            (Target::Pair(client, name), Some(Arc::from("alice@example.test"))),
        ] {
            let (since, until) = (now.before(Duration::from_secs(1)), now.after(Duration::from_secs(9)));
            let ban = Ban { target, account, since, until, tries: 3, last: since };
            let stored = stored(&ban, "this", &Anchor::now());
            assert_eq!(stored.key(), key(target));
            let read = serde_json::from_slice(&serde_json::to_vec(&stored).unwrap()).unwrap();
            assert_eq!(restored(&read, "this", &Anchor::now(), now), Some(ban));
        }
    }
}
