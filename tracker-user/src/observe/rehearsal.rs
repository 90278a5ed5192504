//! What the kernel side needs of this machine, tried without touching what runs: nothing is attached, nothing is pinned.

use std::fs::File;
use std::path::{Path, PathBuf};

use tracker_ebpf::abi::Settings;

use super::attach::{self, Wanted};
use super::error::ObserveError;
use super::{host, pins};

/// What was found.
#[derive(Debug)]
pub struct Rehearsal {
    /// The cgroup that the programs would be attached to.
    pub cgroup: Result<PathBuf, ObserveError>,
    /// Whether the kernel takes the programs.
    pub programs: Result<(), ObserveError>,
    /// Whether something of an earlier run is pinned in the pin directory; or why nothing can be pinned there.
    pub pinned: Result<bool, String>,
}

/// Tries it. `cgroup` and `pin_dir` are as configured.
#[must_use]
pub fn rehearse(cgroup: Option<&Path>, pin_dir: &Path) -> Rehearsal {
    let cgroup =
        cgroup.map(Path::to_path_buf).or_else(host::cgroup_root).ok_or(ObserveError::NoCgroup).and_then(
            |path| match File::open(&path) {
                Ok(_) => Ok(path),
                Err(error) => Err(attach::broken_cgroup(&path, error)),
            },
        );
    let wanted = Wanted {
        cgroup: None,
        pin_dir: None,
        places: &[1.into()],
        max_records: 1,
        settings: Settings::default(),
    };
    Rehearsal { cgroup, programs: attach::rehearse(&wanted), pinned: pins::holds_something(pin_dir) }
}
