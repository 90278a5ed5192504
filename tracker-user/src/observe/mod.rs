//! What clients do on the wire: one small record per client address, kept by the kernel side (eBPF), or by the proxy's own
//! eyes where that is not possible.
//!
//! The records are the truth; a [`Hint`](tracker_ebpf::abi::Hint) only says where to look, and [`Observer::resync`] compares the records with the
//! kernel's list of sockets and repairs what was missed. Nothing here waits: all calls but [`Hints::next`] are plain
//! system calls. [`Observer::resync`] costs some microseconds per client, so with many clients it belongs on a blocking
//! thread; whoever looks at all records walks over them in portions ([`Observer::walk`]).

mod amend;
mod attach;
mod bpf;
mod compare;
mod crowd;
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
mod place;
mod rehearsal;
mod relayed;
mod route;
mod sight;
mod socket_dump;
mod stamps;
mod track;
mod upkeep;
mod walk;
mod witness;

use std::collections::{HashMap, HashSet};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tracker_ebpf::abi::{Counter, DEFAULT_MAX_RECORDS, Settings, Used};
use tracker_ebpf::record::{Direction, Record};

use crate::types::ClientAddr;

pub use attach::Pinning;
use attach::Wanted;

use crate::clock::{BootTime, boot_now};
use crate::net::{ClientEvents, Payload, Seen, Watcher};
use crate::session::Evidence;
pub use compare::Resync;
use destroy::Destroyer;
pub use devices::DeviceWatch;
use devices::Devices;
use drift::Looks;
use ebpf::Kernel;
pub use error::{Full, ObserveError};
pub use eyes::Eyes;
pub use hints::Hints;
pub use host::clock_is_synchronised;
pub use place::{Place, places};
pub use rehearsal::{Rehearsal, rehearse};
pub use relayed::relayed_of;
pub use route::{Route, Routes};
pub use sight::Blindness;
use sight::Sight;
pub use socket_dump::Socket;
use socket_dump::SocketDump;
pub use walk::RecordWalk;
pub use witness::Witness;

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
    /// Where connections are watched.
    pub places: Vec<Place>,
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
            places: Vec::new(),
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

/// The observer. Share it in an `Arc`. A pinned kernel side goes on when it is dropped.
pub struct Observer {
    source: Source,
    /// The connections that come through balancers, which are those to the source.
    relayed: Arc<Eyes>,
    sockets: SocketDump,
    destroyer: Destroyer,
    devices: Devices,
    sight: Sight,
    looks: Mutex<Looks>,
}

enum Source {
    Kernel(Box<Kernel>),
    Eyes { eyes: Eyes, because: String },
}

impl Observer {
    /// Starts observing, in the network namespace of the calling thread. Follow it with [`Self::settle`].
    ///
    /// # Errors
    /// In mode `Ebpf`, when the kernel side cannot be had; in the others, when another daemon uses the pin directory.
    pub fn start(options: &ObserveOptions) -> Result<(Self, Events), ObserveError> {
        let sockets = SocketDump::new(&options.places);
        let (source, hints) = source(options)?;
        let (relayed, more) = Eyes::of_relayed(options.max_records, options.settings);
        let hints = hints.and(more);
        let destroyer = Destroyer::new(&options.foreign_ports);
        let (devices, changes) = Devices::open();
        let watched_since = match &source {
            Source::Kernel(kernel) => kernel.watched_since(),
            // It sees nothing but what it is told, from now on.
            Source::Eyes { .. } => boot_now(),
        };
        let sight = Sight::new(watched_since);
        let relayed = Arc::new(relayed);
        let observer = Self { source, relayed, sockets, destroyer, devices, sight, looks: Mutex::default() };
        observer.find_itself();
        Ok((observer, Events { hints, devices: changes }))
    }

    /// Detaches the kernel side that is pinned in `pin_dir`, of whatever version, and removes its records. False if there
    /// is none.
    ///
    /// # Errors
    /// Without privilege, and while a daemon uses the directory.
    pub fn detach(pin_dir: &Path) -> Result<bool, ObserveError> {
        Ok(pins::detach(pin_dir)?.is_some_and(|removed| removed > 0))
    }

    /// The daemon's own connections are made in its own cgroup.
    fn find_itself(&self) {
        if let Source::Kernel(kernel) = &self.source
            && host::is_in_cgroup(kernel.cgroup()) == Some(false)
        {
            self.is_outside(format!(
                "the daemon is not in the cgroup {} that is watched; start it there, or set observer.cgroup",
                kernel.cgroup().display()
            ));
        }
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
        warnings.extend(self.blindness().map(|Blindness { why, .. }| {
            format!(
                "the observer is blind: {why}; until it sees again, users are asked again one timeout after their last proof"
            )
        }));
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

    /// The source's record of the client.
    ///
    /// # Errors
    /// When the kernel refuses; not when there is none.
    pub(super) fn record(&self, client: ClientAddr) -> Result<Option<Record>, ObserveError> {
        match &self.source {
            Source::Kernel(kernel) => kernel.record(client),
            Source::Eyes { eyes, .. } => Ok(eyes.record(client)),
        }
    }

    /// What is recorded of the client, whether it may be relied upon or not: for who looks, not for decisions.
    ///
    /// # Errors
    /// When the kernel refuses; not when there is no record.
    pub fn recorded(&self, client: ClientAddr) -> Result<Option<Evidence>, ObserveError> {
        Ok(self.with_relayed(client, self.record(client)?.as_ref().map(Evidence::from)))
    }

    /// The client has a session from now on: its record is kept for as long as that stands. Where there is none one is
    /// made, which knows of nothing that happened since `since`; an existing one stays as it is. Strangers, who have no
    /// session, take none of the room for these.
    ///
    /// # Errors
    /// [`ObserveError::Full`] when there is no room: the client must not be logged in then.
    pub fn ensure(&self, client: ClientAddr, since: BootTime) -> Result<(), ObserveError> {
        match &self.source {
            Source::Kernel(kernel) => kernel.ensure(client, since)?,
            Source::Eyes { eyes, .. } => eyes.ensure(client, since)?,
        }
        self.relayed.hold(client);
        Ok(())
    }

    /// The client has no session any more: its record is a stranger's, and may be forgotten.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn release(&self, client: ClientAddr) -> Result<(), ObserveError> {
        self.relayed.release(client);
        match &self.source {
            Source::Kernel(kernel) => kernel.release(client),
            Source::Eyes { eyes, .. } => {
                eyes.release(client);
                Ok(())
            }
        }
    }

    /// The clients whose records are kept for a session.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn held(&self) -> Result<Vec<ClientAddr>, ObserveError> {
        match &self.source {
            Source::Kernel(kernel) => kernel.held(),
            Source::Eyes { eyes, .. } => Ok(eyes.held()),
        }
    }

    /// What is recorded of all clients, in no order.
    #[cfg(test)]
    fn all_recorded(&self) -> Result<Vec<(ClientAddr, Evidence)>, ObserveError> {
        let (mut walk, mut all) = (self.walk(), Vec::new());
        while self.next_portion(&mut walk, |client, evidence| all.push((client, *evidence)))? {}
        Ok(all)
    }

    /// How many records there are.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn used(&self) -> Result<Used, ObserveError> {
        match &self.source {
            Source::Kernel(kernel) => kernel.used(),
            Source::Eyes { eyes, .. } => Ok(eyes.used()),
        }
    }

    /// Deletes the client's record, unless it has a session or a connection: then, and where there is none, nothing
    /// happens.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget(&self, client: ClientAddr) -> Result<(), ObserveError> {
        self.relayed.forget(client);
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
        self.relayed.apply(settings);
        match &self.source {
            Source::Kernel(kernel) => kernel.apply(settings),
            Source::Eyes { eyes, .. } => {
                eyes.apply(settings);
                Ok(())
            }
        }
    }

    /// Waits until some client's record is to be told of payload that moved under TLS: [`Self::tell_stamps`] does. Whoever
    /// drops this before it is ready has missed nothing.
    pub async fn stamps_due(&self) {
        match &self.source {
            Source::Kernel(kernel) => kernel.stamps.due().await,
            Source::Eyes { .. } => std::future::pending().await,
        }
    }

    /// Tells the records of some clients when payload last moved, at most `most` of them. Costs a system call each.
    ///
    /// # Errors
    /// When the kernel refuses; the rest have been told.
    pub fn tell_stamps(&self, most: usize) -> Result<(), ObserveError> {
        match &self.source {
            Source::Kernel(kernel) => kernel.stamps.tell_some(most),
            Source::Eyes { .. } => Ok(()),
        }
    }

    /// What went wrong so far, in the order of [`Counter::ALL`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn counters(&self) -> Result<[u64; Counter::ALL.len()], ObserveError> {
        let mut counters = match &self.source {
            Source::Kernel(kernel) => kernel.counters()?,
            Source::Eyes { eyes, .. } => eyes.counters(),
        };
        for (sum, more) in counters.iter_mut().zip(self.relayed.counters()) {
            *sum = sum.wrapping_add(more);
        }
        Ok(counters)
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
}

/// What the proxy has to report its connections to; `None` if the kernel side sees them by itself.
#[must_use]
pub fn eyes_of(observer: &Arc<Observer>) -> Option<Arc<dyn ClientEvents>> {
    let observer: Arc<Observer> = Arc::clone(observer);
    observer.eyes().is_some().then_some(observer as Arc<dyn ClientEvents>)
}

impl Watcher for Observer {
    fn look(&self, socket: BorrowedFd<'_>) -> Seen {
        match &self.source {
            Source::Kernel(kernel) => match kernel.mark(socket) {
                Some(mark) if mark.is_half() => Seen::Half,
                Some(_) => Seen::Open,
                // Nothing is believed then that it does not see; see `Observer::evidence`.
                None if self.blindness().is_some() => Seen::Open,
                None => Seen::No,
            },
            // They are told of every connection in the registry.
            Source::Eyes { .. } => Seen::Open,
        }
    }

    fn payload(&self, client: ClientAddr) -> Option<Box<dyn Payload>> {
        match &self.source {
            Source::Kernel(kernel) => Some(stamps::of_connection(&kernel.stamps, client)),
            // They hear of nothing but payload.
            Source::Eyes { .. } => None,
        }
    }
}

impl ClientEvents for Observer {
    fn opened(&self, client: ClientAddr, at: BootTime) {
        if let Some(eyes) = self.eyes() {
            eyes.opened(client, at);
        }
    }

    fn data(&self, client: ClientAddr, direction: Direction, bytes: u64, ended: bool, at: BootTime) {
        if let Some(eyes) = self.eyes() {
            eyes.data(client, direction, bytes, ended, at);
        }
    }

    fn ended(&self, client: ClientAddr, at: BootTime) {
        if let Some(eyes) = self.eyes() {
            eyes.ended(client, at);
        }
    }

    fn closed(&self, client: ClientAddr, ended: bool, at: BootTime) {
        if let Some(eyes) = self.eyes() {
            eyes.closed(client, ended, at);
        }
    }
}

fn source(options: &ObserveOptions) -> Result<(Source, Hints), ObserveError> {
    let wanted = Wanted {
        cgroup: options.cgroup.as_deref(),
        pin_dir: options.pin_dir.as_deref(),
        places: &options.places,
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
