//! All sessions and their deadlines: proofs, evidence and moments go in; decisions and effects come out.
//!
//! One writer owns the table (`tracker.rs`); what it decides is published in the [`Index`]. Effects are pushed onto the
//! caller's list in the order in which the world must see them.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::deadlines::Deadlines;
use super::decide::{Admitted, Arrival, Decided, Decision, Situation, decide, is_replaced};
use super::event::{Effect, Event, Proved, Reason, What};
use super::evidence::Evidence;
use super::factors::Proven;
use super::index::{Answer, Index};
use super::judge::{Verdict, judge};
use super::piece_map::{Keyed, PieceMap, Place};
use super::policy::Policy;
use super::record::{Session, State};
use super::settings::OnTimeout;
use super::users::Users;
use crate::clock::BootTime;
use crate::types::{
    ClientAddr, ConnectionId, Device, Factor, Factors, Identity, Method, Scope, SessionId, Traffic,
    UserMessage,
};

/// How long a stale session whose client does not count as open waits for its user before it is forgotten.
pub const STALE_RETENTION: Duration = Duration::from_secs(24 * 3600);

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
    /// The further factors that its user has set up, whether this proves them or not.
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

/// What the table does not know by itself of the situation that it decides in.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What is known of what the client did, or of what happened on the connection where the session is of that, read
    /// before `now`: a moment in it that is later than `now` would be taken for a gap after the proof. `None` if it cannot
    /// be read.
    pub evidence: Option<&'a Evidence>,
    /// The device at the address now; `None` if it is not known, or a router's.
    pub device: Option<Device>,
    /// Since when every connection was watched; `None` while that is in doubt.
    pub watched_since: Option<BootTime>,
    /// The connection on which the request came.
    pub arrival: Arrival,
    /// Now.
    pub now: BootTime,
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
                "You cannot be logged in: as many users are logged in as this proxy has licences for. Try again later, or ask \
                 its operator."
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

/// All sessions.
#[derive(Debug)]
pub struct Table {
    policy: Policy,
    sessions: PieceMap<Session>,
    /// Shared hosts, and those of their connections that have a session.
    shared: HashMap<ClientAddr, BTreeSet<ConnectionId>>,
    deadlines: Deadlines,
    users: Users,
    next_id: SessionId,
    index: Arc<Index>,
}

impl Keyed for Session {
    type Key = Scope;

    fn key(&self) -> Scope {
        self.scope()
    }
}

impl Table {
    /// An empty table that numbers its sessions from `first_id` on and publishes into `index`.
    #[must_use]
    pub fn new(first_id: SessionId, policy: Policy, index: Arc<Index>) -> Self {
        Self {
            policy,
            sessions: PieceMap::default(),
            shared: HashMap::new(),
            deadlines: Deadlines::default(),
            users: Users::default(),
            next_id: first_id,
            index,
        }
    }

    /// The policy in force.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The session of a client address, or of one connection of a shared host, active or stale, as it was last judged.
    #[must_use]
    pub fn session(&self, scope: impl Into<Scope>) -> Option<&Session> {
        self.sessions.get(scope.into())
    }

    /// All sessions from a client address: the address's own, or its connections'.
    pub fn of(&self, client: ClientAddr) -> impl Iterator<Item = &Session> {
        let connections = self.shared.get(&client).into_iter().flatten();
        let scopes = connections.map(move |connection| Scope::connection(client, *connection));
        std::iter::once(client.into()).chain(scopes).filter_map(|scope| self.sessions.get(scope))
    }

    /// All sessions, active and stale, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter()
    }

    /// A walk over all sessions, in portions: those at the next so many places, from the one with this number on. A session
    /// keeps its place for as long as it lives, so that one that is there during the whole walk is met once. One that begins
    /// or ends meanwhile is met or not; where it followed another of the same client, both may be met, or neither.
    pub fn portion(&self, from: usize, places: usize) -> impl Iterator<Item = &Session> {
        self.sessions.range(from, places)
    }

    /// A walk over the sessions of a client's connections, in portions: the next so many, in the order of the connections'
    /// numbers, behind the connection `after`. A session that is there during the whole walk is met once; one that begins or
    /// ends meanwhile is met or not.
    pub fn portion_of(
        &self,
        client: ClientAddr,
        after: Option<ConnectionId>,
        most: usize,
    ) -> impl Iterator<Item = &Session> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let connections = self.shared.get(&client).into_iter();
        let connections = connections.flat_map(move |all| all.range((from, Bound::Unbounded))).take(most);
        let scopes = connections.map(move |connection| Scope::connection(client, *connection));
        scopes.filter_map(|scope| self.sessions.get(scope))
    }

    /// How many places there are to walk over: not less than there are sessions.
    #[must_use]
    pub fn places(&self) -> usize {
        self.sessions.end()
    }

    /// How many sessions there are, active and stale.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.len() == 0
    }

    /// How many sessions are active.
    #[must_use]
    pub const fn active(&self) -> usize {
        self.users.sessions()
    }

    /// How many users have an active session.
    #[must_use]
    pub const fn active_users(&self) -> usize {
        self.users.active()
    }

    /// How many licences are in use.
    #[must_use]
    pub const fn licences_used(&self) -> u32 {
        self.users.licences()
    }

    /// When the next deadline is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<BootTime> {
        self.deadlines.first().map(|(at, _)| at)
    }

    /// A deadline that is due at `now`, and whose it is; refresh it with its evidence. Call until `None`.
    pub fn pop_due(&mut self, now: BootTime) -> Option<(BootTime, Scope)> {
        let (at, place) = self.deadlines.first().filter(|(at, _)| *at <= now)?;
        self.deadlines.set(place, None);
        Some((at, self.sessions.at(place)?.scope()))
    }

    /// The session of a client that is to be kept on disk, if there is one: a login that still waits for a factor is not.
    #[must_use]
    pub fn kept(&self, client: ClientAddr) -> Option<&Session> {
        self.session(client).filter(|session| session.has_begun())
    }

    /// The situation of a request on a client address, or on one connection of a shared host.
    #[must_use]
    pub fn situation<'a>(&'a self, scope: Scope, facts: &Facts<'a>) -> Situation<'a> {
        let Facts { evidence, device, watched_since, arrival, now } = *facts;
        Situation {
            client: scope.client,
            is_shared_host: scope.connection.is_some(),
            session: self.session(scope),
            evidence,
            device,
            watched_since,
            arrival,
            policy: &self.policy,
            now,
        }
    }

    /// A request without credentials: what becomes of it, by [`decide`]? What time or another device has done to the session
    /// is carried out.
    pub fn check(&mut self, scope: impl Into<Scope>, facts: &Facts<'_>, out: &mut Vec<Effect>) -> Decision {
        let scope = scope.into();
        let situation = self.situation(scope, facts);
        let Decided { decision, verdict, .. } = decide(&situation);
        if situation.session.is_some_and(|session| is_replaced(&situation, session)) {
            self.finish(scope, Reason::DeviceChanged, facts.now, None, None, out);
        } else if let (Some(place), Some(verdict), Some(evidence)) =
            (self.sessions.find(scope), verdict, facts.evidence)
        {
            self.follow(place, verdict, evidence, facts.now, out);
        }
        decision
    }

    /// Judges a session anew: a hint, a deadline or a resync said that something may have changed. `evidence` was read
    /// before `now`.
    pub fn refresh(
        &mut self,
        scope: impl Into<Scope>,
        evidence: &Evidence,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) {
        if let Some(place) = self.sessions.find(scope.into())
            && let Some(session) = self.sessions.at(place)
        {
            let verdict = judge(session, evidence, &self.policy, now);
            self.follow(place, verdict, evidence, now, out);
        }
    }

    /// Does to a session what the judge has said of it.
    fn follow(
        &mut self,
        place: Place,
        verdict: Verdict,
        evidence: &Evidence,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.at_mut(place) else { return };
        let scope = session.scope();
        match verdict {
            Verdict::Active { good_until, deadline, .. } => {
                let missing = self.policy.factors.missing(&session.proven());
                match (missing, session.state) {
                    // More is required than when its user was served.
                    (Some(_), State::Active) => {
                        session.state = State::Waiting { was_served: true };
                        self.users.deactivated(scope, &session.identity, &self.policy);
                    }
                    // Less is required than when it began to wait.
                    (None, State::Waiting { .. }) => {
                        complete(session, now, out);
                        self.users.activated(scope, &session.identity, &self.policy);
                    }
                    _ => {}
                }
                let answer = match missing {
                    Some(factor) => Answer::StepUp(factor),
                    None => Answer::Allow(Admitted::from(&*session)),
                };
                self.index.publish(scope, good_until, answer);
                self.deadlines.set(place, deadline);
            }
            Verdict::Stale { reason, since } if session.has_begun() => {
                self.stale(place, reason, since, evidence, now, out);
            }
            // Nobody was ever served on it: there is nothing to wait for.
            Verdict::Stale { reason, since } => {
                self.finish(scope, reason, since, None, None, out);
            }
            Verdict::Ended { at } => {
                self.finish(scope, Reason::Lifetime, at, None, None, out);
            }
        }
    }

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

        let Self { users, policy, sessions, .. } = self;
        let (kind, admitted) = match sessions.get_mut(scope) {
            Some(session) if session.identity == proof.identity => {
                let admitted = Admitted::from(&*session);
                if matches!(session.state, State::Active) {
                    confirm(session, proof, evidence, policy, now, out);
                    (AdmissionKind::Confirmed, admitted)
                } else {
                    let proved = proved_again(session, proof, policy, now);
                    if let Some(factor) = policy.factors.missing(&proved.proven()) {
                        *session = proved;
                        if session.has_begun() {
                            keep(scope, out);
                        }
                        (AdmissionKind::Waits(factor), admitted)
                    } else {
                        users.fits(scope, &proof.identity, None, policy)?;
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

    /// Brings back a session that the store kept. Refresh it afterwards.
    pub fn restore(&mut self, mut session: Session) {
        if session.id.gateway() == self.next_id.gateway() {
            self.next_id = self.next_id.max(session.id.next());
        }
        session.identity = self.users.session_added(&session.identity);
        if matches!(session.state, State::Active) && self.policy.factors.missing(&session.proven()).is_some()
        {
            session.state = State::Waiting { was_served: true };
        }
        if matches!(session.state, State::Active) {
            self.users.activated(session.scope(), &session.identity, &self.policy);
        }
        self.insert(session);
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
        *session = before;
        self.index.withdraw(scope);
        keep(scope, out);
        if counted {
            self.users.deactivated(scope, &identity, &self.policy);
        }
    }

    /// A session began, and this much had been counted for its client, or its connection, before.
    pub fn counts_from(&mut self, scope: impl Into<Scope>, traffic: Traffic) {
        if let Some(session) = self.sessions.get_mut(scope.into()) {
            session.traffic_before = Some(traffic);
        }
    }

    /// Asks for a refresh at `at`: the evidence could not be read at the deadline.
    pub fn postpone(&mut self, scope: impl Into<Scope>, at: BootTime) {
        if let Some(place) = self.sessions.find(scope.into()) {
            self.deadlines.set(place, Some(at));
        }
    }

    /// Ends a session, if there is one.
    pub fn end(
        &mut self,
        scope: impl Into<Scope>,
        reason: Reason,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) -> Option<Session> {
        self.finish(scope.into(), reason, now, None, None, out)
    }

    /// A connection of a shared host was closed at `at`. It does not come back, and its session ends with it.
    pub fn closed(&mut self, scope: Scope, at: BootTime, out: &mut Vec<Effect>) {
        if scope.connection.is_none() {
            return;
        }
        let reason = match self.session(scope).map(|session| session.state) {
            Some(State::Stale { reason, .. }) => reason,
            Some(State::Active | State::Waiting { .. }) | None => Reason::ClosedTimeout,
        };
        self.finish(scope, reason, at, None, None, out);
    }

    /// Puts another policy in force. Refresh every session afterwards; those that ran out by the old policy must have been
    /// refreshed before. Where an address is shared now and was not, or the other way round, all sessions end.
    pub fn set_policy(&mut self, policy: Policy, now: BootTime, out: &mut Vec<Effect>) {
        let shared_hosts_changed = policy.timeouts.shared_hosts != self.policy.timeouts.shared_hosts;
        self.policy = policy;
        self.users.recount(&self.policy);
        self.index.outdate();
        if shared_hosts_changed {
            self.end_misplaced(now, out);
        }
    }

    /// Ends sessions of addresses that many users share, and of single connections where they do not.
    pub fn end_misplaced(&mut self, now: BootTime, out: &mut Vec<Effect>) {
        let timeouts = &self.policy.timeouts;
        let is_misplaced = |scope: &Scope| timeouts.is_shared(scope.client) != scope.connection.is_some();
        let misplaced: Vec<Scope> = self.sessions.iter().map(Session::scope).filter(is_misplaced).collect();
        for scope in misplaced {
            self.finish(scope, Reason::Admin, now, None, None, out);
        }
    }

    fn insert(&mut self, session: Session) {
        if let Some(connection) = session.connection {
            self.shared.entry(session.client).or_default().insert(connection);
        }
        self.sessions.insert(session);
    }

    fn remove(&mut self, scope: Scope) -> Option<(Place, Session)> {
        let removed = self.sessions.remove(scope)?;
        if let Some(connection) = scope.connection
            && let Some(connections) = self.shared.get_mut(&scope.client)
        {
            connections.remove(&connection);
            if connections.is_empty() {
                self.shared.remove(&scope.client);
            }
        }
        Some(removed)
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

    fn stale(
        &mut self,
        place: Place,
        reason: Reason,
        since: BootTime,
        evidence: &Evidence,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.at_mut(place) else { return };
        let scope = session.scope();
        let was_active = matches!(session.state, State::Active);
        if !matches!(session.state, State::Stale { .. }) {
            session.state = State::Stale { reason, since };
            self.index.withdraw(scope);
            keep(scope, out);
            if self.policy.timeouts.on_timeout == OnTimeout::Close {
                out.push(Effect::Destroy { scope, session: session.id, except: None });
            }
            out.push(audit(session, since, What::Stale(reason)));
            if was_active {
                self.users.deactivated(scope, &session.identity, &self.policy);
            }
        }
        let forget_at = since.after(STALE_RETENTION);
        if now >= forget_at && !evidence.is_open(now) {
            self.finish(scope, reason, now, None, None, out);
            return;
        }
        let lifetime_end = self.policy.timeouts.lifetime().map(|lifetime| session.created.after(lifetime));
        let again = if now >= forget_at { now.after(STALE_RETENTION) } else { forget_at };
        self.deadlines.set(place, Some(lifetime_end.map_or(again, |end| end.min(again))));
    }

    /// Ends a session, and says so. Of a login that was never completed there is nothing to say.
    fn finish(
        &mut self,
        scope: Scope,
        reason: Reason,
        at: BootTime,
        spared: Option<ConnectionId>,
        by: Option<Arc<Identity>>,
        out: &mut Vec<Effect>,
    ) -> Option<Session> {
        let session = self.discard(scope, spared, out)?;
        if session.has_begun() {
            let was_stale = !matches!(session.state, State::Active);
            let duration = at.since(session.created);
            let traffic_before = session.traffic_before;
            out.push(audit(&session, at, What::Ended { reason, duration, by, was_stale, traffic_before }));
        }
        Some(session)
    }

    /// Removes a session, and closes what is open for it except the connection that is `spared`.
    fn discard(
        &mut self,
        scope: Scope,
        spared: Option<ConnectionId>,
        out: &mut Vec<Effect>,
    ) -> Option<Session> {
        let (place, session) = self.remove(scope)?;
        self.index.withdraw(scope);
        self.deadlines.set(place, None);
        if matches!(session.state, State::Active) {
            self.users.deactivated(scope, &session.identity, &self.policy);
        }
        self.users.session_removed(&session.identity);
        // No connection was ever served on a login that was not completed.
        if session.has_begun() {
            out.push(Effect::Destroy { scope, session: session.id, except: spared });
        }
        keep(scope, out);
        Some(session)
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
/// there and the one before does not. A weaker proof takes nothing from a session.
fn method_after(session: &Session, proof: &Proof, policy: &Policy) -> Method {
    let factors = session.factors.and(proof.factors);
    let suffices = |method| {
        let proven = Proven { method, factors, ..proof.proven() };
        policy.factors.missing(&proven).is_none()
    };
    if !suffices(proof.method) && suffices(session.method) { session.method } else { proof.method }
}

/// Nothing is missing any more: the session that waited is served, from now on or again.
fn complete(session: &mut Session, now: BootTime, out: &mut Vec<Effect>) -> AdmissionKind {
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

/// A session of a single connection does not outlive the daemon: the connection does not.
fn keep(scope: Scope, out: &mut Vec<Effect>) {
    if scope.connection.is_none() {
        out.push(Effect::Keep(scope.client));
    }
}

fn proved(session: &Session) -> Proved {
    Proved { method: session.method, factors: session.factors }
}

fn audit(session: &Session, at: BootTime, what: What) -> Effect {
    Effect::Audit(Event {
        at,
        client: session.client,
        connection: session.connection,
        session: session.id,
        identity: Arc::clone(&session.identity),
        what,
    })
}
