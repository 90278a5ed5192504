//! The core, pure: time is an argument, nothing is read or written, and it cannot fail. A moment earlier than one that was
//! given before counts as that one.

use std::sync::Arc;
use std::time::Duration;

use super::ban::{Ban, NameKey, Target};
use super::settings::Settings;
use super::table::{Entry, Forgets, Settled, Standing, Table, Wrong};
use crate::clock::BootTime;
use crate::types::ClientAddr;

/// For how much there is room. Nothing that counts is ever forgotten to make some: whoever could have something forgotten
/// would have as many tries as they like. What finds no room is refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Pairs, accounts and addresses, each.
    pub(super) keys: usize,
    /// Pairs of one address: so no single one takes all of the room, those without a budget of their own included.
    pub(super) pairs_of_one: usize,
}

impl Default for Room {
    /// At some 200 bytes each, and 24 for a try.
    fn default() -> Self {
        Self { keys: 65_536, pairs_of_one: 4_096 }
    }
}

/// Why a try may not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// A ban stands.
    Banned,
    /// Tries that are under way take what is left of a budget: it depends on them.
    Pending,
    /// It could not be counted.
    NoRoom,
}

/// What has become of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Right,
    Wrong,
    Void,
}

/// A try that is under way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ticket(Option<Counted>);

#[derive(Debug, PartialEq, Eq)]
struct Counted {
    client: ClientAddr,
    name: NameKey,
    /// Whether it counts for the address as well.
    by_address: bool,
    /// What was counted before the counting was last ended is no more.
    era: u64,
}

/// What others must be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// A ban begins.
    Banned(Ban),
    /// A ban is over, by time, by order, or because nothing is counted any more.
    Over(Target),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    settings: Settings,
    room: Room,
    now: BootTime,
    era: u64,
    pairs: Table<(ClientAddr, NameKey)>,
    names: Table<NameKey>,
    addresses: Table<ClientAddr>,
    changes: Vec<Change>,
    /// When somebody was last refused for want of room.
    was_full: Option<BootTime>,
}

impl Ledger {
    pub(super) fn new(settings: Settings, room: Room) -> Self {
        Self {
            settings,
            room,
            now: BootTime::from_nanos(i64::MIN.cast_unsigned()),
            era: 0,
            pairs: Table::new(Forgets::Each),
            names: Table::new(Forgets::Together),
            addresses: Table::new(Forgets::Each),
            changes: Vec::new(),
            was_full: None,
        }
    }

    /// Takes over a ban of an earlier run. One that is over, or finds no room, is left out.
    pub(super) fn restore(&mut self, at: BootTime, ban: &Ban) {
        self.advance(at);
        if !self.settings.is_on() || ban.until <= self.now {
            return self.changes.push(Change::Over(ban.target));
        }
        let Ban { since, until, tries, last, .. } = *ban;
        let take = |entry: &mut Entry| {
            entry.ban = Some(Standing { since, until, tries, last });
            entry.account.clone_from(&ban.account);
        };
        let (now, find) = (self.now, self.settings.find_time);
        match ban.target {
            Target::Address(address) if self.addresses.len() < self.room.keys => {
                self.addresses.change(address, now, find, take);
            }
            Target::User(name) if self.names.len() < self.room.keys => {
                self.names.change(name, now, find, take);
            }
            Target::Pair(client, name) if self.pairs.len() < self.room.keys => {
                self.change_pair(client, name, take);
            }
            target => self.changes.push(Change::Over(target)),
        }
    }

    /// What others must be told since this was last asked.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Begins a try. `by_address`: whether it counts for its address, and whether a ban on that matters.
    pub(super) fn begin(
        &mut self,
        at: BootTime,
        client: ClientAddr,
        name: NameKey,
        by_address: bool,
    ) -> Result<Ticket, Refused> {
        self.advance(at);
        if !self.settings.is_on() {
            return Ok(Ticket(None));
        }
        let (network, settings) = (client.network(), self.settings);
        let pair = judge(
            &mut self.pairs,
            (client, name),
            |(client, name)| Target::Pair(client, name),
            settings.of_a_pair(),
            (self.now, settings, &mut self.changes),
        );
        let user = judge(
            &mut self.names,
            name,
            Target::User,
            settings.of_an_account(),
            (self.now, settings, &mut self.changes),
        );
        let address = match by_address {
            true => judge(
                &mut self.addresses,
                network,
                Target::Address,
                settings.of_an_address(),
                (self.now, settings, &mut self.changes),
            ),
            false => Ok(()),
        };
        let found = [pair, user, address];
        for refused in [Refused::Banned, Refused::Pending] {
            if found.contains(&Err(refused)) {
                return Err(refused);
            }
        }
        if !self.has_room(client, name) {
            self.was_full = Some(self.now);
            return Err(Refused::NoRoom);
        }
        let begins = |entry: &mut Entry| entry.pending = entry.pending.saturating_add(1);
        let (now, find) = (self.now, settings.find_time);
        self.change_pair(client, name, begins);
        self.names.change(name, now, find, begins);
        if by_address {
            self.addresses.change(network, now, find, begins);
        }
        Ok(Ticket(Some(Counted { client, name, by_address, era: self.era })))
    }

    /// A try has ended. `account`: it is one that there is.
    pub(super) fn end(&mut self, at: BootTime, ticket: Ticket, end: End, account: Option<&Arc<str>>) {
        self.advance(at);
        let Some(Counted { client, name, by_address, .. }) = ticket.0.filter(|of| of.era == self.era) else {
            return;
        };
        let (now, settings) = (self.now, self.settings);
        let find = settings.find_time;
        let ends = |entry: &mut Entry| {
            entry.pending = entry.pending.saturating_sub(1);
            if end == End::Wrong {
                entry.wrong.push_back(Wrong { at: now, from: client });
            }
        };
        let of_account = |entry: &mut Entry| {
            ends(entry);
            if end == End::Right {
                // What others sent for the account goes on counting.
                entry.wrong.retain(|wrong| wrong.from != client);
            }
            if let Some(account) = account {
                entry.account = Some(Arc::clone(account));
            }
        };
        self.change_pair(client, name, of_account);
        self.names.change(name, now, find, of_account);
        if by_address {
            // Nothing clears it: who has one account could hide tries at others behind it.
            self.addresses.change(client.network(), now, find, ends);
        }
        if end != End::Wrong {
            return;
        }
        let pair = |(client, name)| Target::Pair(client, name);
        let changes = &mut self.changes;
        ban_if_due(&mut self.pairs, (client, name), pair, settings.of_a_pair(), (now, settings, changes));
        ban_if_due(&mut self.names, name, Target::User, settings.of_an_account(), (now, settings, changes));
        if by_address {
            let (network, budget) = (client.network(), settings.of_an_address());
            ban_if_due(&mut self.addresses, network, Target::Address, budget, (now, settings, changes));
        }
    }

    /// Whether a ban stands that concerns this. Changes nothing.
    pub(super) fn is_banned(
        &mut self,
        at: BootTime,
        client: ClientAddr,
        name: NameKey,
        by_address: bool,
    ) -> bool {
        self.advance(at);
        let stands = |entry: Option<&Entry>| entry.is_some_and(|entry| entry.ban.is_some());
        stands(self.pairs.get(&(client, name)))
            || stands(self.names.get(&name))
            || by_address && stands(self.addresses.get(&client.network()))
    }

    /// The bans that stand, in no order.
    pub(super) fn bans(&mut self, at: BootTime) -> Vec<Ban> {
        self.advance(at);
        let pairs = self.pairs.bans().map(|((client, name), entry, standing)| {
            ban(Target::Pair(client, name), entry.account.clone(), standing)
        });
        let names = self.names.bans();
        let names =
            names.map(|(name, entry, standing)| ban(Target::User(name), entry.account.clone(), standing));
        let addresses = self.addresses.bans();
        let addresses = addresses.map(|(address, _, standing)| ban(Target::Address(address), None, standing));
        pairs.chain(names).chain(addresses).collect()
    }

    /// How many bans stand, in the order of [`Target::SCOPES`].
    pub(super) fn banned(&mut self, at: BootTime) -> [usize; 3] {
        self.advance(at);
        [self.addresses.banned(), self.names.banned(), self.pairs.banned()]
    }

    /// Lifts bans: what led to them counts no more, for them.
    pub(super) fn lift(&mut self, at: BootTime, wanted: impl Fn(&Ban) -> bool) -> Vec<Ban> {
        let mut lifted = self.bans(at);
        lifted.retain(wanted);
        let (now, find) = (self.now, self.settings.find_time);
        let lift = |entry: &mut Entry| {
            entry.ban = None;
            entry.wrong.clear();
        };
        for ban in &lifted {
            match ban.target {
                Target::Address(address) => drop(self.addresses.change(address, now, find, lift)),
                Target::User(name) => drop(self.names.change(name, now, find, lift)),
                Target::Pair(client, name) => self.change_pair(client, name, lift),
            }
            self.changes.push(Change::Over(ban.target));
        }
        lifted
    }

    /// Puts other settings in force. Bans stay as they are, unless nothing is counted any more.
    pub(super) fn configure(&mut self, at: BootTime, settings: Settings) {
        self.advance(at);
        let before = std::mem::replace(&mut self.settings, settings);
        if !settings.is_on() {
            let over: Vec<Change> = self.bans(at).into_iter().map(|ban| Change::Over(ban.target)).collect();
            self.changes.extend(over);
            let changes = std::mem::take(&mut self.changes);
            let (now, era) = (self.now, self.era + 1);
            *self = Self { now, era, changes, ..Self::new(settings, self.room) };
        } else if before.find_time != settings.find_time {
            let (now, from, to) = (self.now, before.find_time, settings.find_time);
            self.pairs.count_for(now, from, to);
            self.names.count_for(now, from, to);
            self.addresses.count_for(now, from, to);
            self.expire();
        }
    }

    /// Whether all room for something is taken, or somebody was refused for want of it within `span`.
    pub(super) fn is_full(&mut self, at: BootTime, span: Duration) -> bool {
        self.advance(at);
        [self.pairs.len(), self.names.len(), self.addresses.len()]
            .into_iter()
            .any(|len| len >= self.room.keys)
            || self.was_full.is_some_and(|last| self.now < last.after(span))
    }

    /// Whether nothing is known of anybody.
    #[cfg(test)]
    pub(super) fn is_forgotten(&self) -> bool {
        self.pairs.len() + self.names.len() + self.addresses.len() == 0
    }

    fn has_room(&self, client: ClientAddr, name: NameKey) -> bool {
        let network = client.network();
        let of_one = self.addresses.get(&network).map_or(0, |entry| entry.pairs);
        (self.pairs.has(&(client, name))
            || self.pairs.len() < self.room.keys && of_one < self.room.pairs_of_one)
            && (self.names.has(&name) || self.names.len() < self.room.keys)
            && (self.addresses.has(&network) || self.addresses.len() < self.room.keys)
    }

    fn change_pair(&mut self, client: ClientAddr, name: NameKey, change: impl FnOnce(&mut Entry)) {
        let (was, is) = self.pairs.change((client, name), self.now, self.settings.find_time, change);
        match (was, is) {
            (false, true) => self.count_pairs(client, |pairs| pairs.saturating_add(1)),
            (true, false) => self.count_pairs(client, |pairs| pairs.saturating_sub(1)),
            _ => {}
        }
    }

    fn count_pairs(&mut self, client: ClientAddr, count: impl FnOnce(usize) -> usize) {
        let (now, find) = (self.now, self.settings.find_time);
        self.addresses.change(client.network(), now, find, |entry| entry.pairs = count(entry.pairs));
    }

    fn advance(&mut self, at: BootTime) {
        self.now = self.now.max(at);
        self.expire();
    }

    fn expire(&mut self) {
        let (now, find) = (self.now, self.settings.find_time);
        let Settled { over, gone } = self.pairs.expire(now, find);
        let over = over.into_iter().map(|(client, name)| Target::Pair(client, name));
        self.changes.extend(over.map(Change::Over));
        for (client, _) in gone {
            self.count_pairs(client, |pairs| pairs.saturating_sub(1));
        }
        let over = self.names.expire(now, find).over.into_iter().map(Target::User);
        self.changes.extend(over.map(Change::Over));
        let over = self.addresses.expire(now, find).over.into_iter().map(Target::Address);
        self.changes.extend(over.map(Change::Over));
    }
}

/// When it is, what it goes by, and who is told.
type At<'a> = (BootTime, Settings, &'a mut Vec<Change>);

/// Whether what is known of the key leaves room for one more try.
fn judge<K: Copy + Ord + std::hash::Hash>(
    table: &mut Table<K>,
    key: K,
    target: impl Fn(K) -> Target,
    budget: u32,
    (now, settings, changes): At<'_>,
) -> Result<(), Refused> {
    // The budget may have become smaller than what has been tried.
    ban_if_due(table, key, target, budget, (now, settings, changes));
    let Some(entry) = table.look(&key, now, settings.find_time) else { return Ok(()) };
    let is_used_up = entry.used() >= budget;
    match &mut entry.ban {
        Some(ban) => {
            ban.last = now;
            Err(Refused::Banned)
        }
        None if is_used_up => Err(Refused::Pending),
        None => Ok(()),
    }
}

/// Bans the key if its budget is used up by wrong tries.
fn ban_if_due<K: Copy + Ord + std::hash::Hash>(
    table: &mut Table<K>,
    key: K,
    target: impl Fn(K) -> Target,
    budget: u32,
    (now, settings, changes): At<'_>,
) {
    let Settings { find_time, ban_time, .. } = settings;
    let Some(entry) = table.look(&key, now, find_time) else { return };
    let Some(last) = entry.wrong.back().map(|wrong| wrong.at) else { return };
    if entry.ban.is_some() || entry.tries() < budget {
        return;
    }
    let (tries, account) = (entry.tries(), entry.account.clone());
    let free = table.get(&key).and_then(|entry| table.free_at(entry, budget, find_time));
    let until = now.after(ban_time).max(free.unwrap_or(now));
    let standing = Standing { since: now, until, tries, last };
    table.change(key, now, find_time, |entry| entry.ban = Some(standing));
    changes.push(Change::Banned(ban(target(key), account, standing)));
}

fn ban(target: Target, account: Option<Arc<str>>, standing: Standing) -> Ban {
    let Standing { since, until, tries, last } = standing;
    Ban { target, account, since, until, tries, last }
}
