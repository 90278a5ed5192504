//! All sessions and their deadlines: proofs, evidence and moments go in; decisions and effects come out.
//!
//! One writer owns the table (`tracker.rs`); what it decides is published in the [`Index`]. Effects are pushed onto the
//! caller's list in the order in which the world must see them.

mod proofs;

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use super::deadlines::Deadlines;
use super::decide::{Admitted, Arrival, Decided, Decision, Situation, decide, is_replaced};
use super::event::{Effect, Event, Reason, What};
use super::evidence::Evidence;
use super::index::{Answer, Index};
use super::judge::{Verdict, judge};
use super::piece_map::{Keyed, PieceMap, Place};
use super::policy::Policy;
use super::record::{Session, State};
use super::settings::OnTimeout;
use super::users::Users;
use crate::clock::BootTime;
use crate::types::{ClientAddr, ConnectionId, Device, Factors, Identity, Scope, SessionId, Traffic};

use self::proofs::complete;
pub use self::proofs::{Admission, AdmissionKind, Proof, Refused};

/// How long a stale session whose client does not count as open waits for its user before it is forgotten.
pub const STALE_RETENTION: Duration = Duration::from_secs(24 * 3600);

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

/// All sessions.
#[derive(Debug)]
pub struct Table {
    policy: Policy,
    sessions: PieceMap<Session>,
    /// Shared hosts, and those of their connections that have a session.
    shared: HashMap<ClientAddr, BTreeSet<ConnectionId>>,
    deadlines: Deadlines,
    users: Users,
    /// So many sessions wait for a further factor.
    waiting: usize,
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
            waiting: 0,
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

    /// How many sessions wait for a further factor.
    #[must_use]
    pub const fn waiting(&self) -> usize {
        self.waiting
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
                        self.waiting += 1;
                        self.users.deactivated(scope, &session.identity, &self.policy);
                    }
                    // Less is required than when it began to wait.
                    (None, State::Waiting { .. }) => {
                        complete(session, now, out);
                        self.waiting -= 1;
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

    /// A user has set up these further factors, and no others. Returns what their sessions are of: refresh each of them
    /// afterwards.
    pub fn set_enrolled(&mut self, user: &Identity, enrolled: Factors, out: &mut Vec<Effect>) -> Vec<Scope> {
        let is_changed = |session: &&Session| *session.identity == *user && session.enrolled != enrolled;
        let scopes: Vec<Scope> = self.sessions.iter().filter(is_changed).map(Session::scope).collect();
        for scope in &scopes {
            if let Some(session) = self.sessions.get_mut(*scope) {
                session.enrolled = enrolled;
                if session.has_begun() {
                    keep(*scope, out);
                }
            }
        }
        scopes
    }

    /// Puts another policy in force. Refresh every session afterwards; those that ran out by the old policy must have been
    /// refreshed before. Where an address is shared now and was not, or the other way round, all sessions end.
    pub fn set_policy(&mut self, policy: Policy, now: BootTime, out: &mut Vec<Effect>) {
        let shared_hosts_changed = policy.timeouts.shared_hosts != self.policy.timeouts.shared_hosts;
        let guests_changed = policy.guests != self.policy.guests;
        self.policy = policy;
        let Self { users, sessions, policy, .. } = self;
        if guests_changed {
            let active = sessions.iter().filter(|session| matches!(session.state, State::Active));
            users.recount_guests(active.map(|session| (session.scope(), &session.identity)), policy);
        } else {
            users.recount(policy);
        }
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
        self.waiting += usize::from(session.is_waiting());
        self.sessions.insert(session);
    }

    fn remove(&mut self, scope: Scope) -> Option<(Place, Session)> {
        let removed = self.sessions.remove(scope)?;
        self.waiting -= usize::from(removed.1.is_waiting());
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
            self.waiting -= usize::from(session.is_waiting());
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

/// A session of a single connection does not outlive the daemon: the connection does not.
fn keep(scope: Scope, out: &mut Vec<Effect>) {
    if scope.connection.is_none() {
        out.push(Effect::Keep(scope.client));
    }
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
