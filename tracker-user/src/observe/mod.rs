//! What clients do on the wire: one small record per client address, kept by the kernel side (eBPF), or by the proxy's own
//! eyes where that is not possible.
//!
//! The records are the truth; a [`Hint`](tracker_ebpf::abi::Hint) only says where to look, and [`Observer::resync`] compares the records with the
//! kernel's list of sockets and repairs what was missed. Nothing here waits: all calls but [`Hints::next`] are plain
//! system calls. [`Observer::records`] and [`Observer::resync`] cost some microseconds per client, so with many clients they
//! belong on a blocking thread.

mod drift;
mod ebpf;
mod error;
mod eyes;
mod hints;
mod host;
#[cfg(test)]
mod kernel_tests;
mod socket_dump;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracker_ebpf::abi::{ClientAddr, Counter, DEFAULT_MAX_RECORDS, Settings};
use tracker_ebpf::record::Record;

use crate::clock::{BootTime, boot_now};
use drift::Looks;
use ebpf::{Kernel, Wanted};
pub use error::{Full, ObserveError};
pub use eyes::Eyes;
pub use hints::Hints;
pub use socket_dump::Connection;
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
    /// The local ports whose connections are watched.
    pub ports: Vec<u16>,
    /// How many clients there is room for.
    pub max_records: u32,
    /// The first settings; see [`Observer::apply`].
    pub settings: Settings,
}

impl Default for ObserveOptions {
    fn default() -> Self {
        Self {
            mode: ObserverMode::default(),
            cgroup: None,
            ports: Vec::new(),
            max_records: DEFAULT_MAX_RECORDS,
            settings: Settings::default(),
        }
    }
}

/// Which observer runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kernel side.
    Ebpf {
        /// Where it is attached.
        cgroup: PathBuf,
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
    /// Connections to the watched ports, as the kernel lists them; the proxy's own, where it looks by itself.
    pub connections: usize,
    /// Records whose count of open connections was certainly wrong, and is right now.
    pub repaired: usize,
    /// Records whose count differs, seen for the first time: most often a connection that was just opening or closing.
    pub suspected: usize,
    /// Clients with connections but no room for a record.
    pub untracked: usize,
}

/// The observer. Share it in an `Arc`; dropping it detaches the kernel side.
pub struct Observer {
    source: Source,
    sockets: SocketDump,
    looks: Mutex<Looks>,
}

enum Source {
    Kernel(Box<Kernel>),
    Eyes { eyes: Eyes, because: String },
}

/// The start looks again this soon, and this often at most, to make sure of connections older than the observer.
const SECOND_LOOK: Duration = Duration::from_millis(5);
const FIRST_LOOKS: usize = 4;

impl Observer {
    /// Starts observing, in the network namespace of the calling thread. Connections that are older than the observer
    /// are counted from the list of sockets. The kernel side never saw them begin, so it neither sees their packets nor
    /// their end: until they are closed, their traffic is invisible, and their closing is noticed by a later resync.
    ///
    /// # Errors
    /// In mode `Ebpf`, when the kernel side cannot be had. The other modes always start.
    pub fn start(options: &ObserveOptions) -> Result<(Self, Hints), ObserveError> {
        let because = match options.mode {
            ObserverMode::Proxy => "observer.mode is \"proxy\"".to_owned(),
            ObserverMode::Auto | ObserverMode::Ebpf => match Self::start_kernel(options) {
                Ok(started) => return Ok(started),
                Err(error) if options.mode == ObserverMode::Ebpf => return Err(error),
                Err(error) => error.because(),
            },
        };
        let (eyes, hints) = Eyes::new(options.max_records, options.settings);
        Ok((Self::new(Source::Eyes { eyes, because }, options), hints))
    }

    fn start_kernel(options: &ObserveOptions) -> Result<(Self, Hints), ObserveError> {
        let (kernel, hints) = Kernel::start(&Wanted {
            cgroup: options.cgroup.as_deref(),
            ports: &options.ports,
            max_records: options.max_records,
            settings: options.settings,
        })?;
        let observer = Self::new(Source::Kernel(Box::new(kernel)), options);
        for look in 1..=FIRST_LOOKS {
            if observer.resync()?.suspected == 0 || look == FIRST_LOOKS {
                break;
            }
            std::thread::sleep(SECOND_LOOK);
        }
        Ok((observer, hints))
    }

    fn new(source: Source, options: &ObserveOptions) -> Self {
        Self { source, sockets: SocketDump::new(&options.ports), looks: Mutex::default() }
    }

    /// Which observer runs.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match &self.source {
            Source::Kernel(kernel) => Kind::Ebpf { cgroup: kernel.cgroup().to_owned() },
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
    /// The proxy's own eyes miss nothing of what they look at: there the records are only counted.
    ///
    /// # Errors
    /// When the sockets cannot be listed, or the kernel refuses.
    pub fn resync(&self) -> Result<Resync, ObserveError> {
        let kernel = match &self.source {
            Source::Kernel(kernel) => kernel,
            Source::Eyes { eyes, .. } => {
                let records = eyes.records();
                let connections = records.iter().map(|(_, record)| record.open as usize).sum();
                return Ok(Resync { clients: records.len(), connections, ..Resync::default() });
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
    pub fn connections(&self, client: ClientAddr) -> Result<Vec<Connection>, ObserveError> {
        let dump = self.sockets.read()?;
        Ok(dump.into_iter().filter_map(|(owner, one)| (owner == client).then_some(one)).collect())
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
        let known: std::collections::HashSet<_> = records.iter().map(|(client, _)| *client).collect();
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
