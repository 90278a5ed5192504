//! The kernel side from user space: load, attach, read and amend the records. Only this file and [`super::hints`] know aya.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use aya::maps::{self, Map, MapData, MapError};
use aya::programs::{
    CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, Program, SockOps, TestRun as _, TestRunOptions,
};
use aya::{Ebpf, EbpfLoader};
use tracker_ebpf::abi::{
    AMEND_FORGET, Amendment, ClientAddr, Counter, MAX_PORTS, READ_LOCKED, Settings, Slot,
};
use tracker_ebpf::record::Record;

use super::error::{self, Full, ObserveError};
use super::hints::Hints;
use super::host;
use crate::clock::BootTime;

/// The programs; empty if the build had none.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracker-ebpf.o"));

const BPF_NOEXIST: u64 = 1;

type Records = maps::HashMap<MapData, ClientAddr, Slot>;

/// The programs, attached while this lives, and their maps.
pub(super) struct Kernel {
    /// Owns the links: dropping it detaches. Locked only to run `amend`.
    programs: Mutex<Ebpf>,
    records: RwLock<Records>,
    settings: Mutex<maps::Array<MapData, Settings>>,
    counters: maps::PerCpuArray<MapData, u64>,
    cgroup: PathBuf,
    max_records: u32,
}

/// What is needed to load.
pub(super) struct Wanted<'a> {
    /// `None`: the root of the cgroup tree. A service's own cgroup vanishes when it stops.
    pub(super) cgroup: Option<&'a Path>,
    pub(super) ports: &'a [u16],
    pub(super) max_records: u32,
    pub(super) settings: Settings,
}

impl Kernel {
    /// Loads the programs, tells them their settings, and only then attaches them.
    pub(super) fn start(wanted: &Wanted<'_>) -> Result<(Self, Hints), ObserveError> {
        if OBJECT.is_empty() {
            return Err(ObserveError::NoObject);
        }
        let cgroup = match wanted.cgroup {
            Some(path) => path.to_owned(),
            None => host::cgroup_root().ok_or(ObserveError::NoCgroup)?,
        };
        let mut programs = load(wanted)?;
        let (kernel_maps, hints) = open_maps(&mut programs)?;
        let (records, mut settings, counters) = kernel_maps;
        settings.set(0, wanted.settings, 0).map_err(|error| error::map("writing the settings", &error))?;
        attach(&mut programs, &cgroup)?;
        let kernel = Self {
            programs: Mutex::new(programs),
            records: RwLock::new(records),
            settings: Mutex::new(settings),
            counters,
            cgroup,
            max_records: wanted.max_records,
        };
        Ok((kernel, hints))
    }

    pub(super) fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    pub(super) fn record(&self, client: ClientAddr) -> Result<Option<Record>, ObserveError> {
        read(&self.records(), client)
    }

    /// Every client once, though the kernel starts its walk anew when the entry it stands on is deleted.
    pub(super) fn all_records(&self) -> Result<Vec<(ClientAddr, Record)>, ObserveError> {
        let records = self.records();
        let mut found = HashMap::new();
        for client in records.keys() {
            let client = client.map_err(|error| error::map("listing the records", &error))?;
            if let Some(record) = read(&records, client)? {
                found.insert(client, record);
            }
        }
        Ok(found.into_iter().collect())
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

    pub(super) fn apply(&self, settings: Settings) -> Result<(), ObserveError> {
        self.settings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .set(0, settings, 0)
            .map_err(|error| error::map("writing the settings", &error))
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

fn load(wanted: &Wanted<'_>) -> Result<Ebpf, ObserveError> {
    if wanted.ports.is_empty() || wanted.ports.len() > MAX_PORTS {
        return Err(ObserveError::Ports(wanted.ports.len()));
    }
    let mut ports = [0_u16; MAX_PORTS];
    for (place, port) in ports.iter_mut().zip(wanted.ports) {
        *place = *port;
    }
    let netns = host::netns_cookie().map_err(|error| ObserveError::Kernel {
        action: "asking for the network namespace's cookie",
        detail: error.to_string(),
    })?;
    EbpfLoader::new()
        .override_global("PORTS", &ports, true)
        .override_global("NETNS", &netns, true)
        .map_max_entries("RECORDS", wanted.max_records)
        .load(OBJECT)
        .map_err(|error| error::kernel("loading the eBPF programs", &error))
}

type Maps = (Records, maps::Array<MapData, Settings>, maps::PerCpuArray<MapData, u64>);

fn open_maps(programs: &mut Ebpf) -> Result<(Maps, Hints), ObserveError> {
    let records = typed(programs, "RECORDS")?;
    let settings = typed(programs, "SETTINGS")?;
    let counters = typed(programs, "COUNTERS")?;
    let hints = Hints::from_ring(typed(programs, "HINTS")?);
    Ok(((records, settings, counters), hints))
}

fn typed<T: TryFrom<Map, Error = MapError>>(
    programs: &mut Ebpf,
    name: &'static str,
) -> Result<T, ObserveError> {
    let action = "opening the maps";
    let map = programs.take_map(name).ok_or_else(|| missing(action, name))?;
    T::try_from(map).map_err(|error| error::kernel(action, &error))
}

fn attach(programs: &mut Ebpf, cgroup: &Path) -> Result<(), ObserveError> {
    let directory = File::open(cgroup).map_err(|error| broken_cgroup(cgroup, error))?;
    let action = "attaching the eBPF programs";
    // `Single`: with a link the kernel allows others beside it in any case, and refuses the flag that would say so.
    let mode = CgroupAttachMode::Single;

    let amend: &mut CgroupSkb = program(programs, "amend")?;
    amend.load().map_err(|error| error::kernel("loading the program amend", &error))?;
    // The packet programs first: they are idle until a socket is marked, and then no packet of it is missed.
    for (name, way) in [("received", CgroupSkbAttachType::Ingress), ("sent", CgroupSkbAttachType::Egress)] {
        let packets: &mut CgroupSkb = program(programs, name)?;
        packets.load().map_err(|error| error::kernel("loading a packet program", &error))?;
        packets.attach(&directory, way, mode).map_err(|error| error::kernel(action, &error))?;
    }
    let watch: &mut SockOps = program(programs, "watch")?;
    watch.load().map_err(|error| error::kernel("loading the program watch", &error))?;
    watch.attach(&directory, mode).map_err(|error| error::kernel(action, &error))?;
    Ok(())
}

fn program<'a, T>(programs: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, ObserveError>
where
    &'a mut T: TryFrom<&'a mut Program, Error = aya::programs::ProgramError>,
{
    let action = "finding the eBPF programs";
    let program = programs.program_mut(name).ok_or_else(|| missing(action, name))?;
    program.try_into().map_err(|error| error::kernel(action, &error))
}

fn missing(action: &'static str, name: &str) -> ObserveError {
    ObserveError::Kernel { action, detail: format!("{name} is missing: the build mixes two versions") }
}

fn broken_cgroup(path: &Path, error: io::Error) -> ObserveError {
    ObserveError::Cgroup { path: path.to_owned(), error }
}

/// The kernel wants an Ethernet frame, whose header it takes off; the type is the one for local experiments, so that it
/// does not take the rest for IP.
fn packet(amendment: &Amendment) -> Vec<u8> {
    let mut packet = vec![0; 12];
    packet.extend([0x88, 0xb5]);
    packet.extend(amendment.client.0);
    for word in [amendment.kind, amendment.changes, amendment.open, amendment._pad] {
        packet.extend(word.to_ne_bytes());
    }
    packet.extend(amendment.at.to_ne_bytes());
    packet
}
