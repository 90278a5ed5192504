//! The last decisions about real requests, for `trackerctl explain`: kept in memory always, not only while somebody is
//! looking for a fault.
//!
//! Noted is every request that was asked to prove itself, that was not asked because of the conditions, or that brought
//! credentials; a request that a valid session clears is not decided about here. Both numbers are bounded: a client that
//! floods pushes out its own past only, and of many clients those that have been silent longest are forgotten.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use crate::auth::kerberos::Details;
use crate::auth::kerberos::conditions::{Denied, Finding};
use crate::auth::{Cause, Schemes};
use crate::outside;
use crate::types::{ClientAddr, Factor, Method};

/// How many decisions are kept of one client.
pub const PER_CLIENT: usize = 8;
/// Of how many clients.
pub const CLIENTS: usize = 512;
/// How much memory one decision takes at most, with all that it says; all of them together take no more than
/// `PER_CLIENT * CLIENTS` times that.
pub const MOST_BYTES: usize = 4 * 1024;

/// One decision.
#[derive(Clone, Debug)]
pub struct DecisionRecord {
    /// When.
    pub at: Timestamp,
    /// The request's method.
    pub method: Cow<'static, str>,
    /// Where it was to go: a URL, or `host:port` for a CONNECT. With its query only where `url-deny` has looked at that.
    pub url: String,
    /// Its User-Agent field.
    pub user_agent: Option<String>,
    /// The conditions, step by step.
    pub findings: Vec<Finding>,
    /// What it came to.
    pub result: DecisionResult,
}

/// What a request came to.
#[derive(Clone, Debug)]
pub enum DecisionResult {
    /// It was asked to prove itself by one of these (407), or on a page that it was led to, where there is none.
    Challenged(Schemes),
    /// The conditions did not offer Kerberos, and there was nothing else (403).
    NotOffered(Denied),
    /// Credentials had failed on its connection before, and nothing was offered again (403).
    Suppressed(Cause),
    /// Somebody had just logged out at its address: nothing that a browser sends by itself was taken.
    Held,
    /// Its handshake needs another token (407).
    Continued,
    /// It proved this user.
    Accepted {
        /// The user, as shown.
        user: String,
        /// By which method.
        method: Method,
        /// The ticket, where one proved it.
        ticket: Option<Box<Details>>,
    },
    /// It proved this user, who was not admitted.
    NotAdmitted {
        /// The user, as shown.
        user: String,
        /// Why not.
        why: String,
    },
    /// Its user is known, and has to prove this further factor on the portal.
    Waits(Factor),
    /// Its credentials proved nothing.
    Refused {
        /// Why, in a word.
        cause: Cause,
        /// Why, and what helps.
        why: String,
    },
    /// Its credentials could not be looked at.
    Unavailable(String),
}

/// The last decisions of the clients that were last decided about.
#[derive(Debug, Default)]
pub struct DecisionLog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    clients: HashMap<ClientAddr, Kept>,
    /// The clients by the number of their last decision.
    by_age: BTreeMap<u64, ClientAddr>,
    count: u64,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    decisions: VecDeque<DecisionRecord>,
}

impl DecisionLog {
    /// Keeps a decision.
    pub fn keep(&self, client: ClientAddr, mut record: DecisionRecord) {
        record.make_fit();
        let mut inner = self.lock();
        let Inner { clients, by_age, count } = &mut *inner;
        *count += 1;
        let kept = clients.entry(client).or_default();
        by_age.remove(&kept.last);
        by_age.insert(*count, client);
        kept.last = *count;
        if kept.decisions.len() >= PER_CLIENT {
            kept.decisions.pop_front();
        }
        kept.decisions.push_back(record);
        if by_age.len() > CLIENTS
            && let Some((_, oldest)) = by_age.pop_first()
        {
            clients.remove(&oldest);
        }
    }

    /// What is kept of a client, the newest first.
    #[must_use]
    pub fn of(&self, client: ClientAddr) -> Vec<DecisionRecord> {
        let inner = self.lock();
        inner
            .clients
            .get(&client)
            .map(|kept| kept.decisions.iter().rev().cloned().collect())
            .unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DecisionRecord {
    /// What clients have sent is cut, and kept in no more memory than it then takes.
    fn make_fit(&mut self) {
        let Self { method, url, user_agent, findings, result, .. } = self;
        // The methods that are known are borrowed.
        if let Cow::Owned(method) = method {
            make_fit(method, outside::WORD);
        }
        make_fit(url, outside::NAME);
        if let Some(agent) = user_agent {
            make_fit(agent, outside::NAME);
        }
        findings.shrink_to_fit();
        match result {
            DecisionResult::Challenged(_)
            | DecisionResult::NotOffered(_)
            | DecisionResult::Suppressed(_)
            | DecisionResult::Held
            | DecisionResult::Waits(_)
            | DecisionResult::Continued => {}
            DecisionResult::Accepted { user, ticket, .. } => {
                make_fit(user, 2 * outside::NAME);
                if let Some(ticket) = ticket {
                    make_fit(&mut ticket.principal, 2 * outside::NAME);
                    make_fit(&mut ticket.service, 2 * outside::NAME);
                }
            }
            DecisionResult::NotAdmitted { user, why } => {
                make_fit(user, 2 * outside::NAME);
                make_fit(why, outside::SENTENCE);
            }
            DecisionResult::Refused { why, .. } | DecisionResult::Unavailable(why) => {
                make_fit(why, outside::SENTENCE);
            }
        }
    }
}

fn make_fit(text: &mut String, most: usize) {
    if let Cow::Owned(shorter) = outside::shown(text, most) {
        *text = shorter;
    }
    text.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::auth::kerberos;

    fn record(url: &str) -> DecisionRecord {
        DecisionRecord {
            at: Timestamp::UNIX_EPOCH,
            method: "GET".into(),
            url: url.into(),
            user_agent: None,
            findings: Vec::new(),
            result: DecisionResult::Challenged(Schemes::NEGOTIATE),
        }
    }

    fn client(number: usize) -> ClientAddr {
        Ipv4Addr::from(u32::try_from(number).unwrap()).into()
    }

    #[test]
    fn the_newest_of_each_client_are_kept_and_the_newest_is_first() {
        let recent = DecisionLog::default();
        for number in 0..PER_CLIENT + 3 {
            recent.keep(client(1), record(&number.to_string()));
        }
        let urls: Vec<_> = recent.of(client(1)).into_iter().map(|record| record.url).collect();
        let expected: Vec<_> = (3..PER_CLIENT + 3).rev().map(|number| number.to_string()).collect();
        assert_eq!(urls, expected);
        assert!(recent.of(client(2)).is_empty());
    }

    #[test]
    fn the_clients_that_were_silent_longest_are_forgotten() {
        let recent = DecisionLog::default();
        for number in 0..CLIENTS {
            recent.keep(client(number), record("first"));
        }
        recent.keep(client(0), record("second"));
        recent.keep(client(CLIENTS), record("first"));
        assert_eq!(recent.of(client(0)).len(), 2);
        assert!(recent.of(client(1)).is_empty());
        assert_eq!(recent.of(client(CLIENTS)).len(), 1);
        let inner = recent.lock();
        assert_eq!((inner.clients.len(), inner.by_age.len()), (CLIENTS, CLIENTS));
    }

    #[test]
    fn what_would_do_something_on_a_terminal_is_taken_out() {
        let recent = DecisionLog::default();
        recent
            .keep(client(1), DecisionRecord { user_agent: Some("a\u{9b}31m".into()), ..record("/\u{1b}c") });
        let kept = &recent.of(client(1))[0];
        assert_eq!((kept.url.as_str(), kept.user_agent.as_deref()), ("/\\u{1b}c", Some("a\\u{9b}31m")));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let recent = DecisionLog::default();
        recent.keep(client(1), record(&"ü".repeat(outside::NAME)));
        let url = &recent.of(client(1))[0].url;
        assert!(url.len() <= outside::NAME + '…'.len_utf8() && url.ends_with("ü…"));
    }

    /// Whatever clients send, the memory of all decisions is bounded by arithmetic. Capacity counts, not length: a text
    /// that is cut short in place goes on to hold what it was read into.
    #[test]
    fn no_decision_takes_more_than_its_share() {
        const { assert!(PER_CLIENT * CLIENTS * MOST_BYTES <= 16 << 20) };
        let huge = "\u{202e}x".repeat(16 * 1024);
        let mut ticket = Details::of_nothing();
        (ticket.principal, ticket.service) = (huge.clone(), huge.clone());
        for result in [
            DecisionResult::Refused { cause: kerberos::Cause::UnknownService.into(), why: huge.clone() },
            DecisionResult::NotAdmitted { user: huge.clone(), why: huge.clone() },
            DecisionResult::Accepted {
                user: huge.clone(),
                method: Method::Kerberos,
                ticket: Some(Box::new(ticket.clone())),
            },
            DecisionResult::Unavailable(huge.clone()),
        ] {
            let mut record = DecisionRecord {
                method: huge.clone().into(),
                user_agent: Some(huge.clone()),
                findings: Vec::with_capacity(crate::auth::kerberos::conditions::STEPS),
                result,
                ..record(&huge)
            };
            record.make_fit();
            let text = match &record.result {
                DecisionResult::Refused { why, .. } | DecisionResult::Unavailable(why) => why.capacity(),
                DecisionResult::NotAdmitted { user, why } => user.capacity() + why.capacity(),
                DecisionResult::Accepted { user, ticket, .. } => {
                    let ticket = ticket.as_ref().unwrap();
                    size_of::<Details>()
                        + user.capacity()
                        + ticket.principal.capacity()
                        + ticket.service.capacity()
                }
                _ => 0,
            };
            let Cow::Owned(method) = &record.method else { panic!("{:?}", record.method) };
            let agent = record.user_agent.as_ref().unwrap();
            let findings = crate::auth::kerberos::conditions::STEPS * size_of::<Finding>();
            let all = size_of::<DecisionRecord>()
                + findings
                + method.capacity()
                + record.url.capacity()
                + agent.capacity()
                + text;
            assert!(all <= MOST_BYTES, "{all} {:?}", record.result);
        }
    }
}
