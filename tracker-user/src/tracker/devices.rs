//! Another device behind a client's address (`timeouts.device-change`).

use super::core::Core;
use crate::clock::boot_now;
use crate::session::{Proof, Reason};
use crate::types::{ClientAddr, ConnectionId, Device};

impl Core {
    /// Takes note of what became of the neighbour table: sessions whose client is another device now end. What comes of
    /// it is still to be carried out.
    pub(super) fn refresh_devices(&mut self) {
        let judging = self.judges_devices();
        let table = &self.table;
        let concern =
            |client| judging && table.session(client).is_some_and(|session| session.device.is_some());
        for (client, device) in self.observer.device_changes(concern) {
            self.judge_device(client, device);
        }
    }

    /// The same for one client, by what the neighbour table has now.
    pub(super) fn refresh_device(&mut self, client: ClientAddr) {
        if self.judges_devices()
            && let Some(before) = self.proved_from(client)
            && let Some(device) = self.observer.another_device(client, before)
        {
            self.judge_device(client, device);
        }
    }

    /// The device at the client's address now, as far as a decision about a connection without a balancer needs it: another than
    /// its session was proved from, or that one.
    pub(super) fn device_now(&self, client: ClientAddr) -> Option<Device> {
        let before = self.proved_from(client).filter(|_| self.judges_devices())?;
        Some(self.observer.another_device(client, before).unwrap_or(before))
    }

    /// Whether what was there at the proof was a router's was decided then, and is not looked at again: by now others may
    /// have written the neighbour table.
    fn judge_device(&mut self, client: ClientAddr, device: Device) {
        if self.proved_from(client).is_some_and(|before| before != device) {
            self.table.end(client, Reason::DeviceChanged, boot_now(), &mut self.effects);
        }
    }

    /// Whether a connection was established to another device than the one that is behind the client's address now: nothing
    /// of what came on it says who is there.
    pub(super) fn is_earlier_devices(&self, client: ClientAddr, connection: Option<ConnectionId>) -> bool {
        let accepted = || connection.and_then(|connection| self.connections.accepted(client, connection));
        self.judges_devices() && accepted().is_some_and(|at| self.observer.is_earlier_devices(client, at))
    }

    /// Whether a connection came through a balancer to a session that was proved from a device of its own: nobody knows whether
    /// it is the same, and whoever is there has to say who they are. The neighbour table knows the balancer's, or whoever has the
    /// client's address on a link of ours.
    pub(super) fn is_of_unknown_device(&self, client: ClientAddr) -> bool {
        self.judges_devices() && self.proved_from(client).is_some()
    }

    /// What a proof binds the session to: nothing, if it came through a balancer or may have. Where nothing is known (any more), what its user proved themselves from before goes
    /// on.
    pub(super) fn device_of(&self, proof: &Proof) -> Option<Device> {
        if proof.connection.is_some_and(|one| !self.connections.is_direct(proof.client, one)) {
            return None;
        }
        let before = self.table.session(proof.client).filter(|session| session.identity == proof.identity);
        match (self.observer.neighbour(proof.client), before) {
            (None, Some(session)) => session.device,
            _ => self.observer.device(proof.client),
        }
    }

    /// A client that is not on link has none, nor has one behind a router.
    fn proved_from(&self, client: ClientAddr) -> Option<Device> {
        self.table.session(client).and_then(|session| session.device)
    }

    fn judges_devices(&self) -> bool {
        self.table.policy().timeouts.judges_devices()
    }
}
