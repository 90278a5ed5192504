//! Devices behind client addresses, as the tracker asks for them.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tracing::error;

use super::Observer;
use super::neighbours::Neighbours;
use crate::clock::{BootTime, boot_now};
use crate::types::{ClientAddr, Device};

/// An address that held no connection for this long is no client's any more, when those behind one device are counted.
const CLIENT_FOR: Duration = Duration::from_secs(600);
/// A connection counts for the device behind its address if it was established so much later than that was known: the last
/// packet of a handshake may come so long after the answer to its first one, which may have gone elsewhere. The kernel gives a
/// handshake up after 63 s (`tcp_synack_retries`), and takes a SYN cookie for two minutes.
const HANDSHAKE: Duration = Duration::from_secs(130);

/// A connection is an earlier device's if it was accepted so much earlier than another was told of: we may be told late.
const LATE: Duration = Duration::from_secs(1);

/// The neighbour table, or why there is none.
pub(super) struct Devices(Mutex<Result<Neighbours, String>>);

impl Devices {
    /// Reads the table.
    pub(super) fn open() -> (Self, DeviceWatch) {
        let opened = Neighbours::open().and_then(|table| Ok((table.handle()?, table)));
        let (table, watch) = match opened {
            Ok((handle, table)) => (Ok(table), DeviceWatch::Fresh(handle)),
            Err(error) => (Err(unreadable(&error)), DeviceWatch::Blind),
        };
        (Self(Mutex::new(table)), watch)
    }

    pub(super) fn with<T: Default>(&self, work: impl FnOnce(&mut Neighbours) -> T) -> T {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Ok(table) => work(table),
            Err(_) => T::default(),
        }
    }
}

fn unreadable(error: &std::io::Error) -> String {
    format!("the neighbour table cannot be read: {error}; devices behind client addresses are not known")
}

impl Observer {
    /// Takes note of what became of the neighbour table, and returns the devices that have shown up since the last call
    /// behind addresses that `concern` the caller. Call it before deciding about a new connection.
    pub fn device_changes(&self, concern: impl Fn(ClientAddr) -> bool) -> Vec<(ClientAddr, Device)> {
        let mut devices = self.devices.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(table) = &mut *devices else { return Vec::new() };
        match table.refresh(concern) {
            Ok(changes) => changes,
            Err(error) => {
                let problem = unreadable(&error);
                error!("{problem}");
                *devices = Err(problem);
                Vec::new()
            }
        }
    }

    /// The hardware address that the neighbour table has for a client on the link by which it is reached; `None` for
    /// clients that are not on link.
    pub fn neighbour(&self, client: ClientAddr) -> Option<Device> {
        self.devices.with(|table| table.device(client))
    }

    /// The same, if it is another than the client proved itself from.
    pub fn another_device(&self, client: ClientAddr, before: Device) -> Option<Device> {
        self.devices.with(|table| table.other_than(client, before))
    }

    /// Whether a connection of the client's, accepted at that moment, was another device's than what is there now.
    pub fn is_earlier_devices(&self, client: ClientAddr, accepted: BootTime) -> bool {
        let replaced = self.devices.with(|table| table.replaced_at(client));
        replaced.is_some_and(|at| accepted.after(LATE) < at)
    }

    /// The device that a proof binds a session to; `None` also if it is a router's, behind which many clients are. Ask once,
    /// at the proof: later, others may have written the table.
    pub fn device(&self, client: ClientAddr) -> Option<Device> {
        self.devices.with(|table| {
            let device = table.device(client)?;
            (!table.is_shared(client, |other, since| self.has_connected(other, since))).then_some(device)
        })
    }

    /// Why devices are not known; `None` while they are.
    pub fn devices_problem(&self) -> Option<String> {
        self.devices.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().err().cloned()
    }

    /// Whether an address holds connections, or did so a while ago, and established one that it began after that moment.
    fn has_connected(&self, address: ClientAddr, since: BootTime) -> bool {
        let recently = boot_now().before(CLIENT_FOR);
        let after = |at: u64, moment: BootTime| BootTime::from_stamp(at).is_some_and(|at| at > moment);
        let record = self.record(address).ok().flatten();
        record.is_some_and(|record| {
            let is_client = record.connections() > 0
                || after(record.closed_at, recently)
                || after(record.traffic_at, recently);
            is_client && after(record.established_at, since.after(HANDSHAKE))
        })
    }
}

/// Tells that the neighbour table has changed.
pub enum DeviceWatch {
    /// Watched by tokio from the first call on, since the observer may be made outside a runtime.
    Fresh(OwnedFd),
    /// Watched.
    Watched(AsyncFd<OwnedFd>),
    /// There is nothing to watch.
    Blind,
}

impl DeviceWatch {
    /// Waits until there is something to take note of with [`Observer::device_changes`]. Cancel-safe. Needs a runtime with
    /// IO.
    pub async fn changed(&mut self) {
        if let Self::Fresh(_) = self
            && let Self::Fresh(handle) = std::mem::replace(self, Self::Blind)
        {
            #[expect(unsafe_code, reason = "tokio's only constructor that is not deprecated")]
            // SAFETY: OwnedFd owns its descriptor, which stays the same and open while it lives.
            match unsafe { AsyncFd::register(handle) } {
                Ok(watched) => *self = Self::Watched(watched),
                // They are still noticed when connections are opened.
                Err(error) => error!(%error, "changes of the neighbour table cannot be waited for"),
            }
        }
        match self {
            Self::Watched(watched) => match watched.readable().await {
                // Not read yet, but whoever waits reads all of it now: what comes later wakes again.
                Ok(mut guard) => guard.clear_ready(),
                Err(_) => std::future::pending().await,
            },
            _ => std::future::pending().await,
        }
    }
}
