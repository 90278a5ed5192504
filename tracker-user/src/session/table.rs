//! All sessions and their deadlines: proofs, looks and moments go in; decisions and effects come out.
//!
//! One writer owns the table (`tracker.rs`); what it decides is published in the [`Index`]. Effects are pushed onto the
//! caller's list in the order in which the world must see them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tracker_ebpf::record::Record;

use super::deadlines::Deadlines;
use super::event::{Effect, Event, Reason, What};
use super::index::{Admitted, Decision, Index};
use super::judge::{Verdict, judge};
use super::people::People;
use super::piece_map::{Keyed, PieceMap, Place};
use super::policy::Policy;
use super::record::{Session, State};
use super::settings::OnTimeout;
use crate::clock::BootTime;
use crate::types::{ClientAddr, ConnectionId, Device, Identity, Method, Scope, SessionId, UserMessage};

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
    /// The session that requests are served on from now.
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

/// See the module.
#[derive(Debug)]
pub struct Table {
    policy: Policy,
    sessions: PieceMap<Session>,
    /// Shared hosts, and those of their connections that have a session.
    shared: HashMap<ClientAddr, BTreeSet<ConnectionId>>,
    deadlines: Deadlines,
    people: People,
    next_id: u64,
    index: Arc<Index>,
}

impl Keyed for Session {
    type Key = Scope;

    fn key(&self) -> Scope {
        self.scope()
    }
}

impl Table {
    /// An empty table that numbers its sessions from `first_id` and publishes into `index`.
    #[must_use]
    pub fn new(first_id: u64, policy: Policy, index: Arc<Index>) -> Self {
        Self {
            policy,
            sessions: PieceMap::default(),
            shared: HashMap::new(),
            deadlines: Deadlines::default(),
            people: People::default(),
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

    /// A walk over all sessions, in portions: what those are of among the next so many places, from the one with this
    /// number on. Whose session begins during the walk may be left out.
    pub fn portion(&self, from: usize, places: usize) -> impl Iterator<Item = Scope> {
        self.sessions.range(from, places).map(Session::scope)
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
        self.people.sessions()
    }

    /// How many users have an active session.
    #[must_use]
    pub const fn active_users(&self) -> usize {
        self.people.active()
    }

    /// How many licences are in use.
    #[must_use]
    pub const fn licences_used(&self) -> u32 {
        self.people.licences()
    }

    /// When the next deadline is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<BootTime> {
        self.deadlines.first().map(|(at, _)| at)
    }

    /// A deadline that is due at `now`, and whose it is; look at it with its record. Call until `None`.
    pub fn pop_due(&mut self, now: BootTime) -> Option<(BootTime, Scope)> {
        let (at, place) = self.deadlines.first().filter(|(at, _)| *at <= now)?;
        self.deadlines.set(place, None);
        Some((at, self.sessions.at(place)?.scope()))
    }

    /// A request without credentials: is it served? `record` is the kernel's of the client, or the connection's own where
    /// the session is of that; read before `now`: a stamp in it that is later than `now` would be taken for a gap after
    /// the proof.
    pub fn check(
        &mut self,
        scope: impl Into<Scope>,
        record: &Record,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) -> Decision {
        let scope = scope.into();
        match self.look(scope, record, now, out) {
            Some(Verdict::Active { reopened: false, .. }) => match self.session(scope) {
                Some(session) => Decision::Allow(admitted(session)),
                None => Decision::Challenge,
            },
            _ => Decision::Challenge,
        }
    }

    /// Judges a session anew: a hint, a deadline or a resync said that something may have changed.
    pub fn look(
        &mut self,
        scope: impl Into<Scope>,
        record: &Record,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) -> Option<Verdict> {
        let scope = scope.into();
        let place = self.sessions.find(scope)?;
        let session = self.sessions.at(place)?;
        let verdict = judge(session, record, &self.policy, now);
        match verdict {
            Verdict::Active { good_until, deadline, .. } => {
                self.index.publish(scope, good_until, admitted(session));
                self.deadlines.set(place, deadline);
            }
            Verdict::Stale { reason, since } => self.stale(place, reason, since, record, now, out),
            Verdict::Ended { at } => {
                self.finish(scope, Reason::Lifetime, at, None, None, out);
            }
        }
        Some(verdict)
    }

    /// A verified proof of identity: logs in, confirms, renews, or kicks the previous user out.
    ///
    /// # Errors
    /// When a new session may not begin; an older one in its place is left as it was.
    pub fn prove(
        &mut self,
        proof: &Proof,
        record: &Record,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) -> Result<Admission, Refused> {
        let scope = self.policy.scope(proof.client, proof.connection).ok_or(Refused::SharedHost)?;
        // First let time have its say, so that what follows is compared with what is true now.
        self.look(scope, record, now, out);

        let Self { people, policy, sessions, .. } = self;
        let (kind, admitted) = match sessions.get_mut(scope) {
            Some(session) if session.identity == proof.identity => {
                let admitted = admitted(session);
                if matches!(session.state, State::Active) {
                    confirm(session, proof, record, policy, now, out);
                    (AdmissionKind::Confirmed, admitted)
                } else {
                    people.fits(scope, &proof.identity, None, policy)?;
                    renew(session, proof, now, out);
                    self.people.activated(scope, &proof.identity, &self.policy);
                    (AdmissionKind::Renewed, admitted)
                }
            }
            // Whoever came last is there, in whatever order the proofs were verified.
            Some(session) if session.authenticated > proof.at => return Err(Refused::Overtaken),
            Some(session) => {
                let leaving = matches!(session.state, State::Active).then_some(&session.identity);
                people.fits(scope, &proof.identity, leaving, policy)?;
                let by = Some(Arc::clone(&proof.identity));
                self.finish(scope, Reason::Kicked, now, proof.connection, by, out);
                (AdmissionKind::TookOver, self.begin(scope, proof, now, out))
            }
            None => {
                people.fits(scope, &proof.identity, None, policy)?;
                (AdmissionKind::LoggedIn, self.begin(scope, proof, now, out))
            }
        };
        self.look(scope, record, now, out);
        Ok(Admission { admitted, kind })
    }

    /// Brings back a session that the store kept. Look at its client afterwards.
    pub fn restore(&mut self, mut session: Session) {
        self.next_id = self.next_id.max(session.id.0 + 1);
        session.identity = self.people.session_added(&session.identity);
        if matches!(session.state, State::Active) {
            self.people.activated(session.scope(), &session.identity, &self.policy);
        }
        self.insert(session);
    }

    /// Takes a session back that could not be kept: it was never announced, so nothing is said of it. If it had been
    /// there `before`, it goes on waiting as it did.
    pub fn take_back(
        &mut self,
        scope: impl Into<Scope>,
        id: SessionId,
        before: Option<Session>,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) {
        let scope = scope.into();
        let Some(session) = self.sessions.get_mut(scope).filter(|session| session.id == id) else { return };
        let Some(before) = before.filter(|before| before.id == id) else {
            self.finish(scope, Reason::Shutdown, now, None, None, out);
            return out.retain(|effect| !matches!(effect, Effect::Audit(event) if event.session == id));
        };
        let counted = matches!(session.state, State::Active) && !matches!(before.state, State::Active);
        let identity = Arc::clone(&before.identity);
        *session = before;
        self.index.withdraw(scope);
        keep(scope, out);
        if counted {
            self.people.deactivated(scope, &identity, &self.policy);
        }
    }

    /// Asks for a look at `at`: the record could not be read at the deadline.
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
            Some(State::Active) | None => Reason::ClosedTimeout,
        };
        self.finish(scope, reason, at, None, None, out);
    }

    /// Puts another policy in force. Look at every session afterwards; sessions that ended by the old policy must have
    /// been looked at before. Where an address is shared now and was not, or the other way round, all sessions end.
    pub fn set_policy(&mut self, policy: Policy, now: BootTime, out: &mut Vec<Effect>) {
        let shared_hosts_changed = policy.timeouts.shared_hosts != self.policy.timeouts.shared_hosts;
        self.policy = policy;
        self.people.recount(&self.policy);
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

    fn begin(&mut self, scope: Scope, proof: &Proof, now: BootTime, out: &mut Vec<Effect>) -> Admitted {
        let id = SessionId(self.next_id);
        self.next_id += 1;
        let session = Session {
            id,
            client: scope.client,
            connection: scope.connection,
            identity: self.people.session_added(&proof.identity),
            method: proof.method,
            device: proof.device,
            created: now,
            authenticated: proof.at.min(now),
            judged_from: proof.at.min(now),
            counted_from: now,
            state: State::Active,
        };
        keep(scope, out);
        out.push(audit(&session, now, What::Login(proof.method)));
        let admitted = admitted(&session);
        self.insert(session);
        self.people.activated(scope, &proof.identity, &self.policy);
        admitted
    }

    fn stale(
        &mut self,
        place: Place,
        reason: Reason,
        since: BootTime,
        record: &Record,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.at_mut(place) else { return };
        let scope = session.scope();
        let was_active = matches!(session.state, State::Active);
        if was_active {
            session.state = State::Stale { reason, since };
            self.index.withdraw(scope);
            keep(scope, out);
            if self.policy.timeouts.on_timeout == OnTimeout::Close {
                out.push(Effect::Destroy { scope, session: session.id, except: None });
            }
            out.push(audit(session, since, What::Stale(reason)));
            self.people.deactivated(scope, &session.identity, &self.policy);
        }
        let forget_at = since.after(STALE_RETENTION);
        if now >= forget_at && !record.is_open(now.as_nanos()) {
            self.finish(scope, reason, now, None, None, out);
            return;
        }
        let lifetime_end = self.policy.timeouts.lifetime().map(|lifetime| session.created.after(lifetime));
        let again = if now >= forget_at { now.after(STALE_RETENTION) } else { forget_at };
        self.deadlines.set(place, Some(lifetime_end.map_or(again, |end| end.min(again))));
    }

    fn finish(
        &mut self,
        scope: Scope,
        reason: Reason,
        at: BootTime,
        spared: Option<ConnectionId>,
        by: Option<Arc<Identity>>,
        out: &mut Vec<Effect>,
    ) -> Option<Session> {
        let (place, session) = self.remove(scope)?;
        self.index.withdraw(scope);
        self.deadlines.set(place, None);
        let was_stale = !matches!(session.state, State::Active);
        if !was_stale {
            self.people.deactivated(scope, &session.identity, &self.policy);
        }
        self.people.session_removed(&session.identity);
        out.push(Effect::Destroy { scope, session: session.id, except: spared });
        keep(scope, out);
        out.push(audit(
            &session,
            at,
            What::Ended { reason, duration: at.since(session.created), by, was_stale },
        ));
        Some(session)
    }
}

/// The user of a stale session proved themselves again: it goes on.
fn renew(session: &mut Session, proof: &Proof, now: BootTime, out: &mut Vec<Effect>) {
    // Two proofs may be admitted in another order than they were given in: time does not go back.
    let at = proof.at.min(now);
    session.state = State::Active;
    session.authenticated = session.authenticated.max(at);
    session.judged_from = session.judged_from.max(at);
    session.counted_from = now;
    keep(session.scope(), out);
    session.method = proof.method;
    session.device = proof.device;
    out.push(audit(session, now, What::Renewed(proof.method)));
}

/// A deadline that a proof would move by less than this part of the timeout is left where it is.
const WORTH_MOVING: u32 = 100;

/// The user of a valid session proved themselves again.
fn confirm(
    session: &mut Session,
    proof: &Proof,
    record: &Record,
    policy: &Policy,
    now: BootTime,
    out: &mut Vec<Effect>,
) {
    let at = proof.at.min(now);
    session.authenticated = session.authenticated.max(at);
    session.method = proof.method;
    if session.device != proof.device {
        session.device = proof.device;
        keep(session.scope(), out);
    }
    let confirmed = Session { judged_from: session.judged_from.max(at), ..session.clone() };
    let (Verdict::Active { good_until: before, reopened, .. }, Verdict::Active { good_until: after, .. }) =
        (judge(session, record, policy, now), judge(&confirmed, record, policy, now))
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

fn admitted(session: &Session) -> Admitted {
    Admitted { session: session.id, identity: Arc::clone(&session.identity) }
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
