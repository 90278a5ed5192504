//! The built-in administrator, who is made where there has never been a user.

use tracing::{error, warn};

use super::{line, user};
use crate::audit::{Actor, Audit, Via};
use crate::auth::password::LocalUsers;
use crate::store::{Store, StoredUser};
use crate::types::{ADMINISTRATOR, Role};

/// Makes the administrator at the first start: with a password that is drawn, printed once in the log and written to a file
/// of the state directory, and that has to be changed before it is good for anything. Nothing is made where there are
/// users or ever were, so that nobody who was removed comes back. It is no reason not to start if it fails: it is tried again
/// at the next start. Blocks.
pub fn make_administrator(users: &LocalUsers, store: &Store, audit: &Audit) {
    let there = users.user(ADMINISTRATOR);
    if !there.is_some_and(|user| user.must_change) {
        // Left behind by a crash: it says nothing that is true any more.
        let _ = forget_first_password(store);
    }
    match store.has_had_users() {
        Ok(false) => {}
        Ok(true) => return,
        Err(error) => {
            warn!(%error, "whether there were users before cannot be read: no administrator is made");
            return;
        }
    }
    if let Err(problem) = make(users, store, audit) {
        error!(%problem, "the built-in administrator cannot be made: it is tried again at the next start");
        let _ = forget_first_password(store);
    }
}

fn make(users: &LocalUsers, store: &Store, audit: &Audit) -> Result<(), String> {
    let password = LocalUsers::draw().map_err(|error| error.to_string())?;
    let hash = users.hash(&password).map_err(|error| error.to_string())?;
    let administrator = StoredUser { must_change: true, ..user(ADMINISTRATOR, hash, Role::Administrator) };
    let line = line(ADMINISTRATOR, "added", (Some(Role::Administrator), None), Actor::unknown(Via::Start));
    // Before the user: killed in between, the next start writes another one.
    let path = store.first_password_file();
    store.write_first_password(password.reveal()).map_err(|error| format!("{}: {error}", path.display()))?;
    users.change(ADMINISTRATOR, |_, _| {
        store.put_user(&administrator, Some(&line)).map_err(|error| error.to_string())?;
        Ok::<_, String>(Some(administrator.clone()))
    })?;
    audit.record_kept(line);
    warn!(
        "the built-in administrator was made: user {ADMINISTRATOR}, password {}; it is told here once, stands in {} until it is \
         changed, and has to be changed before it is good for anything: trackerctl user password {ADMINISTRATOR}",
        password.reveal(),
        path.display()
    );
    Ok(())
}

/// Removes the file with the first password; or what an operator should know.
pub(super) fn forget_first_password(store: &Store) -> Option<String> {
    let removed = store.remove_first_password();
    let path = store.first_password_file();
    removed.err().map(|error| format!("{} could not be removed ({error}): remove it", path.display()))
}

/// While the first password stands.
pub(in crate::ops) fn first_password_warning(users: &LocalUsers, store: &Store) -> Option<String> {
    users.user(ADMINISTRATOR).filter(|user| user.must_change && !user.disabled)?;
    let path = store.first_password_file();
    Some(format!(
        "the built-in administrator still has the password of the first start (in {}): change it with \
         trackerctl user password {ADMINISTRATOR}, or remove the user",
        path.display()
    ))
}
