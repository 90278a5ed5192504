//! The journal: one thread writes what the tracker decides, many decisions a transaction, and says when they are on disk.
//!
//! Whoever must not be told before that hands its answer to the journal. A transaction that fails is kept in memory and
//! tried again; its answers are told the failure. Sessions that ended meanwhile must not come back after a crash: then
//! the [revocation mark](super::revocation), which needs no free block, voids every session on disk. It is lifted when a
//! transaction has brought the database up to date.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::{error, info};

use super::bans::StoredBan;
use super::content::{Batch, Settle};
use super::embedded::Store;
use super::error::{StoreError, Unkept};
use super::policy::StoredPolicy;
use super::sealed::SealedRow;
use super::sealer::Sealer;
use super::series::StoredBucket;
use super::sessions::PortableSession;
use super::web_sessions::{StoredWebSession, WebSessionKey};
use crate::audit::TrailEntry;
use crate::clock::{Anchor, BootTime, boot_id};
use crate::session::{Policy, Session};
use crate::types::ClientAddr;

/// One transaction carries hardly more than so many entries, so that nobody waits for long.
const BATCH: usize = 512;
/// And so many notes of when clients were last active, which can wait.
const SEEN_AT_ONCE: usize = 128;
/// A transaction that failed is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// Something to be kept.
#[derive(Clone, Debug)]
pub enum Entry {
    /// The client's session is this, or there is none any more.
    Session(ClientAddr, Option<Session>),
    /// An event of the audit trail.
    Event(Arc<TrailEntry>),
    /// The policy in force.
    Policy(Box<Policy>),
    /// The ban of this key is this, or it is over.
    Ban(String, Option<Box<StoredBan>>),
    /// What there was in some time.
    Series(StoredBucket),
    /// The login to the pages of this key is this, or it is over.
    WebSession(WebSessionKey, Option<Box<StoredWebSession>>),
    /// A sealed row is this. While the gateway runs, nothing else writes them: a row is what was submitted last.
    Sealed(SealedRow),
    /// A sealed row is what its book says when it is written: changes of it may come in any order.
    Latest(Arc<dyn Rows>, Box<str>),
    /// Another key of these is in force: each sealed row on disk is sealed anew, and from now on those that come under an earlier one.
    Reseal(Arc<Sealer>),
}

/// A book of sealed rows in memory.
pub trait Rows: Send + Sync + std::fmt::Debug {
    /// What the row of this key is now; `None`: it is to stay as it is on disk.
    fn row(&self, key: &str) -> Option<SealedRow>;
}

/// Told when the entries before it are on disk, or why they are not.
pub type Answer = Box<dyn FnOnce(Result<(), Unkept>) + Send>;

enum Message {
    Entries(Vec<Entry>, Option<Answer>),
    Seen(Vec<(ClientAddr, BootTime)>),
    Stop,
}

/// The writing end.
#[derive(Debug)]
pub struct Journal {
    messages: mpsc::Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
    problem: Arc<Mutex<Option<String>>>,
    failing: Arc<AtomicBool>,
    waiting: Arc<AtomicUsize>,
}

impl Journal {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(store: Arc<Store>) -> std::io::Result<Self> {
        let (messages, received) = mpsc::channel();
        let problem = Arc::new(Mutex::new(None));
        let failing = Arc::new(AtomicBool::new(false));
        let waiting = Arc::new(AtomicUsize::new(0));
        let settle = Some(Settle { forget: store.sessions_are_void() });
        let mut writer = Writer {
            store,
            pending: Batch { settle, ..Batch::default() },
            problem: Arc::clone(&problem),
            failing: Arc::clone(&failing),
            waiting: Arc::clone(&waiting),
            unwritten: 0,
            seen: BTreeMap::new(),
            sealer: None,
            boot: boot_id(),
        };
        let thread =
            std::thread::Builder::new().name("journal".into()).spawn(move || writer.run(&received))?;
        Ok(Self { messages, thread: Mutex::new(Some(thread)), problem, failing, waiting })
    }

    /// Hands entries over; `answer` is told when they, and all before them, are on disk. Never waits.
    pub fn submit(&self, entries: Vec<Entry>, answer: Option<Answer>) {
        self.waiting.fetch_add(entries.len(), Ordering::Relaxed);
        if let Err(mpsc::SendError(Message::Entries(_, Some(answer)))) =
            self.messages.send(Message::Entries(entries, answer))
        {
            answer(Err(Unkept::closed()));
        }
    }

    /// When clients were last active. After a reboot it is better to know than not to know; nobody waits for it, and
    /// nobody has to wait because of it: it is written a little with each transaction.
    pub fn note_seen(&self, seen: Vec<(ClientAddr, BootTime)>) {
        if !seen.is_empty() {
            // Without a journal, nothing is kept.
            let _ = self.messages.send(Message::Seen(seen));
        }
    }

    /// Whether the last transaction failed: then nobody new is let in.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// How many entries are not on disk yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// What is wrong with the disk, for the operator.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes what is left and ends the thread. Blocks for as long as one transaction takes.
    pub fn close(&self) {
        let _ = self.messages.send(Message::Stop);
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

fn is_empty(pending: &Batch) -> bool {
    let Batch { sessions, seen, events, policy, bans, series, web_sessions, sealed, reseal, settle } =
        pending;
    let nothing_of_sessions = sessions.is_empty() && seen.is_empty() && events.is_empty();
    let nothing_else = bans.is_empty()
        && series.is_empty()
        && web_sessions.is_empty()
        && sealed.is_empty()
        && reseal.is_none();
    nothing_of_sessions && policy.is_none() && nothing_else && settle.is_none()
}

struct Writer {
    store: Arc<Store>,
    pending: Batch,
    problem: Arc<Mutex<Option<String>>>,
    failing: Arc<AtomicBool>,
    waiting: Arc<AtomicUsize>,
    /// How many of those were taken over, but are not on disk.
    unwritten: usize,
    /// When clients were last active, as far as it is not in a transaction yet. In the order of the table that it goes
    /// into: neighbours share pages.
    seen: BTreeMap<ClientAddr, BootTime>,
    /// Once the key has changed: what comes under an earlier one is sealed anew.
    sealer: Option<Arc<Sealer>>,
    boot: String,
}

impl Writer {
    fn run(&mut self, received: &mpsc::Receiver<Message>) {
        let mut stop = false;
        while !stop {
            let first = if !is_empty(&self.pending) {
                match received.recv_timeout(RETRY) {
                    Ok(message) => message,
                    Err(mpsc::RecvTimeoutError::Timeout) => Message::Entries(Vec::new(), None),
                    Err(mpsc::RecvTimeoutError::Disconnected) => Message::Stop,
                }
            } else if self.seen.is_empty() {
                received.recv().unwrap_or(Message::Stop)
            } else {
                received.try_recv().unwrap_or_else(|_| Message::Entries(Vec::new(), None))
            };
            let (mut answers, mut taken) = (Vec::new(), 0);
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Entries(entries, answer) => {
                        taken += entries.len();
                        entries.into_iter().for_each(|entry| self.add(entry));
                        answers.extend(answer);
                    }
                    Message::Seen(seen) => self.seen.extend(seen),
                    Message::Stop => stop = true,
                }
                // At the end, everything that still came in is taken: whoever waits for an answer gets one.
                next = if taken < BATCH || stop { received.try_recv().ok() } else { None };
            }
            self.unwritten += taken;
            self.add_seen(if stop { usize::MAX } else { SEEN_AT_ONCE });
            let outcome = self.write();
            if outcome.is_ok() {
                self.waiting.fetch_sub(std::mem::take(&mut self.unwritten), Ordering::Relaxed);
            }
            for answer in answers {
                answer(outcome.clone());
            }
        }
    }

    /// Adds to what is not on disk yet. A later word on the same client replaces an earlier one.
    fn add(&mut self, entry: Entry) {
        let pending = &mut self.pending;
        match entry {
            Entry::Event(event) => pending.events.push(event),
            Entry::Session(client, session) => {
                let kept = session.map(|session| PortableSession::new(&session, &self.boot, &Anchor::now()));
                pending.sessions.insert(client, kept);
            }
            Entry::Ban(key, ban) => {
                pending.bans.insert(key, ban);
            }
            Entry::Series(bucket) => {
                pending.series.insert((bucket.span.clone(), bucket.place), bucket);
            }
            Entry::WebSession(key, session) => {
                pending.web_sessions.insert(key, session);
            }
            Entry::Sealed(row) => self.add_sealed(row),
            Entry::Latest(book, key) => {
                if let Some(row) = book.row(&key) {
                    self.add_sealed(row);
                }
            }
            Entry::Reseal(sealer) => {
                self.sealer = Some(Arc::clone(&sealer));
                pending.reseal = Some(sealer);
            }
            Entry::Policy(policy) => {
                pending.policy = Some(StoredPolicy::new(&policy, &self.boot, &Anchor::now()));
            }
        }
    }

    fn add_sealed(&mut self, mut row: SealedRow) {
        if let (Some(sealer), Some(value)) = (&self.sealer, &mut row.value)
            && let Some(renewed) = sealer.renewed(row.table, &row.key, value)
        {
            *value = renewed;
        }
        self.pending.sealed.insert((row.table, row.key.clone()), row);
    }

    /// Adds some of the notes of when clients were last active.
    fn add_seen(&mut self, most: usize) {
        // While the disk takes nothing they are not piled up, as later ones replace them.
        while self.pending.seen.len() < most
            && let Some((client, at)) = self.seen.pop_first()
        {
            self.pending.seen.insert(client, at.as_nanos().cast_signed());
        }
    }

    fn write(&mut self) -> Result<(), Unkept> {
        if is_empty(&self.pending) {
            return Ok(());
        }
        match self.store.write(&self.pending) {
            Ok(()) => {
                let failed = self.failing.swap(false, Ordering::AcqRel);
                if failed {
                    info!("the store is written again");
                }
                // Only now is what the database says of sessions true again.
                if failed || self.store.sessions_are_void() {
                    self.store.lift();
                }
                self.pending = Batch::default();
                *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = None;
                Ok(())
            }
            Err(cause) => Err(self.failed(&cause)),
        }
    }

    fn failed(&mut self, cause: &StoreError) -> Unkept {
        let problem =
            format!("{cause}; make room or repair the disk of state-dir: nobody is logged in until then");
        if !self.failing.swap(true, Ordering::AcqRel) {
            error!("{problem}");
        }
        // Whoever logged in is told that it failed, and is taken back: it never happened.
        self.pending.events.retain(|entry| !entry.event.is_admission());
        let mut unkept = Unkept { problem, revoked: true };
        // What ended or was taken over in memory must not come back from the disk.
        let ended_on_the_pages = self.pending.web_sessions.values().any(Option::is_none);
        if (ended_on_the_pages || !self.pending.sessions.is_empty())
            && let Err(error) = self.store.revoke()
        {
            error!(%error, "a restart now would revive sessions that have ended: the revocation mark cannot be written");
            unkept.revoked = false;
        }
        let shown =
            if self.pending.sessions.is_empty() { unkept.problem.clone() } else { unkept.to_string() };
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        unkept
    }
}
