//! `trackerctl check`: what is wrong with a configuration file, and what is merely unwise.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::config::Document;
use crate::doctor;

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    /// The file.
    pub(super) file: String,
    /// What keeps the daemon from starting with it, each with its remedy.
    pub(super) problems: Vec<String>,
    /// What does not.
    pub(super) warnings: Vec<String>,
}

/// Reads a file, and the certificates that it names.
pub(super) fn check(file: &Path) -> Found {
    let shown = file.display().to_string();
    match Document::read(file) {
        Ok(read) => {
            let (problems, of_certificates) = doctor::check_certificates(&read.config);
            let warnings = read
                .config
                .warnings()
                .into_iter()
                .chain(read.config.not_in_effect_warnings())
                .chain(of_certificates)
                .collect();
            Found { file: shown, problems, warnings }
        }
        Err(error) => Found { file: shown, problems: vec![error.to_string()], warnings: Vec::new() },
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "WARNING: {warning}")?;
        }
        match self.problems.is_empty() {
            true => write!(f, "{} can be used", self.file),
            false => write!(f, "{} cannot be used", self.file),
        }
    }
}
