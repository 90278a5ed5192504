//! Where the gateway differs from what a message's authors or a lenient reader of the RFC would have, and why it may; and what
//! is known to be wrong. Each rule must fit something, so that none outlives its reason.

use super::judge::{Case, Wrong};

/// A difference that is meant, or a fault that is known.
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// Why it is right so; or the issue that will mend it.
    pub(super) why: &'static str,
    pub(super) fits: fn(&Case<'_>, &Wrong) -> bool,
}

/// Differences that are meant.
pub(super) const ACCEPTED: &[Rule] = &[];

/// Faults that are known: mended, they have to go.
pub(super) const KNOWN: &[Rule] = &[];
