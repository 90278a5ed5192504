//! All sessions and their deadlines: proofs, looks and moments go in; decisions and effects come out.
//!
//! One writer owns the table (`tracker.rs`); what it decides is published in the [`Index`]. Effects are pushed onto the
//! caller's list in the order in which the world must see them.

use std::sync::Arc;
use std::time::Duration;

use tracker_ebpf::abi::ClientAddr;
use tracker_ebpf::record::Record;

use super::clients::{ClientMap, OfClient, Place};
use super::deadlines::Deadlines;
use super::device::Device;
use super::event::{Effect, Event, Reason, What};
use super::identity::{Identity, Method};
use super::index::{Admitted, Decision, Index};
use super::judge::{Verdict, judge};
use super::people::People;
use super::policy::Policy;
use super::record::{Session, SessionId, State};
use super::settings::OnTimeout;
use crate::clock::BootTime;
use crate::observe::ConnectionId;

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
    /// The connection that carried it: spared when the previous user is kicked out.
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
}

/// See the module.
#[derive(Debug)]
pub struct Table {
    policy: Policy,
    sessions: ClientMap<Session>,
    deadlines: Deadlines,
    people: People,
    next_id: u64,
    index: Arc<Index>,
}

impl OfClient for Session {
    fn client(&self) -> ClientAddr {
        self.client
    }
}

impl Table {
    /// An empty table that numbers its sessions from `first_id` and publishes into `index`.
    #[must_use]
    pub fn new(first_id: u64, policy: Policy, index: Arc<Index>) -> Self {
        Self {
            policy,
            sessions: ClientMap::default(),
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

    /// The session of a client, active or stale, as it was last judged.
    #[must_use]
    pub fn session(&self, client: ClientAddr) -> Option<&Session> {
        self.sessions.get(client)
    }

    /// All sessions, active and stale, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter()
    }

    /// A walk over all sessions, in portions: the clients of those among the next so many places, from the one with this
    /// number on. Whose session begins during the walk may be left out.
    pub fn portion(&self, from: usize, places: usize) -> impl Iterator<Item = ClientAddr> {
        self.sessions.range(from, places).map(|session| session.client)
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
        self.people.devices()
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
    pub fn pop_due(&mut self, now: BootTime) -> Option<(BootTime, ClientAddr)> {
        let (at, place) = self.deadlines.first().filter(|(at, _)| *at <= now)?;
        self.deadlines.set(place, None);
        Some((at, self.sessions.at(place)?.client))
    }

    /// A request without credentials: is it served? `record` is the kernel's, read before
    /// `now`: a stamp in it that is later than `now` would be taken for a gap after the proof.
    pub fn check(
        &mut self,
        client: ClientAddr,
        record: &Record,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) -> Decision {
        match self.look(client, record, now, out) {
            Some(Verdict::Active { reopened: false, .. }) => match self.session(client) {
                Some(session) => Decision::Allow(admitted(session)),
                None => Decision::Challenge,
            },
            _ => Decision::Challenge,
        }
    }

    /// Judges a client's session anew: a hint, a deadline or a resync said that something may have changed.
    pub fn look(
        &mut self,
        client: ClientAddr,
        record: &Record,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) -> Option<Verdict> {
        let place = self.sessions.find(client)?;
        let session = self.sessions.at(place)?;
        let verdict = judge(session, record, &self.policy, now);
        match verdict {
            Verdict::Active { good_until, deadline, .. } => {
                self.index.publish(client, good_until, admitted(session));
                self.deadlines.set(place, deadline);
            }
            Verdict::Stale { reason, since } => self.stale(place, reason, since, record, now, out),
            Verdict::Ended { at } => {
                self.finish(client, Reason::Lifetime, at, None, None, out);
            }
        }
        Some(verdict)
    }

    /// A verified proof of identity: logs in, confirms, renews, or kicks the previous user out.
    ///
    /// # Errors
    /// When a new session may not begin; an older one of the same client is left as it was.
    pub fn prove(
        &mut self,
        proof: &Proof,
        record: &Record,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) -> Result<Admission, Refused> {
        // First let time have its say, so that what follows is compared with what is true now.
        self.look(proof.client, record, now, out);

        let Self { people, policy, sessions, .. } = self;
        let (kind, admitted) = match sessions.get_mut(proof.client) {
            Some(session) if session.identity == proof.identity => {
                let admitted = admitted(session);
                if matches!(session.state, State::Active) {
                    confirm(session, proof, record, policy, now, out);
                    (AdmissionKind::Confirmed, admitted)
                } else {
                    people.fits(&proof.identity, None, policy)?;
                    renew(session, proof, now, out);
                    self.people.device_added(&proof.identity, &self.policy);
                    (AdmissionKind::Renewed, admitted)
                }
            }
            Some(session) => {
                let leaving = matches!(session.state, State::Active).then_some(&*session.identity);
                people.fits(&proof.identity, leaving, policy)?;
                let by = Some(Arc::clone(&proof.identity));
                self.finish(proof.client, Reason::Kicked, now, proof.connection, by, out);
                (AdmissionKind::TookOver, self.begin(proof, now, out))
            }
            None => {
                people.fits(&proof.identity, None, policy)?;
                (AdmissionKind::LoggedIn, self.begin(proof, now, out))
            }
        };
        self.look(proof.client, record, now, out);
        Ok(Admission { admitted, kind })
    }

    /// Brings back a session that the store kept. Look at its client afterwards.
    pub fn restore(&mut self, mut session: Session) {
        self.next_id = self.next_id.max(session.id.0 + 1);
        session.identity = self.people.session_added(&session.identity);
        if matches!(session.state, State::Active) {
            self.people.device_added(&session.identity, &self.policy);
        }
        self.sessions.insert(session);
    }

    /// Takes a session back that could not be kept: it was never announced, so nothing is said of it. If it had been
    /// there `before`, it goes on waiting as it did.
    pub fn take_back(
        &mut self,
        client: ClientAddr,
        id: SessionId,
        before: Option<Session>,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(client).filter(|session| session.id == id) else { return };
        let Some(before) = before.filter(|before| before.id == id) else {
            self.finish(client, Reason::Shutdown, now, None, None, out);
            return out.retain(|effect| !matches!(effect, Effect::Audit(event) if event.session == id));
        };
        let counted = matches!(session.state, State::Active) && !matches!(before.state, State::Active);
        let identity = Arc::clone(&before.identity);
        *session = before;
        self.index.withdraw(client);
        out.push(Effect::Keep(client));
        if counted {
            self.people.device_removed(&identity, &self.policy);
        }
    }

    /// Asks for a look at `at`: the record could not be read at the deadline.
    pub fn postpone(&mut self, client: ClientAddr, at: BootTime) {
        if let Some(place) = self.sessions.find(client) {
            self.deadlines.set(place, Some(at));
        }
    }

    /// Ends a client's session, if there is one.
    pub fn end(
        &mut self,
        client: ClientAddr,
        reason: Reason,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) -> Option<Session> {
        self.finish(client, reason, now, None, None, out)
    }

    /// Puts another policy in force. Look at every client afterwards; sessions that ended by the old policy must have
    /// been looked at before.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
        self.people.recount(&self.policy);
        self.index.outdate();
    }

    fn begin(&mut self, proof: &Proof, now: BootTime, out: &mut Vec<Effect>) -> Admitted {
        let id = SessionId(self.next_id);
        self.next_id += 1;
        let session = Session {
            id,
            client: proof.client,
            identity: self.people.session_added(&proof.identity),
            method: proof.method,
            device: proof.device,
            created: now,
            authenticated: now,
            judged_from: now,
            counted_from: now,
            state: State::Active,
        };
        out.push(Effect::Keep(proof.client));
        out.push(audit(&session, now, What::Login(proof.method)));
        let admitted = admitted(&session);
        self.sessions.insert(session);
        self.people.device_added(&proof.identity, &self.policy);
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
        let client = session.client;
        let was_active = matches!(session.state, State::Active);
        if was_active {
            session.state = State::Stale { reason, since };
            self.index.withdraw(client);
            out.push(Effect::Keep(client));
            if self.policy.timeouts.on_timeout == OnTimeout::Close {
                out.push(Effect::Destroy { client, session: session.id, except: None });
            }
            out.push(audit(session, since, What::Stale(reason)));
            self.people.device_removed(&session.identity, &self.policy);
        }
        let forget_at = since.after(STALE_RETENTION);
        if now >= forget_at && !record.is_open(now.as_nanos()) {
            self.finish(client, reason, now, None, None, out);
            return;
        }
        let lifetime_end = self.policy.timeouts.lifetime().map(|lifetime| session.created.after(lifetime));
        let again = if now >= forget_at { now.after(STALE_RETENTION) } else { forget_at };
        self.deadlines.set(place, Some(lifetime_end.map_or(again, |end| end.min(again))));
    }

    fn finish(
        &mut self,
        client: ClientAddr,
        reason: Reason,
        at: BootTime,
        spared: Option<ConnectionId>,
        by: Option<Arc<Identity>>,
        out: &mut Vec<Effect>,
    ) -> Option<Session> {
        let (place, session) = self.sessions.remove(client)?;
        self.index.withdraw(client);
        self.deadlines.set(place, None);
        let was_stale = !matches!(session.state, State::Active);
        if !was_stale {
            self.people.device_removed(&session.identity, &self.policy);
        }
        self.people.session_removed(&session.identity);
        out.push(Effect::Destroy { client, session: session.id, except: spared });
        out.push(Effect::Keep(client));
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
    session.state = State::Active;
    session.authenticated = now;
    session.judged_from = now;
    session.counted_from = now;
    out.push(Effect::Keep(proof.client));
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
    session.authenticated = now;
    session.method = proof.method;
    if session.device != proof.device {
        session.device = proof.device;
        out.push(Effect::Keep(proof.client));
    }
    let confirmed = Session { judged_from: now, ..session.clone() };
    let (Verdict::Active { good_until: before, reopened, .. }, Verdict::Active { good_until: after, .. }) =
        (judge(session, record, policy, now), judge(&confirmed, record, policy, now))
    else {
        return;
    };
    if reopened || after.since(before) >= policy.timeouts.timeout / WORTH_MOVING {
        *session = confirmed;
        out.push(Effect::Keep(proof.client));
    }
}

fn admitted(session: &Session) -> Admitted {
    Admitted { session: session.id, identity: Arc::clone(&session.identity) }
}

fn audit(session: &Session, at: BootTime, what: What) -> Effect {
    Effect::Audit(Event {
        at,
        client: session.client,
        session: session.id,
        identity: Arc::clone(&session.identity),
        what,
    })
}
