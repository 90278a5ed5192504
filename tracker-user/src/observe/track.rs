//! Beginning to keep the record of a client who logs in: one that strangers left no room for begins with the login, and has
//! to know of the connections that were there before.

use tracker_ebpf::abi::{AMEND_OPEN, Amendment};
use tracker_ebpf::record::Record;

use super::error::ObserveError;
use super::socket_dump::Count;
use super::{Observer, Source};
use crate::clock::{BootTime, boot_now};
use crate::net::{Connections, Seen, SeenConnection};
use crate::types::{ClientAddr, ConnectionId};

/// A record that changes while it is amended is read and amended anew, this often.
const ATTEMPTS: usize = 16;

impl Observer {
    /// The client has proved who they are, by a request that was read at `since` on `connection`: makes sure that their
    /// record is kept, and that it knows of all their connections, and whether that one has been closed meanwhile.
    ///
    /// # Errors
    /// As [`Self::ensure`].
    pub fn track(
        &self,
        client: ClientAddr,
        since: BootTime,
        connections: &Connections,
        connection: Option<ConnectionId>,
    ) -> Result<(), ObserveError> {
        let is_new = self.record(client)?.is_none();
        self.ensure(client, since)?;
        if !is_new {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let Some(record) = self.record(client)? else { break };
            let mut seen = connections.seen(client);
            let still_there = connection.is_some_and(|proved| seen.iter().any(|one| one.id == proved));
            // Those that come through a balancer have another record.
            seen.retain(|one| !one.is_relayed);
            let count = self.count(client, &seen)?;
            // The record knows of a closing that came after it was made.
            let has_left = record.left_at != since.as_nanos();
            let step = match (still_there || has_left, record.connections()) {
                (true, _) if Count::of(&record) == count => break,
                (true, _) => (count, since),
                // It was closed before the record was made: whoever is there now may have come later.
                (false, 0) => (Count { open: 1, half: 0 }, since),
                (false, _) => (Count::default(), boot_now()),
            };
            self.correct(client, &record, step.0, step.1)?;
        }
        Ok(())
    }

    /// The client's connections: the proxy's own that are `seen`; where other proxies are watched, those that the kernel
    /// lists.
    fn count(&self, client: ClientAddr, seen: &[SeenConnection]) -> Result<Count, ObserveError> {
        if self.destroyer.is_needed() {
            return Ok(self.sockets.count(client)?);
        }
        let half = seen.iter().filter(|one| one.seen == Seen::Half).count();
        Ok(Count { open: (seen.len() - half) as u32, half: half as u32 })
    }

    /// Sets a record's counts right, if nothing has changed since `record` was read. False if something has.
    pub(super) fn correct(
        &self,
        client: ClientAddr,
        record: &Record,
        Count { open, half }: Count,
        at: BootTime,
    ) -> Result<bool, ObserveError> {
        let (changes, at) = (record.changes, at.as_nanos());
        let amendment =
            Amendment { client, kind: AMEND_OPEN, changes, open, half, at, ..Amendment::default() };
        match &self.source {
            Source::Kernel(kernel) => kernel.amend(&amendment),
            Source::Eyes { eyes, .. } => Ok(eyes.correct(&amendment)),
        }
    }
}
