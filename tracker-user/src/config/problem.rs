//! What can be wrong with a configuration, told so that it can be put right.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The line, counted from 1; 0 where no line of the file is to blame.
    pub line: usize,
    /// The key's full name; empty where the text as such is wrong.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read; a missing file is `source.kind() == NotFound`.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file was read and refused.
    #[error("{}", Blocks { path, problems })]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it, by line.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// Everything that is wrong with the file; empty where it could not be read.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Invalid { problems, .. } => problems,
        }
    }

    /// Whether the file does not exist.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    }
}

/// One line per problem, as compilers do it: `FILE:LINE: key: what is wrong; remedy`.
struct Blocks<'a> {
    path: &'a Path,
    problems: &'a [Problem],
}

impl fmt::Display for Blocks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:", self.path.display())?;
            if problem.line > 0 {
                write!(f, "{}:", problem.line)?;
            }
            if !problem.key.is_empty() {
                write!(f, " {}:", problem.key)?;
            }
            write!(f, " {}; {}", problem.message, problem.remedy)?;
        }
        Ok(())
    }
}

/// Why a value was refused, before anybody knows which key or line it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) remedy: String,
}

impl Refusal {
    pub(super) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }

    /// This refusal, of what stands at byte `at`.
    pub(super) fn at(self, at: usize) -> Fault {
        Fault { at, refusal: self }
    }
}

/// A refusal with its place, in bytes from the start of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) refusal: Refusal,
}
