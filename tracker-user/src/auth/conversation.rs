//! What one connection remembers of how its client has tried to prove who its user is, and what follows from it.

use super::cause::Cause;
use super::credentials::Credentials;
use super::fingerprint::Fingerprint;
use super::kerberos::conditions::Denied;
use super::offer::{NoOffer, Offer, Schemes};
use super::outcome::Handshake;
use crate::types::SessionId;

/// How often credentials may be refused in a row before nothing is offered on the connection any more.
const MAX_REFUSALS: u32 = 3;

/// How often before the connection is closed.
const CLOSING_REFUSALS: u32 = 6;

/// What one connection remembers. It decides nothing about who is served: that is the session's.
#[derive(Debug, Default)]
pub struct Conversation {
    /// A handshake between two legs.
    handshake: Option<Handshake>,
    /// How often credentials were refused since the last that proved somebody.
    refusals: u32,
    /// Why nothing is offered here any more: a browser would go on asking its user for a password that cannot help.
    suppressed: Option<Cause>,
    /// The credentials that proved the connection's user last, and the session they proved them for.
    proved: Option<(Fingerprint, SessionId)>,
    /// Credentials of a scheme that is not offered have been refused here, and that was told.
    has_told_scheme: bool,
}

/// What follows from credentials that prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaction {
    /// The client is asked again. Else nothing is offered on the connection from now on.
    pub asks_again: bool,
    /// The connection ends.
    pub closes: bool,
}

impl Conversation {
    /// What a request is offered that has to prove itself, where the conditions offer Kerberos or not.
    #[must_use]
    pub const fn offer(&self, conditions: Result<(), Denied>) -> Offer {
        match (conditions, self.suppressed) {
            (Err(denied), _) => Offer::Nothing(NoOffer::Conditions(denied)),
            (Ok(()), Some(cause)) => Offer::Nothing(NoOffer::Suppressed(cause)),
            (Ok(()), None) => Offer::Schemes(Schemes::NEGOTIATE),
        }
    }

    /// Whether nothing is offered here any more.
    #[must_use]
    pub const fn is_suppressed(&self) -> bool {
        self.suppressed.is_some()
    }

    /// Whether a handshake waits for the client's next message.
    #[must_use]
    pub const fn is_in_handshake(&self) -> bool {
        self.handshake.is_some()
    }

    /// The handshake that credentials which have come go on with, if there is one.
    pub const fn take_handshake(&mut self) -> Option<Handshake> {
        self.handshake.take()
    }

    /// A handshake needs another message.
    pub fn goes_on(&mut self, handshake: Handshake) {
        self.handshake = Some(handshake);
    }

    /// A request came without credentials: the client has given a handshake up.
    pub fn breaks_off(&mut self) {
        self.handshake = None;
    }

    /// Credentials prove somebody: what failed before is forgotten.
    pub const fn succeeds(&mut self) {
        (self.refusals, self.suppressed) = (0, None);
    }

    /// A request is served on a session for these credentials.
    pub const fn remember(&mut self, credentials: Fingerprint, session: SessionId) {
        self.proved = Some((credentials, session));
    }

    /// The session for which these credentials have proved the connection's user already, if they are the last that did.
    /// HTTP libraries that were given a header send it with each request.
    #[must_use]
    pub fn repeats(&self, credentials: &Credentials) -> Option<SessionId> {
        let (known, session) = self.proved?;
        (credentials.fingerprint()? == known).then_some(session)
    }

    /// Credentials prove nothing.
    pub fn fails(&mut self, cause: Cause) -> Reaction {
        self.refusals = self.refusals.saturating_add(1);
        let is_over = cause.is_final() || self.refusals >= MAX_REFUSALS;
        if is_over {
            self.suppressed = Some(cause);
        }
        Reaction { asks_again: !is_over, closes: self.refusals >= CLOSING_REFUSALS }
    }

    /// Credentials of a scheme that is not offered came, where something is. True the first time: whoever wonders finds the
    /// reason once, and a client that has nothing else sends them with each request.
    pub const fn tells_scheme(&mut self) -> bool {
        !std::mem::replace(&mut self.has_told_scheme, true)
    }
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
