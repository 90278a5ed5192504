//! The embedded database (redb): one file, transactions that are on disk when they return.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use jiff::Timestamp;
use redb::{ReadTransaction, ReadableDatabase, TableError, WriteTransaction};

use super::administrator;
use super::continuity::{FileFacts, Found, Note, Record, Tip, nanos};
use super::error::StoreError;
use super::open::{self, Open, Seen};
use super::revocation::{self, Mark, Revocation};
use super::schema::{self, Imprint};
use super::sealer;
use crate::clock::{Anchor, BootTime, boot_id, wall_now};
use crate::net::certificates::own;
use crate::observe::Witness;
use crate::private;
use crate::types::{GatewayId, SessionId};

/// The file's name in the state directory.
pub const FILE: &str = "tracker.redb";
/// The name of the file beside it, which says what the database is: without it, nobody in it is logged in.
pub const MARK: &str = revocation::FILE;
/// Why nothing is read or written any more.
const STOPPING: &str = "the gateway is stopping";
/// Written and removed again to see whether there is room.
const PROBE: &str = "room";
/// The numbers of sessions of one run: it would have to last for thousands of years to give so many.
const SESSIONS_OF_A_RUN: u64 = 1 << 40;
/// So much must fit before a transaction is tried again that a full disk has refused.
const ROOM: usize = 1 << 20;

/// The open database.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    path: PathBuf,
    revocation: Revocation,
    /// The sessions on disk are void: their ends may have been lost.
    void: AtomicBool,
    /// Why what was found at start is not what this gateway last wrote.
    replaced: Option<String>,
    /// If it failed and cannot be opened again, why.
    open: RwLock<Result<Open, String>>,
    /// The last transaction failed: there may be no room.
    failed: AtomicBool,
    /// It was closed in order.
    closed: AtomicBool,
    /// The file that was opened at start.
    file: FileFacts,
    witness: Option<Witness>,
    /// The store's number.
    id: u128,
    /// The sessions that begin in this run are numbered from here on.
    first_session: SessionId,
    progress: Mutex<Progress>,
}

/// How far the database has come.
#[derive(Debug)]
struct Progress {
    /// This run of the daemon.
    run: u128,
    /// The number of the last attempt.
    number: u64,
    /// The last transaction on disk.
    last: Option<Tip>,
    /// The one that is being written.
    next: Option<Tip>,
    /// The witness took the last note.
    witnessed: bool,
    /// The database knows from where on sessions are numbered.
    numbered: bool,
}

/// Whether a name in the state directory is one of ours.
#[must_use]
pub fn is_ours(name: &OsStr) -> bool {
    // MIT's replay cache may lie there, too; what file systems put into the root of a volume of its own is nobody's.
    // And the certificate that the gateway makes for itself, and its administrator's first password.
    let ours = [
        FILE,
        open::ASIDE,
        revocation::FILE,
        PROBE,
        own::FILE,
        own::ASIDE,
        administrator::FILE,
        administrator::ASIDE,
        sealer::FILE,
        sealer::PREVIOUS,
        sealer::ASIDE,
        "lost+found",
    ];
    ours.into_iter().any(|ours| name == ours) || name.to_str().is_some_and(|name| name.ends_with(".rcache2"))
}

impl Store {
    /// Opens the database in `directory`, and makes both where they are missing. The `witness` tells, within a boot, an
    /// earlier state of the database from the last one, also after a crash; without one, a crash leaves void sessions.
    ///
    /// # Errors
    /// When the directory cannot be used, or the file is in use, damaged or foreign. A file is never overwritten.
    pub fn open(directory: &Path, witness: Option<Witness>) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let unusable = |source| open::unusable(directory, source);
        private::directory(directory, private::DIRECTORY, is_ours).map_err(unusable)?;
        let Some((revocation, mark)) = Revocation::open(directory).map_err(unusable)? else {
            return Err(StoreError::InUse { path });
        };
        let run = random().map_err(unusable)?;
        let mut found = None;
        let open = open::open(directory, |seen| {
            let id = seen.says.id.map_or_else(random, Ok).map_err(unusable)?;
            let judged = judge(&seen, &mark, witness.as_ref(), id);
            let void = mark.void || judged.is_err();
            // Before a byte of the database is written: from here on it is a run that has not ended.
            let record = Record { run, ..record(&seen) };
            // And what was found is what to go on from, should this run end before its first transaction.
            if let Some(witness) = &witness {
                let note = Note { void, last: seen.says.tip, next: None };
                if let Err(error) = witness.write(&name(id), &note.to_string()) {
                    tracing::warn!(place = %witness.directory().display(), %error, "what was found cannot be noted");
                }
            }
            if let Err(error) = revocation.begin(record, void, directory) {
                tracing::error!(%error, "the revocation mark cannot be written");
            }
            let file = File::open(&path).map_err(unusable)?;
            private::file(&file, &path).map_err(unusable)?;
            // A copy may go on beside what it is a copy of: it is another gateway. One that a start that failed has looked
            // at fits its mark by now, and only the void sessions tell.
            let gateway = seen.says.gateway.filter(|_| !void).map_or_else(random_gateway, Ok);
            let gateway = gateway.map_err(unusable)?;
            found = Some((seen, id, gateway, judged.err()));
            Ok(gateway)
        })?;
        let Some((seen, id, gateway, replaced)) = found else {
            return Err(StoreError::Closed("it was not looked at".into()));
        };
        if let Some(why) = &replaced {
            tracing::warn!(
                path = %path.display(),
                why,
                "the database is not the one that this gateway last wrote: nobody is taken to be logged in; history, \
                 settings and local users are what it says"
            );
        }
        let Imprint { tip, first_session, .. } = seen.says;
        let number = tip.map_or(0, |tip| tip.number);
        Ok(Self {
            directory: directory.into(),
            path,
            revocation,
            void: AtomicBool::new(mark.void || replaced.is_some()),
            replaced: replaced.map(str::to_owned),
            open: RwLock::new(Ok(open)),
            failed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            file: seen.file,
            witness,
            id,
            first_session: SessionId::new(gateway, first_number(wall_now(), first_session)),
            progress: Mutex::new(Progress {
                run,
                number,
                last: tip,
                next: None,
                witnessed: true,
                numbered: false,
            }),
        })
    }

    /// Why the database found at start is not the one that this gateway last wrote, if so: a backup was put back, or
    /// something is missing. Its sessions were void.
    #[must_use]
    pub fn replaced(&self) -> Option<&str> {
        self.replaced.as_deref()
    }

    /// The number of the first session that begins in this run, on this gateway. It and all that follow have never been
    /// used before: a number is on disk before anybody is told of it.
    #[must_use]
    pub const fn first_session(&self) -> SessionId {
        self.first_session
    }

    /// What an operator should know while it runs: the file in use is no longer the one in its place, and ends with the daemon.
    #[must_use]
    pub fn astray(&self) -> Option<String> {
        let there = std::fs::metadata(&self.path).map(|meta| FileFacts::of(&meta));
        let what = match there {
            Ok(file) if file.is(&self.file) => return None,
            Ok(_) => "was replaced",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "was removed",
            // It is there, for all that is known.
            Err(_) => return None,
        };
        Some(format!(
            "the database {} {what} while it was in use: what has been written since is lost when trackerd ends; restart it \
             soon, and stop it before files are put back",
            self.path.display()
        ))
    }

    /// Closes the database in order: the next run needs no witness. Nothing is read or written any more.
    pub fn close(&self) {
        // Nothing opens it again, as after a failure.
        self.closed.store(true, Ordering::Release);
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *slot, Err(STOPPING.into())).is_err() {
            return;
        }
        // Closing wrote to it, and when it was last changed must be on disk as well.
        let synced = File::open(&self.path).and_then(|file| {
            file.sync_all()?;
            Ok(FileFacts::of(&file.metadata()?))
        });
        match synced {
            Ok(file) if file.is(&self.file) => self.revocation.close(file.changed),
            Ok(_) => {
                tracing::warn!(path = %self.path.display(), "the database was replaced while it was in use");
            }
            Err(error) => tracing::warn!(%error, "the database could not be closed in order"),
        }
    }

    /// The state directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size on disk in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// Whether the sessions on disk are void, because their ends may have been lost.
    #[must_use]
    pub fn sessions_are_void(&self) -> bool {
        self.void.load(Ordering::Acquire)
    }

    /// Makes the sessions on disk void, although the database takes no transaction. On disk when this returns.
    pub(super) fn revoke(&self) -> io::Result<()> {
        self.revocation.void_all()?;
        self.void.store(true, Ordering::Release);
        self.testify(&mut self.progress());
        Ok(())
    }

    /// What the database says of sessions is true again.
    pub(super) fn lift(&self) {
        self.void.store(false, Ordering::Release);
        // A crash in between leaves the mark, which voids.
        self.testify(&mut self.progress());
        self.revocation.lift();
    }

    pub(super) fn read<T>(
        &self,
        get: impl Fn(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let slot = self.slot();
        let open = slot.as_ref().map_err(|cause| StoreError::Closed(cause.clone()))?;
        let read = open.database.begin_read().map_err(redb::Error::from)?;
        Ok(get(&read)?)
    }

    /// Carries out a transaction. On disk when this returns.
    pub(super) fn transaction(
        &self,
        change: impl Fn(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        // One at a time: what the witness says is about one.
        let mut progress = self.progress();
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed(STOPPING.into()));
        }
        if self.failed.load(Ordering::Acquire) {
            self.has_room().map_err(redb::Error::Io)?;
            if self.slot().is_err() {
                self.reopen(&mut progress);
            }
        }
        let written = self.try_transaction(&mut progress, change);
        self.failed.store(written.is_err(), Ordering::Release);
        if written.is_err() {
            if self.is_unusable() {
                self.reopen(&mut progress);
            } else if let Ok(says) = self.read(schema::imprint) {
                progress.last = says.tip;
            }
        }
        written
    }

    fn try_transaction(
        &self,
        progress: &mut Progress,
        change: impl Fn(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let slot = self.slot();
        let open = slot.as_ref().map_err(|cause| StoreError::Closed(cause.clone()))?;
        // Before it can be on disk: whoever is killed in between finds either.
        progress.number += 1;
        let tip = Tip { run: progress.run, number: progress.number };
        progress.next = Some(tip);
        self.testify(progress);
        let numbered = progress.numbered;
        let write = || -> Result<(), redb::Error> {
            // Nothing is on disk while the opening's own writes are held back.
            open.backend.release()?;
            let write = open.database.begin_write()?;
            change(&write)?;
            schema::stamp(&write, tip, self.id)?;
            if !numbered {
                schema::number(&write, self.first_session)?;
            }
            Ok(write.commit()?)
        };
        write()?;
        progress.numbered = true;
        (progress.last, progress.next) = (Some(tip), None);
        // Before anybody is told: a database that loses this transaction later is found out.
        self.testify(progress);
        match std::fs::metadata(&self.path).map(|meta| FileFacts::of(&meta)) {
            Ok(file) if file.is(&self.file) => self.revocation.note(tip, file.changed),
            // Told when it is closed, and found out at the next start.
            _ => {}
        }
        Ok(())
    }

    /// Tells the witness how far the database has come.
    fn testify(&self, progress: &mut Progress) {
        let Some(witness) = &self.witness else { return };
        let note = Note { void: self.sessions_are_void(), last: progress.last, next: progress.next };
        let told = witness.write(&name(self.id), &note.to_string());
        if let Err(error) = &told
            && progress.witnessed
        {
            // Fails closed: an older note does not fit the database.
            tracing::warn!(
                place = %witness.directory().display(), %error,
                "the last transaction cannot be noted: after a crash everybody would have to log in again"
            );
        }
        progress.witnessed = told.is_ok();
    }

    /// After an I/O error redb does nothing any more until the file is opened again.
    fn is_unusable(&self) -> bool {
        self.slot().as_ref().is_ok_and(|open| open.database.begin_write().is_err())
    }

    /// Opens the file again. While that is refused, nothing is read or written.
    fn reopen(&self, progress: &mut Progress) {
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // Closed before it is opened again.
        *slot = Err("it is being opened".into());
        let expected = [progress.last, progress.next];
        let mut last = progress.last;
        let opened = open::open(&self.directory, |seen| {
            last = seen.says.tip;
            if seen.file.is(&self.file) && expected.contains(&last) {
                return Ok(self.first_session.gateway());
            }
            Err(StoreError::Closed("it was replaced while it was in use; restart trackerd".into()))
        });
        *slot = opened.map_err(|error| error.to_string());
        match &*slot {
            Ok(_) => (progress.last, progress.next) = (last, None),
            Err(error) => tracing::error!(%error, "the store cannot be opened again"),
        }
    }

    /// Whether a usual transaction would fit. To try one in vain costs a check of every page afterwards.
    fn has_room(&self) -> io::Result<()> {
        let path = self.directory.join(PROBE);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(private::FILE).open(&path);
        let written = file.and_then(|mut file| {
            file.write_all(&vec![0; ROOM])?;
            file.sync_data()
        });
        let removed = std::fs::remove_file(&path);
        written.and(removed)
    }

    fn slot(&self) -> RwLockReadGuard<'_, Result<Open, String>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an error of the disk leaves.
    #[cfg(test)]
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = Err("it failed".into());
    }

    /// Ends as a crash would.
    #[cfg(test)]
    pub(super) fn die(self) {
        // What redb writes when it is closed is written all the same: nothing that a transaction did not write before.
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = Err("it died".into());
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// The witness's note is found by the store's number.
fn name(id: u128) -> String {
    format!("{id:032x}")
}

/// Whether what was found is what this gateway last wrote.
fn judge(seen: &Seen, mark: &Mark, witness: Option<&Witness>, id: u128) -> Result<(), &'static str> {
    if seen.is_new {
        return Ok(());
    }
    let note = match witness.map(|witness| witness.read(&name(id))) {
        None | Some(Ok(None)) => None,
        Some(Ok(Some(note))) => Some(note.parse().map_err(|()| "the note of its last transaction is torn")?),
        Some(Err(_)) => return Err("the note of its last transaction cannot be read"),
    };
    let Record { boot, host, .. } = record(seen);
    let found = Found {
        tip: seen.says.tip,
        file: seen.file,
        record: mark.record.clone(),
        mark_changed: mark.changed,
        note,
        booted: nanos(Anchor::now().wall(BootTime::default())),
        boot,
        host,
    };
    found.judge()
}

/// What the mark is to say of what was found.
fn record(seen: &Seen) -> Record {
    let word = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let host = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    Record {
        closed: false,
        run: 0,
        tip: seen.says.tip,
        file: seen.file,
        written: nanos(wall_now()),
        boot: word(boot_id()),
        host: word(host.trim().to_owned()),
    }
}

/// A number that nobody has used.
fn random() -> io::Result<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).map_err(io::Error::other)
}

/// A gateway's number that nobody else has drawn, but for a chance of one in four billion.
fn random_gateway() -> io::Result<GatewayId> {
    loop {
        if let Some(gateway) = GatewayId::new(random()? as u32) {
            return Ok(gateway);
        }
    }
}

/// The number of the first session of a run that begins at `now`, after one that numbered its sessions from `last` on.
fn first_number(now: Timestamp, last: Option<u64>) -> u64 {
    // Wall time in the upper bits, so that numbers rise from run to run; and never below what was used, however the clock
    // was set since.
    let by_clock = u64::try_from(now.as_millisecond()).unwrap_or(0) << 20;
    last.map_or(by_clock, |last| by_clock.max(last.saturating_add(SESSIONS_OF_A_RUN)))
}

/// A table that has never been written is not there.
pub(super) fn existing<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
