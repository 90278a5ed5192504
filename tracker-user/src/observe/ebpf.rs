//! The kernel side at work: its records are read, and amended by the program `amend`.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use aya::Ebpf;
use aya::maps::{self, MapData, MapError};
use tracker_ebpf::abi::{
    AMEND_EVICT, AMEND_FORGET, AMEND_HOLD, AMEND_RELEASE, Amendment, Counter, READ_LOCKED, Settings, Used,
    strangers_of,
};
use tracker_ebpf::mark::Mark;
use tracker_ebpf::record::Record;

use super::amend;
use super::attach::{Attached, Pinning, Records, Wanted};
use super::error::{self, Full, ObserveError};
use super::hints::Hints;
use super::pins::PinDir;
use super::stamps::Stamps;
use crate::clock::BootTime;
use crate::types::ClientAddr;

/// The programs, attached, and their maps. Where they are pinned they outlive this.
pub(super) struct Kernel {
    /// Locked only to attach.
    pub(super) programs: Mutex<Ebpf>,
    /// The program `amend`, and what it is yet to be told of payload.
    pub(super) stamps: Arc<Stamps>,
    records: RwLock<Records>,
    /// The same map, to be read many entries at a time.
    records_fd: OwnedFd,
    /// The map, and what is in it.
    settings: Mutex<(maps::Array<MapData, Settings>, Settings)>,
    counters: maps::PerCpuArray<MapData, u64>,
    marks: maps::SkStorage<MapData, Mark>,
    used: maps::Array<MapData, Used>,
    pub(super) links: Mutex<Vec<OwnedFd>>,
    cgroup: PathBuf,
    pub(super) cgroup_id: AtomicU64,
    pub(super) pins: Option<PinDir>,
    pub(super) pinned_maps: Vec<(&'static str, OwnedFd)>,
    pinning: Pinning,
    max_records: u32,
    /// How many records of strangers were deleted whatever was open.
    dropped: AtomicU64,
    /// What an earlier daemon left word of; see [`Kernel::was_blind_since`].
    was_blind: Mutex<Option<BootTime>>,
}

impl Kernel {
    /// Attaches the programs, or goes on with those that are.
    pub(super) fn start(wanted: &Wanted<'_>) -> Result<(Self, Hints), ObserveError> {
        let Attached {
            programs,
            amend,
            records,
            records_fd,
            settings,
            counters,
            marks,
            used,
            hints,
            links,
            cgroup,
            cgroup_id,
            pins,
            pinning,
        } = Attached::start(wanted)?;
        let now = settings.get(&0, 0).map_err(|error| error::map("reading the settings", &error))?;
        let was_blind = BootTime::from_stamp(now.blind_since);
        let pinned_maps = pins.as_ref().map(|pins| pins.open_maps(wanted.max_records)).transpose()?;
        let kernel = Self {
            programs: Mutex::new(programs),
            stamps: Arc::new(Stamps::new(amend, now.limit)),
            records: RwLock::new(records),
            records_fd,
            settings: Mutex::new((settings, now)),
            counters,
            marks,
            used,
            links: Mutex::new(links),
            cgroup,
            cgroup_id: AtomicU64::new(cgroup_id),
            pins,
            pinned_maps: pinned_maps.unwrap_or_default(),
            pinning,
            max_records: wanted.max_records,
            dropped: AtomicU64::new(0),
            was_blind: Mutex::new(was_blind),
        };
        Ok((kernel, hints))
    }

    /// Since when the kernel side is where it is, and sees everything.
    pub(super) fn watched_since(&self) -> BootTime {
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        BootTime::from_nanos(settings.1.watched_since)
    }

    /// Since when the records prove nothing, if an earlier daemon said so. Answered once.
    pub(super) fn was_blind_since(&self) -> Option<BootTime> {
        self.was_blind.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    pub(super) fn pinning(&self) -> &Pinning {
        &self.pinning
    }

    /// As it is when all that is known of the client's payload has been told.
    pub(super) fn record(&self, client: ClientAddr) -> Result<Option<Record>, ObserveError> {
        self.stamps.tell(client)?;
        read(&self.records(), client)
    }

    /// Calls `each` with every client once. There may be millions: keep what is needed only.
    pub(super) fn each_record(&self, mut each: impl FnMut(ClientAddr, &Record)) -> Result<(), ObserveError> {
        let told = super::bpf::entries(self.records_fd.as_fd(), |client, slot| {
            // A record that is about to be deleted is none.
            if slot.serves(&client) {
                each(client, &slot.record);
            }
        });
        told.map_err(|error| error::listing(&error))
    }

    /// Calls `each` with the next portion of the clients, each of which is told once.
    pub(super) fn portion(
        &self,
        cursor: &mut super::bpf::Cursor,
        mut each: impl FnMut(ClientAddr, &Record),
    ) -> Result<(), ObserveError> {
        let told = cursor.portion(self.records_fd.as_fd(), |client, slot| {
            if slot.serves(&client) {
                each(client, &slot.record);
            }
        });
        told.map_err(|error| error::listing(&error))
    }

    pub(super) const fn records_fd(&self) -> &OwnedFd {
        &self.records_fd
    }

    pub(super) const fn max_records(&self) -> u32 {
        self.max_records
    }

    /// The clients whose records are held.
    pub(super) fn held(&self) -> Result<Vec<ClientAddr>, ObserveError> {
        let mut held = Vec::new();
        let told = super::bpf::entries(self.records_fd.as_fd(), |client, slot| {
            if slot.serves(&client) && slot.held != 0 {
                held.push(client);
            }
        });
        told.map_err(|error| error::listing(&error))?;
        Ok(held)
    }

    /// How many records there are.
    pub(super) fn used(&self) -> Result<Used, ObserveError> {
        self.used.get(&0, READ_LOCKED).map_err(|error| error::map("counting the records", &error))
    }

    /// How many connections the kernel side did not count, and said so, or was told to forget.
    pub(super) fn uncounted(&self) -> Result<u64, ObserveError> {
        let counters = self.counters()?;
        let missed = [Counter::StrangerUncounted, Counter::MarkFailed, Counter::CallbackRefused];
        let missed: u64 = missed.iter().filter_map(|what| counters.get(*what as usize)).sum();
        Ok(missed.wrapping_add(self.dropped.load(Ordering::Relaxed)))
    }

    pub(super) fn ensure(&self, client: ClientAddr, since: BootTime) -> Result<(), ObserveError> {
        let amendment = Amendment { client, kind: AMEND_HOLD, at: since.as_nanos(), ..Amendment::default() };
        if self.amend(&amendment)? { Ok(()) } else { Err(Full { max_records: self.max_records }.into()) }
    }

    pub(super) fn release(&self, client: ClientAddr) -> Result<(), ObserveError> {
        if self.used()?.strangers >= u64::from(strangers_of(self.max_records)) {
            // It is deleted, whatever is open.
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.amend(&Amendment { client, kind: AMEND_RELEASE, ..Amendment::default() }).map(drop)
    }

    pub(super) fn evict(&self, client: ClientAddr) -> Result<bool, ObserveError> {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.amend(&Amendment { client, kind: AMEND_EVICT, ..Amendment::default() })
    }

    pub(super) fn forget(&self, client: ClientAddr) -> Result<(), ObserveError> {
        self.amend(&Amendment { client, kind: AMEND_FORGET, ..Amendment::default() }).map(drop)
    }

    /// Asks for a change. True if it was made.
    pub(super) fn amend(&self, amendment: &Amendment) -> Result<bool, ObserveError> {
        amend::run(self.stamps.program(), amendment)
    }

    pub(super) fn apply(&self, new: Settings) -> Result<(), ObserveError> {
        self.stamps.apply(new.limit);
        self.change_settings(|settings| (settings.limit, settings.direction) = (new.limit, new.direction))
    }

    pub(super) fn change_settings(&self, change: impl FnOnce(&mut Settings)) -> Result<(), ObserveError> {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        let (map, now) = &mut *settings;
        let mut new = *now;
        change(&mut new);
        map.set(0, new, 0).map_err(|error| error::map("writing the settings", &error))?;
        *now = new;
        Ok(())
    }

    pub(super) fn counters(&self) -> Result<[u64; Counter::ALL.len()], ObserveError> {
        let mut sums = [0; Counter::ALL.len()];
        for (sum, counter) in sums.iter_mut().zip(Counter::ALL) {
            let values = self
                .counters
                .get(&(counter as u32), 0)
                .map_err(|error| error::map("reading the counters", &error))?;
            *sum = values.iter().fold(0_u64, |total, value| total.wrapping_add(*value));
        }
        Ok(sums)
    }

    /// The mark of a socket whose connection is watched, and not closed.
    pub(super) fn mark(&self, socket: BorrowedFd<'_>) -> Option<Mark> {
        self.marks.get(&socket, 0).ok()
    }

    /// What it is working by.
    #[cfg(test)]
    pub(super) fn settings(&self) -> Result<Settings, MapError> {
        self.settings.lock().unwrap().0.get(&0, 0)
    }

    /// The programs that are attached.
    #[cfg(test)]
    pub(super) fn program_ids(&self) -> Vec<u32> {
        use std::os::fd::AsFd as _;
        let links = self.links.lock().unwrap();
        links.iter().map(|link| super::bpf::look(link.as_fd()).unwrap().program).collect()
    }

    /// Deletes a record as nobody should.
    #[cfg(test)]
    pub(super) fn lose(&self, client: ClientAddr) {
        self.records.write().unwrap().remove(&client).unwrap();
    }

    fn records(&self) -> RwLockReadGuard<'_, Records> {
        self.records.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A copy of the record, made by the kernel under its lock.
fn read(records: &Records, client: ClientAddr) -> Result<Option<Record>, ObserveError> {
    match records.get(&client, READ_LOCKED) {
        Ok(slot) => Ok(slot.serves(&client).then_some(slot.record)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error::map("reading a record", &error)),
    }
}
