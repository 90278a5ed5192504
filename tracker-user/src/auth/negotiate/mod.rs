//! The Negotiate scheme (RFC 4559): tokens in, identities out, never on an async thread.
//!
//! [`Verifier`] is a bounded pool of threads in front of an [`Acceptor`]. What blocks in there (the keytab, the replay cache,
//! a name service) stays in there: the async side waits at most [`VERIFY_TIMEOUT`] and hears of a full queue at once. What
//! panics in there ends the process, as everywhere ([`crate::panics`]).

mod acceptor;
mod cause;
mod counters;
mod details;
mod keytab;
mod queue;
mod replay;

use std::any::Any;
use std::fmt;
use std::io;
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

pub use cause::Cause;
pub use counters::Counters;
pub use details::{Details, Inside, context_flags};
pub(super) use keytab::unusable;
pub use keytab::{Account, Exposure, KeytabProblem, entries, exposure, file_meant, withheld};
pub use replay::{ReplayProblem, replay_file, replay_problem};

use self::acceptor::GssAcceptor;
use self::queue::Queue;
pub use super::credential::KeytabEntry;
use super::names::NameRules;
use super::token::BadToken;
use crate::types::Identity;

/// How many tokens may wait for each thread. A token takes well under a millisecond, so a full queue is a wait that
/// clients hardly notice; more than that is better told to them.
pub const QUEUE_PER_THREAD: usize = 64;

/// How long a token may take, waiting included.
pub const VERIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the verifier goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The keytab; `None` is `KRB5_KTNAME` or the system's.
    pub keytab: Option<PathBuf>,
    /// How principals become identities.
    pub names: NameRules,
    /// Accepted tickets are looked into, and logged with all they say.
    pub debugging: bool,
}

/// A handshake that waits for the client's next token. It belongs to the connection that it came on.
pub struct Pending(Box<dyn Any + Send>);

impl Pending {
    /// Wraps an acceptor's own state.
    pub fn new(state: impl Any + Send) -> Self {
        Self(Box::new(state))
    }

    fn into<T: Any>(self) -> Option<T> {
        self.0.downcast().ok().map(|state| *state)
    }
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

/// What a token came to.
#[derive(Debug)]
pub enum Outcome {
    /// It proves this.
    Proved {
        /// Who.
        identity: Identity,
        /// The last token for the client: the gateway's own proof.
        answer: Option<Vec<u8>>,
        /// For the log.
        details: Box<Details>,
    },
    /// The handshake needs another token from the client.
    Continue {
        /// To be passed in with it.
        pending: Pending,
        /// What the client needs to make it.
        answer: Vec<u8>,
    },
}

/// A token that proves nothing.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Why, in a word.
    pub cause: Cause,
    /// Why, and what probably helps, in one line.
    pub why: String,
    /// A token that tells the client's library why.
    pub answer: Option<Vec<u8>>,
}

/// Why a token was not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VerifyError {
    /// The queue is full: try again in a moment.
    #[error("too many logins wait to be verified")]
    Busy,
    /// It took longer than [`VERIFY_TIMEOUT`].
    #[error("verifying the token took longer than {} s", VERIFY_TIMEOUT.as_secs())]
    TimedOut,
    /// No token can be verified now; the gateway is to blame, not the client.
    #[error("{0}")]
    Unavailable(String),
    /// It proves nothing.
    #[error("{}", .0.why)]
    Refused(Refused),
}

impl VerifyError {
    pub(crate) fn refused(cause: Cause, why: impl Into<String>) -> Self {
        Self::Refused(Refused { cause, why: why.into(), answer: None })
    }
}

/// Who verifies one token, blocking.
pub trait Acceptor: Send + Sync + 'static {
    /// One leg of a handshake; `bindings` as in [`Offer::bindings`].
    ///
    /// # Errors
    /// When the token is not accepted.
    fn accept(
        &self,
        pending: Option<Pending>,
        token: &[u8],
        bindings: Option<&[u8]>,
    ) -> Result<Outcome, VerifyError>;

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

/// What a client offers.
#[derive(Debug)]
pub struct Offer {
    /// What an earlier token of the same handshake left.
    pub pending: Option<Pending>,
    /// The token, as it was read from its field.
    pub token: Result<Vec<u8>, BadToken>,
    /// The TLS connection that it came on, as channel bindings name it (RFC 5929): a token that was made for another one
    /// is refused. `None` where there is no TLS.
    pub bindings: Option<Arc<[u8]>>,
}

impl Offer {
    /// The first token of a handshake, without a channel.
    #[must_use]
    pub const fn first(token: Vec<u8>) -> Self {
        Self { pending: None, token: Ok(token), bindings: None }
    }
}

/// How often it is looked, at the end, whether the threads have ended, and how long each time is waited for that.
const LOOKS_AT_THE_END: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// See the module.
pub struct Verifier {
    acceptor: Arc<dyn Acceptor>,
    queue: Arc<Queue<Job>>,
    counters: Counters,
    threads: Vec<JoinHandle<()>>,
}

struct Job {
    pending: Option<Pending>,
    token: Vec<u8>,
    bindings: Option<Arc<[u8]>>,
    reply: oneshot::Sender<Result<Outcome, VerifyError>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("queued", &self.queued()).finish_non_exhaustive()
    }
}

impl Verifier {
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
    pub async fn verify(&self, offer: Offer) -> Result<Outcome, VerifyError> {
        let Offer { pending, token, bindings } = offer;
        let token = token.map_err(|bad| {
            let cause = Cause::from(&bad);
            self.counters.refused(cause);
            VerifyError::refused(cause, format!("{bad}: {}", cause.remedy()))
        })?;
        let (reply, answer) = oneshot::channel();
        if self.queue.push(Job { pending, token, bindings, reply }).is_err() {
            return Err(VerifyError::Busy);
        }
        match tokio::time::timeout(VERIFY_TIMEOUT, answer).await {
            Ok(Ok(result)) => result,
            // Every token that is taken from the queue gets an answer; without one, nothing is proved.
            Ok(Err(_)) => {
                Err(VerifyError::refused(Cause::Other, "verifying the token failed inside the gateway"))
            }
            Err(_) => Err(VerifyError::TimedOut),
        }
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

impl Drop for Verifier {
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
    while let Some(Job { pending, token, bindings, reply }) = queue.pop() {
        // Whoever asked may have gone away in the meantime.
        if reply.is_closed() {
            continue;
        }
        let _ = reply.send(acceptor.accept(pending, &token, bindings.as_deref()));
    }
}

#[cfg(test)]
mod real;
#[cfg(test)]
mod tests;
