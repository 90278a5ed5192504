//! How the loop carries effects out.

use std::collections::HashSet;
use std::sync::Arc;

use tracing::warn;

use super::core::Core;
use crate::audit::{Actor, AuditEvent, Kind};
use crate::clock::Anchor;
use crate::links::shown;
use crate::session::event::{Event, What};
use crate::session::{Effect, Reason};
use crate::store::{Entry, Unkept};
use crate::types::ClientAddr;

/// What becomes of an answer once everything before it is on disk, or is not.
pub(super) type Answer = Box<dyn FnOnce(Result<(), Unkept>) + Send>;

impl Core {
    /// Carries the effects out in order. Connections are ended at once; what is to be kept goes to the journal; the audit
    /// trail is written and `answer` given when it is on disk.
    pub(super) fn carry_out(&mut self, answer: Option<Answer>) {
        self.carry_out_by(None, answer);
    }

    /// The same, where it was an operator's order.
    pub(super) fn carry_out_by(&mut self, actor: Option<&Actor>, answer: Option<Answer>) {
        if self.effects.is_empty() {
            if let Some(answer) = answer {
                answer(Ok(()));
            }
            return;
        }
        let effects = std::mem::take(&mut self.effects);
        let mut closed = self.destroy(&effects).into_iter();
        let anchor = Anchor::now();
        let mut connections_closed = None;
        let mut lines = Vec::new();
        let mut entries = Vec::new();
        for effect in effects {
            match effect {
                Effect::Destroy { .. } => connections_closed = closed.next(),
                Effect::Audit(event) => {
                    let reason = event.what.reason().map_or("", Reason::as_str);
                    if let Some(suspected) =
                        self.shared_host_detector.observe(&event, connections_closed.unwrap_or(0))
                    {
                        self.metrics.shared_suspected.inc();
                        if suspected.is_new {
                            warn!("{}", suspected.suspicion.sentence());
                        }
                    }
                    let line = AuditEvent {
                        actor: actor.cloned(),
                        ..audit_event(&event, &anchor, connections_closed.take())
                    };
                    entries.push(Entry::Event(Box::new(line.clone())));
                    lines.push((line, reason));
                }
                Effect::Keep(client) => {
                    self.release(client);
                    entries.push(Entry::Session(client, self.table.kept(client).cloned()));
                }
            }
        }
        let audit = Arc::clone(&self.audit);
        let announce = move |kept: Result<(), Unkept>| {
            for (line, reason) in lines {
                // An end is an end whether the disk took it or not; a login that was not kept is taken back.
                if kept.is_ok() || !matches!(line.event, Kind::Login | Kind::Renewed) {
                    audit.record(line, reason);
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
}

fn audit_event(event: &Event, anchor: &Anchor, connections_closed: Option<usize>) -> AuditEvent {
    let kind = match event.what {
        What::Login(_) => Kind::Login,
        What::Renewed(_) => Kind::Renewed,
        What::Stale(_) => Kind::Stale,
        What::Ended { .. } => Kind::Ended,
    };
    let mut line = AuditEvent {
        client: Some(shown(event.client).to_string()),
        user: Some(event.identity.user().into()),
        domain: Some(event.identity.domain().into()),
        realm: event.identity.hidden_realm().map(Into::into),
        session: Some(event.session.to_string()),
        reason: event.what.reason().map(|reason| reason.to_string()),
        connections_closed,
        ..AuditEvent::new(anchor.wall(event.at), kind)
    };
    match &event.what {
        What::Login(method) | What::Renewed(method) => line.method = Some(method.to_string()),
        What::Ended { duration, by, .. } => {
            line.duration = Some(duration.as_secs_f64());
            line.by = by.as_deref().map(ToString::to_string);
        }
        What::Stale(_) => {}
    }
    line
}
