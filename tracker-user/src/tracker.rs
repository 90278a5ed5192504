//! The one event loop and single writer of sessions; [`Tracker`] is everybody else's handle on it.
//!
//! Hints, proofs, questions, deadlines and orders arrive here, one at a time; the table decides; the effects are carried
//! out in order before the next one is looked at. Nothing here waits for the network or the disk.

mod core;
mod devices;
mod effects;
mod metrics;
mod resync;
mod shared;
mod sight;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::audit::{Actor, Audit};
use crate::clock::{boot_now, wall_now};
use crate::net::Connections;
use crate::observe::{Events, Observer};
use crate::session::settings::Revalidate;
use crate::session::table::Refused;
use crate::session::{Admission, Decision, Index, Overlaps, Policy, Proof, Reason, Session, Table, Timeouts};
use crate::store::{Journal, Unkept};
use crate::threads::Threads;
use crate::types::{ClientAddr, ConnectionId, Scope, SessionId, UserMessage, UserQuery};

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
    live: ArcSwap<Live>,
}

/// The part of the policy that the hot path reads.
#[derive(Debug, Default)]
struct Live {
    /// Whether a connection that has not been cleared yet is looked at although the session is valid.
    look_at_new: bool,
    timeouts: Timeouts,
}

impl From<&Timeouts> for Live {
    fn from(timeouts: &Timeouts) -> Self {
        Self {
            look_at_new: timeouts.revalidate == Revalidate::OnReopen || timeouts.judges_devices(),
            timeouts: timeouts.clone(),
        }
    }
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
            Self::AnotherDevice => {
                "Another computer has appeared at your computer's address. Load the page again."
            }
        })
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
}

/// What the loop hands to a question.
pub struct View<'a> {
    /// The sessions.
    pub table: &'a Table,
    /// The addresses that look like shared hosts.
    pub overlaps: &'a Overlaps,
}

type Question = Box<dyn FnOnce(&View<'_>) + Send>;

enum Order {
    Ask(Question),
    Check {
        client: ClientAddr,
        connection: ConnectionId,
        reply: oneshot::Sender<Decision>,
    },
    End {
        whose: Whose,
        reason: Reason,
        actor: Option<Actor>,
        reply: oneshot::Sender<Result<Vec<Session>, NotKept>>,
    },
    Policy {
        policy: Policy,
        text: Vec<u8>,
        reply: oneshot::Sender<()>,
    },
    Prove {
        proof: Proof,
        reply: oneshot::Sender<Result<Admission, Refusal>>,
    },
    TakeBack {
        scope: Scope,
        session: SessionId,
        before: Option<Session>,
    },
}

/// The event loop, ready to run.
pub struct EventLoop(core::Core);

impl EventLoop {
    /// Runs until every handle is gone.
    pub async fn run(self) {
        self.0.run().await;
    }
}

impl Tracker {
    /// A tracker, and the loop that serves it. The sessions in `kept` have been judged when this returns; `text` is the
    /// policy as the store is to keep it, under [`Self::POLICY`].
    ///
    /// # Errors
    /// When the process has no file descriptor left for its timer.
    pub fn new(
        parts: Parts,
        kept: Kept,
        policy: Policy,
        text: Vec<u8>,
    ) -> std::io::Result<(Self, EventLoop)> {
        let index = Arc::new(Index::default());
        let live = ArcSwap::from_pointee(Live::from(&policy.timeouts));
        // Wall time in the upper bits: numbers rise, and are not used again after a restart.
        let first_id = u64::try_from(wall_now().as_millisecond()).unwrap_or(0) << 20;
        let before = kept.policy.unwrap_or_else(|| policy.clone());
        let table = Table::new(first_id, before, Arc::clone(&index));
        let shared = Arc::new(Shared { index, audit: Arc::clone(&parts.audit), live });
        let (orders, queue) = mpsc::channel(QUEUE);
        let mut core = core::Core::new(parts, table, queue, orders.downgrade())?;
        core.restore(kept.sessions, &kept.rebooted, policy, text);
        Ok((Self { orders, shared }, EventLoop(core)))
    }

    /// The name under which the store keeps the policy in force.
    pub const POLICY: &str = core::POLICY;

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
        let Shared { index, live, .. } = &*self.shared;
        let live = live.load();
        if live.timeouts.is_shared(client) {
            return index.decide_on(connection, boot_now());
        }
        match index.decide(client, boot_now())? {
            // A new connection must be looked at: were all closed before it, is it another device's?
            Decision::Allow(admitted) if cleared != Some(admitted.session) && live.look_at_new => None,
            decision => Some(decision),
        }
    }

    /// The same, after a look at what is recorded of the client, or of the connection on a shared host.
    pub async fn check(&self, client: ClientAddr, connection: ConnectionId) -> Decision {
        // A loop that is gone fails closed.
        self.order(|reply| Order::Check { client, connection, reply }).await.unwrap_or(Decision::Challenge)
    }

    /// Whether somebody may be logged in at this address, or many share it.
    #[must_use]
    pub fn is_known(&self, client: ClientAddr) -> bool {
        let Shared { index, live, .. } = &*self.shared;
        let is_challenged = || matches!(index.decide(client, boot_now()), Some(Decision::Challenge));
        live.load().timeouts.is_shared(client) || !is_challenged()
    }

    /// A verified proof: begins, confirms, renews or takes over the client's session, or on a shared host the connection's.
    ///
    /// # Errors
    /// When no session may begin.
    pub async fn prove(&self, proof: Proof) -> Result<Admission, Refusal> {
        self.order(|reply| Order::Prove { proof, reply }).await.unwrap_or(Err(Refusal::Stopping))
    }

    /// Somebody was refused: it goes into the audit trail.
    pub fn refused(&self, refusal: &crate::audit::Refusal<'_>) {
        self.shared.audit.refused(refusal);
    }

    /// Ends sessions, by order of `actor`; what ended comes back when its connections are closed and its end is on disk.
    ///
    /// # Errors
    /// When the end is not in the database: the sessions have ended all the same, as far as is known.
    pub async fn end(
        &self,
        whose: Whose,
        reason: Reason,
        actor: Option<Actor>,
    ) -> Result<Vec<Session>, NotKept> {
        let outcome = self.order(|reply| Order::End { whose, reason, actor, reply }).await;
        outcome.unwrap_or_else(|| Err(NotKept { ended: Vec::new(), unkept: Unkept::closed() }))
    }

    /// Puts a policy in force; `text` is how the store keeps it. When this returns, every decision goes by it.
    pub async fn set_policy(&self, policy: Policy, text: Vec<u8>) {
        let live = Live::from(&policy.timeouts);
        self.order(|reply| Order::Policy { policy, text, reply }).await;
        self.shared.live.store(Arc::new(live));
    }

    /// Asks the loop a question about all sessions. Keep it short: everybody else waits.
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
