//! What is told of mail.

use std::sync::Arc;

use crate::types::Identity;

/// A mail was given up.
#[derive(Clone, Debug, PartialEq)]
pub struct MailEvent {
    /// Whose account it is about, if anybody's.
    pub user: Option<Arc<Identity>>,
    /// What has become of it.
    pub what: MailTrouble,
    /// Why, in a sentence; there may be words of the mail server's in it.
    pub why: Box<str>,
}

/// What has become of a mail that was given up. One word each, the same in logs, metrics, on disk and in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MailTrouble {
    /// The mail server will never take it.
    Refused,
    /// It is no use any more.
    Expired,
    /// It could not be kept.
    Dropped,
}

impl MailTrouble {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Refused, Self::Expired, Self::Dropped];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Dropped => "dropped",
        }
    }
}
