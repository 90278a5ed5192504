//! What rows that are secrets are sealed with: ChaCha20-Poly1305 (RFC 8439) under a key that stands in a file of its own beside the
//! database, so that a copy of the database alone tells nothing. A row says which key it is under; its table and its key are
//! authenticated with it, so that a row that was copied to another user does not open.
//!
//! Rows are sealed under the key in force. Those under an earlier one are read as well: on disk until they have been sealed anew
//! (the [rotation](super::rotation)), in memory for as long as the process lasts. So whoever holds rows in memory need not be told.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::sealed::{SealedRow, SealedTable};
use crate::private;

/// The file of the key in force,
pub const FILE: &str = "second-factor.key";
/// of the one before it,
pub const PREVIOUS: &str = "second-factor.key.previous";
/// and of one that is being written.
pub(super) const ASIDE: &str = "second-factor.key.new";

/// A key has so many bytes; its file has them in hexadecimal.
const KEY: usize = 32;
/// A row begins with so many bytes that tell its key from others.
const ID: usize = 4;

/// The keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the key of the second factor in {} cannot be used: {source}", path.display())]
pub struct SealerError {
    /// Its file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// See the module.
#[derive(Debug)]
pub struct Sealer {
    directory: PathBuf,
    keys: ArcSwap<Keys>,
    /// One change of the key at a time.
    pub(super) turn: Mutex<()>,
    random: SystemRandom,
}

#[derive(Debug)]
struct Keys {
    current: Arc<OneKey>,
    /// Those before it that this process has used or found.
    earlier: Vec<Arc<OneKey>>,
    /// The file of the one before it is still there: there may be rows on disk that need it.
    has_previous: bool,
}

#[derive(Debug)]
struct OneKey {
    id: [u8; ID],
    key: LessSafeKey,
}

impl OneKey {
    fn new(bytes: &[u8; KEY]) -> io::Result<Self> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes).map_err(|_| io::Error::other("not a key"))?;
        let mut id = [0; ID];
        id.iter_mut().zip(digest(&SHA256, bytes).as_ref()).for_each(|(to, from)| *to = *from);
        Ok(Self { id, key: LessSafeKey::new(key) })
    }
}

impl Keys {
    fn all(&self) -> impl Iterator<Item = &OneKey> {
        std::iter::once(&self.current).chain(&self.earlier).map(|key| &**key)
    }
}

impl Sealer {
    /// The keys in `directory`; makes the first where there is none. Blocks.
    ///
    /// # Errors
    /// When a file cannot be read or written, belongs to somebody else, or holds no key.
    pub fn open(directory: &Path) -> Result<Self, SealerError> {
        let path = directory.join(FILE);
        let current = match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(directory),
            read => read,
        };
        let wrong = |path: &Path| {
            let path = path.to_owned();
            move |source| SealerError { path, source }
        };
        let current = current.and_then(|bytes| OneKey::new(&bytes)).map_err(wrong(&path))?;
        let earlier = directory.join(PREVIOUS);
        let previous = match read(&earlier) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.and_then(|bytes| OneKey::new(&bytes)).map_err(wrong(&earlier))?),
        };
        let has_previous = previous.is_some();
        let earlier = previous.into_iter().map(Arc::new).collect();
        Ok(Self {
            directory: directory.to_owned(),
            keys: ArcSwap::from_pointee(Keys { current: Arc::new(current), earlier, has_previous }),
            turn: Mutex::new(()),
            random: SystemRandom::new(),
        })
    }

    /// A row with this in it; `None` where the system has no randomness.
    #[must_use]
    pub fn seal(&self, table: SealedTable, key: &str, plain: &[u8]) -> Option<SealedRow> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        // In a piece of memory of its own, large enough for all of it: none that grew leaves a copy behind.
        let mut sealed = Vec::with_capacity(plain.len() + CHACHA20_POLY1305.tag_len());
        sealed.extend_from_slice(plain);
        let place = place(table, key);
        let keys = self.keys.load();
        let OneKey { id, key: own } = &*keys.current;
        own.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&place), &mut sealed)
            .ok()?;
        let value = [&id[..], &nonce, &sealed].concat();
        Some(SealedRow { table, key: key.to_owned(), value: Some(value) })
    }

    /// What is in a row of this table and key; `None` where it was sealed under another key, or for another place.
    #[must_use]
    pub fn open_row(&self, table: SealedTable, key: &str, value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (id, rest) = value.split_at_checked(ID)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.keys.load();
        let by = keys.all().find(|own| own.id == id)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = Zeroizing::new(sealed.to_vec());
        let length = by.key.open_in_place(nonce, Aad::from(&place(table, key)), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }

    /// A row of this table and key under the key in force; `None` where it is under it already, or cannot be opened.
    pub(super) fn renewed(&self, table: SealedTable, key: &str, value: &[u8]) -> Option<Vec<u8>> {
        if value.starts_with(&self.keys.load().current.id) {
            return None;
        }
        self.seal(table, key, &self.open_row(table, key, value)?)?.value
    }

    /// Which key is in force: a number that says nothing of the key.
    #[must_use]
    pub fn key_id(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.keys.load().current.id)
    }

    /// Whether the key before the one in force is still kept, as there may be rows on disk that need it.
    #[must_use]
    pub fn has_previous(&self) -> bool {
        self.keys.load().has_previous
    }

    /// Puts a new key into force; the one before it is kept beside it. Killed at any point of it, the next start finds either the
    /// old key, or the new one and the old one. Blocks.
    ///
    /// # Errors
    /// When a file cannot be written: the key in force stays it.
    pub(super) fn turn_key(&self) -> Result<(), SealerError> {
        let at = |name: &str| self.directory.join(name);
        let turn = || {
            let now = self.keys.load_full();
            let (bytes, next) = loop {
                let bytes = draw()?;
                let next = OneKey::new(&bytes)?;
                // A row names its key by its number: no two that are known may have the same.
                if now.all().all(|known| known.id != next.id) {
                    break (bytes, next);
                }
            };
            write(&self.directory, &bytes)?;
            // Both have the old key from here on,
            remove(&at(PREVIOUS))?;
            std::fs::hard_link(at(FILE), at(PREVIOUS))?;
            File::open(&self.directory)?.sync_all()?;
            // and from here on one has the new one.
            std::fs::rename(at(ASIDE), at(FILE))?;
            let earlier = std::iter::once(&now.current).chain(&now.earlier).cloned().collect();
            self.keys.store(Arc::new(Keys { current: Arc::new(next), earlier, has_previous: true }));
            File::open(&self.directory)?.sync_all()
        };
        turn().map_err(|source| SealerError { path: at(FILE), source })
    }

    /// Removes the key before the one in force, which no row on disk needs any more. Blocks.
    ///
    /// # Errors
    /// When its file cannot be removed.
    pub(super) fn drop_previous(&self) -> Result<(), SealerError> {
        let path = self.directory.join(PREVIOUS);
        let removed = remove(&path).and_then(|()| File::open(&self.directory)?.sync_all());
        removed.map_err(|source| SealerError { path, source })?;
        let now = self.keys.load_full();
        let (current, earlier) = (Arc::clone(&now.current), now.earlier.clone());
        self.keys.store(Arc::new(Keys { current, earlier, has_previous: false }));
        Ok(())
    }
}

/// What is authenticated with a row: where it stands.
fn place(table: SealedTable, key: &str) -> Vec<u8> {
    [table.as_str().as_bytes(), b"\0", key.as_bytes()].concat()
}

fn read(path: &Path) -> io::Result<Zeroizing<[u8; KEY]>> {
    let mut file =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    private::file(&file, path)?;
    let mut text = Zeroizing::new([0; 2 * KEY]);
    file.read_exact(&mut *text)?;
    let mut key = Zeroizing::new([0; KEY]);
    let decoded = data_encoding::HEXLOWER_PERMISSIVE.decode_mut(&*text, &mut *key);
    decoded.map_err(|_| io::Error::other("it is no key of ours: put it back from a backup"))?;
    Ok(key)
}

/// Draws a key, and puts it into the file of the one in force: whole, or not at all.
fn make(directory: &Path) -> io::Result<Zeroizing<[u8; KEY]>> {
    let key = draw()?;
    write(directory, &key)?;
    std::fs::rename(directory.join(ASIDE), directory.join(FILE))?;
    File::open(directory)?.sync_all()?;
    Ok(key)
}

fn draw() -> io::Result<Zeroizing<[u8; KEY]>> {
    let mut key = Zeroizing::new([0; KEY]);
    SystemRandom::new().fill(&mut *key).map_err(|_| io::Error::other("the system has no randomness"))?;
    Ok(key)
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a key aside, on disk when this returns.
fn write(directory: &Path, key: &[u8; KEY]) -> io::Result<()> {
    let aside = directory.join(ASIDE);
    remove(&aside)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(private::FILE).open(&aside)?;
    let text = Zeroizing::new(data_encoding::HEXLOWER.encode(key));
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const TABLE: SealedTable = SealedTable::SecondFactors;

    fn value(row: Option<SealedRow>) -> Vec<u8> {
        row.unwrap().value.unwrap()
    }

    #[test]
    fn a_row_opens_at_its_place_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(directory.path()).unwrap();
        let sealed = value(sealer.seal(TABLE, "alice@example.test", b"secret"));
        assert_ne!(sealed, value(sealer.seal(TABLE, "alice@example.test", b"secret")), "a nonce of its own");
        let open =
            |table, key: &str, sealed: &[u8]| sealer.open_row(table, key, sealed).map(|plain| plain.to_vec());
        assert_eq!(open(TABLE, "alice@example.test", &sealed).as_deref(), Some(&b"secret"[..]));
        assert_eq!(open(TABLE, "bob@example.test", &sealed), None);
        assert_eq!(open(SealedTable::Mail, "alice@example.test", &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open(TABLE, "alice@example.test", &changed), None, "byte {at}");
            assert_eq!(open(TABLE, "alice@example.test", &sealed[..at]), None, "{at} bytes");
        }
    }

    #[test]
    fn the_key_is_made_once_and_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let sealed = value(Sealer::open(directory.path()).unwrap().seal(TABLE, "a", b"secret"));
        let path = directory.path().join(FILE);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let again = Sealer::open(directory.path()).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(again.open_row(TABLE, "a", &sealed).is_some());
        // Another key opens nothing, and what is no key is not replaced by one.
        std::fs::remove_file(&path).unwrap();
        assert!(Sealer::open(directory.path()).unwrap().open_row(TABLE, "a", &sealed).is_none());
        std::fs::write(&path, "too short").unwrap();
        assert!(Sealer::open(directory.path()).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"too short");
    }
    /// Files as a crash at each point of a change of the key leaves them: whatever was sealed opens.
    #[test]
    fn a_change_of_the_key_that_was_cut_short_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name| directory.path().join(name);
        let sealer = Sealer::open(directory.path()).unwrap();
        let old = value(sealer.seal(TABLE, "a", b"secret"));
        let opens = |row: &[u8]| {
            let found = Sealer::open(directory.path()).unwrap();
            (found.open_row(TABLE, "a", row).is_some(), found.has_previous())
        };
        // The new one is written aside, half or whole.
        for aside in ["", "0", &"00".repeat(KEY)] {
            std::fs::write(at(ASIDE), aside).unwrap();
            assert_eq!(opens(&old), (true, false));
        }
        // The old one has two names.
        std::fs::hard_link(at(FILE), at(PREVIOUS)).unwrap();
        assert_eq!(opens(&old), (true, true));
        // The new one is in force: also in this process, which had rows before.
        sealer.turn_key().unwrap();
        assert_eq!(opens(&old), (true, true));
        let new = value(sealer.seal(TABLE, "a", b"secret"));
        assert_ne!(old[..ID], new[..ID]);
        assert_eq!(opens(&new), (true, true));
        assert_eq!(sealer.renewed(TABLE, "a", &new), None);
        assert_eq!(sealer.renewed(TABLE, "b", &old), None, "it is another's");
        let renewed = sealer.renewed(TABLE, "a", &old).unwrap();
        assert_eq!(renewed[..ID], new[..ID]);
        // And at the end the old one is gone from the disk; who holds rows in memory still reads them.
        sealer.drop_previous().unwrap();
        assert_eq!(opens(&renewed), (true, false));
        assert_eq!(opens(&old), (false, false));
        assert!(sealer.open_row(TABLE, "a", &old).is_some());
        let mode = std::fs::metadata(at(FILE)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode, at(ASIDE).exists()), (0o600, false));
    }
}
