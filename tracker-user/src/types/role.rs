//! What somebody may do to the gateway.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What somebody may do to the gateway. Each may do what those before it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Use it, and look at their own session.
    #[default]
    User,
    /// Look at everything, and change nothing.
    Viewer,
    /// Everything.
    Administrator,
}

impl Role {
    /// Every role, from the one that may least on.
    pub const ALL: [Self; 3] = [Self::User, Self::Viewer, Self::Administrator];

    /// Its word, the same in logs, on disk and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Viewer => "viewer",
            Self::Administrator => "administrator",
        }
    }

    /// Whether it may look at what concerns others.
    #[must_use]
    pub const fn may_look(self) -> bool {
        matches!(self, Self::Viewer | Self::Administrator)
    }

    /// Whether it may change something.
    #[must_use]
    pub const fn may_change(self) -> bool {
        matches!(self, Self::Administrator)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// No role has this word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a role: write user, viewer or administrator")]
pub struct NoRole;

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Self, NoRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(NoRole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_and_the_order_is_that_of_what_they_may() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!(Role::ALL.is_sorted());
        assert!("root".parse::<Role>().is_err());
        assert!(!Role::User.may_look() && Role::Viewer.may_look() && !Role::Viewer.may_change());
    }
}
