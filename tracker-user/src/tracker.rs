//! The one event loop and single writer of sessions; [`Tracker`] is everybody else's handle on it.
//!
//! Hints, proofs, questions, deadlines and orders arrive here, one at a time; the table decides; the effects are carried
//! out in order before the next one is looked at. Nothing here waits for the network or the disk.

mod core;
mod devices;
mod effects;
mod end;
mod event_loop;
mod health;
mod metrics;
mod resync;
mod revoked;
mod shared;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::audit::{Actor, Audit, Ground};
use crate::clock::{BootTime, boot_now};
use crate::net::Connections;
use crate::observe::{Events, Observer};
use crate::session::table::Refused;
use crate::session::{
    Admission, Decision, HotPolicy, Index, Policy, Proof, Reason, Session, SharedHostDetector, Table,
};
use crate::store::{Entry, Journal, Unkept};
use crate::threads::Threads;
use crate::types::{
    ClientAddr, ConnectionId, Factors, Identity, Method, Scope, SessionId, UserMessage, UserQuery,
};

pub use self::event_loop::{Ended, EventLoop};
pub use self::metrics::Metrics;

/// How many orders may wait for the loop; whoever adds one more waits.
const QUEUE: usize = 4_096;

/// A handle on the event loop: cheap to clone.
#[derive(Clone, Debug)]
pub struct Tracker {
    orders: mpsc::Sender<Order>,
    shared: Arc<Shared>,
}

/// What handles read without asking the loop.
#[derive(Debug)]
struct Shared {
    index: Arc<Index>,
    audit: Arc<Audit>,
    policy: ArcSwap<HotPolicy>,
}

/// Whose sessions are meant.
#[derive(Clone, Debug)]
pub enum Whose {
    /// Everybody's.
    All,
    /// The client's.
    Client(ClientAddr),
    /// The user's, on all their clients; of everybody who is meant.
    User(UserQuery),
    /// Those of this one person, on all their clients. What they have sent before the order to prove themselves by proves
    /// nothing any more, although it is verified only later.
    Identity(Arc<Identity>),
    /// The same, but only those that stand by this method.
    By(Arc<Identity>, Method),
}

/// A good proof was not admitted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// The policy admits no further user.
    #[error(transparent)]
    Policy(#[from] Refused),
    /// The gateway is stopping.
    #[error("the gateway is stopping")]
    Stopping,
    /// The session could not be written to disk.
    #[error("{0}")]
    NotKept(String),
    /// The user's sessions were ended while the credentials were being verified: they may be worth nothing any more.
    #[error("the user's sessions were ended by an operator while the credentials were being verified")]
    Revoked,
    /// Somebody has just logged out at the address, and has not typed a password since.
    #[error(
        "somebody has just logged out at this address: until portal.logout-hold is over, only a password typed in the portal logs in"
    )]
    Held,
    /// Whoever is at the address now is not who opened the connection.
    #[error("another device has shown up behind this address since the connection was opened")]
    AnotherDevice,
    /// The client's record cannot be kept, so that it could not be told from the next one.
    #[error("{0}")]
    Untracked(String),
}

impl Refusal {
    /// What happened and what to do, for the person at the client; `Display` is for operators.
    #[must_use]
    pub const fn user_message(&self) -> UserMessage {
        UserMessage::new(match self {
            Self::Policy(refused) => return refused.user_message(),
            Self::Stopping => "The proxy is stopping.",
            Self::NotKept(_) | Self::Untracked(_) => {
                "You cannot be logged in at this moment. Try again; if that does not help, the proxy's operator finds the \
                 reason in its status and log."
            }
            Self::Revoked => "Your account was changed while you logged in. Load the page again.",
            Self::Held => {
                "Somebody has just logged out at this computer. For a while nobody is logged in here who does not type a \
                 password on the proxy's own page."
            }
            Self::AnotherDevice => {
                "Another computer has appeared at your computer's address. Load the page again."
            }
        })
    }
}

impl Refusal {
    /// What the audit trail calls it; a gateway that is stopping refuses nobody in particular.
    #[must_use]
    pub const fn ground(&self) -> Option<Ground> {
        match self {
            Self::Policy(Refused::Licences { .. }) => Some(Ground::Licences),
            Self::NotKept(_) => Some(Ground::NotKept),
            Self::Untracked(_) | Self::AnotherDevice | Self::Policy(Refused::SharedHost) => {
                Some(Ground::Untracked)
            }
            Self::Revoked => Some(Ground::Credentials("revoked")),
            Self::Held => Some(Ground::Credentials("logout-hold")),
            // Who has proved themselves since stands in the trail.
            Self::Policy(Refused::Overtaken) | Self::Stopping => None,
        }
    }
}

/// Sessions ended, but the database could not be told.
#[derive(Clone, Debug)]
pub struct NotKept {
    /// What ended all the same.
    pub ended: Vec<Session>,
    /// Why, and whether a restart would bring it back.
    pub unkept: Unkept,
}

/// What the store kept, to begin with.
#[derive(Debug, Default)]
pub struct Kept {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// The clients whose sessions are kept with the times of another boot.
    pub rebooted: Vec<ClientAddr>,
    /// The policy that was in force when the daemon went away.
    pub policy: Option<Policy>,
}

/// What the loop works with.
pub struct Parts {
    /// The records.
    pub observer: Arc<Observer>,
    /// What the records' keeper tells by itself.
    pub events: Events,
    /// The proxy's connections.
    pub connections: Arc<Connections>,
    /// What happened.
    pub audit: Arc<Audit>,
    /// What survives.
    pub journal: Arc<Journal>,
    /// Who does what would keep the loop waiting.
    pub threads: Arc<Threads>,
    /// What is counted.
    pub metrics: Metrics,
    /// Who else hears of sessions that end.
    pub ended: OnEnd,
    /// Where no session begins.
    pub held: IsHeld,
    /// Who has set up which further factors.
    pub enrolled: Enrolled,
}

/// Who is told of each session that ends, when its connections are closed and before its end is announced.
pub type OnEnd = Box<dyn Fn(&crate::session::Event) + Send>;

/// The further factors that somebody has set up.
pub type Enrolled = Box<dyn Fn(&Identity) -> Factors + Send>;

/// Whether nobody may be logged in at an address, as somebody has just logged out there.
pub type IsHeld = Box<dyn Fn(ClientAddr, BootTime) -> bool + Send>;

/// What the loop hands to a question.
pub struct View<'a> {
    /// The sessions.
    pub table: &'a Table,
    /// The addresses that look like shared hosts.
    pub shared_hosts: &'a SharedHostDetector,
}

type Question = Box<dyn FnOnce(&View<'_>) + Send>;

enum Order {
    Ask(Question),
    Check { client: ClientAddr, connection: ConnectionId, reply: oneshot::Sender<Decision> },
    End { part: end::Part, reason: Reason, actor: Option<Actor>, reply: oneshot::Sender<end::Ended> },
    Policy { policy: Policy, reply: oneshot::Sender<()> },
    Prove { proof: Proof, with: Vec<Entry>, reply: oneshot::Sender<Result<Admission, Refusal>> },
    Enrolled { user: Arc<Identity>, factors: Factors, reply: oneshot::Sender<()> },
    Rollback { scope: Scope, session: SessionId, before: Option<Session> },
}

impl Tracker {
    /// A tracker, and the loop that serves it. The sessions in `kept` have been judged when this returns. Those that begin are
    /// numbered from `first` on.
    ///
    /// # Errors
    /// When the process has no file descriptor left for its runtime and its timer.
    pub fn new(
        parts: Parts,
        kept: Kept,
        policy: Policy,
        first: SessionId,
    ) -> std::io::Result<(Self, EventLoop)> {
        let index = Arc::new(Index::default());
        let hot = ArcSwap::from_pointee(HotPolicy::from(&policy.timeouts));
        let before = kept.policy.unwrap_or_else(|| policy.clone());
        let table = Table::new(first, before, Arc::clone(&index));
        let shared = Arc::new(Shared { index, audit: Arc::clone(&parts.audit), policy: hot });
        let (orders, queue) = mpsc::channel(QUEUE);
        let event_loop = EventLoop::new(|| {
            let mut core = core::Core::new(parts, table, queue, orders.downgrade())?;
            core.restore(kept.sessions, &kept.rebooted, policy);
            Ok(core)
        })?;
        Ok((Self { orders, shared }, event_loop))
    }

    /// Is a request of `client` on this connection served without credentials? `cleared` is the session for which the
    /// connection was cleared before, by a proof or by an earlier answer of this function. `None` if the event loop has to
    /// read what is recorded first: then [`Self::check`] knows.
    ///
    /// One table read and one comparison while the session is known to be good.
    #[must_use]
    pub fn decide(
        &self,
        client: ClientAddr,
        connection: ConnectionId,
        cleared: Option<SessionId>,
    ) -> Option<Decision> {
        let Shared { index, policy, .. } = &*self.shared;
        index.decide(&policy.load(), client, connection, cleared, boot_now())
    }

    /// The same, by the loop: from what is recorded of the client now, or of the connection on a shared host.
    pub async fn check(&self, client: ClientAddr, connection: ConnectionId) -> Decision {
        // A loop that is gone fails closed.
        self.order(|reply| Order::Check { client, connection, reply }).await.unwrap_or(Decision::Challenge)
    }

    /// Whether somebody may be logged in at this address, or many share it.
    #[must_use]
    pub fn is_known(&self, client: ClientAddr) -> bool {
        let Shared { index, policy, .. } = &*self.shared;
        !index.is_unknown(&policy.load(), client, boot_now())
    }

    /// A verified proof: begins, confirms, renews or takes over the client's session, or on a shared host the connection's.
    ///
    /// # Errors
    /// When no session may begin.
    pub async fn prove(&self, proof: Proof) -> Result<Admission, Refusal> {
        self.prove_with(proof, Vec::new()).await
    }

    /// The same by something that is good once: `with` says on disk that it is spent, in the transaction that keeps the
    /// session. It stays spent where no session begins.
    ///
    /// # Errors
    /// When no session may begin.
    pub async fn prove_with(&self, proof: Proof, with: Vec<Entry>) -> Result<Admission, Refusal> {
        self.order(|reply| Order::Prove { proof, with, reply }).await.unwrap_or(Err(Refusal::Stopping))
    }

    /// A user has set up these further factors, and no others: when this returns, their sessions wait for one where one is
    /// demanded and was not proved, and those that waited for one that is no more go on.
    pub async fn enrolled(&self, user: Arc<Identity>, factors: Factors) {
        self.order(|reply| Order::Enrolled { user, factors, reply }).await;
    }

    /// Somebody was refused: it goes into the audit trail.
    pub fn refused(&self, refusal: &crate::audit::Refusal<'_>) {
        self.shared.audit.refused(refusal);
    }

    /// Puts a policy in force. When this returns, every decision goes by it.
    pub async fn set_policy(&self, policy: Policy) {
        let hot = HotPolicy::from(&policy.timeouts);
        self.order(|reply| Order::Policy { policy, reply }).await;
        self.shared.policy.store(Arc::new(hot));
    }

    /// Asks the loop a question about the sessions. Keep it short, as everybody else waits: about one client, about what is
    /// counted, or about no more than a portion of all sessions ([`Table::portion`]).
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&View<'_>) -> T + Send + 'static,
    ) -> Option<T> {
        self.order(|reply| {
            Order::Ask(Box::new(move |view: &View<'_>| {
                let _ = reply.send(question(view));
            }))
        })
        .await
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(order(reply)).await.ok()?;
        answer.await.ok()
    }
}
