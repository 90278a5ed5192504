//! Regulation: how many wrong secrets somebody may send, and the bans that follow. Connections that only fail are another
//! matter (`proxy/penalty`).
//!
//! Three budgets hold at once, each within `regulation.find-time`; whoever has used one up is banned for
//! `regulation.ban-time`, and longer where the budget has no room by then:
//!
//! | of what | budget | what is forgotten when | cleared by a right secret |
//! |---|---|---|---|
//! | an account from one address (`pair`) | `max-retries` | each try after find-time | all of it |
//! | an account (`user`) | one more | all, once find-time has passed without one: so a directory does it | what came from that address |
//! | an address, an IPv6 one with its /64 (`address`) | 5 times the pair's, 100 at most | each try after find-time | nothing |
//!
//! A try is counted from its beginning: many at once get no more than one after the other. During a ban nothing is looked at,
//! a right secret neither. What was not looked at, or refused for a reason that is not the secret, is no try.
//!
//! Addresses that many people come from (our own, trusted proxies, `timeouts.shared-hosts`) have no budget and no ban of their
//! own; pairs and accounts have them there as well.
//!
//! Nothing that counts is forgotten to make room: whoever finds none is refused, and as no address may take more than a
//! sixteenth of it, it takes many of them to keep somebody out. Names are kept as keyed hashes; only those of accounts that
//! there are can be read ([`Try::known`]), since people type passwords where names belong.
//!
//! Bans are handed to the journal at once, and stand after a restart. What had not led to a ban yet is not kept: a restart
//! gives everybody a new budget, and nobody outside can make one.

mod ban;
mod kept;
mod ledger;
#[cfg(test)]
mod ledger_tests;
mod lines;
mod regulator;
mod settings;
mod table;

pub use ban::{Ban, NameKey, Target};
pub use regulator::{Banned, Keeping, Parts, Regulator, Try, Unbannable};
pub use settings::Settings;
