//! Keeps mails, and hands them over: see the room.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus::Registry;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Notify;
use tracing::{info, warn};

use super::letter::Letter;
use super::queue::{Queue, Waiting};
use super::server::Settings;
use super::smtp::{Conversation, Failure, open};
use super::stats::Stats;
use crate::audit::{Audit, Event, MailEvent, MailTrouble, TrailEntry};
use crate::clock::{boot_now, wall_now};
use crate::store::{Entry, Journal, SealedRow, SealedTable, Sealer, Store, StoreError};
use crate::threads::{Size, Threads};
use crate::types::Identity;

const TABLE: SealedTable = SealedTable::Mail;
/// So many are handed over in one conversation.
const AT_ONCE: usize = 100;
/// What is no use any more is looked for this often.
const SWEEP: Duration = Duration::from_secs(60);
/// A mail that was given up is told in the status for so long.
const TOLD_FOR: Duration = Duration::from_secs(24 * 3600);
/// Resolves names and reads files: one conversation at a time asks for it.
const THREADS: Size = Size { least: 1, most: 2, queue: 2 };

/// What mail works with.
pub struct Parts {
    /// What mails are sealed with.
    pub sealer: Arc<Sealer>,
    /// What keeps them.
    pub journal: Arc<Journal>,
    /// Where it is told that one was given up.
    pub audit: Arc<Audit>,
}

/// See the module.
pub struct Mailer {
    parts: Parts,
    threads: Threads,
    settings: ArcSwap<Settings>,
    stats: Stats,
    queue: Mutex<Queue>,
    wake: Notify,
    trouble: Mutex<Trouble>,
}

/// What an operator should know.
#[derive(Debug, Default)]
struct Trouble {
    /// Why nothing can be handed over at present.
    server: Option<String>,
    /// Why the last mail that was given up was, and when.
    lost: Option<(String, crate::clock::BootTime)>,
}

/// Mails that are kept as soon as their entries are on disk.
#[must_use]
#[derive(Debug, Default)]
pub struct Outgoing(Vec<Waiting>);

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailer").finish_non_exhaustive()
    }
}

/// What became of a mail.
enum Done {
    Sent,
    Again(Failure),
    Lost(MailTrouble, String),
}

impl Mailer {
    /// What the store has is tried anew, all at once. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read, a metric is registered already, or the system gives no thread.
    pub fn start(
        store: &Store,
        parts: Parts,
        settings: Settings,
        registry: &Registry,
    ) -> Result<Self, StartError> {
        let stats = Stats::new(registry)?;
        let threads = Threads::start("mail", THREADS)?;
        let mut queue = Queue::default();
        let now = boot_now();
        for (number, sealed) in store.sealed(TABLE)? {
            match unseal(&parts.sealer, &number, &sealed) {
                Some(letter) => {
                    let to = (**letter.to).into();
                    queue.put(Waiting { number: number.into(), to, sealed, until: letter.until }, now);
                }
                None => {
                    warn!("a mail that waits cannot be read: it is given up");
                    stats.dropped.inc();
                    parts.journal.submit(vec![gone(&number)], None);
                }
            }
        }
        stats.waiting.set(i64::try_from(queue.len()).unwrap_or(i64::MAX));
        Ok(Self {
            parts,
            threads,
            settings: ArcSwap::from_pointee(settings),
            stats,
            queue: Mutex::new(queue),
            wake: Notify::new(),
            trouble: Mutex::default(),
        })
    }

    /// Goes by other settings from now on. What waits is tried at once if they differ.
    pub fn configure(&self, settings: Settings) {
        if *self.settings.load_full() == settings {
            return;
        }
        self.settings.store(Arc::new(settings));
        self.trouble().server = None;
        self.queue().hurry(boot_now());
        self.wake.notify_one();
    }

    /// Whether there is a server to hand mail over to.
    #[must_use]
    pub fn is_on(&self) -> bool {
        let settings = self.settings.load();
        settings.server.is_some() && settings.from.is_some()
    }

    /// The rows of mails, and what sends them once those are on disk ([`Self::release`]). Where no mail is sent: none.
    pub fn prepare(&self, letters: Vec<Letter>) -> (Vec<Entry>, Outgoing) {
        let (mut entries, mut outgoing) = (Vec::new(), Vec::new());
        if !self.is_on() {
            return (entries, Outgoing::default());
        }
        for letter in letters {
            let has_room = self.queue().has_room(&letter.to);
            let sealed = if has_room { seal(&self.parts.sealer, &letter) } else { None };
            let Some((row, sealed)) = sealed else {
                let why = if has_room { "it could not be sealed" } else { "too many mails wait already" };
                self.lose(&letter, MailTrouble::Dropped, why.into());
                continue;
            };
            let (number, to) = (row.key.as_str().into(), (**letter.to).into());
            outgoing.push(Waiting { number, to, sealed, until: letter.until });
            entries.push(Entry::Sealed(row));
        }
        (entries, Outgoing(outgoing))
    }

    /// They are on disk: they are sent from now on.
    pub fn release(&self, outgoing: Outgoing) {
        let now = boot_now();
        let mut queue = self.queue();
        outgoing.0.into_iter().for_each(|waiting| queue.put(waiting, now));
        self.count(&queue);
        drop(queue);
        self.wake.notify_one();
    }

    /// Keeps mails with `entries`, in one transaction, and sends them afterwards. Waits for nothing.
    pub fn send_with(self: &Arc<Self>, mut entries: Vec<Entry>, letters: Vec<Letter>) {
        let (rows, outgoing) = self.prepare(letters);
        entries.extend(rows);
        if entries.is_empty() {
            return;
        }
        let mailer = Arc::clone(self);
        let answer = Box::new(move |kept: Result<(), _>| {
            // What the disk did not take, it takes later, or nobody is told of it: a code that does not count is not sent.
            if kept.is_ok() {
                mailer.release(outgoing);
            }
        });
        self.parts.journal.submit(entries, Some(answer));
    }

    /// What an operator should look at.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let waiting = self.queue().len();
        let trouble = self.trouble();
        let server = trouble.server.as_ref().filter(|_| waiting > 0).map(|why| {
            let mails =
                if waiting == 1 { "1 mail waits".to_owned() } else { format!("{waiting} mails wait") };
            format!("{mails}: {why}")
        });
        let now = boot_now();
        let lost = trouble.lost.as_ref().filter(|(_, at)| now.since(*at) < TOLD_FOR);
        server.into_iter().chain(lost.map(|(why, _)| why.clone())).collect()
    }

    /// Hands over what waits, for as long as it is polled.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.give_up_expired();
            let settings = self.settings.load_full();
            let is_on = self.is_on();
            let due = if is_on { self.queue().due(boot_now(), AT_ONCE) } else { Vec::new() };
            if due.is_empty() {
                let next = self.queue().next().filter(|_| is_on);
                let pause = next.map_or(SWEEP, |next| next.since(boot_now()).min(SWEEP));
                // It may have been woken before it sleeps: then it does not.
                let _ = tokio::time::timeout(pause, self.wake.notified()).await;
                continue;
            }
            self.round(&settings, due).await;
        }
    }

    /// One conversation.
    async fn round(&self, settings: &Settings, due: Vec<Waiting>) {
        let (Some(server), Some(from)) = (&settings.server, &settings.from) else { return };
        let mut conversation = match open(server, &settings.helo, &self.threads).await {
            Ok(conversation) => conversation,
            Err(failure) => return self.put_off(&due, &failure),
        };
        self.mended();
        let mut due = due.into_iter();
        while let Some(waiting) = due.next() {
            let Some(letter) = unseal(&self.parts.sealer, &waiting.number, &waiting.sealed) else {
                // It was sealed by this very process.
                self.stats.dropped.inc();
                self.remove(&waiting.number);
                continue;
            };
            match hand_over(&mut conversation, &letter, &waiting.number, from.as_ref(), settings).await {
                Done::Sent => {
                    self.stats.sent.inc();
                    self.remove(&waiting.number);
                }
                Done::Lost(what, why) => {
                    self.remove(&waiting.number);
                    self.lose(&letter, what, why);
                }
                Done::Again(Failure::Later(why)) => {
                    info!("a mail is put off: {why}");
                    self.again(&waiting.number);
                }
                Done::Again(failure) => {
                    let rest: Vec<Waiting> = std::iter::once(waiting).chain(due).collect();
                    return self.put_off(&rest, &failure);
                }
            }
        }
        conversation.close().await;
    }

    /// Nothing can be handed over: all of these are tried again later.
    fn put_off(&self, waiting: &[Waiting], failure: &Failure) {
        let why = failure.to_string();
        let mut trouble = self.trouble();
        if trouble.server.as_ref() != Some(&why) {
            warn!("no mail is sent at present: {why}");
        }
        trouble.server = Some(why);
        drop(trouble);
        waiting.iter().for_each(|waiting| self.again(&waiting.number));
    }

    fn again(&self, number: &str) {
        self.stats.deferred.inc();
        self.queue().again(number, boot_now());
    }

    /// The server takes mail again.
    fn mended(&self) {
        if self.trouble().server.take().is_some() {
            info!("mail is sent again");
        }
    }

    /// Those whose time is over are given up.
    fn give_up_expired(&self) {
        let expired = self.queue().expired(wall_now());
        for waiting in expired {
            self.forget(&waiting.number);
            let why = self.trouble().server.clone();
            let why = why.unwrap_or_else(|| "the mail server has not taken it in time".into());
            if let Some(letter) = unseal(&self.parts.sealer, &waiting.number, &waiting.sealed) {
                self.lose(&letter, MailTrouble::Expired, why);
            }
        }
    }

    /// It is in the queue and on disk no more.
    fn remove(&self, number: &str) {
        self.queue().remove(number);
        self.forget(number);
    }

    fn forget(&self, number: &str) {
        self.count(&self.queue());
        self.parts.journal.submit(vec![gone(number)], None);
    }

    fn count(&self, queue: &Queue) {
        self.stats.waiting.set(i64::try_from(queue.len()).unwrap_or(i64::MAX));
    }

    /// Tells of a mail that is given up.
    fn lose(&self, letter: &Letter, what: MailTrouble, why: String) {
        match what {
            MailTrouble::Refused => &self.stats.refused,
            MailTrouble::Expired => &self.stats.expired,
            MailTrouble::Dropped => &self.stats.dropped,
        }
        .inc();
        let user = letter.about.as_ref().map(|about| Arc::new(Identity::from(about)));
        let whose = user.as_ref().map_or_else(String::new, |user| format!(" about the account {user}"));
        warn!("a mail{whose} is given up ({}): {why}", what.as_str());
        self.trouble().lost =
            Some((format!("a mail{whose} was given up ({}): {why}", what.as_str()), boot_now()));
        let event = MailEvent { user, what, why: why.into() };
        self.parts.audit.record(TrailEntry::now(Event::Mail(event)));
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why mail cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A metric is registered twice.
    #[error("{0}")]
    Metrics(#[from] prometheus::Error),
    /// There is no thread.
    #[error("{0}")]
    Thread(#[from] io::Error),
}

async fn hand_over(
    conversation: &mut Conversation,
    letter: &Letter,
    number: &str,
    from: &str,
    settings: &Settings,
) -> Done {
    let Some(mail) = letter.render(number, settings) else {
        return Done::Lost(MailTrouble::Dropped, "its address is none".into());
    };
    match conversation.hand_over(from, &letter.to, &mail).await {
        Ok(()) => Done::Sent,
        Err(Failure::Refused(why)) => Done::Lost(MailTrouble::Refused, why),
        Err(failure) => Done::Again(failure),
    }
}

fn gone(number: &str) -> Entry {
    Entry::Sealed(SealedRow { table: TABLE, key: number.to_owned(), value: None })
}

fn seal(sealer: &Sealer, letter: &Letter) -> Option<(SealedRow, Vec<u8>)> {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).ok()?;
    let number = data_encoding::HEXLOWER.encode(&random);
    let row = sealer.seal(TABLE, &number, &letter.kept()?)?;
    let sealed = row.value.clone()?;
    Some((row, sealed))
}

fn unseal(sealer: &Sealer, number: &str, sealed: &[u8]) -> Option<Letter> {
    Letter::read(&sealer.open_row(TABLE, number, sealed)?)
}
