//! `cargo xtask tidy`: the rules of the architecture that a program can check.
mod draw;
mod imports;
mod lexer;
mod paths;
mod rooms;
mod rules;
mod source;
mod ways_around;

use anyhow::{Context as _, Result, bail};

use crate::sh;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Before that, draw the picture of the rooms in docs/ARCHITECTURE.md anew from their table.
    #[arg(long)]
    draw: bool,
}

/// Checks the repository, having drawn what is drawn.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.draw {
        draw()?;
    }
    check()
}

fn draw() -> Result<()> {
    let path = sh::root().join(draw::DOCUMENT);
    let text = std::fs::read_to_string(&path).with_context(|| draw::DOCUMENT)?;
    let drawn = draw::redrawn(&text, rooms::ROOMS)?;
    if drawn != text {
        std::fs::write(&path, drawn).with_context(|| draw::DOCUMENT)?;
        eprintln!("tidy: drew the rooms in {}", draw::DOCUMENT);
    }
    Ok(())
}

/// Checks the repository, and fails with every finding.
pub(crate) fn check() -> Result<()> {
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
