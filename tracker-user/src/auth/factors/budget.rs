//! How many wrong factors are looked at: so many of an account, of an address, and of all together within some time. Pure: time is
//! an argument. What a login in progress may try is counted by whoever has the login.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::BootTime;
use crate::types::ClientAddr;

/// Of an account,
const OF_ACCOUNT: Limit = Limit { most: 10, within: Duration::from_secs(15 * 60) };
/// of an address, or of a network of which one host has as many addresses as it likes,
const OF_ADDRESS: Limit = Limit { most: 30, within: Duration::from_secs(10 * 60) };
/// and of all.
const OF_ALL: Limit = Limit { most: 1_000, within: Duration::from_secs(10 * 60) };

#[derive(Clone, Copy, Debug)]
struct Limit {
    most: usize,
    within: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Budget {
    accounts: HashMap<Box<str>, VecDeque<BootTime>>,
    addresses: HashMap<[u8; 16], VecDeque<BootTime>>,
    all: VecDeque<BootTime>,
}

/// A budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// The account's.
    Account,
    /// The address's.
    Address,
    /// That of all.
    All,
}

impl Limit {
    /// Whether another may be tried, of those that were wrong.
    fn is_spent(self, wrong: &mut VecDeque<BootTime>, now: BootTime) -> bool {
        while wrong.front().is_some_and(|first| now.since(*first) >= self.within) {
            wrong.pop_front();
        }
        wrong.len() >= self.most
    }
}

impl Budget {
    /// Whether another factor of this account, from this address, is looked at.
    ///
    /// # Errors
    /// When one of the budgets is spent.
    pub(super) fn check(&mut self, account: &str, client: ClientAddr, now: BootTime) -> Result<(), Spent> {
        if self.accounts.get_mut(account).is_some_and(|wrong| OF_ACCOUNT.is_spent(wrong, now)) {
            return Err(Spent::Account);
        }
        if self.addresses.get_mut(&network(client)).is_some_and(|wrong| OF_ADDRESS.is_spent(wrong, now)) {
            return Err(Spent::Address);
        }
        if OF_ALL.is_spent(&mut self.all, now) { Err(Spent::All) } else { Ok(()) }
    }

    /// One was wrong.
    pub(super) fn wrong(&mut self, account: &str, client: ClientAddr, now: BootTime) {
        // What is kept is bounded by what all may try: whoever has tried nothing lately is forgotten with each new one.
        self.accounts
            .retain(|_, wrong| wrong.back().is_some_and(|last| now.since(*last) < OF_ACCOUNT.within));
        self.addresses
            .retain(|_, wrong| wrong.back().is_some_and(|last| now.since(*last) < OF_ADDRESS.within));
        self.accounts.entry(account.into()).or_default().push_back(now);
        self.addresses.entry(network(client)).or_default().push_back(now);
        self.all.push_back(now);
    }

    /// One was right: what was wrong before of the account counts no more.
    pub(super) fn right(&mut self, account: &str) {
        self.accounts.remove(account);
    }
}

/// An address, or the first 64 bits of one of IPv6.
fn network(client: ClientAddr) -> [u8; 16] {
    let mut bytes = client.0;
    if client.ip().is_ipv6() && client.link().is_none() {
        bytes[8..].fill(0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> ClientAddr {
        ClientAddr::from_v4([192, 0, 2, last])
    }

    #[test]
    fn each_budget_ends_the_guessing_and_comes_back() {
        let start = BootTime::from_nanos(1);
        let mut budget = Budget::default();
        for number in 0..10 {
            assert_eq!(budget.check("alice", client(number), start), Ok(()));
            budget.wrong("alice", client(number), start);
        }
        assert_eq!(budget.check("alice", client(99), start), Err(Spent::Account));
        assert_eq!(budget.check("bob", client(1), start), Ok(()));
        for number in 0..29 {
            budget.wrong(&format!("user{number}"), client(1), start);
        }
        assert_eq!(budget.check("bob", client(1), start), Err(Spent::Address));
        for number in 0..1_000_u32 {
            let at = ClientAddr::from_v4([10, 0, (number >> 8) as u8, number as u8]);
            budget.wrong(&format!("other{number}"), at, start);
        }
        assert_eq!(budget.check("carol", client(200), start), Err(Spent::All));
        let later = start.after(OF_ACCOUNT.within);
        for (account, from) in [("alice", 99), ("bob", 1), ("carol", 200)] {
            assert_eq!(budget.check(account, client(from), later), Ok(()));
        }
        budget.wrong("alice", client(1), later);
        assert_eq!((budget.accounts.len(), budget.addresses.len()), (1, 1), "what is over is forgotten");
    }

    #[test]
    fn a_right_one_gives_the_account_its_budget_back_and_nobody_else() {
        let (now, mut budget) = (BootTime::from_nanos(1), Budget::default());
        for _ in 0..10 {
            budget.wrong("alice", client(1), now);
        }
        budget.right("alice");
        assert_eq!(budget.check("alice", client(1), now), Ok(()));
        for _ in 0..20 {
            budget.wrong("bob", client(1), now);
        }
        assert_eq!(budget.check("alice", client(1), now), Err(Spent::Address));
    }
}
