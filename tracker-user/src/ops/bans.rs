//! Bans from sending passwords: who is banned, and lifting that.

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::{Ops, OpsError, Parts};
use crate::audit::Actor;
use crate::auth::regulation::{Ban, NameKey, Target};
use crate::clock::Anchor;
use crate::links;
use crate::types::{ClientAddr, Identity, UserQuery};

/// A ban, by wall time.
#[derive(Clone, Debug)]
pub struct BanView {
    /// What it stands on.
    pub target: Target,
    /// Whose account it is about; `None` where it is about none, or where nobody has the name that was typed.
    pub identity: Option<Identity>,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// The wrong passwords that led to it.
    pub tries: u32,
    /// When somebody last tried, refused or not.
    pub last_try: Timestamp,
}

/// The bans that were lifted.
#[derive(Clone, Debug)]
pub struct Lifted {
    /// Each of them.
    pub bans: Vec<BanView>,
    /// What an operator should know: the disk took no note of it, and a restart brings them back.
    pub warning: Option<String>,
}

/// Which bans an operator means.
enum Meant {
    Address(ClientAddr),
    User { typed: UserQuery, key: NameKey },
}

impl Meant {
    fn read(parts: &Parts, text: &str) -> Self {
        let address = text.strip_suffix("/64").unwrap_or(text);
        match links::parse(address) {
            Ok(address) => Self::Address(address),
            // What was typed for a name that nobody has is known by its key alone.
            Err(_) => Self::User { typed: text.into(), key: parts.regulator.key_of(&text.to_lowercase()) },
        }
    }

    fn is(&self, parts: &Parts, ban: &Ban) -> bool {
        match self {
            Self::Address(address) => ban.target.names_address(*address),
            Self::User { typed, key } => {
                ban.target.name() == Some(*key)
                    || identity(parts, ban).is_some_and(|identity| identity.is_called(typed))
            }
        }
    }
}

impl Ops {
    /// The bans that stand, the newest first.
    ///
    /// # Errors
    /// When the gateway is stopping, or too much is asked for.
    pub async fn bans(&self) -> Result<Vec<BanView>, OpsError> {
        let bans = self.look(async |ops| ops.blocking(|parts| views(parts, parts.regulator.bans())).await);
        let bans = bans.await?;
        self.fits(bans.len())?;
        Ok(bans)
    }

    /// Lifts every ban that names this address or this user, by order of `actor`. When this returns, that is on disk.
    ///
    /// # Errors
    /// [`OpsError::NotFound`] if none does.
    pub async fn lift_bans(&self, of: String, actor: Actor) -> Result<Lifted, OpsError> {
        self.order(async move |ops| {
            let (tell, told) = oneshot::channel();
            let lifted = ops.blocking(move |parts| {
                let meant = Meant::read(parts, &of);
                // Nobody may be left to be told.
                let answer = Box::new(move |outcome| drop(tell.send(outcome)));
                let lifted = parts.regulator.lift(|ban| meant.is(parts, ban), &actor, answer);
                if lifted.is_empty() {
                    return Err(OpsError::NotFound(format!("no ban names {of}: trackerctl bans lists them")));
                }
                Ok(views(parts, lifted))
            });
            let bans = lifted.await??;
            let unkept = told.await.map_err(|_| OpsError::Stopping)?.err();
            let warning =
                unkept.map(|unkept| format!("{unkept}; a restart before that brings the bans back"));
            Ok(Lifted { bans, warning })
        })
        .await
    }
}

/// The bans that concern who is at this address: those that name it, or one of these users.
pub(super) fn concerning(parts: &Parts, client: ClientAddr, users: &[&Identity]) -> Vec<BanView> {
    let mut bans = parts.regulator.bans();
    bans.retain(|ban| match ban.target {
        Target::User(_) => {
            ban.account.as_deref().is_some_and(|account| users.iter().any(|user| user.key() == account))
        }
        target => target.names_address(client),
    });
    views(parts, bans)
}

fn views(parts: &Parts, bans: Vec<Ban>) -> Vec<BanView> {
    let anchor = Anchor::now();
    let view = |ban: Ban| BanView {
        target: ban.target,
        identity: identity(parts, &ban),
        since: anchor.wall(ban.since),
        until: anchor.wall(ban.until),
        tries: ban.tries,
        last_try: anchor.wall(ban.last),
    };
    bans.into_iter().map(view).collect()
}

/// Whose account a ban is about, shown as sessions show it.
fn identity(parts: &Parts, ban: &Ban) -> Option<Identity> {
    Some(parts.configuration.config().shown(ban.identity()?))
}
