//! Loading and attaching the kernel side: taking over what an earlier run of the daemon has pinned, or starting afresh.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::maps::{self, Map, MapData, MapError};
use aya::programs::{CgroupSkb, Program, ProgramError, SockOps};
use aya::{Ebpf, EbpfLoader};
use tracing::{info, warn};
use tracker_ebpf::abi::{MAX_PORTS, Settings, Slot, Used, entries_of, strangers_of};
use tracker_ebpf::mark::Mark;

use super::amend;
use super::bpf;
use super::error::{self, ObserveError};
use super::hints::Hints;
use super::host;
use super::pins::{Form, Found, LINKS, PinDir, Unclaimed, forms};
use super::place::Place;
use crate::clock::boot_now;
use crate::types::ClientAddr;

/// The programs; empty if the build had none.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tracker-ebpf.o"));

/// What is needed to load.
pub(super) struct Wanted<'a> {
    /// `None`: the root of the cgroup tree. A service's own cgroup vanishes when it stops.
    pub(super) cgroup: Option<&'a Path>,
    /// `None`: the kernel side ends with the daemon.
    pub(super) pin_dir: Option<&'a Path>,
    pub(super) places: &'a [Place],
    pub(super) max_records: u32,
    /// Where nothing is adopted; what is adopted keeps the settings that it was working by.
    pub(super) settings: Settings,
}

/// Whether the kernel side outlives the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinning {
    /// It does.
    Kept {
        /// Where it is pinned.
        directory: PathBuf,
        /// Whether it goes on from an earlier run of the daemon, with all its records.
        adopted: bool,
        /// What was wrong with an earlier run's that could not be gone on with.
        replaced: Option<String>,
    },
    /// What it has recorded is lost when the daemon ends.
    Lost {
        /// Why.
        because: String,
    },
}

/// The records.
pub(super) type Records = maps::HashMap<MapData, ClientAddr, Slot>;

/// The kernel side, at work.
pub(super) struct Attached {
    pub(super) programs: Ebpf,
    pub(super) amend: OwnedFd,
    pub(super) records: Records,
    pub(super) records_fd: OwnedFd,
    pub(super) settings: maps::Array<MapData, Settings>,
    pub(super) counters: maps::PerCpuArray<MapData, u64>,
    pub(super) marks: maps::SkStorage<MapData, Mark>,
    pub(super) used: maps::Array<MapData, Used>,
    pub(super) hints: Hints,
    /// In the order of [`LINKS`]. Without pins they are all that holds the programs where they are.
    pub(super) links: Vec<OwnedFd>,
    pub(super) cgroup: PathBuf,
    /// The number of the cgroup, which is its directory's inode.
    pub(super) cgroup_id: u64,
    pub(super) pins: Option<PinDir>,
    pub(super) pinning: Pinning,
}

impl Attached {
    /// Adopts what is pinned; where that is not possible, loads the programs, tells them their settings, and only then
    /// attaches them.
    pub(super) fn start(wanted: &Wanted<'_>) -> Result<Self, ObserveError> {
        is_built_in()?;
        let path = match wanted.cgroup {
            Some(path) => path.to_owned(),
            None => host::cgroup_root().ok_or(ObserveError::NoCgroup)?,
        };
        let cgroup = File::open(&path).map_err(|error| broken_cgroup(&path, error))?;
        let claimed = match wanted.pin_dir {
            Some(root) => PinDir::claim(root),
            None => Err(Unclaimed::Unusable("no pin directory is wanted".into())),
        };
        let cgroup_id = cgroup.metadata().map_err(|error| broken_cgroup(&path, error))?.ino();
        let (programs, links, pinning, pins) = match claimed {
            Ok(pins) => {
                let (programs, links, pinning) = pinned(wanted, &pins, cgroup_id, &cgroup)?;
                (programs, links, pinning, Some(pins))
            }
            Err(Unclaimed::Unusable(because)) => {
                let (programs, links) = afresh(wanted, None, &cgroup)?;
                (programs, links, Pinning::Lost { because }, None)
            }
            Err(Unclaimed::Refused(error)) => return Err(error),
        };
        Self::open(programs, links, path, cgroup_id, pins, pinning)
    }

    fn open(
        mut programs: Ebpf,
        links: Vec<OwnedFd>,
        cgroup: PathBuf,
        cgroup_id: u64,
        pins: Option<PinDir>,
        pinning: Pinning,
    ) -> Result<Self, ObserveError> {
        Ok(Self {
            amend: amend_fd(&programs)?,
            records_fd: records_fd(&programs)?,
            records: typed(&mut programs, "RECORDS")?,
            settings: typed(&mut programs, "SETTINGS")?,
            counters: typed(&mut programs, "COUNTERS")?,
            marks: typed(&mut programs, "MARKS")?,
            used: typed(&mut programs, "USED")?,
            hints: Hints::from_ring(typed(&mut programs, "HINTS")?),
            programs,
            links,
            cgroup,
            cgroup_id,
            pins,
            pinning,
        })
    }
}

type Loaded = (Ebpf, Vec<OwnedFd>);

fn is_built_in() -> Result<(), ObserveError> {
    if OBJECT.is_empty() { Err(ObserveError::NoObject) } else { Ok(()) }
}

/// Has the kernel look at the programs, and take them, for a moment.
pub(super) fn rehearse(wanted: &Wanted<'_>) -> Result<(), ObserveError> {
    is_built_in()?;
    load(wanted, None).map(drop)
}

fn pinned(
    wanted: &Wanted<'_>,
    pins: &PinDir,
    cgroup_id: u64,
    cgroup: &File,
) -> Result<(Ebpf, Vec<OwnedFd>, Pinning), ObserveError> {
    let (found, mut replaced) = match pins.find(&forms(wanted.max_records), cgroup_id) {
        Found::Nothing => (None, None),
        Found::Whole(links) => (Some(links), None),
        Found::Broken(why) => (None, Some(why)),
    };
    let mut adopted = None;
    if let Some(links) = found {
        match adopt(wanted, pins, &links) {
            Ok(programs) => adopted = Some((programs, links)),
            // Perhaps in the middle of it; but what is set aside works for as long as its successor needs.
            Err(error) => replaced = Some(error.because()),
        }
    }
    let goes_on = adopted.is_some();
    let (programs, links) = match adopted {
        Some(adopted) => adopted,
        None => {
            if let Some(why) = &replaced {
                warn!(why, "the pinned kernel side is replaced; what it had recorded is not relied upon");
            }
            pins.start_afresh()?;
            afresh(wanted, Some(pins), cgroup)?
        }
    };
    // Only now: until here nothing went by unwatched.
    match pins.remove_others() {
        Ok(0) => {}
        Ok(removed) => info!(removed, "an earlier kernel side was removed"),
        Err(error) => warn!(%error, "an earlier kernel side could not be removed"),
    }
    let pinning = Pinning::Kept { directory: pins.abi(), adopted: goes_on, replaced };
    Ok((programs, links, pinning))
}

/// Puts this build's programs behind the links that were found: with this configuration's ports and this network
/// namespace, and working on the maps that were found.
fn adopt(wanted: &Wanted<'_>, pins: &PinDir, links: &[OwnedFd]) -> Result<Ebpf, ObserveError> {
    let programs = load(wanted, Some(pins))?;
    for ((name, _), link) in LINKS.iter().zip(links) {
        bpf::replace(link.as_fd(), program_fd(&programs, name)?)
            .map_err(|error| error::kernel("replacing the eBPF programs", &error))?;
    }
    Ok(programs)
}

fn afresh(wanted: &Wanted<'_>, pins: Option<&PinDir>, cgroup: &File) -> Result<Loaded, ObserveError> {
    let mut programs = load(wanted, pins)?;
    let map = programs.map_mut("SETTINGS").ok_or_else(|| missing("opening the maps", "SETTINGS"))?;
    maps::Array::try_from(map)
        .and_then(|mut map| {
            let watched_since = boot_now().as_nanos();
            map.set(0, Settings { watched_since, ..wanted.settings }, 0)
        })
        .map_err(|error| error::map("writing the settings", &error))?;
    let mut links = Vec::with_capacity(LINKS.len());
    for (name, hook) in LINKS {
        let link = bpf::link(program_fd(&programs, name)?, cgroup.as_fd(), hook)
            .map_err(|error| error::kernel("attaching the eBPF programs", &error))?;
        if let Some(pins) = pins {
            let path = pins.link_path(name);
            bpf::pin(link.as_fd(), &path).map_err(|error| ObserveError::Pins {
                path,
                what: "made",
                error,
            })?;
        }
        links.push(link);
    }
    Ok((programs, links))
}

fn load(wanted: &Wanted<'_>, pins: Option<&PinDir>) -> Result<Ebpf, ObserveError> {
    let places = wanted.places;
    if places.is_empty() || places.len() > MAX_PORTS {
        return Err(ObserveError::Ports(places.len()));
    }
    let mut ports = [0_u16; MAX_PORTS];
    for (port, place) in ports.iter_mut().zip(places) {
        *port = place.port;
    }
    let opaque = (0..).zip(places).fold(0_u32, |bits, (place, at)| bits | u32::from(at.is_opaque) << place);
    let numbers = || places.iter().map(|place| place.port);
    let least_and_most = || Some([numbers().min()?, numbers().max()?]);
    let span = least_and_most().ok_or(ObserveError::Ports(0))?;
    let netns = host::netns_cookie().map_err(|error| ObserveError::Kernel {
        action: "asking for the network namespace's cookie",
        detail: error.to_string(),
    })?;
    let (max_held, max_strangers) =
        (u64::from(wanted.max_records), u64::from(strangers_of(wanted.max_records)));
    let mut loader = EbpfLoader::new();
    loader
        .override_global("PORTS", &ports, true)
        .override_global("SPAN", &span, true)
        .override_global("OPAQUE", &opaque, true)
        .override_global("NETNS", &netns, true)
        .override_global("MAX_HELD", &max_held, true)
        .override_global("MAX_STRANGERS", &max_strangers, true)
        .map_max_entries("RECORDS", entries_of(wanted.max_records));
    for Form { name, .. } in pins.iter().flat_map(|_| forms(wanted.max_records)) {
        if let Some(pins) = pins {
            // What is there already is taken as it is: its form was checked.
            loader.map_pin_path(name, pins.path(name));
        }
    }
    let mut programs =
        loader.load(OBJECT).map_err(|error| error::kernel("loading the eBPF programs", &error))?;
    for (name, hook) in LINKS.iter().map(|(name, hook)| (*name, Some(*hook))).chain([("amend", None)]) {
        let program = programs.program_mut(name).ok_or_else(|| missing("finding the eBPF programs", name))?;
        load_program(program, hook).map_err(|error| error::kernel("loading an eBPF program", &error))?;
    }
    amend::is_of_one_clock(program_fd(&programs, "amend")?)?;
    let map = programs.map_mut("ADDRESSES").ok_or_else(|| missing("opening the maps", "ADDRESSES"))?;
    let mut addresses =
        maps::Array::<_, [u64; 2]>::try_from(map).map_err(|error| error::map("opening a map", &error))?;
    for (number, place) in (0..).zip(places) {
        addresses
            .set(number, place.address, 0)
            .map_err(|error| error::map("writing the watched places", &error))?;
    }
    Ok(programs)
}

fn load_program(program: &mut Program, hook: Option<bpf::Hook>) -> Result<(), ProgramError> {
    match hook {
        Some(bpf::Hook::SockOps) => <&mut SockOps>::try_from(program)?.load(),
        _ => <&mut CgroupSkb>::try_from(program)?.load(),
    }
}

/// A program that is loaded.
pub(super) fn program_fd<'a>(programs: &'a Ebpf, name: &str) -> Result<BorrowedFd<'a>, ObserveError> {
    let action = "finding the eBPF programs";
    let fd = match programs.program(name) {
        Some(Program::SockOps(program)) => program.fd(),
        Some(Program::CgroupSkb(program)) => program.fd(),
        _ => return Err(missing(action, name)),
    };
    Ok(fd.map_err(|error| error::kernel(action, &error))?.as_fd())
}

/// A descriptor of the program `amend` beside aya's own, to be run by whoever asks for something.
fn amend_fd(programs: &Ebpf) -> Result<OwnedFd, ObserveError> {
    let (action, name) = ("finding the eBPF programs", "amend");
    let fd = program_fd(programs, name)?.try_clone_to_owned();
    fd.map_err(|error| ObserveError::Kernel { action, detail: error.to_string() })
}

/// A descriptor of the record map beside aya's own.
fn records_fd(programs: &Ebpf) -> Result<OwnedFd, ObserveError> {
    let action = "finding the record map";
    let Some(Map::HashMap(map)) = programs.map("RECORDS") else { return Err(missing(action, "RECORDS")) };
    let fd = map.fd().as_fd().try_clone_to_owned();
    fd.map_err(|error| ObserveError::Kernel { action, detail: error.to_string() })
}

fn typed<T: TryFrom<Map, Error = MapError>>(
    programs: &mut Ebpf,
    name: &'static str,
) -> Result<T, ObserveError> {
    let action = "opening the maps";
    let map = programs.take_map(name).ok_or_else(|| missing(action, name))?;
    T::try_from(map).map_err(|error| error::kernel(action, &error))
}

pub(super) fn missing(action: &'static str, name: &str) -> ObserveError {
    ObserveError::Kernel { action, detail: format!("{name} is missing: the build mixes two versions") }
}

pub(super) fn broken_cgroup(path: &Path, error: io::Error) -> ObserveError {
    ObserveError::Cgroup { path: path.to_owned(), error }
}
