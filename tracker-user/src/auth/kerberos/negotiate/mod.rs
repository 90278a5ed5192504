//! The Negotiate scheme (RFC 4559): tokens in, identities out, never on an async thread.
//!
//! [`TicketVerifier`] is a bounded pool of threads in front of an [`Acceptor`]. What blocks in there (the keytab, the
//! replay cache, a name service) stays in there: the async side waits at most [`VERIFY_TIMEOUT`] and hears of a full
//! queue at once. What panics in there ends the process, as everywhere ([`crate::panics`]).

mod acceptor;
mod counters;
mod details;
mod keytab;
mod queue;
mod replay;

use std::fmt;
use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

pub use counters::Counters;
pub use details::{Details, Inside, context_flags};
pub(super) use keytab::unusable;
pub use keytab::{Account, Exposure, KeytabProblem, entries, exposure, file_meant, withheld};
pub use replay::{ReplayProblem, replay_file, replay_problem};

use self::acceptor::GssAcceptor;
use self::queue::Queue;
use super::bindings::ChannelBindings;
use super::cause::Cause;
pub use super::credential::KeytabEntry;
use super::names::NameRules;
use crate::auth::channel::Channel;
use crate::auth::outcome::{Failure, Handshake, VERIFY_TIMEOUT};
use crate::types::Identity;

/// How many tokens may wait for each thread. A token takes well under a millisecond, so a full queue is a wait that
/// clients hardly notice; more than that is better told to them.
pub const QUEUE_PER_THREAD: usize = 64;

/// What the verifier goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The keytab; `None` is `KRB5_KTNAME` or the system's.
    pub keytab: Option<PathBuf>,
    /// How principals become identities.
    pub names: NameRules,
    /// What tokens that come under TLS must say of it.
    pub channel_bindings: ChannelBindings,
    /// Accepted tickets are looked into, and logged with all they say.
    pub debugging: bool,
}

/// What a token came to.
#[derive(Debug)]
pub enum Progress {
    /// It proves this.
    Proved {
        /// Who.
        identity: Identity,
        /// The last token for the client: what the gateway proves in turn.
        answer: Option<Vec<u8>>,
        /// For the log.
        details: Box<Details>,
    },
    /// The handshake needs another token from the client.
    Continue {
        /// To be passed in with it.
        handshake: Handshake,
        /// What the client needs to make it.
        answer: Vec<u8>,
    },
}

/// Who verifies one token, blocking.
pub trait Acceptor: Send + Sync + 'static {
    /// One leg of a handshake.
    ///
    /// # Errors
    /// When the token is not accepted.
    fn accept(
        &self,
        handshake: Option<Handshake>,
        token: &[u8],
        channel: &Channel,
    ) -> Result<Progress, Failure>;

    /// What keeps every token from being accepted, and the remedy.
    fn problem(&self) -> Option<String> {
        None
    }

    /// What keeps the record of used tokens from being used, and so every token from being accepted.
    fn replay_problem(&self) -> Option<ReplayProblem> {
        None
    }

    /// Goes by other options from now on.
    fn configure(&self, _options: Options) {}
}

/// One token, and what it is verified with.
#[derive(Debug)]
pub struct Attempt {
    /// What an earlier token of the same handshake left.
    pub handshake: Option<Handshake>,
    /// The token.
    pub token: Vec<u8>,
    /// What it came through.
    pub channel: Channel,
}

impl Attempt {
    /// The first token of a handshake, without TLS.
    #[must_use]
    pub const fn first(token: Vec<u8>) -> Self {
        Self { handshake: None, token, channel: Channel::Plain }
    }
}

/// How often it is looked, at the end, whether the threads have ended, and how long each time is waited for that.
const LOOKS_AT_THE_END: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Verifies tokens, on threads of its own.
pub struct TicketVerifier {
    acceptor: Arc<dyn Acceptor>,
    queue: Arc<Queue<Job>>,
    counters: Counters,
    threads: Vec<JoinHandle<()>>,
}

struct Job {
    attempt: Attempt,
    reply: oneshot::Sender<Result<Progress, Failure>>,
}

impl fmt::Debug for TicketVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketVerifier").field("queued", &self.queued()).finish_non_exhaustive()
    }
}

impl TicketVerifier {
    /// Verifies with GSSAPI, on as many threads as there are cores: what could keep one of them waiting (the replay cache)
    /// would keep more waiting. A bad keytab is no error here: it may become good; [`Self::problem`] tells.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(options: Options, counters: Counters) -> io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let acceptor = Arc::new(GssAcceptor::new(options, counters.clone()));
        Self::with(acceptor, threads, threads * QUEUE_PER_THREAD, counters)
    }

    /// Verifies with `acceptor`, on `threads` threads with at most `queue` waiting tokens.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn with(
        acceptor: Arc<dyn Acceptor>,
        threads: usize,
        queue: usize,
        counters: Counters,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(queue));
        // Made first: if a later thread cannot be started, its drop ends the earlier ones.
        let mut verifier = Self { acceptor, queue, counters, threads: Vec::new() };
        for number in 0..threads {
            let (acceptor, queue) = (Arc::clone(&verifier.acceptor), Arc::clone(&verifier.queue));
            let thread = thread::Builder::new().name(format!("negotiate-{number}"));
            verifier.threads.push(thread.spawn(move || work(&*acceptor, &queue))?);
        }
        Ok(verifier)
    }

    /// Verifies one token.
    ///
    /// # Errors
    /// When it is not accepted, or cannot be looked at.
    pub async fn verify(&self, attempt: Attempt) -> Result<Progress, Failure> {
        let (reply, answer) = oneshot::channel();
        if self.queue.push(Job { attempt, reply }).is_err() {
            return Err(Failure::Busy);
        }
        match tokio::time::timeout(VERIFY_TIMEOUT, answer).await {
            Ok(Ok(result)) => result,
            // Every token that is taken from the queue gets an answer; without one, nothing is proved.
            Ok(Err(_)) => {
                Err(Failure::rejected(Cause::Other, "verifying the token failed inside the gateway"))
            }
            Err(_) => Err(Failure::TimedOut),
        }
    }

    /// What is counted.
    pub(in crate::auth) const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What keeps every token from being accepted, and the remedy.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.acceptor.problem()
    }

    /// What keeps the record of used tokens from being used, and so every token from being accepted.
    #[must_use]
    pub fn replay_problem(&self) -> Option<ReplayProblem> {
        self.acceptor.replay_problem()
    }

    /// Goes by other options from now on.
    pub fn configure(&self, options: Options) {
        self.acceptor.configure(options);
    }

    /// How many tokens wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }
}

impl Drop for TicketVerifier {
    fn drop(&mut self) {
        self.queue.close();
        // A thread that is still in the library while the process ends, and be it only to give back what it held, makes it
        // abort. One that hangs must not hang the daemon's end.
        for _ in 0..LOOKS_AT_THE_END {
            if self.threads.iter().all(JoinHandle::is_finished) {
                break;
            }
            thread::sleep(BETWEEN_LOOKS);
        }
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            // It has nothing to say: had it panicked, the process would have ended.
            let _ = thread.join();
        }
    }
}

fn work(acceptor: &dyn Acceptor, queue: &Queue<Job>) {
    while let Some(Job { attempt, reply }) = queue.pop() {
        // Whoever asked may have gone away in the meantime.
        if reply.is_closed() {
            continue;
        }
        let Attempt { handshake, token, channel } = attempt;
        let _ = reply.send(acceptor.accept(handshake, &token, &channel));
    }
}

#[cfg(test)]
mod real;
#[cfg(test)]
mod tests;
