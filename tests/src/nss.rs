//! The store of certificates that Firefox has in its profile and Chromium in the home directory.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::ns::finish;

/// Makes a store in this directory that trusts an authority.
///
/// # Errors
/// Where libnss3-tools is not installed.
pub fn trust(store: &Path, root: &Path) -> Result<()> {
    std::fs::create_dir_all(store)?;
    let store = format!("sql:{}", store.display());
    let certutil = |words: &[&str]| {
        let mut command = Command::new("certutil");
        finish(command.args(["-d", &store]).args(words), &[])
            .context("is libnss3-tools installed? `cargo xtask setup` installs it")
    };
    certutil(&["-N", "--empty-password"])?;
    certutil(&["-A", "-t", "C,,", "-n", "lab", "-a", "-i", &root.display().to_string()]).map(drop)
}
