//! What speaks against a new password, for the person who typed it.

use crate::auth::password::local::Weak;
use crate::types::UserMessage;

/// See the module.
pub(super) const fn of(weak: Weak) -> UserMessage {
    UserMessage::new(match weak {
        Weak::Short => {
            "The new password has fewer than 8 characters. Take a longer one; several words are good."
        }
        Weak::Long => "The new password is longer than 128 characters. Take a shorter one.",
        Weak::Control => {
            "The new password contains a control character, which browsers cannot send. Leave it out."
        }
        Weak::Name => "The new password is your user name. Take another one.",
        Weak::Mark => "The new password begins with tap_, as application passwords do. Take another one.",
        Weak::Common => "The new password is one of those that are guessed first. Take another one.",
    })
}
