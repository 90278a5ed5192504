//! The database's file, first looked at and then touched: what redb writes while it opens, checks and repairs is held
//! back in memory until the file has proved to be ours and whole. A file that is refused stays as it was, byte for byte.
//!
//! What was held back reaches the file in the order in which it was written, syncs included, so that a crash on the way
//! is a crash like any other. While a full disk does not take it, the database can be read but not written.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// What is held back is kept in pages of this size.
const PAGE: u64 = 4_096;

/// A handle on the file; redb holds another.
#[derive(Clone, Debug)]
pub(super) struct Backend(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: FileBackend,
    /// Whether anything is held back, readable without the lock.
    holds_back: AtomicBool,
    held: Mutex<Option<Held>>,
}

/// What the file does not have yet.
#[derive(Debug, Default)]
struct Held {
    /// The length as redb sees it.
    len: u64,
    /// Of the file itself, only so much is still to be seen: the rest was cut off.
    visible: u64,
    pages: HashMap<u64, Vec<u8>>,
    /// What remains to be done to the file.
    log: VecDeque<Operation>,
}

#[derive(Debug)]
enum Operation {
    Write(u64, Vec<u8>),
    SetLen(u64),
    Sync,
}

impl Backend {
    /// The file, with everything held back until [`Self::release`].
    pub(super) fn new(file: File) -> Result<Self, redb::DatabaseError> {
        let file = FileBackend::new(file)?;
        let len = file.len()?;
        let held = Mutex::new(Some(Held { len, visible: len, ..Held::default() }));
        Ok(Self(Arc::new(Inner { file, holds_back: AtomicBool::new(true), held })))
    }

    /// Writes what was held back; from then on everything goes straight to the file. Can be tried again: it goes on where
    /// it failed.
    pub(super) fn release(&self) -> io::Result<()> {
        if !self.0.holds_back.load(Ordering::Acquire) {
            return Ok(());
        }
        let file = &self.0.file;
        let mut held = self.held();
        while let Some(operation) = held.as_ref().and_then(|held| held.log.front()) {
            match operation {
                Operation::Write(offset, data) => file.write(*offset, data)?,
                Operation::SetLen(len) => file.set_len(*len)?,
                Operation::Sync => file.sync_data()?,
            }
            held.as_mut().map(|held| held.log.pop_front());
        }
        *held = None;
        self.0.holds_back.store(false, Ordering::Release);
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does it to what is held back, or to the file once nothing is.
    fn either<T>(
        &self,
        held: impl FnOnce(&mut Held, &FileBackend) -> io::Result<T>,
        file: impl FnOnce(&FileBackend) -> io::Result<T>,
    ) -> io::Result<T> {
        if self.0.holds_back.load(Ordering::Acquire)
            && let Some(state) = self.held().as_mut()
        {
            return held(state, &self.0.file);
        }
        file(&self.0.file)
    }
}

impl Held {
    /// The page as it is to be seen.
    fn page(&self, number: u64, file: &FileBackend) -> io::Result<Vec<u8>> {
        if let Some(page) = self.pages.get(&number) {
            return Ok(page.clone());
        }
        let start = number * PAGE;
        let mut page = vec![0; PAGE as usize];
        let there = self.visible.min(file.len()?).saturating_sub(start).min(PAGE);
        if let Some(part) = page.get_mut(..there as usize).filter(|part| !part.is_empty()) {
            file.read(start, part)?;
        }
        Ok(page)
    }

    /// Calls `each` with every page of a range, the range within the page, and the range within the data.
    fn pages(
        offset: u64,
        length: usize,
        mut each: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let count = (PAGE as usize - within).min(length - done);
            each(at / PAGE, within..within + count, done..done + count)?;
            done += count;
        }
        Ok(())
    }

    fn read(&self, offset: u64, out: &mut [u8], file: &FileBackend) -> io::Result<()> {
        if offset.saturating_add(out.len() as u64) > self.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Self::pages(offset, out.len(), |number, within, part| {
            let page = self.page(number, file)?;
            copy(out.get_mut(part), page.get(within))
        })
    }

    fn write(&mut self, offset: u64, data: &[u8], file: &FileBackend) -> io::Result<()> {
        self.log.push_back(Operation::Write(offset, data.to_vec()));
        self.len = self.len.max(offset.saturating_add(data.len() as u64));
        Self::pages(offset, data.len(), |number, within, part| {
            let mut page = self.page(number, file)?;
            copy(page.get_mut(within), data.get(part))?;
            self.pages.insert(number, page);
            Ok(())
        })
    }

    fn set_len(&mut self, len: u64) {
        self.log.push_back(Operation::SetLen(len));
        if len < self.len {
            self.visible = self.visible.min(len);
            self.pages.retain(|number, _| number * PAGE < len);
            let kept = (len % PAGE) as usize;
            if let Some(cut) = self.pages.get_mut(&(len / PAGE)).and_then(|page| page.get_mut(kept..)) {
                cut.fill(0);
            }
        }
        self.len = len;
    }
}

/// Ranges are made to fit; if they did not, it would be the caller's I/O error and nobody's panic.
fn copy(to: Option<&mut [u8]>, from: Option<&[u8]>) -> io::Result<()> {
    match (to, from) {
        (Some(to), Some(from)) if to.len() == from.len() => {
            to.copy_from_slice(from);
            Ok(())
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.either(|held, _| Ok(held.len), StorageBackend::len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        // Only one of the two is called.
        let out = std::cell::RefCell::new(out);
        self.either(
            |held, file| held.read(offset, &mut out.borrow_mut(), file),
            |file| file.read(offset, &mut out.borrow_mut()),
        )
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.either(
            |held, _| {
                held.set_len(len);
                Ok(())
            },
            |file| file.set_len(len),
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        self.either(
            |held, _| {
                held.log.push_back(Operation::Sync);
                Ok(())
            },
            StorageBackend::sync_data,
        )
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.either(|held, file| held.write(offset, data, file), |file| file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.0.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
        Read(u64, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let bytes = prop::collection::vec(any::<u8>(), 1..6_000);
        let step = prop_oneof![
            (0..20_000_u64, bytes).prop_map(|(offset, data)| Step::Write(offset, data)),
            (0..20_000_u64).prop_map(Step::SetLen),
            (0..20_000_u64, 1..6_000_usize).prop_map(|(offset, length)| Step::Read(offset, length)),
        ];
        prop::collection::vec(step, 1..30)
    }

    proptest! {
        #[test]
        fn what_is_held_back_is_seen_and_the_file_is_as_it_was_until_it_is_released(
            before in prop::collection::vec(any::<u8>(), 0..15_000), steps in steps(),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("file");
            std::fs::write(&path, &before).unwrap();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let backend = Backend::new(file).unwrap();
            let mut plain = before.clone();
            for step in steps {
                match step {
                    Step::Write(offset, data) => {
                        backend.write(offset, &data).unwrap();
                        let end = offset as usize + data.len();
                        plain.resize(plain.len().max(end), 0);
                        plain[offset as usize..end].copy_from_slice(&data);
                    }
                    Step::SetLen(len) => {
                        backend.set_len(len).unwrap();
                        plain.resize(len as usize, 0);
                    }
                    Step::Read(offset, length) => {
                        let mut out = vec![0; length];
                        let expected = plain.get(offset as usize..offset as usize + length);
                        let read = backend.read(offset, &mut out).ok().map(|()| out.as_slice());
                        prop_assert_eq!(read, expected);
                    }
                }
                prop_assert_eq!(backend.len().unwrap(), plain.len() as u64);
            }
            prop_assert_eq!(std::fs::read(&path).unwrap(), before);
            backend.release().unwrap();
            prop_assert_eq!(std::fs::read(&path).unwrap(), plain);
            backend.write(0, b"straight").unwrap();
            prop_assert!(std::fs::read(&path).unwrap().starts_with(b"straight"));
        }
    }
}
