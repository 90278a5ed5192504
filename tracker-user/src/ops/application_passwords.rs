//! Application passwords: who has which, making one, and taking them away. What is taken away proves nothing from then on, and the
//! sessions that stand by one end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{Ops, OpsError};
use crate::audit::{Actor, FactorChange};
use crate::auth::Password;
use crate::auth::application_passwords::{New, View};
use crate::clock::wall_now;
use crate::session::Reason;
use crate::store::{Entry, Unkept};
use crate::tracker::{NotKept, Whose};
use crate::types::{ClientAddr, Identity, Method, UserQuery};

/// So often it is noted on disk which were used, and looked whether some have expired.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// Application passwords that were taken away.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// Each of them.
    pub passwords: Vec<View>,
    /// How many sessions ended.
    pub ended: usize,
    /// What an operator should know: the disk took no note of it, and a restart may bring them back.
    pub warning: Option<String>,
}

impl Ops {
    /// Those of everybody who is called so, in the order in which they were made.
    ///
    /// # Errors
    /// When the gateway is stopping, or too much is asked for.
    pub async fn application_passwords(&self, of: UserQuery) -> Result<Vec<View>, OpsError> {
        self.look(async move |ops| {
            let applications = &ops.parts().applications;
            let owners = applications.owners(&of);
            let views: Vec<View> = owners.iter().flat_map(|who| applications.of(who)).collect();
            ops.fits(views.len())?;
            Ok(views)
        })
        .await
    }

    /// Those of this one person.
    #[must_use]
    pub fn application_passwords_of(&self, who: &Identity) -> Vec<View> {
        self.parts().applications.of(who)
    }

    /// All of them, by their owners; no more than `most`, and how many there are.
    #[must_use]
    pub fn all_application_passwords(&self, most: usize) -> (Vec<View>, usize) {
        let applications = &self.parts().applications;
        let mut owners = applications.everybody();
        owners.sort_by(|one, other| one.key().cmp(other.key()));
        let mut views = Vec::new();
        for who in owners {
            if views.len() >= most {
                break;
            }
            views.extend(applications.of(&who));
        }
        views.truncate(most);
        (views, applications.count().0)
    }

    /// Makes one for this person, who is at `client`, and returns it, and what is shown of it from now on. It is on disk then.
    ///
    /// # Errors
    /// Where it may not be made, or cannot be kept.
    pub async fn make_application_password(
        &self,
        who: Arc<Identity>,
        new: New,
        client: ClientAddr,
        actor: Actor,
    ) -> Result<(Password, View), OpsError> {
        self.order(async move |ops| {
            let applications = &ops.parts().applications;
            let (password, view, row) = applications.make(&who, new, wall_now())?;
            if let Err(unkept) = ops.kept(vec![row]).await? {
                // Nobody knows it. What is not on disk has no row there.
                let _ = applications.delete(&who, &view.id);
                return Err(OpsError::Unkept(unkept.problem));
            }
            let made = FactorChange::ApplicationPasswordMade;
            applications.tell(&view, Some(client), made, Some(actor));
            Ok((password, view))
        })
        .await
    }

    /// Takes one of this person's away, or all of them where none is named. When this returns nobody is accepted by it any more, the
    /// sessions that stand by application passwords of theirs have ended, and all of it is on disk.
    ///
    /// # Errors
    /// [`OpsError::NotFound`] where there is none.
    pub async fn delete_application_password(
        &self,
        who: Arc<Identity>,
        id: Option<String>,
        client: Option<ClientAddr>,
        actor: Actor,
    ) -> Result<Revoked, OpsError> {
        self.order(async move |ops| {
            let applications = &ops.parts().applications;
            let gone = match &id {
                Some(id) => applications.delete(&who, id).into_iter().collect(),
                None => applications.delete_all(&who),
            };
            if gone.is_empty() {
                return Err(none(&who, id.as_deref()));
            }
            let (passwords, rows): (Vec<View>, Vec<Entry>) = gone.into_iter().unzip();
            let kept = ops.kept(rows).await?;
            for view in &passwords {
                let deleted = FactorChange::ApplicationPasswordDeleted;
                applications.tell(view, client, deleted, Some(actor.clone()));
            }
            let mut warning =
                kept.err().map(|unkept| format!("{unkept}; a restart before that brings them back"));
            let whose = Whose::By(who, Method::ApplicationPassword);
            let ended = match ops.parts().tracker.end(whose, Reason::Admin, Some(actor)).await {
                Ok(ended) => ended.len(),
                Err(NotKept { ended, unkept }) => {
                    warning = warning.or_else(|| Some(unkept.to_string()));
                    ended.len()
                }
            };
            Ok(Revoked { passwords, ended, warning })
        })
        .await
    }

    /// The same for the one person who is called so.
    ///
    /// # Errors
    /// [`OpsError::NotFound`] where nobody who is called so has one, or several people have.
    pub async fn revoke_application_passwords(
        &self,
        of: UserQuery,
        id: Option<String>,
        actor: Actor,
    ) -> Result<Revoked, OpsError> {
        let owners = self.parts().applications.owners(&of);
        match owners.as_slice() {
            [] => Err(OpsError::NotFound(format!("{of} has no application password"))),
            [who] => self.delete_application_password(Arc::clone(who), id, None, actor).await,
            several => {
                let names: Vec<&str> = several.iter().map(|who| who.key()).collect();
                let text = format!("{of} means several users: name one of {}", names.join(", "));
                Err(OpsError::NotFound(text))
            }
        }
    }

    /// Notes on disk which application passwords are used, and ends the sessions of those that expire. Ends only with the daemon.
    pub async fn keep_application_passwords(self) {
        let mut looked = wall_now();
        loop {
            tokio::time::sleep(NOTED_EVERY).await;
            self.settle_application_passwords();
            let now = wall_now();
            for who in self.parts().applications.expired(looked, now) {
                let whose = Whose::By(who, Method::ApplicationPassword);
                // Where the end cannot be kept, the log says so. No request was served by it since.
                let _ = self.parts().tracker.end(whose, Reason::Admin, None).await;
            }
            looked = now;
        }
    }

    /// Notes on disk which application passwords were used.
    pub fn settle_application_passwords(&self) {
        self.parts().applications.note_uses();
    }

    /// Waits until rows are on disk, or it is known why they are not.
    async fn kept(&self, rows: Vec<Entry>) -> Result<Result<(), Unkept>, OpsError> {
        let (tell, told) = oneshot::channel();
        // Nobody may be left to be told.
        let answer = Box::new(move |outcome| drop(tell.send(outcome)));
        self.parts().journal.submit(rows, Some(answer));
        told.await.map_err(|_| OpsError::Stopping)
    }
}

fn none(who: &Identity, id: Option<&str>) -> OpsError {
    OpsError::NotFound(match id {
        Some(id) => {
            format!("{who} has no application password {id}: trackerctl app-password list names them")
        }
        None => format!("{who} has no application password"),
    })
}
