//! What one connection remembers of how its client has tried to prove who its user is, and what follows from it.

use super::cause::Cause;
use super::fingerprint::Fingerprint;
use super::kerberos::conditions::Denied;
use super::offer::{NoOffer, Offer, Scheme, Schemes};
use super::outcome::Handshake;
use crate::types::SessionId;

/// How often credentials of one scheme may be refused in a row before it is not offered on the connection any more.
const MAX_REFUSALS: u32 = 3;

/// How often credentials of whatever scheme before the connection is closed.
const CLOSING_REFUSALS: u32 = 6;

/// What one connection remembers. It decides nothing about who is served: that is the session's.
#[derive(Debug, Default)]
pub struct Conversation {
    /// A handshake between two legs.
    handshake: Option<Handshake>,
    /// What has been refused since the last credentials that proved somebody, by scheme.
    negotiate: Refused,
    basic: Refused,
    /// The credentials that proved the connection's user last, and the session they proved them for.
    proved: Option<(Fingerprint, SessionId)>,
    /// Credentials of a scheme that is not offered have been refused here, and that was told.
    has_told_scheme: bool,
}

/// What has been refused of one scheme.
#[derive(Clone, Copy, Debug, Default)]
struct Refused {
    count: u32,
    /// Why the scheme is not offered here any more: a browser would go on asking its user for what cannot help.
    suppressed: Option<Cause>,
}

/// What a request might be offered, whatever has happened on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chances {
    /// Whether the conditions offer Kerberos to it.
    pub kerberos: Result<(), Denied>,
    /// Whether a password may be asked for on its connection.
    pub basic: bool,
    /// Somebody has just logged out at its address: whatever a browser sends by itself is not taken.
    pub is_held: bool,
}

impl Chances {
    /// The schemes that may be offered, the one that is liked best first. A browser that has a ticket takes Negotiate, and
    /// asks nobody for a password.
    #[must_use]
    pub fn schemes(&self) -> Schemes {
        if self.is_held {
            return Schemes::NONE;
        }
        let negotiate = self.kerberos.is_ok().then_some(Scheme::Negotiate);
        let basic = self.basic.then_some(Scheme::Basic);
        [negotiate, basic].into_iter().flatten().fold(Schemes::NONE, Schemes::then)
    }
}

impl Conversation {
    /// What a request is offered that has to prove itself: whatever it may be offered, but what has been refused here for good. A
    /// browser that was refused for its ticket, or has none, takes what is left.
    #[must_use]
    pub fn offer(&self, chances: &Chances) -> Offer {
        let Chances { kerberos, basic, is_held } = *chances;
        if is_held {
            return Offer::Nothing(NoOffer::Held);
        }
        let left = |scheme: &Scheme| match scheme {
            Scheme::Negotiate => self.negotiate.suppressed.is_none(),
            Scheme::Basic => self.basic.suppressed.is_none(),
        };
        let schemes = chances.schemes().iter().filter(left).fold(Schemes::NONE, Schemes::then);
        if schemes != Schemes::NONE {
            return Offer::Schemes(schemes);
        }
        // What was tried last is what its user wants to hear of.
        let password = self.basic.suppressed.filter(|_| basic);
        Offer::Nothing(match (password, kerberos) {
            (Some(cause), _) => NoOffer::Suppressed(cause),
            (None, Err(denied)) => NoOffer::Conditions(denied),
            (None, Ok(())) => NoOffer::Suppressed(self.negotiate.suppressed.unwrap_or(Cause::Scheme)),
        })
    }

    /// Whether something is not offered here any more that would be on a new connection.
    #[must_use]
    pub const fn is_suppressed(&self) -> bool {
        self.negotiate.suppressed.is_some() || self.basic.suppressed.is_some()
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
    pub fn succeeds(&mut self) {
        (self.negotiate, self.basic) = Default::default();
    }

    /// A request is served on a session for these credentials.
    pub const fn remember(&mut self, credentials: Fingerprint, session: SessionId) {
        self.proved = Some((credentials, session));
    }

    /// The session for which this very value of a field has proved the connection's user already, if it is the last that did.
    /// HTTP libraries that were given a header, or a name and a password, send it with each request.
    #[must_use]
    pub fn repeats(&self, field: &[u8]) -> Option<SessionId> {
        let (known, session) = self.proved?;
        (Fingerprint::of(field) == known).then_some(session)
    }

    /// Credentials prove nothing. Whether the connection is to be closed: nobody tries so often who is not guessing.
    pub fn fails(&mut self, cause: Cause) -> bool {
        let refused = match cause.scheme() {
            Some(Scheme::Basic) => &mut self.basic,
            Some(Scheme::Negotiate) | None => &mut self.negotiate,
        };
        refused.count = refused.count.saturating_add(1);
        if cause.is_final() || refused.count >= MAX_REFUSALS {
            refused.suppressed = Some(cause);
        }
        self.negotiate.count.saturating_add(self.basic.count) >= CLOSING_REFUSALS
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
