//! Sessions of single connections (`timeouts.shared-hosts`): their evidence is what the proxy itself saw on the connection,
//! and they end with it.

use super::Refusal;
use super::core::Core;
use crate::clock::boot_now;
use crate::net::Left;
use crate::session::{Admission, Arrival, Decision, Facts, Proof};
use crate::types::{ClientAddr, ConnectionId, Scope};

impl Core {
    /// Admits a proof for the connection that carried it. From here on what happens on that is recorded; if it closes, the
    /// registry tells, unless it has closed already.
    pub(super) fn admit_on_connection(&mut self, scope: Scope, proof: &Proof) -> Result<Admission, Refusal> {
        let watched = scope.connection.and_then(|one| self.connections.watch(scope.client, one, proof.at));
        let evidence = watched.ok_or_else(|| Refusal::Untracked("its connection has ended".into()))?;
        Ok(self.table.prove(proof, &evidence, boot_now(), &mut self.effects)?)
    }

    /// Connections of shared hosts were closed: their sessions end. Or their clients have ended them: their time may run.
    pub(super) fn left(&mut self, left: &[Left]) {
        for &Left { client, connection, at, closed_after } in left {
            if let Some(traffic) = closed_after {
                self.last_counted.insert(connection, traffic);
                self.table.closed(Scope::connection(client, connection), at, &mut self.effects);
            } else if self.connections.evidence(client, connection).is_some() {
                self.refresh_connection(client, connection);
            }
            // Else it is closed by now: that is told for itself, with what it has counted.
        }
        self.carry_out(None);
        self.last_counted.clear();
    }

    /// A request on a connection of a shared host: what counts is what happened on that.
    pub(super) fn check_connection(&mut self, client: ClientAddr, connection: ConnectionId) -> Decision {
        let evidence = self.connections.evidence(client, connection);
        let facts = Facts {
            evidence: evidence.as_ref(),
            device: None,
            watched_since: self.observer.watched_since(),
            arrival: Arrival::NEW,
            now: boot_now(),
        };
        let decision = self.table.check(Scope::connection(client, connection), &facts, &mut self.effects);
        self.carry_out(None);
        decision
    }

    pub(super) fn refresh_connection(&mut self, client: ClientAddr, connection: ConnectionId) {
        let scope = Scope::connection(client, connection);
        match self.connections.evidence(client, connection) {
            Some(evidence) => self.table.refresh(scope, &evidence, boot_now(), &mut self.effects),
            None => self.table.closed(scope, boot_now(), &mut self.effects),
        }
    }
}
