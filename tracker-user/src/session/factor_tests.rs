//! A session waits for a further factor: one behaviour at a time.

use std::num::NonZeroU64;
use std::sync::Arc;

use super::event::What;
use super::factors::Demand;
use super::settings::{Mode, Timeouts};
use super::table::{AdmissionKind, STALE_RETENTION};
use super::testing::policy;
use super::*;
use crate::clock::BootTime;
use crate::types::{ClientAddr, ConnectionId, Factor, Factors, Identity, Method, SessionId};

const CLIENT: ClientAddr = ClientAddr::from_v4([10, 0, 0, 1]);
const OTHER: ClientAddr = ClientAddr::from_v4([10, 0, 0, 2]);
const TOTP: Factors = Factors::NONE.with(Factor::Totp);
const OPEN: Evidence = Evidence { open: 1, ..NOTHING };
const NOTHING: Evidence = Evidence {
    open: 0,
    half_closed: 0,
    opened_at: None,
    left_at: None,
    closed_from: None,
    closed_at: None,
    traffic_at: None,
    closed_gap: None,
    traffic_gap: None,
    received: 0,
    sent: 0,
};

struct World {
    table: Table,
    index: Arc<Index>,
    now: BootTime,
    out: Vec<Effect>,
}

fn asking(demand: Option<Demand>) -> Policy {
    let realms = demand.into_iter().map(|demand| ("example.test".to_owned(), demand)).collect();
    Policy {
        max_users: 1,
        factors: FactorPolicy { realms, trusted: vec![Method::ApplicationPassword, Method::Passkey] },
        ..policy(Timeouts { mode: Mode::Session, ..Timeouts::default() })
    }
}

impl World {
    fn new(demand: Option<Demand>) -> Self {
        let index = Arc::new(Index::default());
        let table = Table::new(SessionId::test(1), asking(demand), Arc::clone(&index));
        Self { table, index, now: BootTime::from_nanos(1_000_000_000), out: Vec::new() }
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now.after(std::time::Duration::from_secs(seconds));
    }

    fn prove(&mut self, client: ClientAddr, user: &str, factors: Factors) -> Result<AdmissionKind, Refused> {
        self.prove_by(client, user, Method::Kerberos, factors)
    }

    fn prove_by(
        &mut self,
        client: ClientAddr,
        user: &str,
        method: Method,
        factors: Factors,
    ) -> Result<AdmissionKind, Refused> {
        let proof = Proof {
            client,
            identity: Arc::new(Identity::new(user, "EXAMPLE.TEST", "EXAMPLE")),
            method,
            factors,
            enrolled: Factors::NONE,
            at: self.now,
            connection: Some(ConnectionId::new(NonZeroU64::new(7).unwrap())),
            device: None,
        };
        let admission = self.table.prove(&proof, &OPEN, self.now, &mut self.out)?;
        assert_eq!(self.table.session(client).map(|session| session.id), Some(admission.admitted.session));
        self.counts();
        Ok(admission.kind)
    }

    /// What is counted as things happen is what there is.
    fn counts(&self) {
        let waiting = self.table.sessions().filter(|session| session.is_waiting()).count();
        assert_eq!(self.table.waiting(), waiting);
    }

    fn method(&self) -> Option<Method> {
        self.table.session(CLIENT).map(|session| session.method)
    }

    fn check(&mut self, client: ClientAddr) -> Decision {
        let decision = self.table.check(client, &Facts::of(&OPEN, self.now), &mut self.out);
        self.counts();
        assert_eq!(self.index.published(client, self.now), Some(decision.clone()), "the index says the same");
        decision
    }

    fn set(&mut self, demand: Option<Demand>) {
        self.table.set_policy(asking(demand), self.now, &mut self.out);
        assert_eq!(self.index.published(CLIENT, self.now), None);
        self.table.refresh(CLIENT, &OPEN, self.now, &mut self.out);
    }

    /// The effects so far, in a word each.
    fn trail(&mut self) -> Vec<String> {
        let word = |effect| match effect {
            Effect::Destroy { .. } => "destroy".to_owned(),
            Effect::Keep(_) => "keep".to_owned(),
            Effect::Audit(Event { what, identity, .. }) => match what {
                What::Login(_) => format!("login {}", identity.user()),
                What::Renewed(_) => format!("renewed {}", identity.user()),
                What::Stale(reason) => format!("stale {reason}"),
                What::Ended { reason, .. } => format!("ended {} {reason}", identity.user()),
            },
        };
        self.out.drain(..).map(word).collect()
    }
}

const WAITS: Result<AdmissionKind, Refused> = Ok(AdmissionKind::Waits(Factor::Totp));

#[test]
fn a_login_waits_for_its_factor_and_is_one_login_when_it_is_proved() {
    let mut world = World::new(Some(Demand::Always));
    assert_eq!(world.prove(CLIENT, "alice", Factors::NONE), WAITS);
    assert_eq!(world.check(CLIENT), Decision::StepUp(Factor::Totp));
    assert_eq!((world.table.active(), world.table.licences_used(), world.table.len()), (0, 0, 1));
    assert!(world.table.kept(CLIENT).is_none(), "a restart asks for all of it again");
    let hot = HotPolicy::from(&world.table.policy().timeouts);
    assert!(world.index.is_unknown(&hot, CLIENT, world.now), "nobody is served there yet");
    // The first factor once more is not the second.
    world.wait(1);
    assert_eq!(world.prove(CLIENT, "alice", Factors::NONE), WAITS);
    assert_eq!(world.trail(), [""; 0], "nobody has logged in");
    let id = world.table.session(CLIENT).map(|session| session.id);

    assert_eq!(world.prove(CLIENT, "alice", TOTP), Ok(AdmissionKind::LoggedIn));
    assert!(matches!(world.check(CLIENT), Decision::Allow(admitted) if Some(admitted.session) == id));
    assert!(!world.index.is_unknown(&hot, CLIENT, world.now));
    assert_eq!(world.trail(), ["keep", "login alice"]);
    assert_eq!((world.table.active(), world.table.licences_used()), (1, 1));
    assert!(world.table.kept(CLIENT).is_some_and(|session| session.factors == TOTP));

    // Another proof of hers takes nothing from the session.
    world.wait(1);
    assert_eq!(world.prove(CLIENT, "alice", Factors::NONE), Ok(AdmissionKind::Confirmed));
    assert!(matches!(world.check(CLIENT), Decision::Allow(_)));
    world.table.end(CLIENT, Reason::Logout, world.now, &mut world.out);
    assert_eq!(world.prove(CLIENT, "alice", Factors::NONE), WAITS, "a new session has its own proof's only");
}

#[test]
fn both_at_once_is_a_login_like_any_other_and_so_is_one_of_whom_nothing_is_required() {
    for (demand, factors) in [(Some(Demand::Always), TOTP), (Some(Demand::IfEnrolled), Factors::NONE)] {
        let mut world = World::new(demand);
        assert_eq!(world.prove(CLIENT, "alice", factors), Ok(AdmissionKind::LoggedIn));
        assert!(matches!(world.check(CLIENT), Decision::Allow(_)));
        assert_eq!(world.trail(), ["keep", "login alice"]);
    }
}

#[test]
fn the_licence_is_taken_when_the_factor_is_proved() {
    let mut world = World::new(Some(Demand::Always));
    assert_eq!(world.prove(CLIENT, "alice", Factors::NONE), WAITS);
    assert_eq!(world.prove(OTHER, "bob", TOTP), Ok(AdmissionKind::LoggedIn));
    assert_eq!(world.prove(CLIENT, "alice", TOTP), Err(Refused::Licences { max: 1 }));
    assert_eq!(world.check(CLIENT), Decision::StepUp(Factor::Totp), "it goes on waiting as it was");
    world.table.end(OTHER, Reason::Logout, world.now, &mut world.out);
    assert_eq!(world.prove(CLIENT, "alice", TOTP), Ok(AdmissionKind::LoggedIn));
}

#[test]
fn a_timeout_asks_for_everything_again_and_the_session_goes_on() {
    let mut world = World::new(Some(Demand::Always));
    assert_eq!(world.prove(CLIENT, "alice", TOTP), Ok(AdmissionKind::LoggedIn));
    let login = world.table.session(CLIENT).cloned().unwrap();
    world.trail();
    world.wait(3600);
    let away = Evidence { closed_from: Some(login.created), ..NOTHING };
    world.table.refresh(CLIENT, &away, world.now, &mut world.out);
    assert_eq!(world.trail(), ["keep", "stale closed-timeout"]);
    assert_eq!(world.check(CLIENT), Decision::Challenge);

    assert_eq!(world.prove(CLIENT, "alice", Factors::NONE), WAITS);
    assert_eq!((world.check(CLIENT), world.table.active()), (Decision::StepUp(Factor::Totp), 0));
    assert_eq!(world.trail(), ["keep"], "on disk it is not what it was");
    assert_eq!(world.prove(CLIENT, "alice", TOTP), Ok(AdmissionKind::Renewed));
    assert_eq!(world.trail(), ["keep", "renewed alice"]);
    let renewed = world.table.session(CLIENT).unwrap();
    assert_eq!((renewed.id, renewed.created), (login.id, login.created));
    assert_eq!((world.table.active(), world.table.licences_used()), (1, 1));
}

#[test]
fn of_a_login_that_was_never_completed_there_is_nothing_to_say() {
    let mut world = World::new(Some(Demand::Always));
    assert_eq!(world.prove(CLIENT, "alice", Factors::NONE), WAITS);
    world.wait(3600);
    let away = Evidence { closed_from: Some(BootTime::from_nanos(1)), ..NOTHING };
    world.table.refresh(CLIENT, &away, world.now, &mut world.out);
    assert_eq!((world.table.len(), world.trail()), (0, vec!["keep".to_owned()]), "its time ran out");

    assert_eq!(world.prove(CLIENT, "alice", Factors::NONE), WAITS);
    world.wait(1);
    assert_eq!(world.prove(CLIENT, "bob", TOTP), Ok(AdmissionKind::TookOver));
    assert_eq!(world.trail(), ["keep", "keep", "login bob"], "nobody was there to be kicked out");
    // But who was logged in is, by whoever proves themselves, waiting or not.
    world.wait(1);
    assert_eq!(world.prove(CLIENT, "alice", Factors::NONE), WAITS);
    assert_eq!(world.trail(), ["destroy", "keep", "ended bob kicked"]);
    let id = world.table.session(CLIENT).map(|session| session.id).unwrap();
    world.table.rollback(CLIENT, id, None, &mut world.out);
    assert_eq!((world.table.len(), world.trail()), (0, vec!["keep".to_owned()]));
    assert_eq!(world.table.licences_used(), 0);
}

#[test]
fn what_is_required_can_change_while_somebody_is_logged_in() {
    let mut world = World::new(None);
    assert_eq!(world.prove(CLIENT, "alice", Factors::NONE), Ok(AdmissionKind::LoggedIn));
    world.trail();
    world.set(Some(Demand::Always));
    assert_eq!((world.check(CLIENT), world.table.active()), (Decision::StepUp(Factor::Totp), 0));
    assert!(world.table.kept(CLIENT).is_some(), "she was logged in");
    world.set(None);
    assert!(matches!(world.check(CLIENT), Decision::Allow(_)));
    assert_eq!(
        (world.table.active(), world.trail()),
        (1, vec!["keep".to_owned(), "renewed alice".to_owned()])
    );

    // Whoever waited when less came to be required is logged in.
    let mut world = World::new(Some(Demand::Always));
    assert_eq!(world.prove(CLIENT, "alice", Factors::NONE), WAITS);
    world.set(None);
    assert!(matches!(world.check(CLIENT), Decision::Allow(_)));
    assert_eq!(world.trail(), ["keep", "login alice"]);
}

#[test]
fn what_the_store_kept_waits_if_more_is_required_than_was_proved() {
    let mut world = World::new(None);
    assert_eq!(world.prove(CLIENT, "alice", Factors::NONE), Ok(AdmissionKind::LoggedIn));
    let kept = world.table.kept(CLIENT).cloned().unwrap();
    let mut world = World::new(Some(Demand::Always));
    world.table.restore(Session { id: SessionId::test(7), ..kept });
    world.table.refresh(CLIENT, &OPEN, world.now, &mut world.out);
    assert_eq!((world.check(CLIENT), world.table.licences_used()), (Decision::StepUp(Factor::Totp), 0));
    // Where she does not come back, it goes stale and is forgotten like any other.
    world.wait(STALE_RETENTION.as_secs());
    let away = Evidence { closed_from: Some(BootTime::from_nanos(1)), ..NOTHING };
    world.table.refresh(CLIENT, &away, world.now, &mut world.out);
    world.wait(2 * STALE_RETENTION.as_secs());
    world.table.refresh(CLIENT, &away, world.now, &mut world.out);
    assert!(world.table.is_empty());
    assert_eq!(
        world.trail(),
        ["keep", "stale closed-timeout", "destroy", "keep", "ended alice closed-timeout"]
    );
}

#[test]
fn an_application_password_opens_the_proxy_alone_and_takes_nothing_from_a_session() {
    let by = Method::ApplicationPassword;
    for (method, factors) in
        [(Method::Password, TOTP), (Method::Kerberos, TOTP), (Method::Passkey, Factors::NONE)]
    {
        let mut world = World::new(Some(Demand::Always));
        assert_eq!(world.prove_by(CLIENT, "alice", method, factors), Ok(AdmissionKind::LoggedIn));
        world.wait(60);
        assert_eq!(world.prove_by(CLIENT, "alice", by, Factors::NONE), Ok(AdmissionKind::Confirmed));
        assert_eq!(world.method(), Some(method), "what stands by more does not end with it");
    }
    // A session that stands by one is the stronger proof's as soon as there is one.
    let mut world = World::new(Some(Demand::Always));
    assert_eq!(world.prove_by(CLIENT, "alice", by, Factors::NONE), Ok(AdmissionKind::LoggedIn));
    assert_eq!(
        world.prove_by(CLIENT, "alice", Method::Kerberos, Factors::NONE),
        Ok(AdmissionKind::Confirmed)
    );
    assert_eq!(world.method(), Some(by), "alone it would not be enough");
    assert_eq!(world.prove_by(CLIENT, "alice", Method::Password, TOTP), Ok(AdmissionKind::Confirmed));
    assert_eq!(world.method(), Some(Method::Password));
    // Where a session waits, it is what it waits for no more.
    let mut world = World::new(Some(Demand::Always));
    assert_eq!(world.prove(CLIENT, "alice", Factors::NONE), WAITS);
    assert_eq!(world.prove_by(CLIENT, "alice", by, Factors::NONE), Ok(AdmissionKind::LoggedIn));
    assert_eq!(world.method(), Some(by));
    // And where nothing is demanded, the first proof's method stays.
    let mut world = World::new(None);
    assert_eq!(world.prove_by(CLIENT, "alice", Method::Password, Factors::NONE), Ok(AdmissionKind::LoggedIn));
    assert_eq!(world.prove_by(CLIENT, "alice", by, Factors::NONE), Ok(AdmissionKind::Confirmed));
    assert_eq!(world.method(), Some(Method::Password));
}

#[test]
fn a_ticket_on_a_session_that_waits_leaves_it_waiting() {
    let mut world = World::new(Some(Demand::Always));
    for _ in 0..3 {
        assert_eq!(world.prove(CLIENT, "alice", Factors::NONE), WAITS);
        assert_eq!(world.check(CLIENT), Decision::StepUp(Factor::Totp));
        world.wait(60);
    }
    assert_eq!((world.table.waiting(), world.table.licences_used(), world.table.active()), (1, 0, 0));
    // Ten minutes after it began it is over, however often a ticket came.
    world.wait(600 - 3 * 60 - 1);
    assert_eq!(world.check(CLIENT), Decision::StepUp(Factor::Totp));
    world.wait(1);
    world.table.refresh(CLIENT, &OPEN, world.now, &mut world.out);
    assert_eq!((world.table.len(), world.table.waiting()), (0, 0));
}
