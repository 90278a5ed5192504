//! `cargo xtask tidy`: the rules of the architecture that a program can check.
mod rules;
mod source;

use anyhow::{Result, bail};

use crate::sh;

/// Checks the repository, and fails with every finding.
pub(crate) fn run() -> Result<()> {
    let tree = source::Tree::read(&sh::root())?;
    let findings = rules::check(&tree);
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    match findings.len() {
        0 => {
            eprintln!("tidy: {} files, nothing to complain about", tree.files.len());
            Ok(())
        }
        count => bail!("tidy: {count} findings"),
    }
}
