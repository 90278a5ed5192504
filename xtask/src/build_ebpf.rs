//! Stand-in for the builder of the kernel side; replaced when that lands.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// Builds the kernel side and returns the object's path.
#[expect(clippy::unnecessary_wraps, reason = "the real one can fail")]
pub(crate) fn build_ebpf(target_dir: &Path) -> Result<PathBuf> {
    eprintln!("xtask: this tree has no builder for the kernel side yet");
    Ok(target_dir.join("bpf").join("tracker-ebpf.o"))
}
