//! Refusals in the trail: each is counted, and told one by one until there are too many; the rest is told as a number.
//!
//! Whoever is refused has proved nothing, and can be refused as often as they like: what they can write into the trail is
//! bounded, for each client and cause, and for all of them together; and once more on disk, which keeps lines for months.
//! Whoever is refused as there is no licence left has proved who they are. That is no stranger's doing, and an operator wants to
//! see each of them: they have bounds of their own, which strangers cannot use up and a person does not reach.
//! Whoever shows a second factor that is wrong has proved who they are, or somebody has who knows their password; programs repeat such
//! tries for days. Those are told for each user and cause, an hour long.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use super::event::{Event, RefusedEvent, TrailEntry};
use super::second_factor::SecondFactorEvent;
use crate::clock::BootTime;
use crate::outside;
use crate::types::{ClientAddr, Identity, Method};

/// How much is told of refusals of one kind.
#[derive(Debug)]
struct Limits {
    /// What the limits are for.
    window: Duration,
    /// So many lines in a window for one cause of one client, or user; the others are counted.
    each: u32,
    /// So many lines in a window in all.
    lines: u32,
    /// Of so many causes and clients, or users, it is kept how often each was held back; of those beyond, only by cause.
    kept: usize,
    /// How many lines the disk takes at once.
    on_disk_at_once: u32,
}

/// Of strangers. What they do may not fill the disk: with one line more every [`ON_DISK_EVERY`], it is less than 780,000 in the
/// 90 days that events are kept.
const STRANGERS: Limits = Limits { window: MINUTE, each: 5, lines: 600, kept: 512, on_disk_at_once: 1_000 };
/// Of users for whom there is no licence. A program that tries again every second is told of line by line; in 90 days the
/// disk takes less than 790,000.
const USERS: Limits = Limits { window: MINUTE, each: 60, lines: 3_000, kept: 4_096, on_disk_at_once: 10_000 };
/// Of second factors. Of wrong codes an account may have forty an hour, of which the first twenty are told one by one; in 90 days the disk
/// takes less than 790,000 lines of all.
const FACTORS: Limits = Limits { window: HOUR, each: 20, lines: 5_000, kept: 8_192, on_disk_at_once: 10_000 };
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
/// How often the disk takes one line more.
const ON_DISK_EVERY: Duration = Duration::from_secs(10);

/// Why somebody was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ground {
    /// Their credentials prove nothing; why, in a word of a fixed set.
    Credentials(&'static str),
    /// Credentials cannot be verified at present: the gateway's fault.
    Unavailable,
    /// The licences are in use.
    Licences,
    /// The client's record cannot be kept.
    Untracked,
    /// The session cannot be written to disk.
    NotKept,
    /// The conditions do not offer Kerberos.
    Conditions,
    /// The gateway does not connect to the destination.
    Destination,
    /// The destination's port is not open.
    Port,
    /// A cookie of the pages came from another address than the one that it was given to.
    WebSession,
}

impl Ground {
    /// How many there are.
    pub const KINDS: usize = 9;
    /// Each as metrics have it: why somebody is refused, however many causes there are for credentials.
    pub const LABELS: [&'static str; Self::KINDS] = [
        Self::Credentials("").label(),
        Self::Unavailable.label(),
        Self::Licences.label(),
        Self::Untracked.label(),
        Self::NotKept.label(),
        Self::Conditions.label(),
        Self::Destination.label(),
        Self::Port.label(),
        Self::WebSession.label(),
    ];

    /// In a word, as the trail has it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Credentials(cause) => cause,
            _ => self.label(),
        }
    }

    /// As metrics have it.
    const fn label(self) -> &'static str {
        match self {
            Self::Credentials(_) => "credentials",
            Self::Unavailable => "unavailable",
            Self::Licences => "licences",
            Self::Untracked => "untracked",
            Self::NotKept => "not-kept",
            Self::Conditions => "conditions",
            Self::Destination => "destination",
            Self::Port => "port",
            Self::WebSession => "web-session",
        }
    }
}

/// Somebody was refused.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// From where.
    pub client: ClientAddr,
    /// Why, in a word.
    pub ground: Ground,
    /// Why, in a sentence.
    pub why: &'a str,
    /// How they tried to prove themselves, if they did.
    pub method: Option<Method>,
    /// Who they are, if that is proved.
    pub user: Option<&'a Identity>,
}

impl<'a> Refusal<'a> {
    /// Of a request, whatever it has proved.
    #[must_use]
    pub const fn of_request(
        client: ClientAddr,
        ground: Ground,
        user: Option<&'a Identity>,
        why: &'a str,
    ) -> Self {
        Self { client, ground, why, method: None, user }
    }

    pub(super) const fn label(&self) -> &'static str {
        self.ground.label()
    }

    fn event(&self) -> RefusedEvent {
        RefusedEvent {
            client: Some(self.client),
            cause: self.ground.word(),
            why: outside::shown(self.why, outside::SENTENCE).into(),
            method: self.method,
            user: self.user.map(|user| Arc::new(user.clone())),
            count: None,
        }
    }
}

/// A line to write.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) entry: Arc<TrailEntry>,
    /// Whether the disk takes it, too.
    pub(super) goes_to_disk: bool,
}

/// What was told and held back, of each kind.
#[derive(Debug)]
pub(super) struct Refusals {
    strangers: Told<ClientAddr>,
    users: Told<ClientAddr>,
    /// By [`Identity::key`].
    factors: Told<Box<str>>,
}

/// What was told and held back in the window that runs, and what the disk may still take: by whom it is about, and the cause.
#[derive(Debug)]
struct Told<W> {
    limits: &'static Limits,
    window: Window<W>,
    on_disk: Allowance,
}

#[derive(Debug)]
struct Window<W> {
    since: Option<BootTime>,
    lines: u32,
    each: HashMap<(W, &'static str), Each>,
    beyond: HashMap<&'static str, u64>,
}

impl<W> Default for Window<W> {
    fn default() -> Self {
        Self { since: None, lines: 0, each: HashMap::new(), beyond: HashMap::new() }
    }
}

#[derive(Debug, Default)]
struct Each {
    lines: u32,
    held_back: u64,
    last: Option<Arc<TrailEntry>>,
}

impl Refusals {
    /// Nobody was refused before `now`.
    pub(super) fn new(now: BootTime) -> Self {
        Self {
            strangers: Told::new(&STRANGERS, now),
            users: Told::new(&USERS, now),
            factors: Told::new(&FACTORS, now),
        }
    }

    /// The lines to write for a refusal at `now`, those first that end a window.
    pub(super) fn note(&mut self, refusal: &Refusal<'_>, now: BootTime) -> Vec<Line> {
        let mut lines = self.settle(now, false);
        let told = match refusal.ground {
            Ground::Licences => &mut self.users,
            _ => &mut self.strangers,
        };
        let entry = || TrailEntry::now(Event::Refused(refusal.event()));
        lines.extend(told.note(refusal.client, refusal.ground.word(), entry, now));
        lines
    }

    /// The same for a second factor that was not accepted.
    pub(super) fn note_factor(
        &mut self,
        entry: &Arc<TrailEntry>,
        of: &SecondFactorEvent,
        now: BootTime,
    ) -> Vec<Line> {
        let mut lines = self.settle(now, false);
        let entry = || Arc::clone(entry);
        lines.extend(self.factors.note(of.user.key().into(), of.what.as_str(), entry, now));
        lines
    }

    /// What was held back in a window that is over at `now`, or in the one that runs, if that is to end.
    pub(super) fn settle(&mut self, now: BootTime, ends: bool) -> Vec<Line> {
        let clients = "refusals of many clients, which have no lines of their own";
        let mut lines = self.strangers.settle(now, ends, clients);
        lines.extend(self.users.settle(now, ends, clients));
        let users = "second factors of many users that were not accepted, which have no lines of their own";
        lines.extend(self.factors.settle(now, ends, users));
        lines
    }
}

impl<W: Eq + Hash> Told<W> {
    fn new(limits: &'static Limits, now: BootTime) -> Self {
        Self { limits, window: Window::default(), on_disk: Allowance::full(limits.on_disk_at_once, now) }
    }

    /// The line to write, if it has one.
    fn note(
        &mut self,
        whom: W,
        cause: &'static str,
        entry: impl FnOnce() -> Arc<TrailEntry>,
        now: BootTime,
    ) -> Option<Line> {
        let Self { limits, window, on_disk } = self;
        window.since.get_or_insert(now);
        let key = (whom, cause);
        let room = window.each.len() < limits.kept;
        let each = if room || window.each.contains_key(&key) {
            Some(window.each.entry(key).or_default())
        } else {
            None
        };
        match each {
            Some(each) if each.lines < limits.each && window.lines < limits.lines => {
                each.lines += 1;
                window.lines += 1;
                return Some(Line { entry: entry(), goes_to_disk: on_disk.take(now) });
            }
            Some(each) => {
                each.held_back += 1;
                each.last = Some(entry());
            }
            None => *window.beyond.entry(cause).or_default() += 1,
        }
        None
    }

    fn settle(&mut self, now: BootTime, ends: bool, of_many: &str) -> Vec<Line> {
        let is_over = self.window.since.is_some_and(|since| ends || now.since(since) >= self.limits.window);
        if !is_over {
            return Vec::new();
        }
        let Window { each, beyond, .. } = std::mem::take(&mut self.window);
        let of_one = each.into_values().filter_map(|each| {
            let last = each.last?;
            let event = counted(&last.event, each.held_back)?;
            Some(Arc::new(TrailEntry { time: last.time, event }))
        });
        let of_many = beyond.into_iter().map(|(cause, count)| {
            TrailEntry::now(Event::Refused(RefusedEvent {
                client: None,
                cause,
                why: of_many.into(),
                method: None,
                user: None,
                count: Some(count),
            }))
        });
        let mut entries: Vec<Arc<TrailEntry>> = of_one.chain(of_many).collect();
        entries.sort_by_key(|entry| entry.time);
        let on_disk = &mut self.on_disk;
        entries.into_iter().map(|entry| Line { entry, goes_to_disk: on_disk.take(now) }).collect()
    }
}

/// The same event, for so many like it.
fn counted(event: &Event, count: u64) -> Option<Event> {
    let count = Some(count);
    match event {
        Event::Refused(refused) => Some(Event::Refused(RefusedEvent { count, ..refused.clone() })),
        Event::SecondFactor(of) => Some(Event::SecondFactor(SecondFactorEvent { count, ..of.clone() })),
        _ => None,
    }
}

/// How much of something may still be done, and how it comes back.
#[derive(Debug)]
struct Allowance {
    most: u32,
    left: u32,
    /// Since when nothing has come back.
    since: BootTime,
}

impl Allowance {
    const fn full(most: u32, now: BootTime) -> Self {
        Self { most, left: most, since: now }
    }

    /// Takes one, if there is one.
    fn take(&mut self, now: BootTime) -> bool {
        let back = now.since(self.since).as_secs() / ON_DISK_EVERY.as_secs();
        if back > 0 {
            let back = u32::try_from(back).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(back).min(self.most);
            self.since = self.since.after(ON_DISK_EVERY.saturating_mul(back)).min(now);
        }
        let may = self.left > 0;
        self.left -= u32::from(may);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::FactorChange;

    fn client(number: u32) -> ClientAddr {
        std::net::IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + number)).into()
    }

    fn refusal(number: u32, ground: Ground) -> Refusal<'static> {
        Refusal { client: client(number), ground, why: "why", method: None, user: None }
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos(1 + seconds * 1_000_000_000)
    }

    fn count(line: &Line) -> Option<u64> {
        line.entry.event.count()
    }

    #[test]
    fn refusals_on_disk_come_back_slowly_and_never_more_than_at_first() {
        let start = at(0);
        let mut allowance = Allowance::full(1_000, start);
        let taken = |allowance: &mut Allowance, now| (0..5_000).filter(|_| allowance.take(now)).count();
        assert_eq!(taken(&mut allowance, start), 1_000);
        assert_eq!(taken(&mut allowance, start.after(ON_DISK_EVERY / 2)), 0);
        assert_eq!(taken(&mut allowance, start.after(ON_DISK_EVERY * 3)), 3);
        assert_eq!(taken(&mut allowance, start.after(ON_DISK_EVERY * 7 / 2)), 0);
        assert_eq!(taken(&mut allowance, start.after(ON_DISK_EVERY * 4)), 1, "halves are not lost");
        assert_eq!(taken(&mut allowance, start.after(ON_DISK_EVERY * 9_999)), 1_000);
    }

    #[test]
    fn one_client_writes_a_few_lines_and_then_a_number() {
        let mut refusals = Refusals::new(at(0));
        let mut told = Vec::new();
        for second in 0..60 {
            for _ in 0..100 {
                told.extend(refusals.note(&refusal(1, Ground::Conditions), at(second)));
            }
        }
        assert_eq!(told.len(), STRANGERS.each as usize);
        assert!(
            told.iter().all(|line| count(line).is_none() && line.entry.event.cause() == Some("conditions"))
        );
        // Another cause, and another client, have lines of their own.
        assert_eq!(refusals.note(&refusal(1, Ground::Port), at(59)).len(), 1);
        assert_eq!(refusals.note(&refusal(2, Ground::Conditions), at(59)).len(), 1);
        let after = refusals.note(&refusal(1, Ground::Conditions), at(60));
        assert_eq!(after.iter().map(count).collect::<Vec<_>>(), [Some(5_995), None]);
        assert_eq!(after[0].entry.event.client(), Some(client(1)));
        assert!(refusals.settle(at(200), false).is_empty(), "nothing was held back since");
    }

    #[test]
    fn many_clients_write_a_bounded_number_of_lines_and_none_is_lost() {
        let mut refusals = Refusals::new(at(0));
        let mut told = Vec::new();
        for number in 0..100_000 {
            told.extend(refusals.note(&refusal(number % 20_000, Ground::Credentials("ntlm")), at(1)));
        }
        assert!(told.len() <= STRANGERS.lines as usize, "{}", told.len());
        assert!(refusals.strangers.window.each.len() <= STRANGERS.kept);
        let settled = refusals.settle(at(61), false);
        assert!(settled.len() <= STRANGERS.kept + 1, "{}", settled.len());
        let in_all = told.len() as u64 + settled.iter().filter_map(count).sum::<u64>();
        assert_eq!(in_all, 100_000);
        let on_disk = told.iter().chain(&settled).filter(|line| line.goes_to_disk).count();
        assert_eq!(on_disk, STRANGERS.on_disk_at_once as usize + 6, "one minute gives six back");
        assert!(refusals.settle(at(1_000), true).is_empty());
    }

    #[test]
    fn a_window_can_be_ended_early() {
        let mut refusals = Refusals::new(at(0));
        for _ in 0..8 {
            refusals.note(&refusal(1, Ground::Port), at(1));
        }
        assert!(refusals.settle(at(2), false).is_empty());
        let settled = refusals.settle(at(2), true);
        assert_eq!(settled.iter().map(count).collect::<Vec<_>>(), [Some(3)]);
    }

    /// An operator sees each of those for whom there was no licence, however many strangers are refused meanwhile.
    #[test]
    fn each_refusal_for_want_of_a_licence_has_a_line_up_to_a_bound_that_no_person_reaches() {
        let mut refusals = Refusals::new(at(0));
        for number in 0..10_000 {
            refusals.note(&refusal(number, Ground::Credentials("ntlm")), at(1));
        }
        let mut told = 0;
        for second in 1..50 {
            for number in 0..60 {
                let lines = refusals.note(&refusal(number, Ground::Licences), at(second));
                assert!(lines.len() == 1 && count(&lines[0]).is_none() && lines[0].goes_to_disk, "{second}");
                told += 1;
            }
        }
        assert!(told < USERS.lines);
        // A flood by somebody who has proved who they are is bounded all the same, and none of it is lost.
        let mut flood = 0;
        for number in 0..20_000 {
            flood += refusals.note(&refusal(100 + number % 5_000, Ground::Licences), at(50)).len();
        }
        assert_eq!(flood, (USERS.lines - told) as usize);
        assert!(refusals.users.window.each.len() <= USERS.kept);
        let settled = refusals.settle(at(100), true);
        let of_licences = settled.iter().filter(|line| line.entry.event.cause() == Some("licences"));
        assert_eq!(of_licences.filter_map(count).sum::<u64>(), 20_000 - flood as u64);
        // One client alone.
        let one = (0..100).map(|_| refusals.note(&refusal(7, Ground::Licences), at(200)).len());
        assert_eq!(one.sum::<usize>(), USERS.each as usize);
    }

    /// A program that repeats a try for hours writes a few lines and a number, and takes nobody else's place.
    #[test]
    fn second_factors_that_were_not_accepted_are_told_by_user_and_cause_an_hour_long() {
        let mut refusals = Refusals::new(at(0));
        let mut note = |user: &str, what, second| {
            let user = Arc::new(Identity::local(user));
            let of = SecondFactorEvent { user, client: None, what, of: None, actor: None, count: None };
            let entry = TrailEntry::now(Event::SecondFactor(of.clone()));
            refusals.note_factor(&entry, &of, at(second))
        };
        let mut told = Vec::new();
        for second in 0..3_600 {
            told.extend(note("alice", FactorChange::AccountPassword, second));
        }
        assert_eq!(told.len(), FACTORS.each as usize);
        assert_eq!(note("alice", FactorChange::WrongCode, 3_599).len(), 1, "another cause");
        assert_eq!(note("bob", FactorChange::AccountPassword, 3_599).len(), 1, "another user");
        let after = note("ALICE", FactorChange::AccountPassword, 3_600);
        assert_eq!(after.iter().map(count).collect::<Vec<_>>(), [Some(3_580), None]);
        assert_eq!(after[0].entry.event.user(), Some(&Identity::local("alice")));
        assert_eq!(after[0].entry.event.cause(), Some("account-password"));
        // Names that strangers make up fill neither memory nor disk, and none is lost.
        let mut told = 0;
        for number in 0..50_000 {
            let lines = note(&format!("user{number}"), FactorChange::WrongApplicationPassword, 3_601);
            assert!(lines.iter().all(|line| line.goes_to_disk));
            told += lines.len() as u64;
        }
        assert!(told < u64::from(FACTORS.lines), "{told}");
        assert!(refusals.factors.window.each.len() <= FACTORS.kept);
        let settled = refusals.settle(at(3_602), true);
        assert!(settled.len() <= FACTORS.kept + 1, "{}", settled.len());
        assert_eq!(told + settled.iter().filter_map(count).sum::<u64>(), 50_000);
    }
}
