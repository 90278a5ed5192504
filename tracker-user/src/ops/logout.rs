//! Ends sessions: by order of an operator, or of whoever is at the address.

use jiff::Timestamp;

use super::sessions::nobody_at;
use super::{Ops, OpsError};
use crate::audit::Actor;
use crate::clock::{Anchor, boot_now};
use crate::session::{Reason, Session};
use crate::tracker::{NotKept, Whose};
use crate::types::ClientAddr;

/// What a logout has come to.
#[derive(Clone, Debug)]
pub struct LoggedOut {
    /// The sessions that ended.
    pub ended: Vec<Session>,
    /// What an operator should know: the database took no note of it, although no crash brings them back.
    pub warning: Option<String>,
}

/// What came of a client's own logout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnLogout {
    /// Nobody is logged in there any more, whether somebody was or not.
    Done {
        /// Until when nobody is logged in there silently; `None`: they are with the next request.
        held_until: Option<Timestamp>,
    },
    /// Many share the address: to end what is of one of them would end what is of all. Nothing was done.
    SharedHost,
}

impl Ops {
    /// Whoever is at this address logs out. When this returns nobody is logged in there: their connections are closed, and the end
    /// is on disk, also where an earlier order has ended the session. What was under way to log somebody in there comes too late
    /// where `portal.logout-hold` holds the address.
    ///
    /// # Errors
    /// When the end is not on disk, and a restart could revive it.
    pub async fn log_out_at(&self, client: ClientAddr) -> Result<OwnLogout, OpsError> {
        self.order(async move |ops| {
            let parts = ops.parts();
            let look = parts.tracker.ask(move |view| {
                (view.table.policy().timeouts.is_shared(client), view.table.session(client).is_some())
            });
            let (is_shared, is_in) = look.await.ok_or(OpsError::Stopping)?;
            if is_shared {
                return Ok(OwnLogout::SharedHost);
            }
            // First, so that the tracker begins no session there behind the one that ends.
            parts.holds.hold(client, is_in, boot_now());
            match parts.tracker.end(Whose::Client(client), Reason::Logout, None).await {
                Ok(_) => {}
                Err(NotKept { unkept, .. }) if unkept.revoked => {}
                Err(NotKept { ended, unkept }) if ended.is_empty() => {
                    return Err(OpsError::Unkept(unkept.problem));
                }
                Err(NotKept { ended, unkept }) => {
                    return Err(OpsError::NotKept { ended: ended.len(), problem: unkept.to_string() });
                }
            }
            let until = parts.holds.until(client, boot_now());
            Ok(OwnLogout::Done { held_until: until.map(|until| Anchor::now().wall(until)) })
        })
        .await
    }

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
                Whose::Identity(who) | Whose::By(who, _) => {
                    Some(OpsError::NotFound(format!("{who} is not logged in")))
                }
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
