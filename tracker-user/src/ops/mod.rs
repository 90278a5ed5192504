//! What an operator can look at and do: one set of operations. The admin socket is a skin over it; pages and helpers
//! will be others. Nothing here knows how an operation was asked for, or how its answer is written down.
//!
//! Operations run on the runtime that [`Ops`] was made with, whoever asks, and what blocks (records, files, the store) on
//! threads with a bound. None holds the event loop: whoever looks at all sessions or records walks over them in portions
//! ([`walk`]), and others' orders are carried out in between.
//!
//! A look is given up when nobody waits for it any more, or when it takes too long. An order, which changes something, is
//! carried out to its end whoever leaves; it has an [`Actor`](crate::audit::Actor), whom the audit trail names.

mod activity;
mod application_passwords;
mod bans;
mod certificates;
mod configuration;
mod connections;
mod error;
mod events;
mod explain;
mod history;
mod hosts;
mod hypothetical;
mod local_users;
mod logout;
mod overlay;
mod presence;
mod roles;
mod second_factor;
mod series;
mod sessions;
mod settings;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod trail;
mod users;
mod walk;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

pub use self::activity::{Activity, Gap};
pub use self::application_passwords::Revoked;
pub use self::bans::{BanView, Lifted};
pub use self::certificates::Certificates;
pub use self::configuration::{Apply, Configuration};
pub use self::connections::OpenConnection;
pub use self::error::{ErrorKind, OpsError};
pub use self::events::{Events, Told};
pub use self::explain::{Answer, Explanation, RuleFinding};
pub use self::history::HISTORY_AT_MOST;
pub use self::hosts::Host;
pub use self::hypothetical::{Hypothetical, Offer};
pub use self::local_users::{LocalUser, UserChanged, make_administrator};
pub use self::logout::{LoggedOut, OwnLogout};
pub use self::overlay::Start;
pub use self::presence::Presence;
pub use self::second_factor::{
    AuthenticatorView, FactorsReset, KeyRotated, PasskeyView, SecondFactor, SetUp,
};
pub use self::series::{Bucket, Count, Level, Span, Timeline};
pub use self::sessions::{SessionDetail, SessionView, Standing};
pub use self::settings::{Setting, Source};
#[cfg(test)]
pub(crate) use self::snapshot::tests::snapshot as test_snapshot;
pub use self::snapshot::{
    Column, HostRow, Kinds, Row, Select, Selection, SessionRow, Snapshot, StandingFilter, Table, Usage,
    UserRow, Value,
};
pub use self::status::{Licences, LocalUsersStatus, ReplayCache, Status, StoreStatus};
pub use self::trail::{NoPlace, TrailPage, TrailPlace, WantedEvents};
pub use self::users::User;
use crate::audit::Audit;
use crate::auth::application_passwords::ApplicationPasswords;
use crate::auth::factors::SecondFactors;
use crate::auth::password::LocalUsers;
use crate::auth::regulation::Regulator;
use crate::auth::{LogoutHolds, Verifier};
use crate::net::Connections;
use crate::net::certificates::Keeper;
use crate::observe::Observer;
use crate::proxy::DecisionLog;
pub use crate::proxy::decision_log::{DecisionRecord, DecisionResult};
use crate::store::{Journal, Sealer, Store};
use crate::threads::Threads;
use crate::tracker::Tracker;

/// What operations work with.
pub struct Parts {
    /// The sessions.
    pub tracker: Tracker,
    /// The records.
    pub observer: Arc<Observer>,
    /// The proxy's connections.
    pub connections: Arc<Connections>,
    /// What happened.
    pub audit: Arc<Audit>,
    /// The last decisions about requests that had to prove themselves.
    pub recent: Arc<DecisionLog>,
    /// The configuration in force.
    pub configuration: Arc<Configuration>,
    /// What survives.
    pub store: Arc<Store>,
    /// What writes it.
    pub journal: Arc<Journal>,
    /// Who verifies tokens.
    pub verifier: Arc<Verifier>,
    /// The gateway's own users.
    pub local_users: Arc<LocalUsers>,
    /// Who counts wrong passwords.
    pub regulator: Regulator,
    /// Further factors.
    pub factors: Arc<SecondFactors>,
    /// Application passwords.
    pub applications: Arc<ApplicationPasswords>,
    /// What sealed rows are sealed with.
    pub sealer: Arc<Sealer>,
    /// Where somebody has just logged out.
    pub holds: Arc<LogoutHolds>,
    /// The certificates; `None` where nothing listens under TLS.
    pub certificates: Option<Arc<Keeper>>,
    /// Who does what blocks. Nobody else's work waits for these.
    pub threads: Arc<Threads>,
    /// When the daemon started.
    pub started: Timestamp,
    /// Where it listens.
    pub listen: Arc<[String]>,
    /// What else an operator should be told. Blocks: it looks at files.
    pub warnings: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// How much operations may take. Those of the daemon are the default.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// So many walks over all sessions or records at once; one more waits.
    pub walks: usize,
    /// It waits for so long, and is refused then.
    pub wait: Duration,
    /// No look takes longer: `trackerctl` waits for 15 s.
    pub patience: Duration,
    /// No answer has more sessions, hosts or users.
    pub entries: usize,
    /// So many follow the audit trail at once: they stay for as long as they like.
    pub followers: usize,
    /// Between the two looks that a rate is made of.
    pub rate_span: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            walks: 4,
            wait: Duration::from_secs(3),
            patience: Duration::from_secs(12),
            entries: 2 << 20,
            followers: 16,
            rate_span: Duration::from_millis(500),
        }
    }
}

/// The operations; cheap to clone. See the module.
#[derive(Clone)]
pub struct Ops(Arc<Inner>);

struct Inner {
    parts: Arc<Parts>,
    limits: Limits,
    runtime: Handle,
    walks: Arc<Semaphore>,
    followers: Arc<Semaphore>,
    snapshots: snapshot::Snapshots,
    series: series::Keeper,
}

impl Ops {
    /// The operations on these parts, which run on `runtime`.
    #[must_use]
    pub fn new(parts: Parts, limits: Limits, runtime: Handle) -> Self {
        let (walks, followers) = (Semaphore::new(limits.walks), Semaphore::new(limits.followers));
        let (walks, followers) = (Arc::new(walks), Arc::new(followers));
        let series = series::Keeper::new(&parts.store);
        let snapshots = snapshot::Snapshots::default();
        Self(Arc::new(Inner { parts: Arc::new(parts), limits, runtime, walks, followers, snapshots, series }))
    }

    fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// Does `work` on the operations' runtime. It is given up when nobody waits for it any more, or when it takes too long.
    async fn look<T, F>(&self, work: impl FnOnce(Self) -> F) -> Result<T, OpsError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, OpsError>> + Send + 'static,
    {
        let work = timeout(self.0.limits.patience, work(self.clone()));
        let task = AbortOnDropHandle::new(self.0.runtime.spawn(work));
        match task.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(OpsError::TooSlow { seconds: self.0.limits.patience.as_secs() }),
            Err(_) => Err(OpsError::Stopping),
        }
    }

    /// The same for a walk over all sessions or records, of which there are only so many at once.
    async fn walk<T, F>(&self, work: impl FnOnce(Self) -> F + Send + 'static) -> Result<T, OpsError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, OpsError>> + Send + 'static,
    {
        self.look(async move |ops| {
            let _place = ops.place().await?;
            work(ops).await
        })
        .await
    }

    /// Carries an order out, on the operations' runtime, to its end: nothing is left half done because somebody has left.
    async fn order<T, F>(&self, work: impl FnOnce(Self) -> F) -> Result<T, OpsError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, OpsError>> + Send + 'static,
    {
        self.0.runtime.spawn(work(self.clone())).await.unwrap_or(Err(OpsError::Stopping))
    }

    /// Has `work` done by a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Parts) -> T + Send + 'static,
    ) -> Result<T, OpsError> {
        let parts = Arc::clone(&self.0.parts);
        self.parts().threads.run(move || work(&parts))?.await.map_err(|_| OpsError::Stopping)
    }

    /// Waits for a place among the walks.
    async fn place(&self) -> Result<OwnedSemaphorePermit, OpsError> {
        let Limits { walks, wait, .. } = self.0.limits;
        match timeout(wait, Arc::clone(&self.0.walks).acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // Never closed.
            Ok(Err(_)) | Err(_) => Err(OpsError::TooMany { walks, seconds: wait.as_secs() }),
        }
    }

    /// Whether an answer may have so many entries.
    fn fits(&self, entries: usize) -> Result<(), OpsError> {
        let most = self.0.limits.entries;
        if entries <= most { Ok(()) } else { Err(OpsError::TooLarge { most }) }
    }
}
