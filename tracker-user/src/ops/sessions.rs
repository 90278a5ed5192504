//! Sessions: all of them, or those of one client with all that belongs to them.

use std::sync::Arc;

use jiff::Timestamp;

use super::bans::concerning;
use super::walk::newest_first;
use super::{Activity, BanView, OpenConnection, Ops, OpsError, Parts};
use crate::audit::TrailEntry;
use crate::clock::{Anchor, boot_now};
use crate::links::shown;
use crate::session::{Evidence, Mode, Policy, Reason, Session, State, Verdict, judge};
use crate::types::{ClientAddr, Device, Identity, Method, Scope, SessionId};

/// A session, as it is judged now.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionView {
    /// Its number.
    pub id: SessionId,
    /// What it is of: a client, or one connection of a shared host.
    pub scope: Scope,
    /// The client's port, where it is of one connection.
    pub port: Option<u16>,
    /// The user.
    pub identity: Arc<Identity>,
    /// How the user proved themselves.
    pub method: Method,
    /// Whether requests are served on it.
    pub standing: Standing,
    /// Which timeout ran out, where that is known.
    pub reason: Option<Reason>,
    /// The mode it is judged by.
    pub mode: Mode,
    /// When it began.
    pub created: Timestamp,
    /// When its user last proved themselves.
    pub authenticated: Timestamp,
    /// When it goes stale or ends if nothing more happens; `None` while no deadline runs.
    pub expires: Option<Timestamp>,
    /// The hardware address behind the client address, where it is known.
    pub device: Option<Device>,
    /// What is recorded of its client, or of its connection; `opened` only while that counts as open.
    pub activity: Activity,
}

/// Whether requests are served on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// They are.
    Active,
    /// Not before its user has proved a second factor.
    Waiting,
    /// Not before its user has proved themselves again: its timeout ran out.
    Stale,
}

impl Standing {
    /// Its word in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Waiting => "waiting",
            Self::Stale => "stale",
        }
    }
}

/// The sessions of one client, and all that belongs to them.
#[derive(Clone, Debug)]
pub struct SessionDetail {
    /// The newest one.
    pub session: SessionView,
    /// On a shared host all of them, the newest first; else none.
    pub sessions: Vec<SessionView>,
    /// The client's connections to the proxy, the oldest first.
    pub connections: Vec<OpenConnection>,
    /// The bans from sending passwords that concern the client or its users, the newest first.
    pub bans: Vec<BanView>,
    /// What happened on this address, the oldest first, as far as it is kept in memory.
    pub history: Vec<Arc<TrailEntry>>,
}

impl Ops {
    /// All sessions, the newest first. A session that begins or ends while they are gathered is among them or not.
    ///
    /// # Errors
    /// When the gateway is stopping, a record cannot be read, or too much is asked for.
    pub async fn sessions(&self) -> Result<Vec<SessionView>, OpsError> {
        self.walk(async |ops| {
            let mut walk = ops.walk_sessions().await?;
            let mut views = Vec::new();
            while let Some(portion) = walk.next().await? {
                views.extend(ops.describe(portion, Arc::clone(walk.policy())).await?);
            }
            newest_first(&mut views, |view: &SessionView| (view.id, view.scope));
            Ok(views)
        })
        .await
    }

    /// The sessions of one client.
    ///
    /// # Errors
    /// [`OpsError::NotFound`] if nobody is logged in there; else as [`Self::sessions`].
    pub async fn session(&self, client: ClientAddr) -> Result<SessionDetail, OpsError> {
        self.look(async move |ops| {
            let (sessions, policy) = ops.sessions_of(client).await?;
            let sessions = ops.describe_all(sessions, &Arc::new(policy.clone())).await?;
            let Some(session) = sessions.first().cloned() else { return Err(nobody_at(client)) };
            let is_shared = policy.timeouts.is_shared(client);
            let users: Vec<Arc<Identity>> =
                sessions.iter().map(|session| Arc::clone(&session.identity)).collect();
            let past = move |parts: &Parts| {
                let users: Vec<&Identity> = users.iter().map(|user| &**user).collect();
                let history = parts.audit.past(|event| event.client() == Some(client));
                (concerning(parts, client, &users), history)
            };
            let (bans, history) = ops.blocking(past).await?;
            Ok(SessionDetail {
                session,
                sessions: if is_shared { sessions } else { Vec::new() },
                connections: ops.open_connections(client),
                bans,
                history,
            })
        })
        .await
    }

    /// What is to be said of sessions, however many: portion by portion, in their order.
    pub(super) async fn describe_all(
        &self,
        sessions: Vec<Session>,
        policy: &Arc<Policy>,
    ) -> Result<Vec<SessionView>, OpsError> {
        let mut views = Vec::with_capacity(sessions.len());
        for portion in sessions.chunks(super::walk::PORTION) {
            views.extend(self.describe(portion.to_vec(), Arc::clone(policy)).await?);
        }
        Ok(views)
    }

    /// What is to be said of the sessions of one portion.
    async fn describe(
        &self,
        portion: Vec<Session>,
        policy: Arc<Policy>,
    ) -> Result<Vec<SessionView>, OpsError> {
        self.blocking(move |parts| {
            let anchor = Anchor::now();
            let views = portion.iter().map(|session| {
                let (recorded, evidence) = recorded(parts, session)?;
                Ok(describe(parts, session, (&recorded, &evidence), &policy, &anchor))
            });
            views.collect()
        })
        .await?
    }
}

/// Nobody is logged in from there.
pub(super) fn nobody_at(client: ClientAddr) -> OpsError {
    OpsError::NotFound(format!("nobody is logged in from {}", shown(client)))
}

/// What is recorded of a session's client, or of its connection on a shared host; and how far it may be relied upon.
pub(super) fn recorded(parts: &Parts, session: &Session) -> Result<(Evidence, Evidence), OpsError> {
    let Some(connection) = session.connection else {
        let recorded = parts.observer.recorded(session.client)?.unwrap_or_default();
        return Ok((recorded, parts.observer.evidence(session.client)?.unwrap_or_default()));
    };
    // One that is closed ends its session in this moment.
    let recorded = parts.connections.evidence(session.client, connection).unwrap_or_default();
    Ok((recorded, recorded))
}

/// What is to be said of a session, by what is recorded of its client and what of that may be relied upon.
pub(super) fn describe(
    parts: &Parts,
    session: &Session,
    (recorded, evidence): (&Evidence, &Evidence),
    policy: &Policy,
    anchor: &Anchor,
) -> SessionView {
    let peer = session.connection.and_then(|one| parts.connections.peer(session.client, one));
    let now = boot_now();
    let (expires, reason) = match judge(session, evidence, policy, now) {
        Verdict::Active { deadline, .. } => (deadline, None),
        // The lifetime goes on counting for a stale session.
        Verdict::Stale { reason, .. } => {
            (policy.timeouts.lifetime().map(|lifetime| session.created.after(lifetime)), Some(reason))
        }
        Verdict::Ended { at } => (Some(at), None),
    };
    let activity = Activity::of(recorded, now, anchor).since_opened();
    SessionView {
        id: session.id,
        scope: session.scope(),
        port: peer.map(|peer| peer.port()),
        identity: Arc::clone(&session.identity),
        method: session.method,
        standing: match session.state {
            _ if reason.is_some() => Standing::Stale,
            State::Active => Standing::Active,
            State::Waiting { .. } => Standing::Waiting,
            State::Stale { .. } => Standing::Stale,
        },
        reason,
        mode: policy.timeouts.mode,
        created: anchor.wall(session.created),
        authenticated: anchor.wall(session.authenticated),
        expires: expires.map(|at| anchor.wall(at)),
        device: session.device,
        activity: Activity { opened: activity.opened.filter(|_| activity.is_open), ..activity },
    }
}
