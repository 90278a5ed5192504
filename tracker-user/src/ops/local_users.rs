//! The gateway's own users: added, changed and removed. Whoever is disabled or removed, or has another password, is logged
//! out before that is answered.

mod administrator;

use std::sync::Arc;

use jiff::Timestamp;

pub(super) use self::administrator::first_password_warning;
pub use self::administrator::make_administrator;
use super::second_factor::begin_anew;
use super::{Ops, OpsError, Parts};
use crate::audit::{Actor, Event, LocalUserEvent, TrailEntry, Via};
use crate::auth::Password;
use crate::auth::password::LocalUsers;
use crate::auth::password::local::{LocalName, MOST_USERS};
use crate::clock::{Anchor, wall_now};
use crate::session::{Reason, Session};
use crate::store::{PasswordHash, StoredUser};
use crate::tracker::{NotKept, Whose};
use crate::types::{ADMINISTRATOR, ClientAddr, Identity, Role};

/// One of the gateway's own users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalUser {
    /// The name, as it was typed.
    pub name: String,
    /// Nobody is let in by this name.
    pub disabled: bool,
    /// The password is good for nothing but changing it.
    pub must_change: bool,
    /// What the user may do to the gateway.
    pub role: Role,
    /// When the user was added.
    pub created: Timestamp,
    /// When the password, or whether it counts, was last changed.
    pub changed: Timestamp,
    /// When the user was last logged in; `None` if that never was.
    pub last_login: Option<Timestamp>,
}

impl LocalUser {
    fn new(user: StoredUser, last_login: Option<Timestamp>) -> Self {
        let StoredUser { name, password: _, disabled, must_change, role, created, changed } = user;
        Self { name, disabled, must_change, role, created, changed, last_login }
    }
}

/// What a change of a user has come to.
#[derive(Clone, Debug)]
pub struct UserChanged {
    /// The user's name.
    pub name: String,
    /// The user, as they are now; `None`: they are no more.
    pub user: Option<LocalUser>,
    /// The user's sessions that ended.
    pub ended: Vec<Session>,
    /// What an operator should know.
    pub warning: Option<String>,
}

/// What is to be done to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Password,
    Role(Role),
    Disable,
    Enable,
    Remove,
}

impl Change {
    const fn word(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Role(_) => "role",
            Self::Disable => "disabled",
            Self::Enable => "enabled",
            Self::Remove => "removed",
        }
    }

    /// Whether the user's sessions end by it: whatever they have proved themselves by is worth nothing any more.
    const fn ends_sessions(self) -> bool {
        match self {
            Self::Password | Self::Disable | Self::Remove => true,
            Self::Role(_) | Self::Enable => false,
        }
    }

    /// Whether an administrator is none afterwards.
    const fn takes_administration(self) -> bool {
        match self {
            Self::Role(role) => !role.may_change(),
            Self::Disable | Self::Remove => true,
            Self::Password | Self::Enable => false,
        }
    }
}

impl Ops {
    /// The gateway's own users, by name.
    ///
    /// # Errors
    /// When the store cannot be read, or the gateway is stopping.
    pub async fn local_users(&self) -> Result<Vec<LocalUser>, OpsError> {
        self.look(async |ops| {
            ops.blocking(|parts| {
                let logins = parts.store.last_logins()?;
                let listed = |user: StoredUser| {
                    let last_login = logins.get(&user.key()).copied();
                    LocalUser::new(user, last_login)
                };
                Ok(parts.local_users.all().into_iter().map(listed).collect())
            })
            .await?
        })
        .await
    }

    /// Adds a user, by order of `actor`. On disk when this returns, with the line of the audit trail.
    ///
    /// # Errors
    /// Where there is one of that name, or there cannot be; a weak password; a store that cannot be written.
    pub async fn add_user(
        &self,
        name: &str,
        password: Password,
        role: Role,
        actor: Actor,
    ) -> Result<UserChanged, OpsError> {
        let name = LocalName::parse(name)?;
        LocalUsers::judge(name.as_str(), &password)?;
        self.order(async move |ops| {
            ops.blocking(move |parts| add(parts, &name, &password, role, actor)).await?
        })
        .await
    }

    /// Gives a user another password, by order of `actor`. When this returns, it is on disk, the earlier one is worth
    /// nothing, the user's sessions have ended and their connections are closed.
    ///
    /// # Errors
    /// As [`Self::add_user`]; [`OpsError::NotFound`] where there is no such user. [`OpsError::NotKept`] where the user was
    /// changed, and the disk does not have the ends of the sessions.
    pub async fn set_user_password(
        &self,
        name: &str,
        password: Password,
        actor: Actor,
    ) -> Result<UserChanged, OpsError> {
        let name = LocalName::parse(name)?;
        LocalUsers::judge(name.as_str(), &password)?;
        self.change_user(name, Change::Password, Some(password), actor).await
    }

    /// Gives a user another role, by order of `actor`. When this returns it is on disk, and whoever asks for the user's role
    /// ([`Self::role_of`]) is told this one. The user's sessions go on. It is no mistake if the user has the role already.
    ///
    /// # Errors
    /// [`OpsError::LastAdministrator`] where the pages would take away the last one; otherwise as
    /// [`Self::set_user_password`].
    pub async fn set_user_role(&self, name: &str, role: Role, actor: Actor) -> Result<UserChanged, OpsError> {
        self.change_user(LocalName::parse(name)?, Change::Role(role), None, actor).await
    }

    /// Lets nobody in by this name any more; likewise. It is no mistake if nobody is already.
    ///
    /// # Errors
    /// As [`Self::set_user_password`].
    pub async fn disable_user(&self, name: &str, actor: Actor) -> Result<UserChanged, OpsError> {
        self.change_user(LocalName::parse(name)?, Change::Disable, None, actor).await
    }

    /// Takes that back.
    ///
    /// # Errors
    /// As [`Self::set_user_password`].
    pub async fn enable_user(&self, name: &str, actor: Actor) -> Result<UserChanged, OpsError> {
        self.change_user(LocalName::parse(name)?, Change::Enable, None, actor).await
    }

    /// Removes a user; as [`Self::disable_user`].
    ///
    /// # Errors
    /// As [`Self::set_user_password`].
    pub async fn remove_user(&self, name: &str, actor: Actor) -> Result<UserChanged, OpsError> {
        self.change_user(LocalName::parse(name)?, Change::Remove, None, actor).await
    }

    async fn change_user(
        &self,
        name: LocalName,
        change: Change,
        password: Option<Password>,
        actor: Actor,
    ) -> Result<UserChanged, OpsError> {
        self.order(async move |ops| {
            let by = actor.clone();
            let mut changed =
                ops.blocking(move |parts| apply(parts, &name, change, password.as_ref(), by)).await??;
            let who = Arc::new(Identity::local(&changed.name));
            let forgotten = match change {
                Change::Remove => Some(ops.forget_factors(&who, actor.clone()).await?),
                _ => None,
            };
            if change.ends_sessions() {
                let (ended, warning) = ops.end_all_of(who, actor).await?;
                changed.ended = ended;
                changed.warning = warning.or(changed.warning);
            }
            if let Some(Err(unkept)) = forgotten {
                changed.warning.get_or_insert_with(|| unkept.to_string());
            }
            Ok(changed)
        })
        .await
    }

    /// Ends the sessions of somebody, of whom everything has changed that they could have proved themselves by.
    async fn end_all_of(
        &self,
        who: Arc<Identity>,
        actor: Actor,
    ) -> Result<(Vec<Session>, Option<String>), OpsError> {
        match self.parts().tracker.end(Whose::Identity(who), Reason::Admin, Some(actor)).await {
            Ok(ended) => Ok((ended, None)),
            // No crash brings them back: the user's change is on disk, and the mark knows.
            Err(NotKept { ended, unkept }) if unkept.revoked || ended.is_empty() => {
                Ok((ended, Some(unkept.to_string())))
            }
            Err(NotKept { ended, unkept }) => {
                Err(OpsError::NotKept { ended: ended.len(), problem: unkept.to_string() })
            }
        }
    }

    /// Ends sessions that a crash has left of local users who have been disabled or removed meanwhile, or have another
    /// password: the change is on disk, and nobody was told that it had been made. Called once, before anybody is served.
    pub async fn end_sessions_of_changed_users(&self) {
        let Ok(mut walk) = self.walk_sessions().await else { return };
        let mut clients: Vec<ClientAddr> = Vec::new();
        let anchor = Anchor::now();
        while let Ok(Some(portion)) = walk.next().await {
            let local = portion.into_iter().filter(|session| session.identity.is_local());
            let changed = local.filter(|session| {
                let user = self.parts().local_users.user(&session.identity.user().to_lowercase());
                user.is_none_or(|user| user.disabled || anchor.wall(session.authenticated) < user.changed)
            });
            clients.extend(changed.map(|session| session.client));
        }
        for client in clients {
            // If it cannot be kept, it is judged again at the next start.
            let _ = self.parts().tracker.end(Whose::Client(client), Reason::Admin, None).await;
        }
    }
}

/// Adds a user. Blocks.
fn add(
    parts: &Parts,
    name: &LocalName,
    password: &Password,
    role: Role,
    actor: Actor,
) -> Result<UserChanged, OpsError> {
    let hash = parts.local_users.hash(password)?;
    let user = user(name.as_str(), hash, role);
    let line = line(&user.name, "added", (Some(role), None), actor);
    parts.local_users.change(&name.key(), |now, count| {
        if now.is_some() {
            return Err(OpsError::UserExists(name.as_str().to_owned()));
        }
        if count >= MOST_USERS {
            return Err(OpsError::TooManyUsers(count));
        }
        begin_anew(parts, &Identity::local(&user.name))?;
        parts.store.put_user(&user, Some(&line)).map_err(OpsError::NotChanged)?;
        Ok(Some(user.clone()))
    })?;
    parts.audit.record_kept(line);
    Ok(UserChanged {
        name: user.name.clone(),
        user: Some(LocalUser::new(user, None)),
        ended: Vec::new(),
        warning: None,
    })
}

/// Changes a user. Blocks.
fn apply(
    parts: &Parts,
    name: &LocalName,
    change: Change,
    password: Option<&Password>,
    actor: Actor,
) -> Result<UserChanged, OpsError> {
    let key = name.key();
    let missing = || OpsError::NotFound(format!("there is no local user {}", name.as_str()));
    // As it was typed when the user was added.
    let name = parts.local_users.user(&key).ok_or_else(missing)?.name;
    let hash = password.map(|password| parts.local_users.hash(password)).transpose()?;
    let is_on_pages = actor.via == Via::Portal;
    let (mut after, mut told) = (None, None);
    parts.local_users.change::<OpsError>(&key, |now, _| {
        let now = now.ok_or_else(missing)?;
        let is_last = now.administers() && !parts.local_users.has_another_administrator(&key);
        if is_on_pages && is_last && change.takes_administration() {
            return Err(OpsError::LastAdministrator(now.name.clone()));
        }
        let mut roles = (None, None);
        let mut user = StoredUser { changed: wall_now(), ..now.clone() };
        match (change, hash) {
            (Change::Remove, _) => {
                let line = line(&name, change.word(), roles, actor);
                parts.store.remove_user(&key, &line).map_err(OpsError::NotChanged)?;
                told = Some(line);
                return Ok(None);
            }
            (Change::Password, Some(hash)) => {
                user.password = hash;
                user.must_change = false;
            }
            (Change::Role(role), _) if now.role != role => {
                // Whoever is logged in has proved the same as before.
                user = StoredUser { role, ..now.clone() };
                roles = (Some(role), Some(now.role));
            }
            (Change::Disable, _) if !now.disabled => user.disabled = true,
            (Change::Enable, _) if now.disabled => user.disabled = false,
            (Change::Password | Change::Role(_) | Change::Disable | Change::Enable, _) => {
                after = Some(now.clone());
                return Ok(after.clone());
            }
        }
        let line = line(&name, change.word(), roles, actor);
        parts.store.put_user(&user, Some(&line)).map_err(OpsError::NotChanged)?;
        told = Some(line);
        after = Some(user.clone());
        Ok(Some(user))
    })?;
    if let Some(line) = told {
        parts.audit.record_kept(line);
    }
    let mut warning = None;
    if key == ADMINISTRATOR && matches!(change, Change::Password | Change::Remove) {
        warning = administrator::forget_first_password(&parts.store);
    }
    if change.takes_administration() {
        warning = warning.or_else(|| nobody_administers(parts));
    }
    let last_login = parts.store.last_logins().ok().and_then(|logins| logins.get(&key).copied());
    Ok(UserChanged {
        name,
        user: after.map(|user| LocalUser::new(user, last_login)),
        ended: Vec::new(),
        warning,
    })
}

/// What an operator should know who has taken away the last administrator of the pages.
fn nobody_administers(parts: &Parts) -> Option<String> {
    let is_somebody = parts.local_users.has_another_administrator("")
        || !parts.configuration.config().portal.administrators.is_empty();
    (!is_somebody).then(|| {
        "nobody may administer the gateway by its web pages now: trackerctl user role NAME administrator makes somebody an \
         administrator"
            .to_owned()
    })
}

/// A new user.
fn user(name: &str, password: PasswordHash, role: Role) -> StoredUser {
    let now = wall_now();
    StoredUser {
        name: name.to_owned(),
        password,
        disabled: false,
        must_change: false,
        role,
        created: now,
        changed: now,
    }
}

/// The line of the audit trail that tells what was done to a user, and by whom; the role, if that was said, and the one before.
fn line(
    name: &str,
    how: &'static str,
    (role, before): (Option<Role>, Option<Role>),
    actor: Actor,
) -> Arc<TrailEntry> {
    let user = Arc::new(Identity::local(name));
    TrailEntry::now(Event::LocalUser(LocalUserEvent { user, how, role, before, actor }))
}
