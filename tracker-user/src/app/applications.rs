//! The wiring of application passwords: they live and die with the second factor of their user.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::StartError;
use crate::audit::{Audit, FactorChange};
use crate::auth::application_passwords::{ApplicationPasswords, View};
use crate::auth::factors::SecondFactors;
use crate::session::Reason;
use crate::store::{Entry, Journal, Sealer, Store};
use crate::tracker::{Tracker, Whose};
use crate::types::Method;

/// What the store has of them; but not of users who have no second factor any more, as it was reset while the gateway was down.
/// Blocks.
pub(super) fn open(
    store: &Store,
    sealer: &Arc<Sealer>,
    journal: &Arc<Journal>,
    audit: &Arc<Audit>,
    factors: &SecondFactors,
) -> Result<Arc<ApplicationPasswords>, StartError> {
    let (sealer, kept, audit) = (Arc::clone(sealer), Arc::clone(journal), Arc::clone(audit));
    let applications = Arc::new(ApplicationPasswords::start(store, sealer, kept, audit)?);
    for who in applications.everybody() {
        if factors.enrolled(&who).is_empty() {
            forget(&applications, journal, applications.delete_all(&who));
        }
    }
    Ok(applications)
}

/// From now on, who has no second factor any more loses them, and the sessions that stand by one.
pub(super) fn follow(
    factors: &SecondFactors,
    applications: &Arc<ApplicationPasswords>,
    journal: &Arc<Journal>,
    tracker: &Tracker,
) {
    let (applications, journal, tracker) = (Arc::clone(applications), Arc::clone(journal), tracker.clone());
    let runtime = Handle::current();
    factors.on_loss(Box::new(move |who| {
        let gone = applications.delete_all(who);
        if gone.is_empty() {
            return;
        }
        forget(&applications, &journal, gone);
        let (tracker, whose) = (tracker.clone(), Whose::By(Arc::clone(who), Method::ApplicationPassword));
        runtime.spawn(async move {
            // Where the end cannot be kept, the log says so.
            let _ = tracker.end(whose, Reason::Admin, None).await;
        });
    }));
}

/// They are taken away: on disk, too, and in the audit trail.
fn forget(applications: &ApplicationPasswords, journal: &Journal, gone: Vec<(View, Entry)>) {
    let (views, rows): (Vec<View>, Vec<Entry>) = gone.into_iter().unzip();
    journal.submit(rows, None);
    for view in &views {
        applications.tell(view, None, FactorChange::ApplicationPasswordDeleted, None);
    }
}

/// What an operator should look at.
pub(super) fn warnings(applications: &ApplicationPasswords) -> Option<String> {
    let (_, unreadable) = applications.count();
    (unreadable > 0).then(|| {
        format!(
            "{unreadable} application passwords cannot be read, and are not accepted: their key is not the one that they were \
             sealed with; put second-factor.key back into state-dir from the backup, or have their users make new ones"
        )
    })
}
