//! Keeping the kernel side where it is: attached, and pinned.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use tracing::warn;

use super::attach::{broken_cgroup, program_fd};
use super::bpf;
use super::ebpf::Kernel;
use super::error::{self, ObserveError};
use super::pins::LINKS;
use crate::clock::BootTime;

impl Kernel {
    /// Which program does not hang where it should, and why; `None` if all do.
    pub(super) fn detached(&self) -> Option<String> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = self.cgroup_id.load(Ordering::Relaxed);
        LINKS.iter().zip(links.iter()).find_map(|((name, _), link)| match bpf::look(link.as_fd()) {
            Ok(is) if is.cgroup == wanted => None,
            Ok(_) => Some(format!(
                "the program {name} was detached from {}: the cgroup is gone, or somebody detached it",
                self.cgroup().display()
            )),
            Err(error) => Some(format!("the program {name} cannot be looked at: {error}")),
        })
    }

    /// Attaches all programs anew. Until it is done some may see what others do not.
    pub(super) fn attach_again(&self) -> Result<(), ObserveError> {
        let path = self.cgroup();
        let broken = |error| broken_cgroup(path, error);
        let cgroup = File::open(path).map_err(broken)?;
        let id = cgroup.metadata().map_err(broken)?.ino();
        let programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        for ((name, hook), link) in LINKS.iter().zip(links.iter_mut()) {
            // Before its successor is there: two of them would count twice.
            if let Some(pins) = &self.pins {
                let path = pins.link_path(name);
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(ObserveError::Pins { path, what: "removed", error });
                    }
                    _ => {}
                }
            }
            // What somebody else still holds of it may go on; only this ends it for certain.
            let _ = bpf::detach(link.as_fd());
            *link = bpf::link(program_fd(&programs, name)?, cgroup.as_fd(), *hook)
                .map_err(|error| error::kernel("attaching the eBPF programs again", &error))?;
        }
        self.cgroup_id.store(id, Ordering::Relaxed);
        drop((programs, links));
        warn!(cgroup = %path.display(), "the eBPF programs were attached again");
        self.keep_pins()
    }

    /// Pins again what is not pinned any more.
    pub(super) fn keep_pins(&self) -> Result<(), ObserveError> {
        let Some(pins) = &self.pins else { return Ok(()) };
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let links = LINKS.iter().zip(links.iter()).map(|((name, _), link)| (pins.link_path(name), link));
        let maps = self.pinned_maps.iter().map(|(name, map)| (pins.path(name), map));
        let missing: Vec<_> = maps.chain(links).filter(|(path, _)| !path.exists()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        pins.make()?;
        for (path, what) in missing {
            bpf::pin(what.as_fd(), &path).map_err(|error| ObserveError::Pins {
                path: path.clone(),
                what: "made again",
                error,
            })?;
            warn!(pin = %path.display(), "a pin was gone and was made again");
        }
        Ok(())
    }

    /// Leaves word for the next daemon.
    pub(super) fn note_sight(
        &self,
        watched_since: BootTime,
        blind_since: Option<BootTime>,
    ) -> Result<(), ObserveError> {
        self.change_settings(|settings| {
            settings.watched_since = watched_since.as_nanos();
            // 0 is what says that there is nothing to say.
            settings.blind_since = blind_since.map_or(0, |since| since.as_nanos().max(1));
        })
    }
}
