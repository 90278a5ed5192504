//! Proofs: how a session begins, goes on, is completed, or is taken over; and how that is undone.

use std::sync::Arc;

use super::{Table, audit, keep};
use crate::clock::BootTime;
use crate::session::decide::Admitted;
use crate::session::event::{Effect, Proved, Reason, What};
use crate::session::evidence::Evidence;
use crate::session::factors::Proven;
use crate::session::judge::{Verdict, judge};
use crate::session::policy::Policy;
use crate::session::record::{Session, State};
use crate::types::{
    ClientAddr, ConnectionId, Device, Factor, Factors, Identity, Method, Scope, SessionId, UserMessage,
};

/// A verified proof of identity.
#[derive(Clone, Debug)]
pub struct Proof {
    /// Where it came from.
    pub client: ClientAddr,
    /// Who it proves.
    pub identity: Arc<Identity>,
    /// How.
    pub method: Method,
    /// The further factors that it proves.
    pub factors: Factors,
    /// The further factors that its user has set up, whether this proves them or not. Whoever proves need not know: the
    /// tracker fills it in.
    pub enrolled: Factors,
    /// When the head of the request that brought it was read. What the client did from then on, it did after the proof,
    /// however long the verification took: a connection that was closed meanwhile was closed by whoever proved themselves.
    pub at: BootTime,
    /// The connection that carried it: spared when the previous user is kicked out. On a shared host it is what the
    /// session is of.
    pub connection: Option<ConnectionId>,
    /// The device behind the client address. Whoever proves need not know: the tracker fills it in.
    pub device: Option<Device>,
}

/// What a proof came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The session that requests are served on from now; if it [waits](AdmissionKind::Waits), once its factor is proved.
    pub admitted: Admitted,
    /// How it came to be.
    pub kind: AdmissionKind,
}

/// How a proof fits what was known of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmissionKind {
    /// The session was valid, and the proof is its user's.
    Confirmed,
    /// A new session began.
    LoggedIn,
    /// A stale session goes on.
    Renewed,
    /// The previous user was kicked out, and a new session began.
    TookOver,
    /// The proof is good, but this further factor is required: no request is served before it is proved.
    Waits(Factor),
}

/// A proof was good, but no session may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `licences.max-users` are logged in.
    #[error("all {max} licences are in use; log users out, or raise licences.max-users")]
    Licences {
        /// The limit.
        max: u32,
    },
    /// Many users share the address, so that a session can only be of a connection, and there is none.
    #[error("this address is shared by many users: each connection to the proxy proves itself")]
    SharedHost,
    /// Somebody else has proved themselves from there since.
    #[error("somebody else has proved themselves from this address since these credentials came")]
    Overtaken,
}

impl Refused {
    /// What happened and what to do, for the person at the client; `Display` is for operators.
    #[must_use]
    pub const fn user_message(self) -> UserMessage {
        UserMessage::new(match self {
            Self::Licences { .. } => {
                "You cannot be logged in: as many users are logged in as this proxy has licences for. There is room again as \
                 soon as somebody logs out or has been away for a while: try again in a few minutes, or ask its operator."
            }
            Self::SharedHost => {
                "You cannot be logged in at this moment: many people use the proxy from your computer's address, and it could \
                 not tell which of them you are. Try again."
            }
            Self::Overtaken => {
                "Somebody else has logged in from your computer's address in the meantime. Load the page again."
            }
        })
    }
}

impl Table {
    /// A verified proof of identity: logs in, confirms, renews, completes, or kicks the previous user out.
    ///
    /// # Errors
    /// When a new session may not begin; an older one in its place is left as it was.
    pub fn prove(
        &mut self,
        proof: &Proof,
        evidence: &Evidence,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) -> Result<Admission, Refused> {
        let scope = self.policy.scope(proof.client, proof.connection).ok_or(Refused::SharedHost)?;
        // First let time have its say, so that what follows is compared with what is true now.
        self.refresh(scope, evidence, now, out);

        let Self { users, policy, sessions, waiting, .. } = self;
        let (kind, admitted) = match sessions.get_mut(scope) {
            Some(session) if session.identity == proof.identity => {
                let admitted = Admitted::from(&*session);
                if matches!(session.state, State::Active) {
                    confirm(session, proof, evidence, policy, now, out);
                    (AdmissionKind::Confirmed, admitted)
                } else {
                    let proved = proved_again(session, proof, policy, now);
                    if let Some(factor) = policy.factors.missing(&proved.proven()) {
                        *waiting += usize::from(!session.is_waiting());
                        *session = proved;
                        if session.has_begun() {
                            keep(scope, out);
                        }
                        (AdmissionKind::Waits(factor), admitted)
                    } else {
                        users.fits(scope, &proof.identity, None, policy)?;
                        *waiting -= usize::from(session.is_waiting());
                        *session = proved;
                        let kind = complete(session, now, out);
                        self.users.activated(scope, &proof.identity, &self.policy);
                        (kind, admitted)
                    }
                }
            }
            // Whoever came last is there, in whatever order the proofs were verified.
            Some(session) if session.authenticated > proof.at => return Err(Refused::Overtaken),
            Some(session) => {
                let leaving = matches!(session.state, State::Active).then_some(&session.identity);
                let missing = policy.factors.missing(&proof.proven());
                if missing.is_none() {
                    users.fits(scope, &proof.identity, leaving, policy)?;
                }
                let by = Some(Arc::clone(&proof.identity));
                self.finish(scope, Reason::Kicked, now, proof.connection, by, out);
                let kind = missing.map_or(AdmissionKind::TookOver, AdmissionKind::Waits);
                (kind, self.begin(scope, proof, missing, now, out))
            }
            None => {
                let missing = policy.factors.missing(&proof.proven());
                if missing.is_none() {
                    users.fits(scope, &proof.identity, None, policy)?;
                }
                let kind = missing.map_or(AdmissionKind::LoggedIn, AdmissionKind::Waits);
                (kind, self.begin(scope, proof, missing, now, out))
            }
        };
        self.refresh(scope, evidence, now, out);
        Ok(Admission { admitted, kind })
    }

    /// Undoes a proof that could not be kept: nobody was told of it. A session that was there `before` goes on waiting as it
    /// did; one that began is gone, and nothing is said of it. Refresh it afterwards.
    pub fn rollback(
        &mut self,
        scope: impl Into<Scope>,
        id: SessionId,
        before: Option<Session>,
        out: &mut Vec<Effect>,
    ) {
        let scope = scope.into();
        let Some(session) = self.sessions.get_mut(scope).filter(|session| session.id == id) else { return };
        let Some(before) = before.filter(|before| before.id == id) else {
            self.discard(scope, None, out);
            return;
        };
        let counted = matches!(session.state, State::Active) && !matches!(before.state, State::Active);
        let identity = Arc::clone(&before.identity);
        self.waiting = self.waiting + usize::from(before.is_waiting()) - usize::from(session.is_waiting());
        *session = before;
        self.index.withdraw(scope);
        keep(scope, out);
        if counted {
            self.users.deactivated(scope, &identity, &self.policy);
        }
    }

    /// Begins a session; while a factor is `missing` it waits, and is no login yet.
    fn begin(
        &mut self,
        scope: Scope,
        proof: &Proof,
        missing: Option<Factor>,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) -> Admitted {
        let id = self.next_id;
        self.next_id = id.next();
        let session = Session {
            id,
            client: scope.client,
            connection: scope.connection,
            identity: self.users.session_added(&proof.identity),
            method: proof.method,
            factors: proof.factors,
            enrolled: proof.enrolled,
            device: proof.device,
            created: now,
            authenticated: proof.at.min(now),
            judged_from: proof.at.min(now),
            counted_from: now,
            state: State::Active,
            traffic_before: None,
        };
        let admitted = Admitted::from(&session);
        if missing.is_some() {
            self.insert(Session { state: State::Waiting { was_served: false }, ..session });
            return admitted;
        }
        keep(scope, out);
        out.push(audit(&session, now, What::Login(proved(&session))));
        self.insert(session);
        self.users.activated(scope, &proof.identity, &self.policy);
        admitted
    }
}

impl Proof {
    /// What it proves.
    #[must_use]
    pub fn proven(&self) -> Proven<'_> {
        let Self { identity, method, factors, enrolled, .. } = self;
        Proven { identity, method: *method, factors: *factors, enrolled: *enrolled }
    }
}

/// The session of a user who proves themselves again while nothing is served on it. Factors are added up while it waits
/// for one. Where it is stale everything has run out, further factors too, and all has to be proved anew.
fn proved_again(session: &Session, proof: &Proof, policy: &Policy, now: BootTime) -> Session {
    // Two proofs may be admitted in another order than they were given in: time does not go back.
    let at = proof.at.min(now);
    let proved = Session {
        authenticated: session.authenticated.max(at),
        judged_from: session.judged_from.max(at),
        device: proof.device,
        enrolled: proof.enrolled,
        ..session.clone()
    };
    match session.state {
        State::Stale { .. } => Session {
            method: proof.method,
            factors: proof.factors,
            counted_from: now,
            state: State::Waiting { was_served: true },
            ..proved
        },
        State::Active | State::Waiting { .. } => Session {
            method: method_after(session, proof, policy),
            factors: session.factors.and(proof.factors),
            ..proved
        },
    }
}

/// By which method a session counts as proved after another proof: the last, unless that demands a factor which is not
/// there and the one before does not. A weaker proof takes nothing from a session: nor does an application password, which is good
/// alone, and would end with itself what stands by more.
fn method_after(session: &Session, proof: &Proof, policy: &Policy) -> Method {
    let factors = session.factors.and(proof.factors);
    let suffices = |method| {
        let proven = Proven { method, factors, ..proof.proven() };
        policy.factors.missing(&proven).is_none()
    };
    let is_weaker = proof.method == Method::ApplicationPassword || !suffices(proof.method);
    if is_weaker && suffices(session.method) { session.method } else { proof.method }
}

/// Nothing is missing any more: the session that waited is served, from now on or again.
pub(super) fn complete(session: &mut Session, now: BootTime, out: &mut Vec<Effect>) -> AdmissionKind {
    let was_served = session.has_begun();
    session.state = State::Active;
    keep(session.scope(), out);
    let what = if was_served { What::Renewed(proved(session)) } else { What::Login(proved(session)) };
    out.push(audit(session, now, what));
    if was_served { AdmissionKind::Renewed } else { AdmissionKind::LoggedIn }
}

/// A deadline that a proof would move by less than this part of the timeout is left where it is.
const WORTH_MOVING: u32 = 100;

/// The user of a valid session proved themselves again.
fn confirm(
    session: &mut Session,
    proof: &Proof,
    evidence: &Evidence,
    policy: &Policy,
    now: BootTime,
    out: &mut Vec<Effect>,
) {
    let at = proof.at.min(now);
    session.authenticated = session.authenticated.max(at);
    session.method = method_after(session, proof, policy);
    let factors = session.factors.and(proof.factors);
    let before = (session.device, session.factors, session.enrolled);
    if before != (proof.device, factors, proof.enrolled) {
        (session.device, session.factors, session.enrolled) = (proof.device, factors, proof.enrolled);
        keep(session.scope(), out);
    }
    let confirmed = Session { judged_from: session.judged_from.max(at), ..session.clone() };
    let (Verdict::Active { good_until: before, reopened, .. }, Verdict::Active { good_until: after, .. }) =
        (judge(session, evidence, policy, now), judge(&confirmed, evidence, policy, now))
    else {
        return;
    };
    if reopened || after.since(before) >= policy.timeouts.timeout / WORTH_MOVING {
        *session = confirmed;
        keep(session.scope(), out);
    }
}

fn proved(session: &Session) -> Proved {
    Proved { method: session.method, factors: session.factors }
}
