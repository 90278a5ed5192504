//! Refusals in the trail: each is counted, and told one by one until there are too many; the rest is told as a number.
//!
//! Whoever is refused has proved nothing, and can be refused as often as they like: what they can write into the trail is
//! bounded, for each client and cause, and for all of them together.

use std::collections::HashMap;
use std::time::Duration;

use super::{AuditEvent, Kind};
use crate::clock::{BootTime, wall_now};
use crate::links::shown;
use crate::types::{ClientAddr, Identity, Method};

/// What the limits are for.
const WINDOW: Duration = Duration::from_secs(60);
/// So many lines in a window for one cause of one client; the others are counted.
const LINES_EACH: u32 = 5;
/// So many lines in a window in all.
const LINES: u32 = 600;
/// Of so many causes and clients it is kept how often each was held back; of those beyond, only by cause.
const KEPT: usize = 512;

/// Why somebody was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ground {
    /// Their credentials prove nothing, for the cause of this label.
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
}

impl Ground {
    /// In a word, as the trail has it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Credentials(label) => label,
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

    fn event(&self) -> AuditEvent {
        AuditEvent {
            client: Some(shown(self.client).to_string()),
            user: self.user.map(|user| user.user().into()),
            domain: self.user.map(|user| user.domain().into()),
            realm: self.user.and_then(Identity::hidden_realm).map(Into::into),
            method: self.method.map(|method| method.to_string()),
            cause: Some(self.ground.word().into()),
            reason: Some(self.why.into()),
            ..AuditEvent::new(wall_now(), Kind::Refused)
        }
    }
}

/// What was told and held back in the window that runs.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    since: Option<BootTime>,
    lines: u32,
    each: HashMap<(ClientAddr, &'static str), Each>,
    beyond: HashMap<&'static str, u64>,
}

#[derive(Debug, Default)]
struct Each {
    lines: u32,
    held_back: u64,
    last: Option<AuditEvent>,
}

impl Refusals {
    /// The lines to write for a refusal at `now`, those first that end a window.
    pub(super) fn note(&mut self, refusal: &Refusal<'_>, now: BootTime) -> Vec<AuditEvent> {
        let mut lines = self.settle(now, false);
        self.since.get_or_insert(now);
        let key = (refusal.client, refusal.ground.word());
        let room = self.each.len() < KEPT;
        let each =
            if room || self.each.contains_key(&key) { Some(self.each.entry(key).or_default()) } else { None };
        match each {
            Some(each) if each.lines < LINES_EACH && self.lines < LINES => {
                each.lines += 1;
                self.lines += 1;
                lines.push(refusal.event());
            }
            Some(each) => {
                each.held_back += 1;
                each.last = Some(refusal.event());
            }
            None => *self.beyond.entry(refusal.ground.word()).or_default() += 1,
        }
        lines
    }

    /// What was held back in a window that is over at `now`, or in the one that runs, if that is to end.
    pub(super) fn settle(&mut self, now: BootTime, ends: bool) -> Vec<AuditEvent> {
        let is_over = self.since.is_some_and(|since| ends || now.since(since) >= WINDOW);
        if !is_over {
            return Vec::new();
        }
        let Self { each, beyond, .. } = std::mem::take(self);
        let of_one = each
            .into_values()
            .filter_map(|each| Some(AuditEvent { count: Some(each.held_back), ..each.last? }));
        let of_many = beyond.into_iter().map(|(word, count)| AuditEvent {
            cause: Some(word.into()),
            reason: Some("refusals of many clients, which have no lines of their own".into()),
            count: Some(count),
            ..AuditEvent::new(wall_now(), Kind::Refused)
        });
        let mut lines: Vec<AuditEvent> = of_one.chain(of_many).collect();
        lines.sort_by_key(|line| line.time);
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32) -> ClientAddr {
        std::net::IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + number)).into()
    }

    fn refusal(number: u32, ground: Ground) -> Refusal<'static> {
        Refusal { client: client(number), ground, why: "why", method: None, user: None }
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos(1 + seconds * 1_000_000_000)
    }

    #[test]
    fn one_client_writes_a_few_lines_and_then_a_number() {
        let mut refusals = Refusals::default();
        let mut told = Vec::new();
        for second in 0..60 {
            for _ in 0..100 {
                told.extend(refusals.note(&refusal(1, Ground::Conditions), at(second)));
            }
        }
        assert_eq!(told.len(), LINES_EACH as usize);
        assert!(told.iter().all(|line| line.count.is_none() && line.cause.as_deref() == Some("conditions")));
        // Another cause, and another client, have lines of their own.
        assert_eq!(refusals.note(&refusal(1, Ground::Port), at(59)).len(), 1);
        assert_eq!(refusals.note(&refusal(2, Ground::Conditions), at(59)).len(), 1);
        let after = refusals.note(&refusal(1, Ground::Conditions), at(60));
        assert_eq!(after.iter().map(|line| line.count).collect::<Vec<_>>(), [Some(5_995), None]);
        assert_eq!(after[0].client.as_deref(), Some("10.0.0.1"));
        assert!(refusals.settle(at(200), false).is_empty(), "nothing was held back since");
    }

    #[test]
    fn many_clients_write_a_bounded_number_of_lines_and_none_is_lost() {
        let mut refusals = Refusals::default();
        let mut told = Vec::new();
        for number in 0..100_000 {
            told.extend(refusals.note(&refusal(number % 20_000, Ground::Credentials("ntlm")), at(1)));
        }
        assert!(told.len() <= LINES as usize, "{}", told.len());
        assert!(refusals.each.len() <= KEPT);
        let settled = refusals.settle(at(61), false);
        assert!(settled.len() <= KEPT + 1, "{}", settled.len());
        let in_all = told.len() as u64 + settled.iter().filter_map(|line| line.count).sum::<u64>();
        assert_eq!(in_all, 100_000);
        assert!(refusals.settle(at(1_000), true).is_empty());
    }

    #[test]
    fn a_window_can_be_ended_early() {
        let mut refusals = Refusals::default();
        for _ in 0..8 {
            refusals.note(&refusal(1, Ground::Port), at(1));
        }
        assert!(refusals.settle(at(2), false).is_empty());
        let settled = refusals.settle(at(2), true);
        assert_eq!(settled.iter().map(|line| line.count).collect::<Vec<_>>(), [Some(3)]);
    }
}
