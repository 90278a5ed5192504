//! The core: who is logged in from where, since when, until when. Pure and synchronous: no IO, no clock, time is an
//! argument, and nothing here can fail.
//!
//! [`judge`] says what a record and a moment mean for a session; [`table`] holds all sessions and their deadlines and
//! turns proofs, looks and moments into decisions and effects; [`index`] is what readers on the hot path see of it.

mod deadlines;
pub mod event;
pub mod explain;
pub mod index;
pub mod judge;
pub mod overlap;
mod people;
mod piece_map;
pub mod policy;
pub mod record;
pub mod settings;
pub mod table;

#[cfg(test)]
mod crowd_tests;
#[cfg(test)]
mod explain_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod shared_tests;
#[cfg(test)]
mod table_tests;

pub use event::{Effect, Event, NoReason, Proved, Reason, What};
pub use explain::{Explanation, Finding, Rule, Situation, explain};
pub use index::{Admitted, Decision, Index};
pub use judge::{Verdict, judge, may_have_reopened};
pub use overlap::Overlaps;
pub use policy::Policy;
pub use record::{Session, State};
pub use settings::{Mode, Timeouts};
pub use table::{Admission, Proof, Refused, Table};
