//! Where a secret stands in the clear that should stand nowhere.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::Lab;

/// So much of memory is looked at at once.
const PIECE: usize = 1 << 20;

/// Where any of these stands in what the gateway has written: its files and a copy of them, its log, its command line and environment.
///
/// # Errors
/// When something cannot be read.
pub fn written(lab: &Lab, secrets: &[&[u8]]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for directory in ["state", "run"] {
        look_through(&lab.scratch.join(directory), secrets, &mut found)?;
    }
    let mut look = |content: &[u8], name: &str| {
        if secrets.iter().any(|secret| stands_in(content, secret)) {
            found.push(name.to_owned());
        }
    };
    look(&fs::read(lab.gateway.log_file())?, "the log");
    // As an operator makes a backup.
    let mut tar = std::process::Command::new("tar");
    let backup = tar.arg("-C").arg(lab.scratch.path()).args(["-cf", "-", "state"]).output()?;
    look(&backup.stdout, "the backup");
    for file in ["cmdline", "environ"] {
        if let Ok(content) = fs::read(format!("/proc/{}/{file}", lab.gateway.pid())) {
            look(&content, file);
        }
    }
    Ok(found)
}

fn look_through(directory: &Path, secrets: &[&[u8]], found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            look_through(&path, secrets, found)?;
        } else if kind.is_file() {
            let content = fs::read(&path)?;
            if secrets.iter().any(|secret| stands_in(&content, secret)) {
                found.push(path.display().to_string());
            }
        }
    }
    Ok(())
}

/// Which of these stands in the memory of the running gateway: what a core would have.
///
/// # Errors
/// When the memory cannot be read.
pub fn in_memory(lab: &Lab, secrets: &[&[u8]]) -> Result<Vec<usize>> {
    let pid = lab.gateway.pid();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let overlap = secrets.iter().map(|secret| secret.len()).max().unwrap_or_default();
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().context("a range")?, words.next().context("rights")?);
        if !rights.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').context("its ends")?;
        let (mut at, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        let mut piece = vec![0; PIECE + overlap];
        while at < to {
            let most = piece.len().min(usize::try_from(to - at)?);
            // What is mapped and not there cannot be read.
            let read = memory.read_at(&mut piece[..most], at).unwrap_or(0);
            for (number, secret) in secrets.iter().enumerate() {
                if !found.contains(&number) && stands_in(&piece[..read], secret) {
                    found.push(number);
                }
            }
            at += PIECE as u64;
        }
    }
    Ok(found)
}

fn stands_in(content: &[u8], secret: &[u8]) -> bool {
    !secret.is_empty() && content.windows(secret.len()).any(|part| part == secret)
}
