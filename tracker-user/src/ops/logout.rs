//! Ends sessions.

use super::sessions::nobody_at;
use super::{Ops, OpsError};
use crate::audit::Actor;
use crate::session::{Reason, Session};
use crate::tracker::{NotKept, Whose};

/// What a logout has come to.
#[derive(Clone, Debug)]
pub struct LoggedOut {
    /// The sessions that ended.
    pub ended: Vec<Session>,
    /// What an operator should know: the database took no note of it, although no crash brings them back.
    pub warning: Option<String>,
}

impl Ops {
    /// Ends sessions, by order of `actor`. When this returns their connections are closed, and their ends are on disk.
    /// Sessions that begin meanwhile may stand.
    ///
    /// # Errors
    /// [`OpsError::NotFound`] if nobody is logged in there, or the user is not; when the ends are not on disk.
    pub async fn logout(&self, whose: Whose, actor: Actor) -> Result<LoggedOut, OpsError> {
        self.order(async move |ops| {
            let nobody = match &whose {
                Whose::Client(client) => Some(nobody_at(*client)),
                Whose::User(user) => Some(OpsError::NotFound(format!("{user} is not logged in"))),
                Whose::Identity(who) => Some(OpsError::NotFound(format!("{who} is not logged in"))),
                Whose::All => None,
            };
            let (ended, warning) = match ops.parts().tracker.end(whose, Reason::Admin, Some(actor)).await {
                Ok(ended) => (ended, None),
                // It is known to the mark, if not to the database: no crash brings it back.
                Err(NotKept { ended, unkept }) if unkept.revoked => (ended, Some(unkept.to_string())),
                Err(NotKept { ended, unkept }) if ended.is_empty() => {
                    return Err(OpsError::Unkept(unkept.problem));
                }
                Err(NotKept { ended, unkept }) => {
                    return Err(OpsError::NotKept { ended: ended.len(), problem: unkept.to_string() });
                }
            };
            match nobody {
                Some(nobody) if ended.is_empty() => Err(nobody),
                _ => Ok(LoggedOut { ended, warning }),
            }
        })
        .await
    }
}
