//! The core: who is logged in from where, since when, until when. Pure and synchronous: no IO, no clock, time is an
//! argument, and nothing here can fail.
//!
//! [`judge`] says what a session, the [`evidence`] about its client and a moment come to; [`decide`] what becomes of a
//! request, by all rules; [`explain`] says why, rule by rule. [`table`] holds all sessions and their deadlines and turns
//! proofs, evidence and moments into decisions and effects; [`index`] is what readers on the hot path see of it.

mod deadlines;
pub mod decide;
pub mod event;
pub mod evidence;
pub mod explain;
pub mod factors;
pub mod index;
pub mod judge;
pub mod licence_alarm;
mod piece_map;
pub mod policy;
pub mod record;
pub mod settings;
pub mod shared_host_detector;
pub mod table;
mod users;

#[cfg(test)]
mod decide_tests;
#[cfg(test)]
mod evidence_tests;
#[cfg(test)]
mod explain_tests;
#[cfg(test)]
mod factor_tests;
#[cfg(test)]
mod licence_tests;
#[cfg(test)]
mod many_clients_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod testing;

pub use decide::{Admitted, Arrival, Decided, Decision, Denial, Rule, Situation, decide};
pub use event::{Effect, Event, NoReason, Proved, Reason, What};
pub use evidence::{Evidence, Gap};
pub use explain::{Explanation, Finding, explain};
pub use factors::{Demand, FactorPolicy, Proven};
pub use index::{HotPolicy, Index};
pub use judge::{Verdict, judge};
pub use licence_alarm::{LicenceAlarm, LicenceLevel};
pub use policy::Policy;
pub use record::{Session, State};
pub use settings::{Mode, Timeouts};
pub use shared_host_detector::SharedHostDetector;
pub use table::{Admission, Facts, Proof, Refused, Table};
