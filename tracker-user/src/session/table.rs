//! All sessions and their deadlines: proofs, looks and moments go in; decisions and effects come out.
//!
//! One writer owns the table (`tracker.rs`); what it decides is published in the [`Index`]. Effects are pushed onto the
//! caller's list in the order in which the world must see them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tracker_ebpf::abi::ClientAddr;
use tracker_ebpf::record::Record;

use super::device::Device;
use super::event::{Effect, Event, Reason, What};
use super::identity::{Identity, Method};
use super::index::{Admitted, Decision, Index};
use super::judge::{Verdict, judge};
use super::policy::Policy;
use super::record::{Session, SessionId, State};
use super::settings::OnTimeout;
use crate::clock::BootTime;
use crate::observe::ConnectionId;

/// How long a stale session without open connections waits for its user before it is forgotten.
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
    sessions: HashMap<ClientAddr, Slot>,
    deadlines: BTreeSet<(BootTime, ClientAddr)>,
    /// Client addresses with an active session, by user.
    devices: HashMap<Arc<str>, u32>,
    licences: u32,
    active: usize,
    next_id: u64,
    index: Arc<Index>,
}

#[derive(Debug)]
struct Slot {
    session: Session,
    deadline: Option<BootTime>,
}

impl Table {
    /// An empty table that numbers its sessions from `first_id` and publishes into `index`.
    #[must_use]
    pub fn new(first_id: u64, policy: Policy, index: Arc<Index>) -> Self {
        Self {
            policy,
            sessions: HashMap::new(),
            deadlines: BTreeSet::new(),
            devices: HashMap::new(),
            licences: 0,
            active: 0,
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
        self.sessions.get(&client).map(|slot| &slot.session)
    }

    /// All sessions, active and stale, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values().map(|slot| &slot.session)
    }

    /// How many sessions there are, active and stale.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// How many sessions are active.
    #[must_use]
    pub const fn active(&self) -> usize {
        self.active
    }

    /// How many users have an active session.
    #[must_use]
    pub fn active_users(&self) -> usize {
        self.devices.len()
    }

    /// How many licences are in use.
    #[must_use]
    pub const fn licences_used(&self) -> u32 {
        self.licences
    }

    /// When the next deadline is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<BootTime> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A deadline that is due at `now`, and whose it is; look at it with its record. Call until `None`.
    pub fn pop_due(&mut self, now: BootTime) -> Option<(BootTime, ClientAddr)> {
        let &(at, client) = self.deadlines.first()?;
        if at > now {
            return None;
        }
        self.deadlines.pop_first();
        if let Some(slot) = self.sessions.get_mut(&client) {
            slot.deadline = None;
        }
        Some((at, client))
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
        let slot = self.sessions.get_mut(&client)?;
        let verdict = judge(&slot.session, record, &self.policy, now);
        match verdict {
            Verdict::Active { good_until, deadline, .. } => {
                self.index.publish(client, good_until, admitted(&slot.session));
                set_deadline(&mut self.deadlines, slot, deadline);
            }
            Verdict::Stale { reason, since } => self.stale(client, reason, since, record, now, out),
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

        let (kind, admitted) = match self.sessions.get_mut(&proof.client) {
            Some(slot) if slot.session.identity == proof.identity => {
                let admitted = admitted(&slot.session);
                if matches!(slot.session.state, State::Active) {
                    confirm(&mut slot.session, proof, record, &self.policy, now, out);
                    (AdmissionKind::Confirmed, admitted)
                } else {
                    self.licence(&proof.identity, None)?;
                    self.renew(proof, now, out);
                    (AdmissionKind::Renewed, admitted)
                }
            }
            Some(slot) => {
                let leaving =
                    matches!(slot.session.state, State::Active).then(|| Arc::clone(&slot.session.identity));
                self.licence(&proof.identity, leaving.as_deref())?;
                let by = Some(Arc::clone(&proof.identity));
                self.finish(proof.client, Reason::Kicked, now, proof.connection, by, out);
                (AdmissionKind::TookOver, self.begin(proof, now, out))
            }
            None => {
                self.licence(&proof.identity, None)?;
                (AdmissionKind::LoggedIn, self.begin(proof, now, out))
            }
        };
        self.look(proof.client, record, now, out);
        Ok(Admission { admitted, kind })
    }

    /// Brings back a session that the store kept. Look at its client afterwards.
    pub fn restore(&mut self, session: Session) {
        self.next_id = self.next_id.max(session.id.0 + 1);
        let identity = Arc::clone(&session.identity);
        let active = matches!(session.state, State::Active);
        self.sessions.insert(session.client, Slot { session, deadline: None });
        if active {
            self.device_added(&identity);
        }
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
        let Some(slot) = self.sessions.get_mut(&client).filter(|slot| slot.session.id == id) else { return };
        let Some(before) = before.filter(|before| before.id == id) else {
            self.finish(client, Reason::Shutdown, now, None, None, out);
            return out.retain(|effect| !matches!(effect, Effect::Audit(event) if event.session == id));
        };
        let counted = matches!(slot.session.state, State::Active) && !matches!(before.state, State::Active);
        let identity = Arc::clone(&before.identity);
        slot.session = before;
        self.index.withdraw(client);
        out.push(Effect::Keep(client));
        if counted {
            self.device_removed(&identity);
        }
    }

    /// Asks for a look at `at`: the record could not be read at the deadline.
    pub fn postpone(&mut self, client: ClientAddr, at: BootTime) {
        if let Some(slot) = self.sessions.get_mut(&client) {
            set_deadline(&mut self.deadlines, slot, Some(at));
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
        self.licences = self.devices.values().map(|devices| self.licences_of(*devices)).sum();
        self.index.outdate();
    }

    fn begin(&mut self, proof: &Proof, now: BootTime, out: &mut Vec<Effect>) -> Admitted {
        let id = SessionId(self.next_id);
        self.next_id += 1;
        let session = Session {
            id,
            client: proof.client,
            identity: Arc::clone(&proof.identity),
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
        self.sessions.insert(proof.client, Slot { session, deadline: None });
        self.device_added(&proof.identity);
        admitted
    }

    fn renew(&mut self, proof: &Proof, now: BootTime, out: &mut Vec<Effect>) {
        let Some(slot) = self.sessions.get_mut(&proof.client) else { return };
        slot.session.state = State::Active;
        slot.session.authenticated = now;
        slot.session.judged_from = now;
        slot.session.counted_from = now;
        out.push(Effect::Keep(proof.client));
        slot.session.method = proof.method;
        slot.session.device = proof.device;
        out.push(audit(&slot.session, now, What::Renewed(proof.method)));
        self.device_added(&proof.identity);
    }

    fn stale(
        &mut self,
        client: ClientAddr,
        reason: Reason,
        since: BootTime,
        record: &Record,
        now: BootTime,
        out: &mut Vec<Effect>,
    ) {
        let Some(slot) = self.sessions.get_mut(&client) else { return };
        let was_active = matches!(slot.session.state, State::Active);
        if was_active {
            slot.session.state = State::Stale { reason, since };
            self.index.withdraw(client);
            out.push(Effect::Keep(client));
            if self.policy.timeouts.on_timeout == OnTimeout::Close {
                out.push(Effect::Destroy { client, session: slot.session.id, except: None });
            }
            out.push(audit(&slot.session, since, What::Stale(reason)));
        }
        let forget_at = since.after(STALE_RETENTION);
        if now >= forget_at && record.open == 0 {
            self.finish(client, reason, now, None, None, out);
            return;
        }
        let lifetime_end =
            self.policy.timeouts.lifetime().map(|lifetime| slot.session.created.after(lifetime));
        let again = if now >= forget_at { now.after(STALE_RETENTION) } else { forget_at };
        set_deadline(&mut self.deadlines, slot, Some(lifetime_end.map_or(again, |end| end.min(again))));
        let identity = Arc::clone(&slot.session.identity);
        if was_active {
            self.device_removed(&identity);
        }
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
        let Slot { session, deadline } = self.sessions.remove(&client)?;
        self.index.withdraw(client);
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, client));
        }
        let was_stale = !matches!(session.state, State::Active);
        if !was_stale {
            self.device_removed(&session.identity);
        }
        out.push(Effect::Destroy { client, session: session.id, except: spared });
        out.push(Effect::Keep(client));
        out.push(audit(
            &session,
            at,
            What::Ended { reason, duration: at.since(session.created), by, was_stale },
        ));
        Some(session)
    }

    /// Whether one more device of `identity` fits the licences, once the active session of `leaving` is gone.
    fn licence(&self, identity: &Identity, leaving: Option<&Identity>) -> Result<(), Refused> {
        let max = self.policy.max_users;
        if max == 0 {
            return Ok(());
        }
        let devices = |identity: &Identity| self.devices.get(identity.key()).copied().unwrap_or(0);
        let freed =
            leaving.map_or(0, |who| self.licences_of(devices(who)) - self.licences_of(devices(who) - 1));
        let needed = self.licences_of(devices(identity) + 1) - self.licences_of(devices(identity));
        // A user without a further licence to take always fits, also when the limit was lowered below what is in use.
        if needed == 0 || self.licences - freed + needed <= max {
            Ok(())
        } else {
            Err(Refused::Licences { max })
        }
    }

    fn licences_of(&self, devices: u32) -> u32 {
        devices.div_ceil(self.policy.devices_per_user.max(1))
    }

    fn device_added(&mut self, identity: &Identity) {
        let before = self.devices.get(identity.key()).copied().unwrap_or(0);
        self.active += 1;
        self.devices.insert(Arc::clone(identity.key()), before + 1);
        self.licences += self.licences_of(before + 1) - self.licences_of(before);
    }

    fn device_removed(&mut self, identity: &Identity) {
        let Some(before) = self.devices.get(identity.key()).copied() else { return };
        self.active -= 1;
        self.licences -= self.licences_of(before) - self.licences_of(before - 1);
        if before == 1 {
            self.devices.remove(identity.key());
        } else {
            self.devices.insert(Arc::clone(identity.key()), before - 1);
        }
    }
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

fn set_deadline(
    deadlines: &mut BTreeSet<(BootTime, ClientAddr)>,
    slot: &mut Slot,
    deadline: Option<BootTime>,
) {
    if slot.deadline == deadline {
        return;
    }
    let client = slot.session.client;
    if let Some(old) = slot.deadline {
        deadlines.remove(&(old, client));
    }
    if let Some(new) = deadline {
        deadlines.insert((new, client));
    }
    slot.deadline = deadline;
}
