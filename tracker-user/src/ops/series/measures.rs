//! What is drawn over time: counts, of which a bucket has the sum, and levels, of which it has the highest.

use crate::audit::Ground;

/// So many causes of refusals.
const GROUNDS: usize = Ground::KINDS;
/// So many counts.
pub(super) const COUNTS: usize = 4 + GROUNDS;
/// So many levels.
pub(super) const LEVELS: usize = 4;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Sessions that began.
    Logins,
    /// Sessions that another user ended by proving themselves.
    KickOuts,
    /// Payload bytes received from clients of the proxy.
    Received,
    /// And sent to them.
    Sent,
    /// Refusals, by their place in [`Ground::LABELS`].
    Refused(usize),
}

impl Count {
    /// Each of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let first = [Self::Logins, Self::KickOuts, Self::Received, Self::Sent];
        first.into_iter().chain((0..GROUNDS).map(Self::Refused))
    }

    pub(super) const fn place(self) -> usize {
        match self {
            Self::Logins => 0,
            Self::KickOuts => 1,
            Self::Received => 2,
            Self::Sent => 3,
            Self::Refused(ground) => 4 + ground,
        }
    }

    /// Its word on disk.
    pub(super) fn word(self) -> String {
        match self {
            Self::Logins => "logins".into(),
            Self::KickOuts => "kick-outs".into(),
            Self::Received => "received".into(),
            Self::Sent => "sent".into(),
            Self::Refused(ground) => {
                format!("refused-{}", Ground::LABELS.get(ground).copied().unwrap_or_default())
            }
        }
    }
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Sessions on which requests are served.
    Sessions,
    /// Users who have one.
    Users,
    /// Licences in use.
    Licences,
    /// Connections that clients hold to the proxy.
    Connections,
}

impl Level {
    /// Each of them.
    pub const ALL: [Self; LEVELS] = [Self::Sessions, Self::Users, Self::Licences, Self::Connections];

    pub(super) const fn place(self) -> usize {
        match self {
            Self::Sessions => 0,
            Self::Users => 1,
            Self::Licences => 2,
            Self::Connections => 3,
        }
    }

    /// Its word on disk.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Users => "users",
            Self::Licences => "licences",
            Self::Connections => "connections",
        }
    }
}
