//! A note from one run of the daemon to the next, in a place that ends with the boot and that no copy of the state
//! directory carries: bpffs, beside what is pinned there, or a file system in memory.
//!
//! It is the target of a symbolic link, put in place by a rename: written whole or not at all, and bpffs takes no other
//! text.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{BPF_FS_MAGIC, FsType, TMPFS_MAGIC, statfs};

use crate::private;

/// What the names of notes begin with.
pub(super) const PREFIX: &str = "store-";
/// A note on its way. (bpffs takes no dots.)
const NEW: &str = "-new";

/// Where notes are kept.
#[derive(Clone, Debug)]
pub struct Witness {
    directory: PathBuf,
    mode: u32,
}

impl Witness {
    /// Takes the first of these directories that ends with the boot, and makes it, with its mode, where it is missing.
    ///
    /// # Errors
    /// Says why none will do.
    pub fn choose(places: &[(&Path, u32)]) -> Result<Self, String> {
        let mut reasons = Vec::new();
        for (directory, mode) in places {
            let shown = directory.display();
            let witness = Self { directory: directory.to_path_buf(), mode: *mode };
            let tried = match file_system(directory) {
                Ok(BPF_FS_MAGIC | TMPFS_MAGIC) => witness.make().and_then(|()| private::owned(directory)),
                Ok(_) => Err(io::Error::other("it outlives the boot")),
                Err(error) => Err(error),
            };
            match tried {
                Ok(()) => return Ok(witness),
                Err(error) => reasons.push(format!("{shown}: {error}")),
            }
        }
        Err(reasons.join("; "))
    }

    /// Where that is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The note of this name, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, name: &str) -> io::Result<Option<String>> {
        match fs::read_link(self.path(name)) {
            Ok(note) => Ok(Some(note.to_string_lossy().into_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts a note in place of the one of this name.
    ///
    /// # Errors
    /// When it cannot be written; the earlier one stands.
    pub fn write(&self, name: &str, note: &str) -> io::Result<()> {
        let new = self.path(&format!("{name}{NEW}"));
        match symlink(note, &new) {
            // Left by a run that was killed on the way.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_file(&new)?;
                symlink(note, &new)?;
            }
            // Somebody has removed the directory.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make()?;
                symlink(note, &new)?;
            }
            made => made?,
        }
        fs::rename(&new, self.path(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{PREFIX}{name}"))
    }

    fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(self.mode).create(&self.directory)
    }
}

/// The kind of the file system of a path, or of the nearest directory above it that exists.
fn file_system(path: &Path) -> io::Result<FsType> {
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    Ok(statfs(there)?.filesystem_type())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_note_is_read_and_a_place_that_is_gone_is_made_again() {
        let Ok(scratch) = tempfile::tempdir_in("/dev/shm") else { return };
        let place = scratch.path().join("run");
        let witness = Witness::choose(&[(Path::new("/proc/none"), 0o700), (&place, 0o700)]).unwrap();
        assert_eq!(witness.directory(), place);
        assert_eq!(witness.read("1").unwrap(), None);
        witness.write("1", "one").unwrap();
        symlink("half", place.join("store-1-new")).unwrap();
        witness.write("1", "two").unwrap();
        assert_eq!(witness.read("1").unwrap().as_deref(), Some("two"));
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(witness.read("1").unwrap(), None);
        witness.write("1", "three").unwrap();
        assert_eq!(witness.read("1").unwrap().as_deref(), Some("three"));
    }

    #[test]
    fn a_disk_is_no_place_for_it() {
        let error = Witness::choose(&[(Path::new("/proc/none"), 0o700)]).unwrap_err();
        assert!(error.contains("outlives"), "{error}");
        assert!(Witness::choose(&[]).is_err());
    }
}
