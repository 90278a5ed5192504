//! What is known of one kind of target, by its key: wrong tries while they count, tries under way, the ban. Nothing stays
//! longer than it counts, and nothing is forgotten before.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::BootTime;
use crate::types::ClientAddr;

/// When wrong tries are forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forgets {
    /// Each when it has counted for its time: a sliding window.
    Each,
    /// All together, when none has been added for that time: so the directory does it, and whoever tries slowly enough for a
    /// window would have the account locked there.
    Together,
}

/// A wrong try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// When it was found to be wrong.
    pub(super) at: BootTime,
    /// Where it came from.
    pub(super) from: ClientAddr,
}

/// A ban, as its table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) since: BootTime,
    pub(super) until: BootTime,
    pub(super) tries: u32,
    pub(super) last: BootTime,
}

/// What is known of one key.
#[derive(Debug, Default)]
pub(super) struct Entry {
    /// In the order of their times.
    pub(super) wrong: VecDeque<Wrong>,
    /// Tries under way.
    pub(super) pending: u32,
    /// Of an address: so many pairs that are known are of it.
    pub(super) pairs: usize,
    pub(super) ban: Option<Standing>,
    /// The account, once it is known that there is one.
    pub(super) account: Option<Arc<str>>,
    /// Where it stands in the table's order.
    due: Option<BootTime>,
}

impl Entry {
    /// Tries that take room in the budget.
    pub(super) fn used(&self) -> u32 {
        self.tries().saturating_add(self.pending)
    }

    /// Wrong tries that count.
    pub(super) fn tries(&self) -> u32 {
        u32::try_from(self.wrong.len()).unwrap_or(u32::MAX)
    }

    fn is_empty(&self) -> bool {
        self.wrong.is_empty() && self.pending == 0 && self.pairs == 0 && self.ban.is_none()
    }
}

/// What became of a key.
#[derive(Debug, Default)]
pub(super) struct Settled<K> {
    /// Bans that are over.
    pub(super) over: Vec<K>,
    /// Keys of which nothing is known any more.
    pub(super) gone: Vec<K>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table<K> {
    entries: HashMap<K, Entry>,
    /// When something is over that time ends, by key.
    due: BTreeSet<(BootTime, K)>,
    forgets: Forgets,
    banned: usize,
}

impl<K: Copy + Ord + Hash> Table<K> {
    pub(super) fn new(forgets: Forgets) -> Self {
        Self { entries: HashMap::new(), due: BTreeSet::new(), forgets, banned: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bans that stand.
    pub(super) const fn banned(&self) -> usize {
        self.banned
    }

    pub(super) fn has(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    pub(super) fn get(&self, key: &K) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// What is known of the key, without what does not count any more at `now`.
    pub(super) fn look(&mut self, key: &K, now: BootTime, find: Duration) -> Option<&mut Entry> {
        let entry = self.entries.get_mut(key)?;
        prune(entry, self.forgets, now, find);
        Some(entry)
    }

    pub(super) fn bans(&self) -> impl Iterator<Item = (K, &Entry, Standing)> {
        self.entries.iter().filter_map(|(key, entry)| Some((*key, entry, entry.ban?)))
    }

    /// Changes what is known of the key. Says whether anything was known of it before, and whether anything is now.
    pub(super) fn change(
        &mut self,
        key: K,
        now: BootTime,
        find: Duration,
        change: impl FnOnce(&mut Entry),
    ) -> (bool, bool) {
        let was = self.entries.contains_key(&key);
        let entry = self.entries.entry(key).or_default();
        let had_ban = entry.ban.is_some();
        change(entry);
        prune(entry, self.forgets, now, find);
        match (had_ban, entry.ban.is_some()) {
            (false, true) => self.banned += 1,
            (true, false) => self.banned -= 1,
            _ => {}
        }
        let is = !entry.is_empty();
        order(&mut self.due, key, entry, find);
        if !is {
            self.entries.remove(&key);
        }
        (was, is)
    }

    /// When the budget has room again if nothing more is counted.
    pub(super) fn free_at(&self, entry: &Entry, budget: u32, find: Duration) -> Option<BootTime> {
        let last = match self.forgets {
            Forgets::Together => entry.wrong.back(),
            Forgets::Each => {
                let beyond = entry.wrong.len().checked_sub(usize::try_from(budget).unwrap_or(usize::MAX))?;
                entry.wrong.get(beyond)
            }
        };
        last.map(|wrong| wrong.at.after(find))
    }

    /// Forgets what does not count any more at `now`.
    pub(super) fn expire(&mut self, now: BootTime, find: Duration) -> Settled<K> {
        let mut settled = Settled { over: Vec::new(), gone: Vec::new() };
        while let Some((_, key)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.pop_first();
            let Some(entry) = self.entries.get_mut(&key) else { continue };
            entry.due = None;
            if entry.ban.is_some_and(|ban| ban.until <= now) {
                entry.ban = None;
                self.banned -= 1;
                settled.over.push(key);
            }
            prune(entry, self.forgets, now, find);
            order(&mut self.due, key, entry, find);
            if entry.is_empty() {
                self.entries.remove(&key);
                settled.gone.push(key);
            }
        }
        settled
    }

    /// Wrong tries count for `after` from now on; what did not count any more with `before` is forgotten.
    pub(super) fn count_for(&mut self, now: BootTime, before: Duration, after: Duration) {
        for (key, entry) in &mut self.entries {
            prune(entry, self.forgets, now, before);
            order(&mut self.due, *key, entry, after);
        }
    }
}

fn prune(entry: &mut Entry, forgets: Forgets, now: BootTime, find: Duration) {
    let is_over = |wrong: &Wrong| wrong.at.after(find) <= now;
    match forgets {
        Forgets::Each => {
            while entry.wrong.front().is_some_and(is_over) {
                entry.wrong.pop_front();
            }
        }
        Forgets::Together => {
            if entry.wrong.back().is_some_and(is_over) {
                entry.wrong.clear();
            }
        }
    }
}

/// Puts the key where it belongs in the order of what time ends.
fn order<K: Copy + Ord>(due: &mut BTreeSet<(BootTime, K)>, key: K, entry: &mut Entry, find: Duration) {
    let ends = match (entry.ban, entry.wrong.back()) {
        (Some(ban), _) => Some(ban.until),
        (None, Some(last)) => Some(last.at.after(find)),
        (None, None) => None,
    };
    if ends != entry.due {
        if let Some(before) = entry.due {
            due.remove(&(before, key));
        }
        if let Some(ends) = ends {
            due.insert((ends, key));
        }
        entry.due = ends;
    }
}
