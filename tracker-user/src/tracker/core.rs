//! The loop itself: what it owns and how it carries effects out.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, warn};
use tracker_ebpf::abi::Hint;

use super::metrics::Metrics;
use super::revoked::Revoked;
use super::{Enrolled, IsHeld, OnEnd, Order, Parts, Refusal, View, resync};
use crate::audit::{self, Audit, LicencesEvent, TrailEntry};
use crate::clock::{BootTime, BootTimer, boot_now};
use crate::net::Connections;
use crate::observe::{Events, Kind, Observer, Pinning};
use crate::session::table::{AdmissionKind, Refused};
use crate::session::{
    Admission, Arrival, Decision, Effect, Evidence, Facts, LicenceAlarm, LicenceLevel, Policy, Proof, Reason,
    Session, SharedHostDetector, Table,
};
use crate::store::{Entry, Journal};
use crate::threads::Threads;
use crate::types::{ClientAddr, ConnectionId, Factors, Identity, Scope, Traffic};

/// How often the records are compared with the sockets although nothing looks wrong.
pub(super) const RESYNC_EVERY: Duration = Duration::from_secs(60);
/// How often the kernel's counters are read.
const COUNTERS_EVERY: Duration = Duration::from_secs(1);
/// How many sessions are refreshed, or ended, in one turn when all have to be.
pub(super) const PER_TURN: usize = 256;
/// When the evidence for a deadline cannot be read, it is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Core {
    pub(super) table: Table,
    pub(super) journal: Arc<Journal>,
    pub(super) back: mpsc::WeakSender<Order>,
    pub(super) observer: Arc<Observer>,
    pub(super) events: Events,
    pub(super) connections: Arc<Connections>,
    pub(super) audit: Arc<Audit>,
    pub(super) threads: Arc<Threads>,
    pub(super) metrics: Metrics,
    pub(super) ended: OnEnd,
    pub(super) held: IsHeld,
    enrolled_by: Enrolled,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) timer: BootTimer,
    pub(super) timer_set: Option<BootTime>,
    pub(super) effects: Vec<Effect>,
    /// What moved on the connections whose closing is being dealt with: the registry does not have them any more.
    pub(super) last_counted: HashMap<ConnectionId, Traffic>,
    /// The places of the table still to be refreshed because something about all sessions may have changed.
    pub(super) to_refresh: Range<usize>,
    /// Clients whose records nobody has used for long, still to be forgotten.
    pub(super) to_forget: Vec<ClientAddr>,
    pub(super) resync: Option<resync::Running>,
    /// What the observer counted as missed, so far.
    pub(super) amiss: u64,
    /// The resync under way is to be followed by another if something looks wrong.
    pub(super) look_twice: bool,
    pub(super) shared_host_detector: SharedHostDetector,
    /// Whose sessions were ended by order just now.
    pub(super) revoked: Revoked,
    pub(super) licence_alarm: LicenceAlarm,
    /// The observer is degraded: the records cannot be relied upon.
    pub(super) degraded: bool,
    /// When something was last done about that.
    pub(super) reattached_at: BootTime,
}

impl Core {
    pub(super) fn new(
        parts: Parts,
        table: Table,
        orders: mpsc::Receiver<Order>,
        back: mpsc::WeakSender<Order>,
    ) -> io::Result<Self> {
        let Parts { observer, events, connections, audit, journal, threads, metrics, ended, held, enrolled } =
            parts;
        // What an earlier run lost does not matter: everybody is refreshed now.
        let amiss = observer.counters().map_or(0, |counters| resync::amiss(&counters));
        Ok(Self {
            table,
            journal,
            back,
            observer,
            events,
            connections,
            audit,
            threads,
            metrics,
            ended,
            held,
            enrolled_by: enrolled,
            orders,
            timer: BootTimer::new()?,
            timer_set: None,
            effects: Vec::new(),
            last_counted: HashMap::new(),
            to_refresh: 0..0,
            to_forget: Vec::new(),
            resync: None,
            amiss,
            look_twice: false,
            shared_host_detector: SharedHostDetector::default(),
            revoked: Revoked::default(),
            licence_alarm: LicenceAlarm::default(),
            degraded: false,
            reattached_at: BootTime::default(),
        })
    }

    /// Brings back what the store kept, and judges it before anybody is served: first by the policy that was in force
    /// when the daemon went away, then by the one that is.
    pub(super) fn restore(&mut self, sessions: Vec<Session>, rebooted: &[ClientAddr], policy: Policy) {
        let counts_on =
            matches!(self.observer.kind(), Kind::Ebpf { pinning: Pinning::Kept { adopted: true, .. }, .. });
        let watched_since = self.observer.watched_since();
        let mut to_rewrite = rebooted.to_vec();
        for mut session in sessions {
            // Records that begin anew have counted nothing of what was before. The next restart must not think so, either.
            // What is adopted may be younger than the session: another daemon's, or of a run that was killed before it got here.
            let counted_all = watched_since.is_some_and(|watched| watched <= session.created);
            if session.traffic_before.is_some()
                && (!counts_on
                    || !counted_all
                    || self.observer.recorded(session.client).ok().flatten().is_none())
            {
                session.traffic_before = None;
                to_rewrite.push(session.client);
            }
            // It may have been reset while the gateway was down.
            session.enrolled = (self.enrolled_by)(&session.identity);
            // Without a record, gaps would not be latched; a record that is there already knows more.
            let (client, tracked) =
                (session.client, self.observer.ensure(session.client, session.judged_from));
            self.table.restore(session);
            if let Err(error) = tracked {
                error!(%client, %error, "a session was dropped: its client cannot be tracked");
                // On disk, too: or a later start would bring back what nobody could log out meanwhile.
                self.table.end(client, Reason::Shutdown, boot_now(), &mut self.effects);
            }
        }
        // Times of another boot are written anew in this boot's, so that the next restart reads them as they are.
        // In portions, so that the first logins need not wait for all of them.
        for portion in to_rewrite.chunks(PER_TURN) {
            self.effects.extend(portion.iter().copied().map(Effect::Keep));
            self.carry_out(None);
        }
        self.carry_out(None);
        // Only now: what a kernel side that is new has not watched since then counts as a gap.
        if let Err(error) = self.observer.settle() {
            error!(%error, "the records could not be compared with the sockets");
        }
        self.refresh_everyone();
        self.release_all();
        // The kernel side latched gaps by the old policy until here.
        if let Err(error) = self.observer.apply(policy.for_observer()) {
            error!(%error, "the observer did not take the new settings");
        }
        self.connections.apply(policy.for_observer());
        if *self.table.policy() != policy {
            self.table.set_policy(policy, boot_now(), &mut self.effects);
            self.refresh_everyone();
        }
        // An earlier version kept the sessions of addresses that were listed as shared meanwhile.
        self.table.end_misplaced(boot_now(), &mut self.effects);
        self.carry_out(None);
        self.keep_policy();
        self.health_changed();
        self.publish();
    }

    pub(super) async fn run(mut self) {
        self.fire_deadlines();
        let mut resync_tick = interval(RESYNC_EVERY);
        let mut counters_tick = interval(COUNTERS_EVERY);
        resync_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick of an interval comes at once; the observer's start has done that work.
        resync_tick.reset();
        counters_tick.reset();
        counters_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => return,
                },
                hint = self.events.hints.next() => self.hint(hint),
                left = self.connections.left() => self.left(&left),
                () = self.events.devices.changed() => {
                    self.refresh_devices();
                    self.carry_out(None);
                }
                () = self.timer.expired() => self.timer_set = None,
                _ = counters_tick.tick() => self.read_counters(),
                _ = resync_tick.tick() => self.compare_with_sockets(),
                outcome = resync::finished(&mut self.resync) => self.resynced(outcome),
                () = self.observer.stamps_due() => self.tell_stamps(),
                () = std::future::ready(()), if !self.to_refresh.is_empty() => self.refresh_some(),
                () = std::future::ready(()), if !self.to_forget.is_empty() => self.forget_some(),
            }
            self.fire_deadlines();
            self.publish();
            self.watch_licences();
        }
    }

    /// Payload that moved under TLS is told to the records, lest a crash lose it.
    fn tell_stamps(&self) {
        if let Err(error) = self.observer.tell_stamps(PER_TURN) {
            error!(%error, "a record could not be told of data that moved");
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Ask(question) => {
                question(&View { table: &self.table, shared_hosts: &self.shared_host_detector });
            }
            Order::Check { client, connection, reply } => {
                let decision = self.check(client, connection);
                // Whoever asked may have gone; the decision stands all the same.
                let _ = reply.send(decision);
            }
            Order::End { part, reason, actor, reply } => self.end(part, reason, actor.as_ref(), reply),
            Order::Policy { policy, reply } => {
                self.set_policy(policy);
                let _ = reply.send(());
            }
            Order::Prove { proof, with, reply } => self.prove(&proof, with, reply),
            Order::Enrolled { user, factors, reply } => {
                self.enrolled(&user, factors);
                // Whoever asked may have gone.
                let _ = reply.send(());
            }
            Order::Rollback { scope, session, before } => {
                self.table.rollback(scope, session, before, &mut self.effects);
                self.carry_out(None);
                self.refresh(scope);
            }
        }
    }

    fn check(&mut self, client: ClientAddr, connection: ConnectionId) -> Decision {
        // By the policy in force: who asked may have gone by the one before.
        if self.table.policy().timeouts.is_shared(client) {
            return self.check_connection(client, connection);
        }
        // The first packet of another device has told the kernel who it is; by now it is told to us.
        self.refresh_devices();
        let evidence = self.evidence(client);
        let is_direct = self.connections.is_direct(client, connection);
        if !is_direct && self.table.session(client).is_some() && self.observer.hold_relayed(client) {
            self.effects.push(Effect::Keep(client));
        }
        // Who comes here is asked as a new connection is, also if it was cleared before: the index knows about those for as
        // long as anything can be said without the evidence. The proxy has made sure that the connection is watched.
        let arrival = Arrival {
            is_of_earlier_device: match is_direct {
                true => self.is_earlier_devices(client, Some(connection)),
                false => self.is_of_unknown_device(client),
            },
            ..Arrival::NEW
        };
        let facts = Facts {
            evidence: evidence.as_ref(),
            device: self.device_now(client).filter(|_| is_direct),
            watched_since: self.observer.watched_since(),
            arrival,
            now: boot_now(),
        };
        let decision = self.table.check(client, &facts, &mut self.effects);
        self.carry_out(None);
        decision
    }

    /// A user has set further factors up, or has none any more: their sessions are judged by it.
    fn enrolled(&mut self, user: &Identity, factors: Factors) {
        let scopes: Vec<Scope> = self.table.set_enrolled(user, factors, &mut self.effects);
        self.carry_out(None);
        for scope in scopes {
            self.refresh(scope);
        }
    }

    fn prove(&mut self, proof: &Proof, with: Vec<Entry>, reply: oneshot::Sender<Result<Admission, Refusal>>) {
        let scope = self.table.policy().scope(proof.client, proof.connection);
        let standing = |core: &Self| scope.and_then(|scope| core.table.session(scope).cloned());
        let mut before = standing(self);
        let mut outcome = self.admit(proof);
        if is_for_licences(&outcome) && self.catch_up() {
            // Some of them were taken by sessions whose time is over.
            before = standing(self);
            outcome = self.admit(proof);
        }
        if is_for_licences(&outcome) {
            self.metrics.licences_refused.inc();
        }
        if outcome.is_err() {
            self.release(proof.client);
        }
        // What was spent stays spent, also where nobody is admitted by it.
        let back = self.back.clone();
        self.carry_out_by(
            None,
            with,
            Some(Box::new(move |kept| {
                let outcome = match (outcome, kept) {
                    (Ok(admission), Err(unkept)) => {
                        // Nobody is served on a session that a crash would lose or, worse, bring an older one back for.
                        let session = admission.admitted.session;
                        if admission.kind != AdmissionKind::Confirmed
                            && let Some((orders, scope)) = back.upgrade().zip(scope)
                        {
                            let _ = orders.blocking_send(Order::Rollback { scope, session, before });
                        }
                        Err(Refusal::NotKept(unkept.problem))
                    }
                    (outcome, _) => outcome,
                };
                // Whoever asked may have gone; the session stands all the same.
                let _ = reply.send(outcome);
            })),
        );
    }

    fn admit(&mut self, proof: &Proof) -> Result<Admission, Refusal> {
        if self.journal.is_failing() {
            return Err(Refusal::NotKept(self.journal.problem().unwrap_or_default()));
        }
        if self.revoked.covers(&proof.identity, proof.at) {
            return Err(Refusal::Revoked);
        }
        let proof = &Proof { enrolled: (self.enrolled_by)(&proof.identity), ..proof.clone() };
        if let Some(scope @ Scope { connection: Some(_), .. }) =
            self.table.policy().scope(proof.client, proof.connection)
        {
            return self.admit_on_connection(scope, proof);
        }
        // Whoever logs out has it held before their session is ended here: a proof that was under way comes too late.
        if (self.held)(proof.client, boot_now()) {
            return Err(Refusal::Held);
        }
        // From here on the kernel latches every gap of this client, whatever becomes of the daemon. A record that is made
        // only now begins with the proof: nothing was closed after it that the record does not know of.
        let tracked = self.observer.track(proof.client, proof.at, &self.connections, proof.connection);
        tracked.map_err(|error| Refusal::Untracked(error.to_string()))?;
        self.refresh_devices();
        self.refresh_device(proof.client);
        let is_direct = proof.connection.is_none_or(|one| self.connections.is_direct(proof.client, one));
        if is_direct && self.is_earlier_devices(proof.client, proof.connection) {
            return Err(Refusal::AnotherDevice);
        }
        let proof = &Proof { device: self.device_of(proof), ..proof.clone() };
        let evidence = self.evidence(proof.client).ok_or_else(|| {
            Refusal::Untracked("the client's record cannot be read; see trackerctl status".into())
        })?;
        Ok(self.table.prove(proof, &evidence, boot_now(), &mut self.effects)?)
    }

    fn set_policy(&mut self, policy: Policy) {
        let now = Policy { since: self.table.policy().since, ..policy.clone() };
        if now == *self.table.policy() {
            return;
        }
        // What ran out under the old policy ends by it.
        self.catch_up();
        if let Err(error) = self.observer.apply(policy.for_observer()) {
            error!(%error, "the observer did not take the new settings");
        }
        self.connections.apply(policy.for_observer());
        self.table.set_policy(policy, boot_now(), &mut self.effects);
        self.carry_out(None);
        self.keep_policy();
        self.refresh_all();
    }

    fn keep_policy(&self) {
        self.journal.submit(vec![Entry::Policy(Box::new(self.table.policy().clone()))], None);
    }

    fn hint(&mut self, hint: Hint) {
        self.observer.noticed(&hint);
        self.metrics.hints.inc();
        if self.table.session(hint.client).is_none() {
            return;
        }
        self.refresh(hint.client.into());
        self.carry_out(None);
        if hint.kind == tracker_ebpf::abi::HINT_CLOSED {
            self.metrics.closure.observe(boot_now().since(BootTime::from_nanos(hint.at)).as_secs_f64());
        }
    }

    /// Judges a session anew, and returns what is known of its client; what comes of it is still to be carried out.
    fn refresh(&mut self, scope: Scope) -> Option<Evidence> {
        if let Some(connection) = scope.connection {
            self.refresh_connection(scope.client, connection);
            return None;
        }
        let client = scope.client;
        self.refresh_device(client);
        let evidence = self.evidence(client);
        match &evidence {
            Some(evidence) => self.table.refresh(client, evidence, boot_now(), &mut self.effects),
            // Decisions are made from evidence that is read afresh, so a refresh put off endangers nobody.
            None => self.table.postpone(client, boot_now().after(RETRY)),
        }
        evidence
    }

    pub(super) fn refresh_all(&mut self) {
        // Whoever logs in from now on is judged by that.
        self.to_refresh = 0..self.table.places();
    }

    fn refresh_everyone(&mut self) {
        self.refresh_all();
        while !self.to_refresh.is_empty() {
            self.refresh_some();
        }
    }

    fn refresh_some(&mut self) {
        let mut seen = Vec::new();
        let portion = PER_TURN.min(self.to_refresh.len());
        let scopes: Vec<Scope> =
            self.table.portion(self.to_refresh.start, portion).map(Session::scope).collect();
        self.to_refresh.start += portion;
        for scope in scopes {
            if let Some(evidence) = self.refresh(scope) {
                seen.extend(self.seen(scope.client, &evidence));
            }
        }
        self.carry_out(None);
        self.journal.note_seen(seen);
    }

    /// Fires all deadlines that are due: whether any was.
    fn catch_up(&mut self) -> bool {
        let is_due = |core: &Self| core.table.next_deadline().is_some_and(|due| due <= boot_now());
        let was_due = is_due(self);
        while is_due(self) {
            self.fire_deadlines();
        }
        was_due
    }

    fn fire_deadlines(&mut self) {
        let now = boot_now();
        for _ in 0..PER_TURN {
            let Some((due, scope)) = self.table.pop_due(now) else { break };
            self.metrics.deadline.observe(now.since(due).as_secs_f64());
            self.refresh(scope);
        }
        self.carry_out(None);
        let next = self.table.next_deadline();
        if next != self.timer_set {
            match self.timer.set(next) {
                Ok(()) => self.timer_set = next,
                Err(error) => error!(%error, "the timer cannot be set; deadlines are noticed late"),
            }
        }
    }

    /// What is known of the client now; `None` where that cannot be read, which is logged and counted, and fails closed.
    fn evidence(&self, client: ClientAddr) -> Option<Evidence> {
        match self.observer.evidence(client) {
            // A client that never connected has nothing open.
            Ok(evidence) => Some(evidence.unwrap_or_default()),
            Err(error) => {
                self.metrics.unreadable.inc();
                error!(%client, %error, "the client's record cannot be read");
                None
            }
        }
    }

    fn publish(&self) {
        let Metrics { active, stale, waiting, users, licences, licences_max, .. } = &self.metrics;
        active.set(self.table.active() as i64);
        stale.set((self.table.len() - self.table.active() - self.table.waiting()) as i64);
        waiting.set(self.table.waiting() as i64);
        users.set(self.table.active_users() as i64);
        licences.set(i64::from(self.table.licences_used()));
        licences_max.set(i64::from(self.table.policy().max_users));
    }

    /// Tells when licences are about to run out, when they have, and when there are some again.
    fn watch_licences(&mut self) {
        let (used, max) = (self.table.licences_used(), self.table.policy().max_users);
        let Some(level) = self.licence_alarm.observe(used, max) else { return };
        if level != LicenceLevel::Available {
            warn!(used, max, level = level.as_str(), "{used} of {max} licences are in use");
        }
        self.audit.record(TrailEntry::now(audit::Event::Licences(LicencesEvent { level, used, max })));
    }
}

/// Whether it was refused as all licences are in use.
const fn is_for_licences(outcome: &Result<Admission, Refusal>) -> bool {
    matches!(outcome, Err(Refusal::Policy(Refused::Licences { .. })))
}
