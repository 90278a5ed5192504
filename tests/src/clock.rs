//! Wrong clocks: programs that are told another time than it is, by libfaketime.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

/// Loaded into a program before all else; the dynamic linker knows what `$LIB` is on this machine.
const LIBRARY: &str = "/usr/$LIB/faketime/libfaketime.so.1";

/// The variables that make a program take the time for so much later (`+10m`, `+630s`) or earlier (`-2h`) than it is.
///
/// # Errors
/// Where libfaketime is not installed.
pub fn off_by(offset: &str) -> Result<[(&'static str, PathBuf); 4]> {
    let directories = std::fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
    let mut places = directories.map(|directory| directory.join("faketime/libfaketime.so.1"));
    // The dynamic linker only warns of a library that is missing.
    ensure!(
        places.any(|place| Path::is_file(&place)),
        "is faketime installed? `cargo xtask setup` installs it"
    );
    Ok([
        ("LD_PRELOAD", LIBRARY.into()),
        ("FAKETIME", offset.into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        // What it shares between processes it would leave behind.
        ("FAKETIME_DISABLE_SHM", "1".into()),
    ])
}
