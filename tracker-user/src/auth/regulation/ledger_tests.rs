//! The core against a plain list of all tries, and against a directory that locks accounts.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::select;

use super::ban::{NameKey, Target};
use super::ledger::{Change, End, Ledger, Refused, Room, Ticket};
use super::settings::Settings;
use crate::clock::BootTime;
use crate::types::ClientAddr;

const DEFAULTS: Settings = Settings {
    max_retries: 3,
    find_time: Duration::from_secs(30 * 60),
    ban_time: Duration::from_secs(30 * 60),
};

fn at(seconds: u64) -> BootTime {
    BootTime::default().after(Duration::from_secs(1_000 + seconds))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Two of one IPv6 network, two others; the last has no budget as an address.
fn client(number: usize) -> ClientAddr {
    ["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"][number].parse().unwrap()
}

fn counts_by_address(number: usize) -> bool {
    number < 3
}

fn name(number: u8) -> NameKey {
    NameKey([number; 16])
}

/// One wrong try, from its beginning to its end.
fn wrong(ledger: &mut Ledger, now: BootTime, from: usize, of: u8) -> Result<(), Refused> {
    let ticket = ledger.begin(now, client(from), name(of), counts_by_address(from))?;
    ledger.end(now, ticket, End::Wrong, None);
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Pending,
    Wrong(BootTime),
    Over,
}

/// A try, as the model remembers it for ever.
#[derive(Debug)]
struct Try {
    client: ClientAddr,
    name: NameKey,
    by_address: bool,
    state: State,
    /// Whether it still counts: for the pair, the account, the address.
    counts: [bool; 3],
}

impl Try {
    fn target(&self, scope: usize) -> Target {
        [
            Target::Pair(self.client, self.name),
            Target::User(self.name),
            Target::Address(self.client.network()),
        ][scope]
    }

    fn is_wrong_for(&self, target: Target) -> bool {
        let fits = |scope: usize| self.counts[scope] && self.target(scope) == target;
        matches!(self.state, State::Wrong(_)) && (0..3).any(fits)
    }

    fn is_pending_for(&self, target: Target) -> bool {
        self.state == State::Pending
            && (0..3).any(|scope| self.target(scope) == target && (scope < 2 || self.by_address))
    }
}

/// What the core must do, in the plainest words: everything that ever happened is looked through each time.
struct Model {
    settings: Settings,
    room: Room,
    now: BootTime,
    tries: Vec<Try>,
    /// Target, since, until, tries.
    bans: Vec<(Target, BootTime, BootTime, usize)>,
}

impl Model {
    fn time(&mut self, now: BootTime) {
        self.now = self.now.max(now);
        let (now, find) = (self.now, self.settings.find_time);
        self.bans.retain(|(.., until, _)| now < *until);
        for index in 0..self.tries.len() {
            let State::Wrong(when) = self.tries[index].state else { continue };
            for scope in [0, 2] {
                self.tries[index].counts[scope] &= now < when.after(find);
            }
            let user = self.tries[index].target(1);
            let last = self.wrong(user).max();
            self.tries[index].counts[1] &= last.is_some_and(|last| now < last.after(find));
        }
    }

    fn wrong(&self, target: Target) -> impl Iterator<Item = BootTime> {
        self.tries.iter().filter(move |one| one.is_wrong_for(target)).filter_map(|one| match one.state {
            State::Wrong(at) => Some(at),
            _ => None,
        })
    }

    fn budget(&self, target: Target) -> usize {
        (match target {
            Target::Pair(..) => self.settings.of_a_pair(),
            Target::User(_) => self.settings.of_an_account(),
            Target::Address(_) => self.settings.of_an_address(),
        }) as usize
    }

    fn is_banned(&self, target: Target) -> bool {
        self.bans.iter().any(|(of, ..)| *of == target)
    }

    fn ban_if_due(&mut self, target: Target) {
        let mut wrong: Vec<BootTime> = self.wrong(target).collect();
        wrong.sort();
        let budget = self.budget(target);
        if self.is_banned(target) || wrong.len() < budget {
            return;
        }
        // Each moment from now on at which something is forgotten: the first at which there is room again.
        let find = self.settings.find_time;
        let free = match target {
            Target::User(_) => wrong.last().unwrap().after(find),
            _ => wrong[wrong.len() - budget].after(find),
        };
        self.bans.push((target, self.now, self.now.after(self.settings.ban_time).max(free), wrong.len()));
    }

    /// What is known of at all, of this kind.
    fn known(&self, scope: usize) -> BTreeSet<Target> {
        let kind = |target: Target| std::mem::discriminant(&target);
        let wanted = kind(
            [Target::Pair(client(0), name(0)), Target::User(name(0)), Target::Address(client(0))][scope],
        );
        let mut known: BTreeSet<Target> =
            self.bans.iter().map(|(target, ..)| *target).filter(|target| kind(*target) == wanted).collect();
        for one in &self.tries {
            let target = one.target(scope);
            if one.is_pending_for(target) || one.is_wrong_for(target) {
                known.insert(target);
            }
        }
        if scope == 2 {
            let pairs = self.known(0).into_iter().filter_map(Target::address);
            known.extend(pairs.map(|address| Target::Address(address.network())));
        }
        known
    }

    fn has_room(&self, one: &Try) -> bool {
        let pairs = self.known(0);
        let of_network =
            pairs.iter().filter(|pair| pair.address().unwrap().network() == one.client.network()).count();
        (pairs.contains(&one.target(0))
            || pairs.len() < self.room.keys && of_network < self.room.pairs_of_one)
            && [1, 2].into_iter().all(|scope| {
                let known = self.known(scope);
                known.contains(&one.target(scope)) || known.len() < self.room.keys
            })
    }

    fn begin(&mut self, now: BootTime, from: usize, of: u8) -> Result<Option<usize>, Refused> {
        self.time(now);
        if self.settings.max_retries == 0 {
            return Ok(None);
        }
        let one = Try {
            client: client(from),
            name: name(of),
            by_address: counts_by_address(from),
            state: State::Pending,
            counts: [false; 3],
        };
        let scopes = if one.by_address { 0..3 } else { 0..2 };
        let targets: Vec<Target> = scopes.map(|scope| one.target(scope)).collect();
        targets.iter().for_each(|target| self.ban_if_due(*target));
        if targets.iter().any(|target| self.is_banned(*target)) {
            return Err(Refused::Banned);
        }
        let used = |target: &Target| {
            self.wrong(*target).count() + self.tries.iter().filter(|one| one.is_pending_for(*target)).count()
        };
        if targets.iter().any(|target| used(target) >= self.budget(*target)) {
            return Err(Refused::Pending);
        }
        if !self.has_room(&one) {
            return Err(Refused::NoRoom);
        }
        self.tries.push(one);
        Ok(Some(self.tries.len() - 1))
    }

    fn end(&mut self, now: BootTime, index: usize, end: End) {
        self.time(now);
        let (client, name) = (self.tries[index].client, self.tries[index].name);
        let by_address = self.tries[index].by_address;
        self.tries[index].state = if end == End::Wrong { State::Wrong(self.now) } else { State::Over };
        match end {
            End::Void => {}
            End::Wrong => {
                self.tries[index].counts = [true, true, by_address];
                self.time(now);
                for scope in if by_address { 0..3 } else { 0..2 } {
                    self.ban_if_due(self.tries[index].target(scope));
                }
            }
            End::Right => {
                for one in self.tries.iter_mut().filter(|one| one.client == client && one.name == name) {
                    (one.counts[0], one.counts[1]) = (false, false);
                }
                self.time(now);
            }
        }
    }

    fn lift(&mut self, now: BootTime, wanted: impl Fn(Target) -> bool) {
        self.time(now);
        let (lifted, stay) = self.bans.drain(..).partition(|(target, ..)| wanted(*target));
        self.bans = stay;
        let lifted: Vec<(Target, BootTime, BootTime, usize)> = lifted;
        for (target, ..) in lifted {
            for scope in 0..3 {
                let of = self.tries.iter_mut().filter(|one| one.target(scope) == target);
                of.for_each(|one| one.counts[scope] = false);
            }
        }
        self.time(now);
    }

    fn configure(&mut self, now: BootTime, settings: Settings) {
        self.time(now);
        self.settings = settings;
        if settings.max_retries == 0 {
            self.bans.clear();
            for one in &mut self.tries {
                (one.counts, one.state) = ([false; 3], State::Over);
            }
        }
        self.time(now);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Begin {
        from: usize,
        of: u8,
    },
    End {
        which: usize,
        end: End,
    },
    Wait(u64),
    /// Somebody comes with an earlier moment.
    Back(u64),
    LiftAddress(usize),
    LiftUser(u8),
    Configure(Settings),
}

fn settings() -> impl Strategy<Value = Settings> {
    (0..4_u32, 1..20_u64, 1..30_u64).prop_map(|(max_retries, find, ban)| Settings {
        max_retries,
        find_time: seconds(find),
        ban_time: seconds(ban),
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..4_usize, 0..3_u8).prop_map(|(from, of)| Step::Begin { from, of }),
        12 => (any::<usize>(), select(&[End::Wrong, End::Wrong, End::Wrong, End::Right, End::Void][..]))
            .prop_map(|(which, end)| Step::End { which, end }),
        5 => (0..9_u64).prop_map(Step::Wait),
        1 => (0..9_u64).prop_map(Step::Back),
        1 => (0..4_usize).prop_map(Step::LiftAddress),
        1 => (0..3_u8).prop_map(Step::LiftUser),
        1 => settings().prop_map(Step::Configure),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_answers_are_those_of_a_list_of_all_tries(
        first in settings(), steps in prop::collection::vec(step(), 1..120),
        keys in select(&[2_usize, 3, 1_000][..]), pairs_of_one in select(&[1_usize, 2, 1_000][..]),
    ) {
        let room = Room { keys, pairs_of_one };
        let mut ledger = Ledger::new(first, room);
        let mut model = Model { settings: first, room, now: at(0), tries: Vec::new(), bans: Vec::new() };
        let mut pending: Vec<(Ticket, Option<usize>)> = Vec::new();
        // What others have been told stands.
        let mut told: BTreeSet<Target> = BTreeSet::new();
        let mut clock = 0;
        for step in steps {
            let now = match step { Step::Back(by) => at(clock).before(seconds(by)), _ => at(clock) };
            match step {
                Step::Begin { from, of } => {
                    let got = ledger.begin(now, client(from), name(of), counts_by_address(from));
                    let expected = model.begin(now, from, of);
                    prop_assert_eq!(got.as_ref().err(), expected.as_ref().err());
                    if let (Ok(ticket), Ok(index)) = (got, expected) {
                        pending.push((ticket, index));
                    }
                }
                Step::End { which, end } if !pending.is_empty() => {
                    let (ticket, index) = pending.swap_remove(which % pending.len());
                    ledger.end(now, ticket, end, None);
                    // What began while nothing was counted, or before, is of no account.
                    match index.filter(|index| model.tries[*index].state == State::Pending) {
                        Some(index) => model.end(now, index, end),
                        None => model.time(now),
                    }
                }
                Step::End { .. } => {}
                Step::Wait(by) => clock += by,
                Step::Back(_) => model.time(now),
                Step::LiftAddress(of) => {
                    let lifted = ledger.lift(now, |ban| ban.target.names_address(client(of)));
                    let expected: Vec<_> = { model.time(now); model.bans.clone() };
                    let expected = expected.iter().filter(|(target, ..)| target.names_address(client(of)));
                    prop_assert_eq!(lifted.len(), expected.count());
                    model.lift(now, |target| target.names_address(client(of)));
                }
                Step::LiftUser(of) => {
                    ledger.lift(now, |ban| ban.target.name() == Some(name(of)));
                    model.lift(now, |target| target.name() == Some(name(of)));
                }
                Step::Configure(to) => {
                    ledger.configure(now, to);
                    model.configure(now, to);
                }
            }
            let now = at(clock);
            model.time(now);
            let mut expected = model.bans.clone();
            expected.sort();
            let got = ledger.bans(now);
            let mut got: Vec<_> =
                got.into_iter().map(|ban| (ban.target, ban.since, ban.until, ban.tries as usize)).collect();
            got.sort();
            prop_assert_eq!(&got, &expected);
            prop_assert_eq!(ledger.banned(now).into_iter().sum::<usize>(), expected.len());
            for change in ledger.take_changes() {
                match change {
                    Change::Banned(ban) => prop_assert!(told.insert(ban.target)),
                    Change::Over(target) => prop_assert!(told.remove(&target)),
                }
            }
            prop_assert_eq!(&told, &expected.iter().map(|(target, ..)| *target).collect::<BTreeSet<_>>());
        }
        // In the end nothing is left of anything.
        for (ticket, _) in pending {
            ledger.end(at(clock), ticket, End::Void, None);
        }
        prop_assert_eq!(ledger.bans(at(clock + 1_000)), []);
        prop_assert!(!ledger.is_full(at(clock + 1_000), seconds(1)));
        prop_assert!(ledger.is_forgotten());
    }

    /// Whatever is sent by whomever, in whatever order, at whatever pace: the directory does not lock the account because of
    /// it, and nobody's secrets are looked at more often than the budgets say.
    #[test]
    fn a_directory_that_locks_at_five_never_locks_and_no_budget_is_overdrawn(
        steps in prop::collection::vec((0..4_usize, 0..2_u8, 0..6_usize, any::<usize>(), 0..1_300_u64), 1..300),
    ) {
        let mut ledger = Ledger::new(DEFAULTS, Room::default());
        let mut clock = 0;
        let mut pending: Vec<(Ticket, usize, u8)> = Vec::new();
        // What the directory has counted, and when last; what is known of the wrong ones.
        let mut directory = [(0_u32, at(0)); 2];
        let mut seen: Vec<(usize, u8, BootTime)> = Vec::new();
        let mut has_succeeded = BTreeSet::new();
        for (from, of, what, which, wait) in steps {
            if what < 3 {
                if let Ok(ticket) = ledger.begin(at(clock), client(from), name(of), counts_by_address(from)) {
                    pending.push((ticket, from, of));
                }
            } else if !pending.is_empty() {
                let (ticket, from, of) = pending.swap_remove(which % pending.len());
                let (count, last) = &mut directory[usize::from(of)];
                if at(clock) >= last.after(DEFAULTS.find_time) {
                    *count = 0;
                }
                let end = if what == 5 && which % 3 == 0 { End::Right } else { End::Wrong };
                match end {
                    End::Right => {
                        *count = 0;
                        has_succeeded.insert((from, of));
                    }
                    _ => {
                        (*count, *last) = (*count + 1, at(clock));
                        seen.push((from, of, at(clock)));
                    }
                }
                prop_assert!(*count < 5, "the account is locked");
                ledger.end(at(clock), ticket, end, None);
            }
            clock += if wait > 900 { wait } else { wait % 3 };
            let since = at(clock).before(DEFAULTS.find_time);
            let within = |wanted: &dyn Fn(usize, u8) -> bool| {
                let wrong = seen.iter().filter(|(from, of, when)| *when > since && wanted(*from, *of)).count();
                wrong + pending.iter().filter(|(_, from, of)| wanted(*from, *of)).count()
            };
            for network in [client(0).network(), client(2)] {
                prop_assert!(within(&|from, _| client(from).network() == network) <= 15);
            }
            for one in 0..2_u8 {
                if has_succeeded.iter().all(|(_, of)| *of != one) {
                    prop_assert!(within(&|_, of| of == one) <= 4);
                }
                for sender in (0..4).filter(|from| !has_succeeded.contains(&(*from, one))) {
                    prop_assert!(within(&|from, of| (from, of) == (sender, one)) <= 3);
                }
            }
        }
    }
}

#[test]
fn the_table_of_budgets() {
    let mut ledger = Ledger::new(DEFAULTS, Room::default());
    for _ in 0..3 {
        wrong(&mut ledger, at(0), 2, 1).unwrap();
    }
    assert_eq!(wrong(&mut ledger, at(1), 2, 1), Err(Refused::Banned), "the pair");
    wrong(&mut ledger, at(1), 3, 1).unwrap();
    assert_eq!(wrong(&mut ledger, at(1), 0, 1), Err(Refused::Banned), "the account, from everywhere");
    // The address: 15 in all.
    for of in 2..14 {
        wrong(&mut ledger, at(2), 2, of).unwrap();
    }
    assert_eq!(wrong(&mut ledger, at(2), 2, 99), Err(Refused::Banned), "the address");
    // Over at the moment that was told, and not before.
    let bans = ledger.bans(at(2));
    let until = |wanted: &str| bans.iter().find(|ban| ban.target.scope() == wanted).unwrap().until;
    assert_eq!((until("pair"), until("user"), until("address")), (at(1_800), at(1_801), at(1_802)));
    assert_eq!(ledger.banned(at(1_799)), [1, 1, 1]);
    assert_eq!(ledger.banned(at(1_800)), [1, 1, 0]);
    assert_eq!(wrong(&mut ledger, at(1_801), 3, 1), Ok(()));
    assert_eq!(ledger.banned(at(1_802)), [0, 0, 0]);
}

/// In a window of 30 minutes there are never more than three of these; a directory that forgets 30 minutes after the last one
/// has five, and locks.
#[test]
fn who_tries_slowly_is_banned_before_the_directory_locks() {
    let mut ledger = Ledger::new(DEFAULTS, Room::default());
    for (number, from) in [2, 3, 0, 2].into_iter().enumerate() {
        wrong(&mut ledger, at(number as u64 * 601), from, 1).unwrap();
    }
    assert_eq!(wrong(&mut ledger, at(4 * 601), 3, 1), Err(Refused::Banned));
}

#[test]
fn neighbours_in_an_ipv6_network_share_its_budget_and_not_the_pairs() {
    let mut ledger = Ledger::new(DEFAULTS, Room::default());
    for of in 0..15 {
        wrong(&mut ledger, at(0), usize::from(of % 2), of).unwrap();
    }
    assert_eq!(wrong(&mut ledger, at(0), 0, 99), Err(Refused::Banned));
    assert_eq!(wrong(&mut ledger, at(0), 1, 99), Err(Refused::Banned));
    assert!(wrong(&mut ledger, at(0), 2, 99).is_ok());
}

#[test]
fn an_address_with_many_users_is_never_banned_but_takes_no_more_than_its_part_of_the_room() {
    let room = Room { keys: 100, pairs_of_one: 40 };
    let mut ledger = Ledger::new(DEFAULTS, room);
    for of in 0..40 {
        wrong(&mut ledger, at(0), 3, of).unwrap();
    }
    assert_eq!(wrong(&mut ledger, at(0), 3, 41), Err(Refused::NoRoom));
    assert!(ledger.is_full(at(0), seconds(300)) && !ledger.is_full(at(300), seconds(300)));
    assert_eq!(ledger.banned(at(0)), [0, 0, 0]);
    // Who is known there is served, and so is everybody else.
    assert!(ledger.begin(at(0), client(3), name(7), false).is_ok());
    assert!(ledger.begin(at(0), client(2), name(41), true).is_ok());
}

#[test]
fn a_flood_forgets_nothing() {
    let mut ledger = Ledger::new(DEFAULTS, Room { keys: 1_000, pairs_of_one: 1_000 });
    for _ in 0..2 {
        wrong(&mut ledger, at(0), 3, 255).unwrap();
    }
    for _ in 0..3 {
        wrong(&mut ledger, at(0), 2, 254).unwrap();
    }
    for number in 0..5_000_u32 {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&number.to_be_bytes());
        if let Ok(ticket) = ledger.begin(at(1), client(3), NameKey(key), false) {
            ledger.end(at(1), ticket, End::Wrong, None);
        }
    }
    assert_eq!(wrong(&mut ledger, at(2), 2, 254), Err(Refused::Banned));
    assert_eq!(wrong(&mut ledger, at(2), 3, 255), Ok(()));
    assert_eq!(wrong(&mut ledger, at(2), 3, 255), Err(Refused::Banned));
}

#[test]
fn a_smaller_budget_bans_who_has_used_it_up_and_a_ban_lasts_until_there_is_room() {
    let mut ledger = Ledger::new(DEFAULTS, Room::default());
    for moment in [0, 10] {
        wrong(&mut ledger, at(moment), 2, 1).unwrap();
    }
    let stricter = Settings { max_retries: 2, ban_time: seconds(60), ..DEFAULTS };
    ledger.configure(at(20), stricter);
    assert_eq!(ledger.bans(at(20)), []);
    assert_eq!(wrong(&mut ledger, at(20), 2, 1), Err(Refused::Banned));
    let bans = ledger.bans(at(20));
    // The first of the two has counted for its time then.
    assert_eq!((bans[0].until, bans[0].tries, bans[0].last), (at(1_800), 2, at(20)));
}
