//! The loop itself: what it owns and how it carries effects out.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;
use tracker_ebpf::abi::Hint;
use tracker_ebpf::record::Record;

use super::metrics::Metrics;
use super::{NotKept, Order, Parts, Refusal, View, Whose, resync};
use crate::audit::{Actor, Audit};
use crate::clock::{BootTime, BootTimer, boot_now};
use crate::net::Connections;
use crate::observe::{Events, Kind, Observer, Pinning};
use crate::session::table::AdmissionKind;
use crate::session::{Admission, Decision, Effect, Overlaps, Policy, Proof, Reason, Session, Table};
use crate::store::{Entry, Journal};
use crate::threads::Threads;
use crate::types::{ClientAddr, ConnectionId, Scope, Traffic};

/// How often the records are compared with the sockets although nothing looks wrong.
pub(super) const RESYNC_EVERY: Duration = Duration::from_secs(60);
/// How often the kernel's counters are read.
const COUNTERS_EVERY: Duration = Duration::from_secs(1);
/// How many clients are looked at in one turn when all have to be.
pub(super) const LOOKS_PER_TURN: usize = 256;
/// When a deadline's record cannot be read, it is tried again after this long.
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
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) timer: BootTimer,
    pub(super) timer_set: Option<BootTime>,
    pub(super) effects: Vec<Effect>,
    /// What moved on the connections whose closing is being dealt with: the registry does not have them any more.
    pub(super) last_counted: HashMap<ConnectionId, Traffic>,
    /// The places of the table still to be looked at because something about all sessions may have changed.
    pub(super) to_look: Range<usize>,
    /// Clients whose records nobody has used for long, still to be forgotten.
    pub(super) to_forget: Vec<ClientAddr>,
    pub(super) resync: Option<resync::Running>,
    /// What the observer counted as missed, so far.
    pub(super) amiss: u64,
    /// The resync under way is to be followed by another if something looks wrong.
    pub(super) look_twice: bool,
    pub(super) overlaps: Overlaps,
    /// The records cannot be relied upon.
    pub(super) blind: bool,
    /// When something was last done about that.
    pub(super) mended: BootTime,
}

impl Core {
    pub(super) fn new(
        parts: Parts,
        table: Table,
        orders: mpsc::Receiver<Order>,
        back: mpsc::WeakSender<Order>,
    ) -> io::Result<Self> {
        let Parts { observer, events, connections, audit, journal, threads, metrics } = parts;
        // What an earlier run lost does not matter: everybody is looked at now.
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
            orders,
            timer: BootTimer::new()?,
            timer_set: None,
            effects: Vec::new(),
            last_counted: HashMap::new(),
            to_look: 0..0,
            to_forget: Vec::new(),
            resync: None,
            amiss,
            look_twice: false,
            overlaps: Overlaps::default(),
            blind: false,
            mended: BootTime::default(),
        })
    }

    /// Brings back what the store kept, and judges it before anybody is served: first by the policy that was in force
    /// when the daemon went away, then by the one that is.
    pub(super) fn restore(&mut self, sessions: Vec<Session>, rebooted: &[ClientAddr], policy: Policy) {
        let counts_on =
            matches!(self.observer.kind(), Kind::Ebpf { pinning: Pinning::Kept { adopted: true, .. }, .. });
        let mut to_rewrite = rebooted.to_vec();
        for mut session in sessions {
            // Records that begin anew have counted nothing of what was before. The next restart must not think so, either.
            if session.traffic_before.is_some()
                && (!counts_on || self.observer.record(session.client).ok().flatten().is_none())
            {
                session.traffic_before = None;
                to_rewrite.push(session.client);
            }
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
        for portion in to_rewrite.chunks(LOOKS_PER_TURN) {
            self.effects.extend(portion.iter().copied().map(Effect::Keep));
            self.carry_out(None);
        }
        self.carry_out(None);
        // Only now: what a kernel side that is new has not watched since then counts as a gap.
        if let Err(error) = self.observer.settle() {
            error!(%error, "the records could not be compared with the sockets");
        }
        self.look_at_everyone();
        self.release_all();
        // The kernel side latched gaps by the old policy until here.
        if let Err(error) = self.observer.apply(policy.for_observer()) {
            error!(%error, "the observer did not take the new settings");
        }
        self.connections.apply(policy.for_observer());
        if *self.table.policy() != policy {
            self.table.set_policy(policy, boot_now(), &mut self.effects);
            self.look_at_everyone();
        }
        // An earlier version kept the sessions of addresses that were listed as shared meanwhile.
        self.table.end_misplaced(boot_now(), &mut self.effects);
        self.carry_out(None);
        self.keep_policy();
        self.sight_changed();
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
                    self.look_at_devices();
                    self.carry_out(None);
                }
                () = self.timer.expired() => self.timer_set = None,
                _ = counters_tick.tick() => self.read_counters(),
                _ = resync_tick.tick() => self.compare_with_sockets(),
                outcome = resync::finished(&mut self.resync) => self.resynced(outcome),
                () = std::future::ready(()), if !self.to_look.is_empty() => self.look_at_some(),
                () = std::future::ready(()), if !self.to_forget.is_empty() => self.forget_some(),
            }
            self.fire_deadlines();
            self.publish();
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Ask(question) => question(&View { table: &self.table, overlaps: &self.overlaps }),
            Order::Check { client, connection, reply } => {
                let decision = self.check(client, connection);
                // Whoever asked may have gone; the decision stands all the same.
                let _ = reply.send(decision);
            }
            Order::End { whose, reason, actor, reply } => self.end(&whose, reason, actor.as_ref(), reply),
            Order::Policy { policy, reply } => {
                self.set_policy(policy);
                let _ = reply.send(());
            }
            Order::Prove { proof, reply } => self.prove(&proof, reply),
            Order::TakeBack { scope, session, before } => {
                self.table.take_back(scope, session, before, boot_now(), &mut self.effects);
                self.carry_out(None);
                self.look(scope);
            }
        }
    }

    fn check(&mut self, client: ClientAddr, connection: ConnectionId) -> Decision {
        // By the policy in force: who asked may have gone by the one before.
        if self.table.policy().timeouts.is_shared(client) {
            return self.check_connection(client, connection);
        }
        // The first packet of another device has told the kernel who it is; by now it is told to us.
        self.look_at_devices();
        self.look_at_device(client);
        let decision = match self.record(client) {
            Some(record) => self.table.check(client, &record, boot_now(), &mut self.effects),
            None => Decision::Challenge,
        };
        let is_asked = self.may_have_reopened(client) || self.is_earlier_devices(client, Some(connection));
        let decision = if is_asked { Decision::Challenge } else { decision };
        self.carry_out(None);
        decision
    }

    fn prove(&mut self, proof: &Proof, reply: oneshot::Sender<Result<Admission, Refusal>>) {
        let scope = self.table.policy().scope(proof.client, proof.connection);
        let before = scope.and_then(|scope| self.table.session(scope).cloned());
        let outcome = self.admit(proof);
        if outcome.is_err() {
            self.release(proof.client);
        }
        let back = self.back.clone();
        self.carry_out(Some(Box::new(move |kept| {
            let outcome = match (outcome, kept) {
                (Ok(admission), Err(unkept)) => {
                    // Nobody is served on a session that a crash would lose or, worse, bring an older one back for.
                    let session = admission.admitted.session;
                    if admission.kind != AdmissionKind::Confirmed
                        && let Some((orders, scope)) = back.upgrade().zip(scope)
                    {
                        let _ = orders.blocking_send(Order::TakeBack { scope, session, before });
                    }
                    Err(Refusal::NotKept(unkept.problem))
                }
                (outcome, _) => outcome,
            };
            // Whoever asked may have gone; the session stands all the same.
            let _ = reply.send(outcome);
        })));
    }

    fn admit(&mut self, proof: &Proof) -> Result<Admission, Refusal> {
        if self.journal.is_failing() {
            return Err(Refusal::NotKept(self.journal.problem().unwrap_or_default()));
        }
        if let Some(scope @ Scope { connection: Some(_), .. }) =
            self.table.policy().scope(proof.client, proof.connection)
        {
            return self.admit_on_connection(scope, proof);
        }
        // From here on the kernel latches every gap of this client, whatever becomes of the daemon. A record that is made
        // only now begins with the proof: nothing was closed after it that the record does not know of.
        let tracked = self.observer.track(proof.client, proof.at, &self.connections, proof.connection);
        tracked.map_err(|error| Refusal::Untracked(error.to_string()))?;
        self.look_at_devices();
        self.look_at_device(proof.client);
        if self.is_earlier_devices(proof.client, proof.connection) {
            return Err(Refusal::AnotherDevice);
        }
        let proof = &Proof { device: self.device_of(proof), ..proof.clone() };
        let record = self.record(proof.client).ok_or_else(|| {
            Refusal::Untracked("the client's record cannot be read; see trackerctl status".into())
        })?;
        Ok(self.table.prove(proof, &record, boot_now(), &mut self.effects)?)
    }

    fn end(
        &mut self,
        whose: &Whose,
        reason: Reason,
        actor: Option<&Actor>,
        reply: oneshot::Sender<Result<Vec<Session>, NotKept>>,
    ) {
        let scopes: Vec<Scope> = match whose {
            Whose::All => self.table.sessions().map(Session::scope).collect(),
            Whose::Client(client) => self.table.of(*client).map(Session::scope).collect(),
            Whose::User(typed) => {
                let matches = |session: &&Session| session.identity.is_called(typed);
                self.table.sessions().filter(matches).map(Session::scope).collect()
            }
        };
        let now = boot_now();
        let ended =
            scopes.into_iter().filter_map(|scope| self.table.end(scope, reason, now, &mut self.effects));
        let ended: Vec<Session> = ended.collect();
        self.carry_out_by(
            actor,
            Some(Box::new(move |kept| {
                let _ = reply.send(match kept {
                    Ok(()) => Ok(ended),
                    Err(unkept) => Err(NotKept { ended, unkept }),
                });
            })),
        );
    }

    fn set_policy(&mut self, policy: Policy) {
        let now = Policy { since: self.table.policy().since, ..policy.clone() };
        if now == *self.table.policy() {
            return;
        }
        // What ran out under the old policy ends by it.
        while self.table.next_deadline().is_some_and(|due| due <= boot_now()) {
            self.fire_deadlines();
        }
        if let Err(error) = self.observer.apply(policy.for_observer()) {
            error!(%error, "the observer did not take the new settings");
        }
        self.connections.apply(policy.for_observer());
        self.table.set_policy(policy, boot_now(), &mut self.effects);
        self.carry_out(None);
        self.keep_policy();
        self.look_at_all();
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
        self.look(hint.client.into());
        self.carry_out(None);
        if hint.kind == tracker_ebpf::abi::HINT_CLOSED {
            self.metrics.closure.observe(boot_now().since(BootTime::from_nanos(hint.at)).as_secs_f64());
        }
    }

    /// Judges a session anew, and returns what the record of its client says; what comes of it is still to be carried out.
    fn look(&mut self, scope: Scope) -> Option<Record> {
        if let Some(connection) = scope.connection {
            self.look_at_connection(scope.client, connection);
            return None;
        }
        let client = scope.client;
        self.look_at_device(client);
        let record = self.record(client);
        match &record {
            Some(record) => {
                self.table.look(client, record, boot_now(), &mut self.effects);
            }
            // Decisions are made afresh from the record, so a look put off endangers nobody.
            None => self.table.postpone(client, boot_now().after(RETRY)),
        }
        record
    }

    pub(super) fn look_at_all(&mut self) {
        // Whoever logs in from now on is judged by that.
        self.to_look = 0..self.table.places();
    }

    fn look_at_everyone(&mut self) {
        self.look_at_all();
        while !self.to_look.is_empty() {
            self.look_at_some();
        }
    }

    fn look_at_some(&mut self) {
        let mut seen = Vec::new();
        let portion = LOOKS_PER_TURN.min(self.to_look.len());
        let scopes: Vec<Scope> = self.table.portion(self.to_look.start, portion).collect();
        self.to_look.start += portion;
        for scope in scopes {
            if let Some(record) = self.look(scope) {
                seen.extend(self.seen(scope.client, &record));
            }
        }
        self.carry_out(None);
        self.journal.note_seen(seen);
    }

    fn fire_deadlines(&mut self) {
        let now = boot_now();
        for _ in 0..LOOKS_PER_TURN {
            let Some((due, scope)) = self.table.pop_due(now) else { break };
            self.metrics.deadline.observe(now.since(due).as_secs_f64());
            self.look(scope);
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

    /// The record as it is now, as far as it can be relied upon; `None` where it cannot be read, which is logged and counted, and fails closed.
    fn record(&self, client: ClientAddr) -> Option<Record> {
        match self.observer.evidence(client) {
            // A client that never connected has nothing open.
            Ok(record) => Some(record.unwrap_or_default()),
            Err(error) => {
                self.metrics.unreadable.inc();
                error!(%client, %error, "the client's record cannot be read");
                None
            }
        }
    }

    fn publish(&self) {
        let Metrics { active, stale, users, licences, .. } = &self.metrics;
        active.set(self.table.active() as i64);
        stale.set((self.table.len() - self.table.active()) as i64);
        users.set(self.table.active_users() as i64);
        licences.set(i64::from(self.table.licences_used()));
    }
}
