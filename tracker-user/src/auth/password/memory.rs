//! What is remembered of names and passwords: which were right a moment ago, and which were wrong.
//!
//! Programs that have a name and a password in their settings send them with each request. A right one would cost the KDC a
//! login each time; a wrong one that was left behind would get its user's name banned, or locked in the directory, within
//! a few requests. So both are known again for a while: a right one without asking anybody, a wrong one without counting
//! as another try, as it tells nobody anything new.
//!
//! No password is kept, but a keyed hash (HMAC-SHA-256) of it with its name and its client; the key is of this process and
//! is told to nobody. Time is an argument, and all of it is bounded: of many pairs, those that have been silent longest are
//! forgotten.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::time::Duration;

use ring::hmac;
use ring::rand::SystemRandom;

use super::cause::Cause;
use crate::clock::BootTime;
use crate::types::{ClientAddr, Identity};

/// So long a right password is known again without asking: a directory that disables somebody is asked again after it.
pub(super) const KNOWN_FOR: Duration = Duration::from_secs(300);
/// Of so many pairs of a client and an account something is known, at some 300 bytes each.
const PAIRS: usize = 8_192;
/// So many wrong passwords of one pair are known again.
const WRONG: usize = 4;
/// Clients share so many counts of what was forgotten.
const COUNTS: usize = 1_024;

/// The key under which passwords are known again.
#[derive(Debug)]
pub(super) struct Secrets(hmac::Key);

/// A password with its account and its client, so that it can be known again and nothing else.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag([u8; 32]);

impl PartialEq for Tag {
    /// Takes as long whatever is compared.
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differ, (one, other)| differ | (one ^ other)) == 0
    }
}

impl Eq for Tag {}

impl Hash for Tag {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

/// A password that a client has sent for an account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent<'a> {
    /// Who has sent it.
    pub(super) client: ClientAddr,
    /// For which account.
    pub(super) account: &'a str,
    /// The password, and both of these.
    pub(super) tag: Tag,
}

impl Secrets {
    /// A new key. `None` where the system has no randomness.
    pub(super) fn new() -> Option<Self> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok().map(Self)
    }

    /// A password that was sent. The account's length stands before it, so that no other parts give the same text.
    pub(super) fn sent<'a>(&self, client: ClientAddr, account: &'a str, password: &str) -> Sent<'a> {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&client.0);
        context.update(&(account.len() as u64).to_be_bytes());
        context.update(account.as_bytes());
        context.update(password.as_bytes());
        let mut tag = [0; 32];
        tag.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        Sent { client, account, tag: Tag(tag) }
    }
}

/// What was so before anything was looked at: what has changed since makes a memory worthless.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    /// Which of the account's passwords counted, where they are counted.
    pub(super) generation: Option<u64>,
    /// How often a ban had begun.
    pub(super) bans: u64,
    /// What [`Memory::forgotten`] said.
    pub(super) forgotten: u64,
}

/// A password that was right.
#[derive(Debug)]
pub(super) struct Right {
    tag: Tag,
    /// Whose it is.
    pub(super) identity: Identity,
    generation: Option<u64>,
    /// How often a ban had begun when it was known last that none concerns this.
    pub(super) bans: u64,
    until: BootTime,
}

/// A password that was wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wrong {
    tag: Tag,
    generation: Option<u64>,
    /// Why.
    pub(super) cause: Cause,
    /// When somebody was asked last.
    pub(super) asked: BootTime,
    /// From then on it counts as a try again.
    until: BootTime,
}

impl Wrong {
    /// Whether it is this one: of the password that counts now.
    fn is(&self, tag: Tag, generation: Option<u64>, now: BootTime) -> bool {
        self.tag == tag && self.generation == generation && now < self.until
    }
}

#[derive(Debug, Default)]
struct Known {
    /// When something was learned of the pair last, in the order of all that was learned.
    last: u64,
    right: Option<Right>,
    /// The newest last.
    wrong: Vec<Wrong>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Memory {
    clients: HashMap<ClientAddr, HashMap<Box<str>, Known>>,
    by_age: BTreeMap<u64, (ClientAddr, Box<str>)>,
    count: u64,
    forgotten: Forgotten,
}

/// How often something was forgotten for a reason: what was asked before must not be remembered after. Counted by client, so
/// that who logs in and out all the time keeps nobody else's password from being remembered; few share a count, and nobody
/// can tell who.
#[derive(Debug)]
struct Forgotten {
    counts: Box<[u64]>,
    /// How often it concerned everybody.
    all: u64,
    place: RandomState,
}

impl Default for Forgotten {
    fn default() -> Self {
        Self { counts: vec![0; COUNTS].into(), all: 0, place: RandomState::new() }
    }
}

impl Forgotten {
    /// How often it concerned this client.
    fn of(&self, client: ClientAddr) -> u64 {
        self.counts.get(self.place(client)).copied().unwrap_or_default() + self.all
    }

    fn note(&mut self, client: ClientAddr) {
        let place = self.place(client);
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
    }

    fn place(&self, client: ClientAddr) -> usize {
        usize::try_from(self.place.hash_one(client) % COUNTS as u64).unwrap_or_default()
    }
}

impl Memory {
    /// How often something that may be of this client was forgotten for a reason, so far.
    pub(super) fn forgotten(&self, client: ClientAddr) -> u64 {
        self.forgotten.of(client)
    }

    /// Whether nothing is known of the client.
    pub(super) fn is_stranger(&self, client: ClientAddr) -> bool {
        !self.clients.contains_key(&client)
    }

    /// What is known of this password, where it was right a moment ago; `generation` is that of the account's password now.
    pub(super) fn recall(
        &mut self,
        sent: &Sent<'_>,
        generation: Option<u64>,
        now: BootTime,
    ) -> Option<&mut Right> {
        let right = self.clients.get_mut(&sent.client)?.get_mut(sent.account)?.right.as_mut()?;
        let is_known = right.tag == sent.tag && right.generation == generation && now < right.until;
        is_known.then_some(right)
    }

    /// What is known of this password, where it was wrong; `generation` is that of the account's password now.
    pub(super) fn wrong(&self, sent: &Sent<'_>, generation: Option<u64>, now: BootTime) -> Option<Wrong> {
        let wrong = &self.clients.get(&sent.client)?.get(sent.account)?.wrong;
        wrong.iter().find(|wrong| wrong.is(sent.tag, generation, now)).copied()
    }

    /// A password is right.
    pub(super) fn accept(&mut self, sent: &Sent<'_>, identity: Identity, before: &Before, now: BootTime) {
        let Before { generation, bans, forgotten } = *before;
        let is_of_now = self.forgotten.of(sent.client) == forgotten;
        let known = self.learn(sent);
        known.wrong.retain(|wrong| wrong.tag != sent.tag);
        let right = || Right { tag: sent.tag, identity, generation, bans, until: now.after(KNOWN_FOR) };
        known.right = is_of_now.then(right);
    }

    /// A password is wrong, and is one and the same try for so long. What is known of it already keeps its end.
    pub(super) fn refuse(
        &mut self,
        sent: &Sent<'_>,
        cause: Cause,
        generation: Option<u64>,
        counts_once_for: Duration,
        now: BootTime,
    ) {
        let tag = sent.tag;
        let known = self.learn(sent);
        known.right.take_if(|right| right.tag == tag);
        let before = known.wrong.iter().find(|wrong| wrong.is(tag, generation, now));
        let until = before.map_or_else(|| now.after(counts_once_for), |wrong| wrong.until);
        known.wrong.retain(|wrong| wrong.tag != tag && now < wrong.until);
        if known.wrong.len() >= WRONG {
            known.wrong.remove(0);
        }
        known.wrong.push(Wrong { tag, generation, cause, asked: now, until });
    }

    /// A client has logged out, or was logged out: what this user's password was there is not known any more.
    pub(super) fn forget(&mut self, client: ClientAddr, user: &Identity) {
        self.forgotten.note(client);
        for known in self.clients.get_mut(&client).into_iter().flat_map(HashMap::values_mut) {
            known.right.take_if(|right| right.identity == *user);
        }
    }

    /// No right password of this client's, nor of this account's from wherever, is known any more.
    pub(super) fn forget_banned(&mut self, client: ClientAddr, account: &str) {
        self.forgotten.all += 1;
        for (own, accounts) in &mut self.clients {
            for (name, known) in accounts {
                if *own == client || **name == *account {
                    known.right = None;
                }
            }
        }
    }

    /// Nothing is known any more.
    pub(super) fn clear(&mut self) {
        let mut forgotten = std::mem::take(&mut self.forgotten);
        forgotten.all += 1;
        *self = Self { count: self.count, forgotten, ..Self::default() };
    }

    /// What is known of a pair, to learn more of it.
    fn learn(&mut self, sent: &Sent<'_>) -> &mut Known {
        let Sent { client, account, .. } = *sent;
        self.count += 1;
        let Self { clients, by_age, count, .. } = self;
        if by_age.len() >= PAIRS
            && !clients.get(&client).is_some_and(|accounts| accounts.contains_key(account))
            && let Some((_, (client, account))) = by_age.pop_first()
            && let Some(accounts) = clients.get_mut(&client)
        {
            accounts.remove(&account);
            if accounts.is_empty() {
                clients.remove(&client);
            }
        }
        let known = clients.entry(client).or_default().entry(account.into()).or_default();
        let pair = by_age.remove(&known.last).unwrap_or_else(|| (client, account.into()));
        known.last = *count;
        by_age.insert(*count, pair);
        known
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
