//! The built-in administrator's first password, in a file of the state directory that only the daemon's user can read. It
//! is removed when that password is worth nothing any more.

use std::fs::{File, OpenOptions};
use std::io;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use super::embedded::Store;
use crate::private;

/// The file's name in the state directory.
pub(super) const FILE: &str = "administrator-password";
/// It is written beside its place, and put there when it is whole.
pub(super) const ASIDE: &str = "administrator-password.new";

impl Store {
    /// Where the administrator's first password is written.
    #[must_use]
    pub fn first_password_file(&self) -> PathBuf {
        self.directory().join(FILE)
    }

    /// Writes the administrator's first password. On disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written; nothing of it is left behind.
    pub fn write_first_password(&self, password: &str) -> io::Result<()> {
        let aside = self.directory().join(ASIDE);
        let write = || -> io::Result<()> {
            // One that was left there keeps the mode that it has, or leads elsewhere.
            remove(&aside)?;
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(private::FILE).open(&aside)?;
            file.write_all(password.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            std::fs::rename(&aside, self.first_password_file())?;
            self.sync_directory()
        };
        write().inspect_err(|_| {
            let _ = remove(&aside);
        })
    }

    /// Removes it, if it is there. It is gone from the disk when this returns.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove_first_password(&self) -> io::Result<()> {
        remove(&self.first_password_file())?;
        self.sync_directory()
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(self.directory())?.sync_all()
    }
}

fn remove(path: &std::path::Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
