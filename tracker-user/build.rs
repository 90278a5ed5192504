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

/// `<target>/bpf/tracker-ebpf.o`. `out` is `<target>/<profile>/build/<package>/out`, with a `<triple>` after `<target>`
/// where one was asked for. Watched also while it is absent.
fn beside_target(out: &Path) -> Option<PathBuf> {
    let objects = || out.ancestors().skip(4).take(2).map(|dir| dir.join("bpf").join("tracker-ebpf.o"));
    let object = objects().find(|object| object.is_file()).or_else(|| objects().next())?;
    println!("cargo::rerun-if-changed={}", object.display());
    Some(object)
}
