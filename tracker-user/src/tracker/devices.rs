//! Another device behind a client's address (`timeouts.device-change`).

use tracker_ebpf::abi::ClientAddr;

use super::core::Core;
use crate::clock::boot_now;
use crate::session::{Device, Reason};

impl Core {
    /// Takes note of what became of the neighbour table: sessions whose client is another device now end. What comes of
    /// it is still to be carried out.
    pub(super) fn look_at_devices(&mut self) {
        let judging = self.judges_devices();
        let table = &self.table;
        let concern =
            |client| judging && table.session(client).is_some_and(|session| session.device.is_some());
        for (client, device) in self.observer.device_changes(concern) {
            self.judge_device(client, device);
        }
    }

    /// The same for one client, by what the neighbour table has now.
    pub(super) fn look_at_device(&mut self, client: ClientAddr) {
        if self.judges_devices()
            && let Some(device) = self.observer.neighbour(client)
        {
            self.judge_device(client, device);
        }
    }

    /// What a client that is not on link has, or one behind a router, was never noted, and does not change.
    fn judge_device(&mut self, client: ClientAddr, device: Device) {
        let proved_from = self.table.session(client).and_then(|session| session.device);
        if let Some(before) = proved_from.filter(|before| *before != device)
            && !self.observer.is_router(before, client)
        {
            self.table.end(client, Reason::DeviceChanged, boot_now(), &mut self.effects);
        }
    }

    fn judges_devices(&self) -> bool {
        self.table.policy().timeouts.judges_devices()
    }
}
