//! The records against the kernel's list of sockets.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::Duration;

use tracing::{debug, warn};
use tracker_ebpf::abi::{AMEND_OPEN, Amendment};
use tracker_ebpf::record::Record;

use super::ebpf::Kernel;
use super::error::ObserveError;
use super::{Observer, Source, socket_dump};
use crate::clock::{BootTime, boot_now};
use crate::session::Evidence;
use crate::types::ClientAddr;

/// What a resync found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resync {
    /// Clients with a record.
    pub clients: usize,
    /// Connections to the watched ports, as the kernel lists them.
    pub connections: usize,
    /// Records whose count of open connections was certainly wrong, and is right now.
    pub repaired: usize,
    /// Records whose count differs, seen for the first time: most often a connection that was just opening or closing.
    pub suspected: usize,
    /// Clients with connections and without a record: strangers, all of them.
    pub unrecorded: usize,
}

/// [`Observer::settle`] looks again this soon, and this often at most.
const SECOND_LOOK: Duration = Duration::from_millis(5);
const FIRST_LOOKS: usize = 4;
/// A record that changes while it is amended is read and amended anew, this often.
const ATTEMPTS: usize = 8;

impl Observer {
    /// Makes the records agree with the list of sockets: connections that are older than the kernel side are counted from
    /// it. The kernel side never saw them begin, so it neither sees their packets nor their end: until they are closed,
    /// their traffic is invisible, and their closing is noticed by a later resync.
    ///
    /// Whoever knows of clients from an earlier run calls [`Self::ensure`] for them before this: what nobody watched since
    /// then is taken for a gap.
    ///
    /// # Errors
    /// When the sockets cannot be listed, or the kernel refuses.
    pub fn settle(&self) -> Result<(), ObserveError> {
        if let Source::Kernel(kernel) = &self.source
            && let Some(since) = kernel.was_blind_since()
        {
            return self.see_again(since);
        }
        self.agree()
    }

    /// Compares the records with the kernel's list of sockets. A difference is repaired when it is seen for the second
    /// time in a row and nothing was opened or closed in between; the repair sends hints as the missed event would have.
    /// The proxy's own eyes miss nothing of what they look at, so there the list is only counted.
    ///
    /// Where the kernel side does not see any more, it is attached anew first. `each` is told what every record says, as it was
    /// before anything was repaired: they are read but once.
    ///
    /// # Errors
    /// When the sockets cannot be listed, or the kernel refuses.
    pub fn resync(&self, mut each: impl FnMut(ClientAddr, &Evidence)) -> Result<Resync, ObserveError> {
        self.mend();
        let mut found = self.look(true, |client, record| {
            let known = Some(Evidence::from(record));
            let known = self.with_relayed(client, known);
            known.iter().for_each(|evidence| each(client, evidence));
        })?;
        found.clients += self.each_only_relayed(each)?;
        Ok(found)
    }

    /// Nothing that the records say of the time since a moment is relied upon: what was open then counts as closed from
    /// then on, until now.
    pub(super) fn distrust(&self, since: BootTime) -> Result<(), ObserveError> {
        let Source::Kernel(kernel) = &self.source else { return Ok(()) };
        for (client, record) in open_records(kernel, |_, _| {})?.0 {
            let mut known = Some(record);
            for _ in 0..ATTEMPTS {
                let Some(record) = known.filter(|record| record.connections() > 0) else { break };
                let (changes, at) = (record.changes, since.as_nanos());
                let amendment = Amendment { client, kind: AMEND_OPEN, changes, at, ..Amendment::default() };
                if kernel.amend(&amendment)? {
                    break;
                }
                known = kernel.record(client)?;
            }
        }
        self.agree()
    }

    /// Compares until nothing looks wrong any more.
    fn agree(&self) -> Result<(), ObserveError> {
        for look in 1..=FIRST_LOOKS {
            if self.look(false, |_, _| {})?.suspected == 0 || look == FIRST_LOOKS {
                break;
            }
            std::thread::sleep(SECOND_LOOK);
        }
        Ok(())
    }

    /// `judging`: openings that were missed are held against the kernel side.
    fn look(&self, judging: bool, mut each: impl FnMut(ClientAddr, &Record)) -> Result<Resync, ObserveError> {
        let kernel = match &self.source {
            Source::Kernel(kernel) => kernel,
            Source::Eyes { eyes, .. } => {
                let (records, connections) = (eyes.records(), self.sockets.read()?.len());
                records.iter().for_each(|(client, record)| each(*client, record));
                return Ok(Resync { clients: records.len(), connections, ..Resync::default() });
            }
        };
        let evicted = kernel.thin_out()?;
        if evicted > 0 {
            debug!(
                evicted,
                "strangers of one network had more records than a quarter of what strangers may have"
            );
        }
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        // The records first: a connection that both show was counted before it was listed.
        let (mut records, clients) = open_records(kernel, each)?;
        let dump = self.sockets.read()?;
        let counts = socket_dump::count(&dump);
        let now = boot_now();
        let mut found = Resync { clients, connections: dump.len(), ..Resync::default() };
        found.unrecorded = self.add_listed(&mut records, counts.keys().copied())?;
        let certain = looks.look(&records, &counts, now);
        // Read last: whoever is listed and was not counted has been told of by now, or will be by the next look.
        let unknown = looks.unknown(&records, &counts, &certain, kernel.uncounted()?);
        if judging {
            if unknown.unexplained == 0 {
                self.agreed(now);
            } else if unknown.certain > 0 && unknown.clients == counts.len() {
                self.sees_nothing();
            }
        }
        for amendment in certain {
            if kernel.amend(&amendment)? {
                found.repaired += 1;
                warn!(client = %amendment.client, open = amendment.open, half = amendment.half, "a count of connections was repaired");
            }
        }
        found.suspected = looks.suspected();
        Ok(found)
    }

    /// Adds the records of the other clients that are listed, and returns how many of these have none.
    fn add_listed(
        &self,
        records: &mut Vec<(ClientAddr, Record)>,
        listed: impl Iterator<Item = ClientAddr>,
    ) -> Result<usize, ObserveError> {
        let known: HashSet<_> = records.iter().map(|(client, _)| *client).collect();
        let mut unrecorded = 0;
        for client in listed.filter(|client| !known.contains(client)) {
            match self.record(client)? {
                Some(record) => records.push((client, record)),
                None => unrecorded += 1,
            }
        }
        Ok(unrecorded)
    }
}

/// The records of clients with connections, and how many records there are in all, each of which is told.
fn open_records(
    kernel: &Kernel,
    mut each: impl FnMut(ClientAddr, &Record),
) -> Result<(Vec<(ClientAddr, Record)>, usize), ObserveError> {
    let (mut open, mut clients) = (Vec::new(), 0);
    kernel.each_record(|client, record| {
        clients += 1;
        each(client, record);
        if record.connections() > 0 {
            open.push((client, *record));
        }
    })?;
    Ok((open, clients))
}
