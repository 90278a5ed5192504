//! What the table does, one behaviour at a time; `model_tests` has the rest.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use tracker_ebpf::record::Record;

use super::event::What;
use super::settings::{Mode, OnTimeout, Revalidate, Timeouts};
use super::table::{AdmissionKind, STALE_RETENTION};
use super::*;
use crate::clock::BootTime;
use crate::types::{ClientAddr, ConnectionId, Device, Factors, Identity, Method, SessionId};

const TIMEOUT: Duration = Duration::from_secs(600);

/// One table, one clock, and per client a record that the test moves as the kernel would.
struct World {
    table: Table,
    index: Arc<Index>,
    now: u64,
    out: Vec<Effect>,
}

impl World {
    fn new(change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = Policy {
            timeouts: Timeouts { timeout: TIMEOUT, mode: Mode::Session, ..Timeouts::default() },
            max_users: 0,
            devices_per_user: 5,
            guests: Vec::new(),
            factors: FactorPolicy::default(),
            since: BootTime::default(),
        };
        change(&mut policy);
        let index = Arc::new(Index::default());
        Self {
            table: Table::new(SessionId::test(1), policy, Arc::clone(&index)),
            index,
            now: 1_000_000_000,
            out: Vec::new(),
        }
    }

    fn now(&self) -> BootTime {
        BootTime::from_nanos(self.now)
    }

    fn wait(&mut self, span: Duration) {
        self.now += span.as_nanos() as u64;
    }

    fn open_record(&self) -> Record {
        let mut record = Record::starting(self.now - 2);
        record.on_open(self.now - 1, TIMEOUT.as_nanos() as u64);
        record
    }

    fn proof(&self, client: u8, user: &str) -> Proof {
        Proof {
            client: client_number(client),
            identity: Arc::new(Identity::new(user, "EXAMPLE.TEST", "EXAMPLE")),
            method: Method::Kerberos,
            factors: Factors::NONE,
            enrolled: Factors::NONE,
            at: self.now(),
            connection: Some(ConnectionId::new(NonZeroU64::new(7).unwrap())),
            device: None,
        }
    }

    fn prove(&mut self, client: u8, user: &str, record: &Record) -> Result<Admission, Refused> {
        let proof = self.proof(client, user);
        self.table.prove_by(&proof, record, self.now(), &mut self.out)
    }

    /// Lets the deadlines that are due fire, as the loop does.
    fn fire(&mut self, record: &Record) -> usize {
        let mut fired = 0;
        while let Some((_, client)) = self.table.pop_due(self.now()) {
            self.table.refresh_by(client, record, self.now(), &mut self.out);
            fired += 1;
        }
        fired
    }

    /// The effects so far, in a word each.
    fn trail(&mut self) -> Vec<String> {
        let word = |effect: Effect| match effect {
            Effect::Destroy { except, .. } => {
                format!("destroy except {:?}", except.map(ConnectionId::number))
            }
            Effect::Keep(_) => "keep".into(),
            Effect::Audit(event) => match event.what {
                What::Login(_) => format!("login {}", event.identity.user()),
                What::Renewed(_) => format!("renewed {}", event.identity.user()),
                What::Stale(reason) => format!("stale {reason}"),
                What::Ended { reason, by, .. } => match by {
                    Some(by) => format!("ended {} {reason} by {}", event.identity.user(), by.user()),
                    None => format!("ended {} {reason}", event.identity.user()),
                },
            },
        };
        self.out.drain(..).map(word).collect()
    }
}

fn client_number(n: u8) -> ClientAddr {
    ClientAddr::from_v4([10, 0, 0, n])
}

#[test]
fn a_kick_out_closes_the_old_connections_first_then_ends_the_old_session_then_begins_the_new() {
    let mut world = World::new(|_| ());
    let record = world.open_record();
    let old = world.prove(1, "alice", &record).unwrap();
    world.trail();
    let new = world.prove(1, "bob", &record).unwrap();
    assert_eq!(new.kind, AdmissionKind::TookOver);
    assert_ne!(new.admitted.session, old.admitted.session);
    assert_eq!(
        world.trail(),
        ["destroy except Some(7)", "keep", "ended alice kicked by bob", "keep", "login bob"]
    );
}

#[test]
fn a_proof_that_came_earlier_does_not_kick_out_who_came_later() {
    let mut world = World::new(|_| ());
    let record = world.open_record();
    let earlier = world.proof(1, "alice");
    world.wait(Duration::from_millis(1));
    let bob = world.prove(1, "bob", &record).unwrap();
    world.wait(Duration::from_millis(1));
    world.trail();
    let outcome = world.table.prove_by(&earlier, &record, world.now(), &mut world.out);
    assert_eq!((outcome, world.trail()), (Err(Refused::Overtaken), vec![]));
    let now = world.now();
    let decision = world.table.check_by(client_number(1), &record, now, &mut world.out);
    assert_eq!(decision, Decision::Allow(bob.admitted));
    // One of bob's own that is late changes nothing; a new one of alice's does.
    let late = Proof { at: earlier.at, ..world.proof(1, "bob") };
    assert!(world.table.prove_by(&late, &record, now, &mut world.out).is_ok());
    assert_eq!(world.prove(1, "alice", &record).unwrap().kind, AdmissionKind::TookOver);
}

#[test]
fn the_same_user_again_keeps_session_and_creation_and_nothing_is_closed() {
    let mut world = World::new(|_| ());
    let mut record = world.open_record();
    let first = world.prove(1, "alice", &record).unwrap();
    let created = world.table.session(client_number(1)).unwrap().created;
    record.on_close(world.now, false);
    world.wait(TIMEOUT);
    assert_eq!(
        world.table.check_by(client_number(1), &record, world.now(), &mut world.out),
        Decision::Challenge
    );
    world.trail();

    record.on_open(world.now, TIMEOUT.as_nanos() as u64);
    // The same name in another case is the same person.
    let again = world.prove(1, "Alice", &record).unwrap();
    assert_eq!(again.kind, AdmissionKind::Renewed);
    assert_eq!(again.admitted.session, first.admitted.session);
    assert_eq!(world.table.session(client_number(1)).unwrap().created, created);
    assert_eq!(world.trail(), ["keep", "renewed alice"]);
}

#[test]
fn a_stale_session_closes_its_connections_only_if_asked_to() {
    for (on_timeout, expected) in [
        (OnTimeout::Keep, vec!["keep", "stale traffic-timeout"]),
        (OnTimeout::Close, vec!["keep", "destroy except None", "stale traffic-timeout"]),
    ] {
        let mut world = World::new(|policy| {
            policy.timeouts.mode = Mode::Traffic;
            policy.timeouts.on_timeout = on_timeout;
        });
        let record = world.open_record();
        world.prove(1, "alice", &record).unwrap();
        world.trail();
        world.wait(TIMEOUT);
        assert_eq!(world.fire(&record), 1);
        assert_eq!(world.trail(), expected);
    }
}

#[test]
fn the_lifetime_ends_a_session_under_constant_use_and_says_when() {
    let lifetime = Duration::from_secs(3600);
    let mut world = World::new(|policy| {
        policy.timeouts.lifetime_enabled = true;
        policy.timeouts.lifetime_timeout = lifetime;
    });
    let record = world.open_record();
    world.prove(1, "alice", &record).unwrap();
    world.trail();
    let end = world.now().after(lifetime);
    assert_eq!(world.table.next_deadline(), Some(end));
    // Looked at late, it still ended on time.
    world.wait(lifetime + Duration::from_secs(5));
    world.fire(&record);
    let ended = world.out.iter().find_map(|effect| match effect {
        Effect::Audit(event) if matches!(event.what, What::Ended { .. }) => Some(event.at),
        _ => None,
    });
    assert_eq!(ended, Some(end));
    assert_eq!(world.trail(), ["destroy except None", "keep", "ended alice lifetime"]);
}

#[test]
fn an_open_client_has_no_deadline_in_mode_session() {
    let mut world = World::new(|_| ());
    let mut record = world.open_record();
    world.prove(1, "alice", &record).unwrap();
    assert_eq!(world.table.next_deadline(), None);
    record.on_close(world.now, false);
    world.table.refresh_by(client_number(1), &record, world.now(), &mut world.out);
    assert_eq!(world.table.next_deadline(), Some(world.now().after(TIMEOUT)));
}

#[test]
fn readers_decide_by_the_index_alone_while_no_gap_can_have_passed() {
    let mut world = World::new(|_| ());
    let record = world.open_record();
    let admission = world.prove(1, "alice", &record).unwrap();
    let allow = Some(Decision::Allow(admission.admitted));
    assert_eq!(world.index.published(client_number(1), world.now()), allow);
    world.wait(TIMEOUT - Duration::from_nanos(1));
    assert_eq!(world.index.published(client_number(1), world.now()), allow);
    world.wait(Duration::from_nanos(1));
    assert_eq!(world.index.published(client_number(1), world.now()), None, "the record has to be read");
    assert_eq!(world.index.published(client_number(2), world.now()), Some(Decision::Challenge));
}

#[test]
fn a_new_policy_outdates_what_was_published_under_the_old_one() {
    let mut world = World::new(|_| ());
    let record = world.open_record();
    world.prove(1, "alice", &record).unwrap();
    let mut policy = world.table.policy().clone();
    policy.timeouts.timeout = Duration::from_secs(1);
    policy.since = world.now();
    world.table.set_policy(policy, world.now(), &mut world.out);
    assert_eq!(world.index.published(client_number(1), world.now()), None);
}

#[test]
fn a_gap_that_another_policy_latched_does_not_reach_back() {
    let mut world = World::new(|_| ());
    let mut record = world.open_record();
    world.prove(1, "alice", &record).unwrap();
    world.wait(TIMEOUT * 2);
    // Silent, but open: no matter in mode `session`.
    record.on_data(world.now, TIMEOUT.as_nanos() as u64, tracker_ebpf::record::Direction::Sent, 1, true);
    world.wait(Duration::from_secs(1));
    let mut policy = world.table.policy().clone();
    policy.timeouts.mode = Mode::Traffic;
    policy.since = world.now();
    world.table.set_policy(policy, world.now(), &mut world.out);
    let decision = world.table.check_by(client_number(1), &record, world.now(), &mut world.out);
    assert!(matches!(decision, Decision::Allow(_)));
}

#[test]
fn licences_count_users_and_every_sixth_device() {
    let mut world = World::new(|policy| policy.max_users = 2);
    let record = world.open_record();
    for client in 1..=5 {
        world.prove(client, "alice", &record).unwrap();
    }
    assert_eq!(world.table.licences_used(), 1);
    world.prove(6, "alice", &record).unwrap();
    assert_eq!(world.table.licences_used(), 2, "the sixth device takes another licence");
    assert_eq!(world.prove(7, "bob", &record), Err(Refused::Licences { max: 2 }));
    // Whoever takes over an address takes over the licence it frees.
    world.table.end(client_number(5), Reason::Logout, world.now(), &mut world.out);
    assert_eq!(world.table.licences_used(), 1);
    world.prove(7, "bob", &record).unwrap();
    assert_eq!(world.prove(7, "carol", &record).map(|admission| admission.kind), Ok(AdmissionKind::TookOver));
    assert_eq!(world.table.licences_used(), 2);
}

#[test]
fn a_stale_session_takes_no_licence_and_is_forgotten_after_a_day() {
    let mut world = World::new(|policy| policy.max_users = 1);
    let mut record = world.open_record();
    world.prove(1, "alice", &record).unwrap();
    record.on_close(world.now, false);
    world.table.refresh_by(client_number(1), &record, world.now(), &mut world.out);
    world.wait(TIMEOUT);
    world.fire(&record);
    assert_eq!((world.table.licences_used(), world.table.active(), world.table.len()), (0, 0, 1));
    world.trail();
    world.wait(STALE_RETENTION);
    world.fire(&record);
    assert!(world.table.is_empty());
    assert_eq!(world.trail(), ["destroy except None", "keep", "ended alice closed-timeout"]);
}

#[test]
fn what_could_not_be_kept_is_taken_back_without_a_word() {
    let mut world = World::new(|policy| policy.max_users = 1);
    let mut record = world.open_record();
    // A login: as if it had never been.
    let login = world.prove(1, "alice", &record).unwrap();
    world.trail();
    world.table.rollback(client_number(1), login.admitted.session, None, &mut world.out);
    assert_eq!(world.trail(), ["destroy except None", "keep"]);
    assert_eq!((world.table.len(), world.table.licences_used()), (0, 0));
    assert_eq!(world.index.published(client_number(1), world.now()), Some(Decision::Challenge));

    // A renewal: it goes on waiting.
    world.prove(1, "alice", &record).unwrap();
    record.on_close(world.now, false);
    world.table.refresh_by(client_number(1), &record, world.now(), &mut world.out);
    world.wait(TIMEOUT);
    world.fire(&record);
    let before = world.table.session(client_number(1)).cloned();
    let renewed = world.prove(1, "alice", &record).unwrap();
    assert_eq!((renewed.kind, world.table.licences_used()), (AdmissionKind::Renewed, 1));
    world.trail();
    let stale = before.clone().unwrap().state;
    world.table.rollback(client_number(1), renewed.admitted.session, before, &mut world.out);
    world.table.refresh_by(client_number(1), &record, world.now(), &mut world.out);
    assert_eq!(world.trail(), ["keep"]);
    assert_eq!(world.table.session(client_number(1)).map(|session| session.state), Some(stale));
    assert_eq!((world.table.licences_used(), world.table.active(), world.table.len()), (0, 0, 1));
    assert_eq!(world.index.published(client_number(1), world.now()), Some(Decision::Challenge));
    // Somebody else has come meanwhile: that session is not meant.
    world.prove(1, "bob", &record).unwrap();
    world.trail();
    world.table.rollback(client_number(1), renewed.admitted.session, None, &mut world.out);
    assert_eq!(world.trail(), [""; 0]);
}

/// One identity in memory serves all sessions of its user, and each session shows the name as it was proved.
#[test]
fn a_users_sessions_share_one_identity_unless_it_is_spelled_otherwise() {
    let mut world = World::new(|_| {});
    let record = world.open_record();
    for (client, name) in [(1, "alice"), (2, "alice"), (3, "bob"), (4, "Alice"), (5, "Alice")] {
        world.prove(client, name, &record).unwrap();
    }
    let of =
        |world: &World, client| Arc::clone(&world.table.session(client_number(client)).unwrap().identity);
    let shared = |a, b| Arc::ptr_eq(&of(&world, a), &of(&world, b));
    assert!(shared(1, 2) && shared(4, 5) && !shared(1, 3) && !shared(2, 4));
    assert_eq!(of(&world, 1), of(&world, 4), "the same person all the same");
    assert_eq!((of(&world, 1).user(), of(&world, 4).user()), ("alice", "Alice"));
    assert_eq!(world.table.active_users(), 2);
    let alice = Arc::downgrade(&of(&world, 4));
    for client in 1..=5 {
        let now = world.now();
        world.table.end(client_number(client), Reason::Logout, now, &mut world.out);
    }
    world.out.clear();
    assert!(alice.upgrade().is_none(), "nobody is remembered who has no session");
    assert_eq!((world.table.active_users(), world.table.len()), (0, 0));
}

/// A walk in portions sees every session that was there when it began, whatever comes and goes meanwhile.
#[test]
fn a_walk_in_portions_leaves_nobody_out_who_stays() {
    let mut world = World::new(|_| {});
    let record = world.open_record();
    for client in 0..200 {
        world.prove(client, "alice", &record).unwrap();
    }
    let (mut seen, mut from) = (std::collections::BTreeSet::new(), 0);
    let end = world.table.places();
    while from < end {
        seen.extend(world.table.portion(from, 30.min(end - from)).map(Session::scope));
        from += 30;
        // One of those who were seen leaves, one who was not, and others come.
        let now = world.now();
        for client in [from as u8 / 2, 199 - from as u8 / 2] {
            world.table.end(client_number(client), Reason::Logout, now, &mut world.out);
        }
        world.prove(200 + from as u8 / 30, "bob", &record).unwrap();
    }
    for client in 0..200 {
        let client = client_number(client);
        assert!(world.table.session(client).is_none() || seen.contains(&client.into()), "{client}");
    }
}

#[test]
fn who_leaves_between_the_proof_and_its_admission_has_left_after_the_proof() {
    let mut world = World::new(|policy| policy.timeouts.revalidate = Revalidate::OnReopen);
    let mut record = world.open_record();
    let given = world.now();
    world.wait(Duration::from_millis(3));
    record.on_close(world.now, false);
    world.wait(Duration::from_millis(3));
    let proof = Proof { at: given, ..world.proof(1, "alice") };
    let admitted = world.table.prove_by(&proof, &record, world.now(), &mut world.out).unwrap().admitted;
    let session = world.table.session(client_number(1)).unwrap();
    assert_eq!((session.created, session.authenticated, session.judged_from), (world.now(), given, given));
    record.on_open(world.now, TIMEOUT.as_nanos() as u64);
    let decision = world.table.check_by(client_number(1), &record, world.now(), &mut world.out);
    assert_eq!(decision, Decision::Challenge, "the next one is asked");

    // Another proof, read before that one and admitted after it, does not bring the clock back.
    world.prove(1, "alice", &record).unwrap();
    let late = Proof { at: given, ..world.proof(1, "alice") };
    world.table.prove_by(&late, &record, world.now(), &mut world.out).unwrap();
    let session = world.table.session(client_number(1)).unwrap();
    assert_eq!(
        (session.id, session.authenticated, session.judged_from),
        (admitted.session, world.now(), world.now())
    );
}

/// What its connections were was lost with the daemon (they came through a balancer): the record has nothing of them.
#[test]
fn who_comes_after_the_proof_has_left_before_though_nobody_saw_it() {
    let mut world = World::new(|policy| policy.timeouts.revalidate = Revalidate::OnReopen);
    let mut record = Record::starting(world.now);
    world.prove(1, "alice", &record).unwrap();
    world.wait(Duration::from_millis(3));
    record.on_open(world.now, TIMEOUT.as_nanos() as u64);
    let decision = world.table.check_by(client_number(1), &record, world.now(), &mut world.out);
    assert_eq!(decision, Decision::Challenge);
    world.prove(1, "alice", &record).unwrap();
    let decision = world.table.check_by(client_number(1), &record, world.now(), &mut world.out);
    assert!(matches!(decision, Decision::Allow(_)), "{decision:?}");
}

#[test]
fn a_session_that_was_restored_keeps_its_number_for_itself() {
    let mut world = World::new(|_| ());
    let record = world.open_record();
    world.prove(1, "alice", &record).unwrap();
    let kept = world.table.session(client_number(1)).cloned().unwrap();
    let mut world = World::new(|_| ());
    world.table.restore(Session { id: SessionId::test(7), ..kept });
    assert_eq!(world.prove(2, "bob", &record).unwrap().admitted.session, SessionId::test(8));
}

#[test]
fn a_request_that_finds_another_device_ends_the_session() {
    let [first, second] = [1, 2].map(|last| Device::new(&[2, 0, 0, 0, 0, last]));
    let mut world = World::new(|_| ());
    let evidence = Evidence::from(&world.open_record());
    let proof = Proof { device: first, ..world.proof(1, "alice") };
    world.table.prove(&proof, &evidence, world.now(), &mut world.out).unwrap();
    let facts = Facts { device: second, ..Facts::of(&evidence, world.now()) };
    world.trail();
    assert_eq!(world.table.check(client_number(1), &facts, &mut world.out), Decision::Challenge);
    assert_eq!(world.trail(), ["destroy except None", "keep", "ended alice device-changed"]);
    assert!(world.table.is_empty());
}

#[test]
fn what_a_further_proof_changes_is_kept() {
    let mut world = World::new(|_| ());
    let record = world.open_record();
    world.prove(1, "alice", &record).unwrap();
    world.trail();
    // From another device, which is hers from now on.
    let device = Device::new(&[2, 0, 0, 0, 0, 9]);
    let proof = Proof { device, ..world.proof(1, "alice") };
    world.table.prove_by(&proof, &record, world.now(), &mut world.out).unwrap();
    assert_eq!(world.trail(), ["keep"]);
    assert_eq!(world.table.session(client_number(1)).unwrap().device, device);
    // A proof that moves her deadline.
    let mut closed = record;
    closed.on_close(world.now, false);
    world.wait(TIMEOUT / 2);
    let proof = Proof { device, ..world.proof(1, "alice") };
    world.table.prove_by(&proof, &closed, world.now(), &mut world.out).unwrap();
    assert_eq!(world.trail(), ["keep"]);
    assert_eq!(world.table.session(client_number(1)).unwrap().judged_from, world.now());
}

#[test]
fn a_stale_session_is_not_forgotten_while_its_client_is_open() {
    let mut world = World::new(|policy| policy.timeouts.mode = Mode::Traffic);
    let record = world.open_record();
    world.prove(1, "alice", &record).unwrap();
    for span in [TIMEOUT, STALE_RETENTION, STALE_RETENTION] {
        world.wait(span);
        assert_eq!(world.fire(&record), 1);
        assert_eq!(world.table.len(), 1);
    }
    let mut closed = record;
    closed.on_close(world.now, false);
    world.wait(STALE_RETENTION);
    world.fire(&closed);
    assert!(world.table.is_empty());
}

#[test]
fn renewals_that_are_admitted_in_another_order_do_not_set_time_back() {
    let mut world = World::new(|_| ());
    let mut record = world.open_record();
    world.prove(1, "alice", &record).unwrap();
    record.on_close(world.now, false);
    world.table.refresh_by(client_number(1), &record, world.now(), &mut world.out);
    world.wait(TIMEOUT);
    world.fire(&record);
    let judged_from = world.table.session(client_number(1)).unwrap().judged_from;
    let earlier = Proof { at: judged_from.before(TIMEOUT), ..world.proof(1, "alice") };
    world.table.prove_by(&earlier, &record, world.now(), &mut world.out).unwrap();
    let session = world.table.session(client_number(1)).unwrap();
    assert_eq!((session.judged_from, session.authenticated), (judged_from, judged_from));
}

#[test]
fn an_answer_is_good_for_a_timeout_from_now_although_the_clock_begins_later() {
    let mut world = World::new(|_| ());
    let record = world.open_record();
    world.prove(1, "alice", &record).unwrap();
    let session = world.table.session(client_number(1)).unwrap();
    let begins = world.now().after(TIMEOUT / 2);
    let held = Evidence { half_closed: 1, closed_from: Some(begins), ..Evidence::default() };
    // What is delivered meanwhile puts it off; a connection that is closed brings it forward.
    let Verdict::Active { good_until, deadline, .. } =
        judge(session, &held, world.table.policy(), world.now())
    else {
        panic!("it runs out later");
    };
    assert_eq!((good_until, deadline), (world.now().after(TIMEOUT), Some(begins.after(TIMEOUT))));
}

#[test]
fn licences_are_counted_anew_when_they_cover_less() {
    let mut world = World::new(|policy| policy.devices_per_user = 2);
    let record = world.open_record();
    for client in [1, 2] {
        world.prove(client, "alice", &record).unwrap();
    }
    assert_eq!(world.table.licences_used(), 1);
    let policy = Policy { devices_per_user: 1, ..world.table.policy().clone() };
    world.table.set_policy(policy, world.now(), &mut world.out);
    assert_eq!(world.table.licences_used(), 2);
}
