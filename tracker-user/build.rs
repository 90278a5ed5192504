//! Hands the eBPF object to the compiler. `cargo xtask build` makes it; where it is missing, the daemon is built
//! without a kernel side and says so at start.

use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=TRACKER_EBPF_OBJECT");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    let object = std::env::var_os("TRACKER_EBPF_OBJECT").map(PathBuf::from).or_else(|| beside_target(&out));
    let copy = out.join("tracker-ebpf.o");
    if let Some(path) = object.filter(|path| path.is_file()) {
        println!("cargo::rerun-if-changed={}", path.display());
        std::fs::copy(&path, &copy)?;
    } else {
        println!("cargo::warning=the eBPF object is missing: `cargo xtask build` makes it and builds all");
        std::fs::write(&copy, [])?;
    }
    Ok(())
}

/// `<target>/bpf/tracker-ebpf.o`, where the target directory is some ancestor of `out`. Watched also while it is absent.
fn beside_target(out: &Path) -> Option<PathBuf> {
    let target = out.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file())?;
    let object = target.join("bpf").join("tracker-ebpf.o");
    println!("cargo::rerun-if-changed={}", object.display());
    Some(object)
}
