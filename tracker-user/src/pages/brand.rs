//! Whom the gateway belongs to: the only words of an operator's that reach a user's page.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::file;

/// No logo is larger, in bytes.
const LOGO_MOST: u64 = 64 * 1024;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brand {
    /// Whose gateway it is.
    pub organisation: Option<Arc<str>>,
    /// Whom people turn to who need help.
    pub contact: Option<Arc<str>>,
    /// The colour of what stands out, `#rrggbb`.
    pub colour: Option<Arc<str>>,
    /// A picture.
    pub logo: Option<Arc<Logo>>,
}

/// A picture for the pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logo {
    /// `image/svg+xml` or `image/png`.
    pub media_type: &'static str,
    /// The file's content.
    pub content: Vec<u8>,
}

/// A picture cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogoError {
    /// It cannot be read.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It is none, or too large.
    #[error("{0} is not an SVG or PNG picture of at most 64 KiB")]
    Kind(PathBuf),
}

impl Logo {
    /// Reads a picture. Blocks.
    ///
    /// # Errors
    /// If it cannot be read, is of another kind, or too large.
    pub fn read(path: &Path) -> Result<Self, LogoError> {
        let failed = |source| LogoError::Read { path: path.to_owned(), source };
        let kind = || LogoError::Kind(path.to_owned());
        let content = file::read(path, LOGO_MOST).map_err(failed)?.ok_or_else(kind)?;
        let media_type = if content.starts_with(b"\x89PNG\r\n\x1a\n") {
            "image/png"
        } else if std::str::from_utf8(&content).is_ok_and(|text| text.contains("<svg")) {
            "image/svg+xml"
        } else {
            return Err(kind());
        };
        Ok(Self { media_type, content })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_a_small_file_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("a.svg"), "<svg xmlns=\"http://www.w3.org/2000/svg\"/>").unwrap();
        std::fs::write(at("a.png"), b"\x89PNG\r\n\x1a\nx").unwrap();
        std::fs::write(at("large.png"), [&b"\x89PNG\r\n\x1a\n"[..], &[0; 64 * 1024]].concat()).unwrap();
        std::fs::write(at("text"), "hello").unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(Logo::read(&at("a.svg")).unwrap().media_type, "image/svg+xml");
        assert_eq!(Logo::read(&at("a.png")).unwrap().media_type, "image/png");
        for path in ["large.png", "text", "pipe", "", "none"] {
            Logo::read(&at(path)).unwrap_err();
        }
        // What comes as it is read has no end.
        for path in ["/proc/self/pagemap", "/dev/zero", "/proc/self/mem"] {
            Logo::read(Path::new(path)).unwrap_err();
        }
    }
}
