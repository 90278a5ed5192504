//! The kernel side at work: its records are read, and amended by the program `amend`.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use aya::Ebpf;
use aya::maps::{self, MapData, MapError};
use aya::programs::{CgroupSkb, TestRun as _, TestRunOptions};
use tracker_ebpf::abi::{AMEND_FORGET, Amendment, ClientAddr, Counter, READ_LOCKED, Settings, Slot};
use tracker_ebpf::record::Record;

use super::attach::{Attached, Pinning, Records, Wanted, missing};
use super::error::{self, Full, ObserveError};
use super::hints::Hints;
use super::pins::PinDir;
use crate::clock::BootTime;

const BPF_NOEXIST: u64 = 1;

/// The programs, attached, and their maps. Where they are pinned they outlive this.
pub(super) struct Kernel {
    /// Locked only to run `amend`, and to attach.
    pub(super) programs: Mutex<Ebpf>,
    records: RwLock<Records>,
    /// The same map, to be read many entries at a time.
    records_fd: OwnedFd,
    /// The map, and what is in it.
    settings: Mutex<(maps::Array<MapData, Settings>, Settings)>,
    counters: maps::PerCpuArray<MapData, u64>,
    pub(super) links: Mutex<Vec<OwnedFd>>,
    cgroup: PathBuf,
    pub(super) cgroup_id: AtomicU64,
    pub(super) pins: Option<PinDir>,
    pub(super) pinned_maps: Vec<(&'static str, OwnedFd)>,
    pinning: Pinning,
    max_records: u32,
    /// What an earlier daemon left word of; see [`Kernel::was_blind_since`].
    was_blind: Mutex<Option<BootTime>>,
}

impl Kernel {
    /// Attaches the programs, or goes on with those that are.
    pub(super) fn start(wanted: &Wanted<'_>) -> Result<(Self, Hints), ObserveError> {
        let Attached {
            programs,
            records,
            records_fd,
            settings,
            counters,
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
            records: RwLock::new(records),
            records_fd,
            settings: Mutex::new((settings, now)),
            counters,
            links: Mutex::new(links),
            cgroup,
            cgroup_id: AtomicU64::new(cgroup_id),
            pins,
            pinned_maps: pinned_maps.unwrap_or_default(),
            pinning,
            max_records: wanted.max_records,
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

    pub(super) fn record(&self, client: ClientAddr) -> Result<Option<Record>, ObserveError> {
        read(&self.records(), client)
    }

    /// Calls `each` with every client once, until it says false. There may be millions: keep what is needed only.
    pub(super) fn each_record(
        &self,
        mut each: impl FnMut(ClientAddr, &Record) -> bool,
    ) -> Result<(), ObserveError> {
        let told = super::bpf::entries(self.records_fd.as_fd(), |client, slot| {
            // A record that is about to be deleted is none.
            !slot.serves(&client) || each(client, &slot.record)
        });
        told.map_err(|error| ObserveError::Kernel {
            action: "listing the records",
            detail: error.to_string(),
        })
    }

    pub(super) fn ensure(&self, client: ClientAddr, now: BootTime) -> Result<(), ObserveError> {
        // Not while `forget` runs: a record that is just being deleted would pass for an existing one.
        let _programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = Slot::starting(client, now.as_nanos());
        let outcome =
            self.records.write().unwrap_or_else(PoisonError::into_inner).insert(client, slot, BPF_NOEXIST);
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => match error::errno(&error) {
                Some(libc::EEXIST) => Ok(()),
                Some(libc::E2BIG | libc::ENOMEM) => Err(Full { max_records: self.max_records }.into()),
                _ => Err(error::map("making a record", &error)),
            },
        }
    }

    pub(super) fn forget(&self, client: ClientAddr) -> Result<(), ObserveError> {
        self.amend(&Amendment { client, kind: AMEND_FORGET, ..Amendment::default() }).map(drop)
    }

    /// Runs the program `amend`. True if it did what it was asked for.
    pub(super) fn amend(&self, amendment: &Amendment) -> Result<bool, ObserveError> {
        let action = "amending a record";
        let packet = packet(amendment);
        let programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let program = programs.program("amend").ok_or_else(|| missing(action, "amend"))?;
        let program: &CgroupSkb = program.try_into().map_err(|error| error::kernel(action, &error))?;
        let run = TestRunOptions { data_in: Some(&packet), ..TestRunOptions::default() };
        let result = program.test_run(run).map_err(|error| error::kernel(action, &error))?;
        Ok(result.return_value == 1)
    }

    pub(super) fn apply(&self, new: Settings) -> Result<(), ObserveError> {
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

/// The kernel wants an Ethernet frame, whose header it takes off; the type is the one for local experiments, so that it
/// does not take the rest for IP.
fn packet(amendment: &Amendment) -> Vec<u8> {
    let mut packet = vec![0; 12];
    packet.extend([0x88, 0xb5]);
    packet.extend(amendment.client.0);
    for word in [amendment.kind, amendment.changes, amendment.open, amendment.half] {
        packet.extend(word.to_ne_bytes());
    }
    packet.extend(amendment.at.to_ne_bytes());
    packet
}
