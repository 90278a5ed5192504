//! The loop itself: what it owns and how it carries effects out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{error, info, warn};
use tracker_ebpf::abi::{ClientAddr, Counter, Hint};
use tracker_ebpf::record::Record;

use super::{Order, Refusal, View, Whose};
use crate::audit::{Audit, AuditEvent, Kind};
use crate::clock::{Anchor, BootTime, BootTimer, boot_now};
use crate::observe::{Connections, Hints, ObserveError, Observer, Resync};
use crate::session::event::{Event, What};
use crate::session::{Decision, Effect, Policy, Proof, Reason, Session, Table};

/// How often the records are compared with the sockets although nothing looks wrong.
const RESYNC_EVERY: Duration = Duration::from_secs(60);
/// How often the kernel's counters are read.
const COUNTERS_EVERY: Duration = Duration::from_secs(1);
/// How long the record of a client without session or connection is kept after it last closed.
const RECORD_RETENTION: Duration = Duration::from_secs(600);
/// How many clients are looked at in one turn when all have to be.
const LOOKS_PER_TURN: usize = 256;
/// When a deadline's record cannot be read, it is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// What the loop counts and measures.
#[derive(Clone, Debug)]
pub struct Metrics {
    active: IntGauge,
    stale: IntGauge,
    users: IntGauge,
    licences: IntGauge,
    hints: IntCounter,
    closure: Histogram,
    deadline: Histogram,
    resyncs: IntCounter,
    repaired: IntCounter,
    clients: IntGauge,
    connections: IntGauge,
    unreadable: IntCounter,
}

impl Metrics {
    /// All of them, registered.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let histogram = |name: &str, help: &str| -> prometheus::Result<Histogram> {
            let buckets = vec![5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 1.0, 10.0];
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        Ok(Self {
            active: gauge("tracker_sessions_active", "Sessions on which requests are served")?,
            stale: gauge(
                "tracker_sessions_stale",
                "Sessions whose timeout ran out and which wait for their user",
            )?,
            users: gauge("tracker_users_active", "Users with at least one active session")?,
            licences: gauge("tracker_licences_used", "Licences in use")?,
            hints: counter("tracker_hints_total", "Hints received from the observer")?,
            closure: histogram(
                "tracker_closure_to_clock_seconds",
                "From a client's last connection closing to its session's clock running",
            )?,
            deadline: histogram("tracker_deadline_late_seconds", "How late deadlines were acted upon")?,
            resyncs: counter("tracker_resyncs_total", "Comparisons of the records with the sockets")?,
            repaired: counter(
                "tracker_records_repaired_total",
                "Records whose count of connections was repaired",
            )?,
            clients: gauge(
                "tracker_clients_connected",
                "Client addresses with open connections, at the last resync",
            )?,
            connections: gauge("tracker_connections_watched", "Watched connections, at the last resync")?,
            unreadable: counter("tracker_record_read_errors_total", "Records that could not be read")?,
        })
    }
}

pub(super) struct Core {
    table: Table,
    observer: Arc<Observer>,
    hints: Hints,
    connections: Arc<Connections>,
    audit: Arc<Audit>,
    metrics: Metrics,
    orders: mpsc::Receiver<Order>,
    timer: BootTimer,
    timer_set: Option<BootTime>,
    effects: Vec<Effect>,
    /// Clients still to be looked at because something about all of them may have changed.
    to_look: VecDeque<ClientAddr>,
    resync: Option<JoinHandle<Result<(Resync, Vec<ClientAddr>), ObserveError>>>,
    hints_lost: u64,
}

impl Core {
    pub(super) fn new(
        table: Table,
        observer: Arc<Observer>,
        hints: Hints,
        connections: Arc<Connections>,
        audit: Arc<Audit>,
        metrics: Metrics,
        orders: mpsc::Receiver<Order>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            table,
            observer,
            hints,
            connections,
            audit,
            metrics,
            orders,
            timer: BootTimer::new()?,
            timer_set: None,
            effects: Vec::new(),
            to_look: VecDeque::new(),
            resync: None,
            hints_lost: 0,
        })
    }

    pub(super) async fn run(mut self) {
        let mut resync_tick = interval_at(Instant::now() + RESYNC_EVERY, RESYNC_EVERY);
        let mut counters_tick = interval_at(Instant::now() + COUNTERS_EVERY, COUNTERS_EVERY);
        resync_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        counters_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => return,
                },
                hint = self.hints.next() => self.hint(hint),
                () = self.timer.expired() => self.timer_set = None,
                _ = counters_tick.tick() => self.read_counters(),
                _ = resync_tick.tick() => self.start_resync(),
                outcome = finished(&mut self.resync) => self.resynced(outcome),
                () = std::future::ready(()), if !self.to_look.is_empty() => self.look_at_some(),
            }
            self.fire_deadlines();
            self.publish();
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Ask(question) => question(&View { table: &self.table }),
            Order::Check { client, reply } => {
                let decision = self.check(client);
                // Whoever asked may have gone; the decision stands all the same.
                let _ = reply.send(decision);
            }
            Order::End { whose, reason, reply } => {
                let ended = self.end(&whose, reason);
                let _ = reply.send(ended);
            }
            Order::Policy { policy, reply } => {
                self.set_policy(policy);
                let _ = reply.send(());
            }
            Order::Prove { proof, reply } => {
                let outcome = self.prove(&proof);
                let _ = reply.send(outcome);
            }
        }
    }

    fn check(&mut self, client: ClientAddr) -> Decision {
        let Some(record) = self.record(client) else { return Decision::Challenge };
        let decision = self.table.check(client, &record, boot_now(), &mut self.effects);
        self.carry_out();
        decision
    }

    fn prove(&mut self, proof: &Proof) -> Result<crate::session::Admission, Refusal> {
        // From here on the kernel latches every gap of this client, whatever becomes of the daemon.
        self.observer
            .ensure(proof.client, boot_now())
            .map_err(|error| Refusal::Untracked(error.to_string()))?;
        let record = self.record(proof.client).ok_or_else(|| {
            Refusal::Untracked("the client's record cannot be read; see trackerctl status".into())
        })?;
        let outcome = self.table.prove(proof, &record, boot_now(), &mut self.effects);
        self.carry_out();
        Ok(outcome?)
    }

    fn end(&mut self, whose: &Whose, reason: Reason) -> Vec<Session> {
        let clients: Vec<ClientAddr> = match whose {
            Whose::All => self.table.sessions().map(|session| session.client).collect(),
            Whose::Client(client) => vec![*client],
            Whose::User(name) => {
                let matches = |session: &&Session| session.identity.is_called(name);
                self.table.sessions().filter(matches).map(|session| session.client).collect()
            }
        };
        let now = boot_now();
        let ended =
            clients.into_iter().filter_map(|client| self.table.end(client, reason, now, &mut self.effects));
        let ended = ended.collect();
        self.carry_out();
        ended
    }

    fn set_policy(&mut self, policy: Policy) {
        // What ran out under the old policy ends by it.
        self.fire_deadlines();
        if let Err(error) = self.observer.apply(policy.for_observer()) {
            error!(%error, "the observer did not take the new settings");
        }
        self.table.set_policy(policy);
        self.look_at_all();
    }

    fn hint(&mut self, hint: Hint) {
        self.metrics.hints.inc();
        if self.table.session(hint.client).is_none() {
            return;
        }
        self.look(hint.client);
        if hint.kind == tracker_ebpf::abi::HINT_CLOSED {
            self.metrics.closure.observe(boot_now().since(BootTime::from_nanos(hint.at)).as_secs_f64());
        }
    }

    fn look(&mut self, client: ClientAddr) {
        match self.record(client) {
            Some(record) => {
                self.table.look(client, &record, boot_now(), &mut self.effects);
                self.carry_out();
            }
            // Decisions are made afresh from the record, so a look put off endangers nobody.
            None => self.table.postpone(client, boot_now().after(RETRY)),
        }
    }

    fn look_at_all(&mut self) {
        self.to_look = self.table.sessions().map(|session| session.client).collect();
    }

    fn look_at_some(&mut self) {
        for _ in 0..LOOKS_PER_TURN {
            let Some(client) = self.to_look.pop_front() else { return };
            self.look(client);
        }
    }

    fn fire_deadlines(&mut self) {
        let now = boot_now();
        for _ in 0..LOOKS_PER_TURN {
            let Some((due, client)) = self.table.pop_due(now) else { break };
            self.metrics.deadline.observe(now.since(due).as_secs_f64());
            self.look(client);
        }
        let next = self.table.next_deadline();
        if next != self.timer_set {
            match self.timer.set(next) {
                Ok(()) => self.timer_set = next,
                Err(error) => error!(%error, "the timer cannot be set; deadlines are noticed late"),
            }
        }
    }

    /// The record as it is now; `None` where it cannot be read, which is logged and counted, and fails closed.
    fn record(&self, client: ClientAddr) -> Option<Record> {
        match self.observer.record(client) {
            // A client that never connected has nothing open.
            Ok(record) => Some(record.unwrap_or_default()),
            Err(error) => {
                self.metrics.unreadable.inc();
                error!(%client, %error, "the client's record cannot be read");
                None
            }
        }
    }

    fn carry_out(&mut self) {
        let mut closed = None;
        let anchor = (!self.effects.is_empty()).then(Anchor::now);
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Destroy { client, session, except } => {
                    closed = Some(self.connections.destroy(client, session, except));
                }
                Effect::Keep(_) => {}
                Effect::Audit(event) => {
                    let Some(anchor) = &anchor else { continue };
                    let reason = event.what.reason().map_or("", Reason::as_str);
                    self.audit.record(audit_event(&event, anchor, closed.take()), reason);
                }
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

    // --- resync -------------------------------------------------------------------------------------------------

    fn read_counters(&mut self) {
        let counters = match self.observer.counters() {
            Ok(counters) => counters,
            Err(error) => return warn!(%error, "the observer's counters cannot be read"),
        };
        let lost = counters.get(Counter::HintDropped as usize).copied().unwrap_or(0);
        if lost != self.hints_lost {
            warn!(lost = lost.wrapping_sub(self.hints_lost), "hints were lost: looking at every session");
            self.hints_lost = lost;
            self.start_resync();
        }
    }

    fn start_resync(&mut self) {
        if self.resync.is_some() {
            return;
        }
        let observer = Arc::clone(&self.observer);
        // A dump of many sockets takes its time; nobody waits for it.
        self.resync = Some(tokio::task::spawn_blocking(move || {
            let resync = observer.resync()?;
            let old = boot_now().before(RECORD_RETENTION);
            let last = |record: &Record| {
                BootTime::from_nanos(record.closed_at).max(BootTime::from_nanos(record.traffic_at))
            };
            let idle = |record: &Record| record.open == 0 && last(record) < old;
            let candidates = observer.records()?.into_iter().filter(|(_, record)| idle(record));
            Ok((resync, candidates.map(|(client, _)| client).collect()))
        }));
    }

    fn resynced(&mut self, outcome: Result<(Resync, Vec<ClientAddr>), ObserveError>) {
        self.metrics.resyncs.inc();
        let (resync, idle) = match outcome {
            Ok(done) => done,
            Err(error) => return error!(%error, "the records could not be compared with the sockets"),
        };
        let Resync { clients, connections, repaired, .. } = resync;
        self.metrics.clients.set(clients as i64);
        self.metrics.connections.set(connections as i64);
        if repaired > 0 {
            self.metrics.repaired.inc_by(repaired as u64);
            warn!(repaired, "records differed from the sockets and were repaired");
        }
        for client in idle {
            // Only the loop begins sessions, so nobody logs in between the question and the deed.
            if self.table.session(client).is_none()
                && let Err(error) = self.observer.forget(client)
            {
                info!(%client, %error, "an idle record was not forgotten");
            }
        }
        self.look_at_all();
    }
}

/// Waits for the task, if there is one, and takes it away.
async fn finished(
    task: &mut Option<JoinHandle<Result<(Resync, Vec<ClientAddr>), ObserveError>>>,
) -> Result<(Resync, Vec<ClientAddr>), ObserveError> {
    let Some(running) = task else { return std::future::pending().await };
    let outcome = running.await;
    *task = None;
    match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            error!(%error, "the resync failed");
            std::future::pending().await
        }
    }
}

fn audit_event(event: &Event, anchor: &Anchor, connections_closed: Option<usize>) -> AuditEvent {
    let kind = match event.what {
        What::Login(_) => Kind::Login,
        What::Renewed(_) => Kind::Renewed,
        What::Stale(_) => Kind::Stale,
        What::Ended { .. } => Kind::Ended,
    };
    let mut line = AuditEvent {
        client: Some(event.client.to_string()),
        user: Some(event.identity.user().into()),
        domain: Some(event.identity.domain().into()),
        session: Some(event.session.to_string()),
        reason: event.what.reason().map(|reason| reason.to_string()),
        connections_closed,
        ..AuditEvent::new(anchor.wall(event.at), kind)
    };
    match &event.what {
        What::Login(method) | What::Renewed(method) => line.method = Some(method.to_string()),
        What::Ended { duration, by, .. } => {
            line.duration = Some(duration.as_secs_f64());
            line.by = by.as_ref().map(|identity| identity.to_string());
        }
        What::Stale(_) => {}
    }
    line
}
