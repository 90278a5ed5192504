//! What clients do on the wire: one small record per client address, kept by the kernel side (eBPF), or by the proxy's own
//! eyes where that is not possible.
//!
//! The records are the truth; a [`Hint`](tracker_ebpf::abi::Hint) only says where to look, and [`Observer::resync`] compares the records with the
//! kernel's list of sockets and repairs what was missed. Nothing here waits: all calls but [`Hints::next`] are plain
//! system calls. [`Observer::records`] and [`Observer::resync`] cost some microseconds per client, so with many clients they
//! belong on a blocking thread.

mod attach;
mod bpf;
pub mod connections;
mod destroy;
mod devices;
mod drift;
mod ebpf;
mod error;
mod eyes;
mod hints;
mod host;
#[cfg(test)]
mod kernel_tests;
mod neighbours;
mod netlink;
mod pins;
mod socket_dump;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracker_ebpf::abi::{ClientAddr, Counter, DEFAULT_MAX_RECORDS, Settings};
use tracker_ebpf::record::{Direction, Record};

pub use attach::Pinning;
use attach::Wanted;

use crate::clock::{BootTime, boot_now};
pub use connections::{ClientEvents, ClientStream, Connection, ConnectionId, ConnectionInfo, Connections};
use destroy::Destroyer;
pub use devices::DeviceWatch;
use devices::Devices;
use drift::Looks;
use ebpf::Kernel;
pub use error::{Full, ObserveError};
pub use eyes::Eyes;
pub use hints::Hints;
pub use socket_dump::Socket;
use socket_dump::SocketDump;

/// Which observer is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObserverMode {
    /// The kernel side if possible, else the proxy's own eyes.
    #[default]
    Auto,
    /// The kernel side or nothing.
    Ebpf,
    /// The proxy's own eyes; needs no privilege.
    Proxy,
}

/// What an observer needs to know at its start.
#[derive(Clone, Debug)]
pub struct ObserveOptions {
    /// Which observer.
    pub mode: ObserverMode,
    /// The cgroup v2 directory to attach to; `None` finds the root of the tree.
    pub cgroup: Option<PathBuf>,
    /// Where the kernel side is pinned, so that it outlives the daemon; `None`: nowhere.
    pub pin_dir: Option<PathBuf>,
    /// The local ports whose connections are watched.
    pub ports: Vec<u16>,
    /// Those of them that belong to other proxies.
    pub foreign_ports: Vec<u16>,
    /// How many clients there is room for.
    pub max_records: u32,
    /// The first settings; see [`Observer::apply`]. A kernel side that is adopted keeps those it has.
    pub settings: Settings,
}

impl Default for ObserveOptions {
    fn default() -> Self {
        Self {
            mode: ObserverMode::default(),
            cgroup: None,
            pin_dir: None,
            ports: Vec::new(),
            foreign_ports: Vec::new(),
            max_records: DEFAULT_MAX_RECORDS,
            settings: Settings::default(),
        }
    }
}

/// What an observer tells by itself.
pub struct Events {
    /// Where to look.
    pub hints: Hints,
    /// That devices have changed.
    pub devices: DeviceWatch,
}

/// Which observer runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kernel side.
    Ebpf {
        /// Where it is attached.
        cgroup: PathBuf,
        /// Whether it outlives the daemon.
        pinning: Pinning,
    },
    /// The proxy's own eyes.
    Proxy {
        /// Why not the kernel side.
        because: String,
    },
}

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
    /// Clients with connections but no room for a record.
    pub untracked: usize,
}

/// The observer. Share it in an `Arc`. A pinned kernel side goes on when it is dropped.
pub struct Observer {
    source: Source,
    sockets: SocketDump,
    destroyer: Destroyer,
    devices: Devices,
    looks: Mutex<Looks>,
}

enum Source {
    Kernel(Box<Kernel>),
    Eyes { eyes: Eyes, because: String },
}

/// [`Observer::settle`] looks again this soon, and this often at most.
const SECOND_LOOK: Duration = Duration::from_millis(5);
const FIRST_LOOKS: usize = 4;

impl Observer {
    /// Starts observing, in the network namespace of the calling thread. Follow it with [`Self::settle`].
    ///
    /// # Errors
    /// In mode `Ebpf`, when the kernel side cannot be had; in the others, when another daemon uses the pin directory.
    pub fn start(options: &ObserveOptions) -> Result<(Self, Events), ObserveError> {
        let sockets = SocketDump::new(&options.ports);
        let (source, hints) = source(options)?;
        let destroyer = Destroyer::new(&options.foreign_ports);
        let (devices, changes) = Devices::open();
        let observer = Self { source, sockets, destroyer, devices, looks: Mutex::default() };
        Ok((observer, Events { hints, devices: changes }))
    }

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
        for look in 1..=FIRST_LOOKS {
            if self.resync()?.suspected == 0 || look == FIRST_LOOKS {
                break;
            }
            std::thread::sleep(SECOND_LOOK);
        }
        Ok(())
    }

    /// Detaches the kernel side that is pinned in `pin_dir`, of whatever version, and removes its records. False if there
    /// is none.
    ///
    /// # Errors
    /// Without privilege, and while a daemon uses the directory.
    pub fn detach(pin_dir: &Path) -> Result<bool, ObserveError> {
        Ok(pins::detach(pin_dir)?.is_some_and(|removed| removed > 0))
    }

    /// What an operator should be told.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match self.kind() {
            Kind::Ebpf { pinning: Pinning::Lost { because }, .. } => warnings.push(format!(
                "the kernel side is not pinned: {because}; when the daemon ends, what it has recorded is lost"
            )),
            Kind::Ebpf { pinning: Pinning::Kept { replaced: Some(why), .. }, .. } => warnings.push(format!(
                "the kernel side of an earlier run was replaced at start: {why}; its records were not relied upon"
            )),
            Kind::Ebpf { .. } => {}
            Kind::Proxy { because } => warnings.push(format!(
                "observing with the proxy's own eyes, not the kernel's: {because}; other proxies' connections and the \
                 time while the daemon is down are not seen"
            )),
        }
        warnings.extend(self.destroyer.refusal());
        warnings
    }

    /// Which observer runs.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match &self.source {
            Source::Kernel(kernel) => {
                Kind::Ebpf { cgroup: kernel.cgroup().to_owned(), pinning: kernel.pinning().clone() }
            }
            Source::Eyes { because, .. } => Kind::Proxy { because: because.clone() },
        }
    }

    /// The client's record.
    ///
    /// # Errors
    /// When the kernel refuses; not when there is none.
    pub fn record(&self, client: ClientAddr) -> Result<Option<Record>, ObserveError> {
        match &self.source {
            Source::Kernel(kernel) => kernel.record(client),
            Source::Eyes { eyes, .. } => Ok(eyes.record(client)),
        }
    }

    /// Makes sure that the client has a record, so that gaps are measured from now on. An existing one stays as it is.
    ///
    /// # Errors
    /// [`ObserveError::Full`] when there is no room: the client must not be logged in then.
    pub fn ensure(&self, client: ClientAddr, now: BootTime) -> Result<(), ObserveError> {
        match &self.source {
            Source::Kernel(kernel) => kernel.ensure(client, now),
            Source::Eyes { eyes, .. } => Ok(eyes.ensure(client, now)?),
        }
    }

    /// All records, in no order, each consistent in itself.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn records(&self) -> Result<Vec<(ClientAddr, Record)>, ObserveError> {
        match &self.source {
            Source::Kernel(kernel) => kernel.all_records(),
            Source::Eyes { eyes, .. } => Ok(eyes.records()),
        }
    }

    /// Deletes the client's record, unless a connection is open: then, and where there is none, nothing happens.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget(&self, client: ClientAddr) -> Result<(), ObserveError> {
        match &self.source {
            Source::Kernel(kernel) => kernel.forget(client),
            Source::Eyes { eyes, .. } => {
                eyes.forget(client);
                Ok(())
            }
        }
    }

    /// New settings, from the next packet on. What is latched already stays latched.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn apply(&self, settings: Settings) -> Result<(), ObserveError> {
        match &self.source {
            Source::Kernel(kernel) => kernel.apply(settings),
            Source::Eyes { eyes, .. } => {
                eyes.apply(settings);
                Ok(())
            }
        }
    }

    /// What went wrong so far, in the order of [`Counter::ALL`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn counters(&self) -> Result<[u64; Counter::ALL.len()], ObserveError> {
        match &self.source {
            Source::Kernel(kernel) => kernel.counters(),
            Source::Eyes { eyes, .. } => Ok(eyes.counters()),
        }
    }

    /// Compares the records with the kernel's list of sockets. A difference is repaired when it is seen for the second
    /// time in a row and nothing was opened or closed in between; the repair sends hints as the missed event would have.
    /// The proxy's own eyes miss nothing of what they look at, so there the list is only counted.
    ///
    /// # Errors
    /// When the sockets cannot be listed, or the kernel refuses.
    pub fn resync(&self) -> Result<Resync, ObserveError> {
        let kernel = match &self.source {
            Source::Kernel(kernel) => kernel,
            Source::Eyes { eyes, .. } => {
                let (clients, connections) = (eyes.records().len(), self.sockets.read()?.len());
                return Ok(Resync { clients, connections, ..Resync::default() });
            }
        };
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        // The records first: a connection that both show was counted before it was listed.
        let mut records = kernel.all_records()?;
        let dump = self.sockets.read()?;
        let counts = socket_dump::count(&dump);
        let now = boot_now();
        let mut found = Resync { connections: dump.len(), ..Resync::default() };
        found.untracked = self.add_missing(&mut records, counts.keys().copied(), now)?;
        found.clients = records.len();
        for amendment in looks.look(&records, &counts, now) {
            if kernel.amend(&amendment)? {
                found.repaired += 1;
                tracing::warn!(client = %amendment.client, open = amendment.open, "a count of connections was repaired");
            }
        }
        found.suspected = looks.suspected();
        Ok(found)
    }

    /// The client's connections, from the kernel's list of sockets.
    ///
    /// # Errors
    /// When the sockets cannot be listed.
    pub fn connections(&self, client: ClientAddr) -> Result<Vec<Socket>, ObserveError> {
        let dump = self.sockets.read()?;
        Ok(dump.into_iter().filter_map(|(owner, one)| (owner == client).then_some(one)).collect())
    }

    /// Ends all connections of these clients to other proxies on this host, and returns how many each of them had. The
    /// proxy's own are not touched. Costs nothing where no other proxy is watched; else some microseconds a connection,
    /// and a walk through the kernel's table of sockets.
    pub fn destroy(&self, clients: &HashSet<ClientAddr>) -> HashMap<ClientAddr, usize> {
        self.destroyer.destroy(clients)
    }

    /// Where the proxy reports its connections; `None` if the kernel side sees them by itself.
    #[must_use]
    pub fn eyes(&self) -> Option<&Eyes> {
        match &self.source {
            Source::Kernel(_) => None,
            Source::Eyes { eyes, .. } => Some(eyes),
        }
    }

    /// Gives a record to each listed client that has none, and returns how many there is no room for.
    fn add_missing(
        &self,
        records: &mut Vec<(ClientAddr, Record)>,
        listed: impl Iterator<Item = ClientAddr>,
        now: BootTime,
    ) -> Result<usize, ObserveError> {
        let known: HashSet<_> = records.iter().map(|(client, _)| *client).collect();
        let mut untracked = 0;
        for client in listed.filter(|client| !known.contains(client)) {
            match self.ensure(client, now) {
                Ok(()) => records.extend(self.record(client)?.map(|record| (client, record))),
                Err(ObserveError::Full(_)) => untracked += 1,
                Err(other) => return Err(other),
            }
        }
        Ok(untracked)
    }
}

/// What the proxy has to report its connections to; `None` if the kernel side sees them by itself.
#[must_use]
pub fn eyes_of(observer: &Arc<Observer>) -> Option<Arc<dyn ClientEvents>> {
    let observer: Arc<Observer> = Arc::clone(observer);
    observer.eyes().is_some().then_some(observer as Arc<dyn ClientEvents>)
}

impl ClientEvents for Observer {
    fn opened(&self, client: ClientAddr, at: BootTime) {
        if let Some(eyes) = self.eyes() {
            // Full: counted, and nobody is logged in from there.
            let _ = eyes.opened(client, at);
        }
    }

    fn data(&self, client: ClientAddr, direction: Direction, bytes: u64, at: BootTime) {
        if let Some(eyes) = self.eyes() {
            eyes.data(client, direction, bytes, at);
        }
    }

    fn closed(&self, client: ClientAddr, at: BootTime) {
        if let Some(eyes) = self.eyes() {
            eyes.closed(client, at);
        }
    }
}

fn source(options: &ObserveOptions) -> Result<(Source, Hints), ObserveError> {
    let wanted = Wanted {
        cgroup: options.cgroup.as_deref(),
        pin_dir: options.pin_dir.as_deref(),
        ports: &options.ports,
        max_records: options.max_records,
        settings: options.settings,
    };
    let because = match options.mode {
        ObserverMode::Proxy => "observer.mode is \"proxy\"".to_owned(),
        ObserverMode::Auto | ObserverMode::Ebpf => match Kernel::start(&wanted) {
            Ok((kernel, hints)) => return Ok((Source::Kernel(Box::new(kernel)), hints)),
            Err(error) if options.mode == ObserverMode::Ebpf || error.is_conflict() => return Err(error),
            Err(error) => error.because(),
        },
    };
    let (eyes, hints) = Eyes::new(options.max_records, options.settings);
    Ok((Source::Eyes { eyes, because }, hints))
}
