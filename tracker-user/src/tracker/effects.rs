//! How the loop carries effects out.

use std::collections::HashSet;
use std::sync::Arc;

use tracing::warn;

use super::core::Core;
use crate::audit::{self, Actor, SessionEvent, TrailEntry};
use crate::clock::Anchor;
use crate::session::{Effect, Event, What};
use crate::store::{Entry, Unkept};
use crate::types::{ClientAddr, Scope, Traffic};

/// What becomes of an answer once everything before it is on disk, or is not.
pub(super) type Answer = Box<dyn FnOnce(Result<(), Unkept>) + Send>;

impl Core {
    /// Carries the effects out in order. Connections are ended at once; what is to be kept goes to the journal; the audit
    /// trail is written and `answer` given when it is on disk.
    pub(super) fn carry_out(&mut self, answer: Option<Answer>) {
        self.carry_out_by(None, Vec::new(), answer);
    }

    /// The same, where it was an operator's order; with further entries, which are on disk with what the effects keep, or
    /// not at all.
    pub(super) fn carry_out_by(&mut self, actor: Option<&Actor>, with: Vec<Entry>, answer: Option<Answer>) {
        if self.effects.is_empty() && with.is_empty() {
            if let Some(answer) = answer {
                answer(Ok(()));
            }
            return;
        }
        let effects = std::mem::take(&mut self.effects);
        // A connection of the proxy's own is gone once it has ended; a client's record is complete only then.
        let mut moved = self.moved_on_connections(&effects);
        let mut closed = self.destroy(&effects).into_iter();
        self.moved_by_clients(&effects, &mut moved);
        self.count_from_logins(&effects);
        let mut moved = moved.into_iter();
        let anchor = Anchor::now();
        let mut connections_closed = None;
        let mut lines = Vec::new();
        let mut entries = with;
        for effect in effects {
            match effect {
                Effect::Destroy { .. } => connections_closed = closed.next(),
                Effect::Audit(event) => {
                    if let Some(suspected) =
                        self.shared_host_detector.observe(&event, connections_closed.unwrap_or(0))
                    {
                        self.metrics.shared_suspected.inc();
                        if suspected.is_new {
                            warn!("{}", suspected.suspicion.sentence());
                        }
                    }
                    if is_end(&event) {
                        (self.ended)(&event);
                    }
                    let time = anchor.wall(event.at);
                    let traffic = if is_end(&event) { moved.next().flatten() } else { None };
                    let connections_closed = connections_closed.take();
                    let event = SessionEvent { event, actor: actor.cloned(), connections_closed, traffic };
                    let entry = Arc::new(TrailEntry { time, event: audit::Event::Session(event) });
                    entries.push(Entry::Event(Arc::clone(&entry)));
                    lines.push(entry);
                }
                Effect::Keep(client) => {
                    self.release(client);
                    let mut kept = self.table.kept(client).cloned();
                    // What came through a balancer is not counted any more after a restart.
                    if let Some(session) = kept.as_mut().filter(|_| self.observer.is_relayed(client)) {
                        session.traffic_before = None;
                    }
                    entries.push(Entry::Session(client, kept));
                }
            }
        }
        let audit = Arc::clone(&self.audit);
        let announce = move |kept: Result<(), Unkept>| {
            for line in lines {
                // An end is an end whether the disk took it or not; a login that was not kept is taken back.
                if kept.is_ok() || !line.event.is_admission() {
                    audit.record(line);
                }
            }
            if let Some(answer) = answer {
                answer(kept);
            }
        };
        self.journal.submit(entries, Some(Box::new(announce)));
    }

    /// Ends the connections that these effects mean: the proxy's own first, then all that their clients have through other
    /// proxies, which cannot be told apart by user (but for those of shared hosts, whose sessions are of one connection
    /// each). Returns how many each effect has ended.
    fn destroy(&self, effects: &[Effect]) -> Vec<usize> {
        let mut clients = HashSet::new();
        let mut closed = Vec::new();
        for effect in effects {
            if let Effect::Destroy { scope, session, except } = effect {
                let (client, own) = match scope.connection {
                    None => {
                        clients.insert(scope.client);
                        (Some(scope.client), self.connections.destroy(scope.client, *session, *except))
                    }
                    Some(spared) if Some(spared) == *except => (None, 0),
                    // What a shared host has through other proxies is not this user's alone.
                    Some(one) => (None, self.connections.destroy_one(scope.client, one, *session)),
                };
                self.metrics.destroyed_own.inc_by(own as u64);
                closed.push((client, own));
            }
        }
        // All at once: each walk through the kernel's sockets costs the same for one client as for many.
        let mut foreign = self.observer.destroy(&clients);
        self.metrics.destroyed_foreign.inc_by(foreign.values().sum::<usize>() as u64);
        let mut foreign =
            |client: Option<ClientAddr>| client.and_then(|client| foreign.remove(&client)).unwrap_or(0);
        closed.into_iter().map(|(client, own)| own + foreign(client)).collect()
    }

    /// What moved during each session that ends with these effects, in their order: of those that are of one connection, as
    /// far as it can be read now.
    fn moved_on_connections(&self, effects: &[Effect]) -> Vec<Option<Traffic>> {
        let of_one = |event: &Event| event.connection.and_then(|_| self.moved(event));
        ends(effects).map(of_one).collect()
    }

    /// The same of those that are of a client address.
    fn moved_by_clients(&self, effects: &[Effect], moved: &mut [Option<Traffic>]) {
        for (event, moved) in ends(effects).zip(moved) {
            if event.connection.is_none() {
                *moved = self.moved(event);
            }
        }
    }

    /// What moves during the sessions that begin with these effects is counted from what stands there now: what their
    /// predecessors moved stands there already.
    fn count_from_logins(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Audit(event @ Event { what: What::Login(_), .. }) = effect {
                let scope = Scope { client: event.client, connection: event.connection };
                if let Some(counted) = self.counted(scope) {
                    self.table.counts_from(scope, counted);
                }
            }
        }
    }

    /// What moved during the session that ended: the difference to what was counted at its login. `None` where either cannot be
    /// read, or where the counter was set back.
    fn moved(&self, event: &Event) -> Option<Traffic> {
        let What::Ended { traffic_before: Some(before), .. } = event.what else { return None };
        self.counted(Scope { client: event.client, connection: event.connection })?.since(before)
    }

    /// What has been counted so far for a client, or for one of its connections on a shared host.
    fn counted(&self, scope: Scope) -> Option<Traffic> {
        let evidence = match scope.connection {
            None => self.observer.recorded(scope.client).ok().flatten(),
            Some(connection) => {
                if let Some(traffic) = self.last_counted.get(&connection) {
                    return Some(*traffic);
                }
                self.connections.evidence(scope.client, connection)
            }
        };
        evidence.map(|seen| Traffic { rx: seen.received, tx: seen.sent })
    }
}

const fn is_end(event: &Event) -> bool {
    matches!(event.what, What::Ended { .. })
}

/// The sessions that end with these effects.
fn ends(effects: &[Effect]) -> impl Iterator<Item = &Event> {
    effects.iter().filter_map(|effect| match effect {
        Effect::Audit(event) if is_end(event) => Some(event),
        Effect::Audit(_) | Effect::Destroy { .. } | Effect::Keep(_) => None,
    })
}
