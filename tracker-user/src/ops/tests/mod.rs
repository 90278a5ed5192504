//! The operations without any skin, on a tracker with its loop, a store on disk and the proxy's own eyes.

mod bans;
mod local_users;
mod looks;
mod orders;
mod past_events;
mod roles;
mod second_factor;
mod trail;
mod walks;

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::Registry;
use tempfile::TempDir;

use super::*;
use crate::audit::{Actor, Via};
use crate::auth::application_passwords::ApplicationPasswords;
use crate::auth::factors::{self, SecondFactors};
use crate::auth::kerberos::{TicketVerifier, negotiate};
use crate::auth::regulation;
use crate::clock::{boot_now, wall_now};
use crate::config::{Config, Document};
use crate::observe::{ObserveOptions, ObserverMode, eyes_of};
use crate::session::{Policy, Session, State};
use crate::store::{Entry, Sealer, StoredEvent};
use crate::threads::Size;
use crate::tracker::{Kept, Metrics};
use crate::types::{ClientAddr, Factors, Identity, Method, SessionId};

const HOUR: Duration = Duration::from_secs(3_600);
const KEY: &str = "timeouts.proxy-auth-timeout";

/// What the loop was asked, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// For a portion of all sessions, which had so many.
    Portion(usize),
    /// For something else.
    Other,
}

thread_local! {
    /// Of the loop that runs on this thread.
    static ASKED: RefCell<Vec<Asked>> = const { RefCell::new(Vec::new()) };
}

/// Called by the walk within the loop.
pub(super) fn note_portion(sessions: usize) {
    ASKED.with_borrow_mut(|asked| asked.push(Asked::Portion(sessions)));
}

/// A gateway without a proxy.
pub(super) struct Rig {
    pub(super) ops: Ops,
    /// The configurations that were put in force.
    applied: Arc<Mutex<Vec<Arc<Config>>>>,
    file: PathBuf,
    _directory: TempDir,
}

impl Rig {
    fn new() -> Self {
        Self::with(0, Limits::default())
    }

    /// With so many users logged in: `user0` to `user4` and so on by turns, from 10.0.0.0 on.
    pub(super) fn with(sessions: u32, limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tracker.toml");
        std::fs::write(&file, "").unwrap();
        let store = Arc::new(Store::open(&directory.path().join("state"), None).unwrap());
        let journal = Arc::new(Journal::start(Arc::clone(&store)).unwrap());
        let registry = Registry::new();
        let audit = Arc::new(Audit::new(&registry).unwrap());
        let keeper = Arc::clone(&journal);
        audit.keep_in(Box::new(move |entry| keeper.submit(vec![Entry::Event(entry)], None)));
        let options = ObserveOptions { mode: ObserverMode::Proxy, ..ObserveOptions::default() };
        let (observer, events) = Observer::start(&options).unwrap();
        let observer = Arc::new(observer);
        let connections = Arc::new(Connections::new(eyes_of(&observer)));
        let threads = || Arc::new(Threads::start("test", Size { least: 1, most: 4, queue: 64 }).unwrap());
        let policy = Policy {
            timeouts: Config::default().timeouts,
            max_users: 0,
            devices_per_user: 5,
            guests: Vec::new(),
            factors: crate::session::FactorPolicy::default(),
            since: boot_now(),
        };
        let parts = crate::tracker::Parts {
            observer: Arc::clone(&observer),
            events,
            connections: Arc::clone(&connections),
            audit: Arc::clone(&audit),
            journal: Arc::clone(&journal),
            threads: threads(),
            metrics: Metrics::new(&registry).unwrap(),
            ended: Box::new(|_| {}),
            held: Box::new(|_, _| false),
            enrolled: Box::new(|_| Factors::NONE),
        };
        let kept = Kept { sessions: (0..sessions).map(session).collect(), ..Kept::default() };
        let (tracker, event_loop) = Tracker::new(parts, kept, policy, SessionId::test(1)).unwrap();
        // It ends when the last handle does.
        drop(event_loop.start().unwrap());
        let applied = Arc::new(Mutex::new(Vec::new()));
        let apply: Apply = {
            let applied = Arc::clone(&applied);
            Box::new(move |config| {
                applied.lock().unwrap().push(config);
                Box::pin(std::future::ready(()))
            })
        };
        let regulator = Regulator::new(regulation::Parts {
            settings: regulation::Settings { max_retries: 3, find_time: HOUR, ban_time: HOUR },
            secret: [0; 32],
            bans: Vec::new(),
            unbannable: Box::new(|_| false),
            keeping: regulation::Keeping { journal: Arc::clone(&journal), audit: Arc::clone(&audit) },
        });
        let threads = threads();
        let configuration = Configuration::new(
            Some(file.clone()),
            Start::new(Document::default(), &store).unwrap(),
            Arc::clone(&store),
            Arc::clone(&journal),
            Arc::clone(&audit),
            Arc::clone(&threads),
            apply,
        );
        let counters = negotiate::Counters::new(&registry).unwrap();
        let tickets = TicketVerifier::start(negotiate::Options::default(), counters).unwrap();
        let verifier = Verifier::new(tickets);
        let local_users = Arc::new(LocalUsers::start(Arc::clone(&store)).unwrap());
        let sealer = Arc::new(Sealer::open(directory.path()).unwrap());
        let factors = factors::Settings::default();
        let (seals, kept) = (Arc::clone(&sealer), Arc::clone(&journal));
        let applications = ApplicationPasswords::start(&store, seals, kept, Arc::clone(&audit)).unwrap();
        let (seals, kept) = (Arc::clone(&sealer), Arc::clone(&journal));
        let factors = SecondFactors::start(&store, seals, kept, Arc::clone(&audit), factors).unwrap();
        let parts = Parts {
            tracker,
            observer,
            connections,
            audit,
            recent: Arc::new(DecisionLog::default()),
            configuration: Arc::new(configuration),
            store,
            journal,
            verifier: Arc::new(verifier),
            local_users,
            regulator: regulator.unwrap(),
            holds: Arc::new(LogoutHolds::lasting(HOUR)),
            factors: Arc::new(factors),
            applications: Arc::new(applications),
            sealer,
            certificates: None,
            threads,
            started: wall_now(),
            listen: Arc::new(["127.0.0.1:3128".to_owned()]),
            warnings: Arc::new(|| vec!["of a test".to_owned()]),
        };
        let ops = Ops::new(parts, limits, Handle::current());
        Self { ops, applied, file, _directory: directory }
    }

    fn parts(&self) -> &Parts {
        self.ops.parts()
    }

    /// The lines of the audit trail that are of an operator's order.
    fn ordered(&self) -> Vec<StoredEvent> {
        let entries = self.parts().audit.past(|event| event.actor().is_some());
        entries.iter().map(|entry| StoredEvent::from(&**entry)).collect()
    }

    /// Settings in the audit trail: what to, what from, and by whom.
    fn changes(&self) -> Vec<(String, String, Actor)> {
        let told = self.ordered().into_iter().map(|event| {
            (event.setting.unwrap_or_default(), event.before.unwrap_or_default(), event.actor.unwrap())
        });
        told.collect()
    }

    /// What the loop is asked during `work`, while somebody else asks it something all the time.
    async fn asked_during<T>(&self, work: impl Future<Output = T>) -> (T, Vec<Asked>) {
        let tracker = self.parts().tracker.clone();
        let other = tokio::spawn(async move {
            loop {
                tracker.ask(|_| ASKED.with_borrow_mut(|asked| asked.push(Asked::Other))).await;
            }
        });
        let done = work.await;
        other.abort();
        let asked = self.parts().tracker.ask(|_| ASKED.take()).await.unwrap();
        (done, asked)
    }
}

fn client(number: u32) -> ClientAddr {
    std::net::IpAddr::from((0x0a00_0000 + number).to_be_bytes()).into()
}

fn user(number: u32) -> Arc<Identity> {
    Arc::new(Identity::new(&format!("user{number}"), "EXAMPLE.TEST", "EXAMPLE.TEST"))
}

/// Of one user are five clients.
fn session(number: u32) -> Session {
    let now = boot_now();
    Session {
        id: SessionId::test(1_000 + u64::from(number)),
        client: client(number),
        connection: None,
        identity: user(number / 5),
        method: Method::Kerberos,
        factors: Factors::NONE,
        enrolled: Factors::NONE,
        traffic_before: None,
        device: None,
        created: now,
        authenticated: now,
        judged_from: now,
        counted_from: now,
        state: State::Active,
    }
}

/// Somebody on the admin socket.
fn operator() -> Actor {
    Actor { user: Some("root".into()), uid: Some(0), pid: Some(7), client: None, via: Via::Socket }
}

/// What nobody waits for happens soon all the same.
async fn until(mut happened: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if happened() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it has not happened");
}
