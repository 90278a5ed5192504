//! Many clients in one table, against plain counting over all of them: deadlines, licences, users, the published view.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tracker_ebpf::record::Record;

use super::settings::{Mode, Timeouts};
use super::table::STALE_RETENTION;
use super::*;
use crate::clock::BootTime;
use crate::types::{ClientAddr, Factors, Identity, Method, SessionId};

const TIMEOUT: Duration = Duration::from_secs(600);
const CLIENTS: u16 = 40;

#[derive(Clone, Debug)]
enum Step {
    Prove(u16, u8),
    End(u16),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..CLIENTS, 0..8_u8).prop_map(|(client, user)| Step::Prove(client, user)),
        2 => (0..CLIENTS).prop_map(Step::End),
        3 => (0..400_u64).prop_map(Step::Wait),
        1 => Just(Step::Wait(STALE_RETENTION.as_secs())),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn what_is_counted_and_due_is_what_all_sessions_together_say(steps in steps()) {
        let policy = Policy {
            timeouts: Timeouts { timeout: TIMEOUT, mode: Mode::Session, ..Timeouts::default() },
            max_users: 0,
            devices_per_user: 3,
            guests: Vec::new(),
            factors: FactorPolicy::default(),
        since: BootTime::default(),
        };
        let index = Arc::new(Index::default());
        let mut table = Table::new(SessionId::test(1), policy.clone(), Arc::clone(&index));
        let address = |client: u16| ClientAddr::from_v4([10, 0, 0, client as u8]);
        // Everybody is away, so that a clock runs from each proof on.
        let (record, mut now, mut out) = (Record::starting(1), 1_000_000_000, Vec::new());
        for step in steps {
            let at = BootTime::from_nanos(now);
            match step {
                Step::Prove(client, user) => {
                    let proof = Proof {
                        client: address(client),
                        identity: Arc::new(Identity::new(&format!("user{user}"), "R", "R")),
                        method: Method::Kerberos, factors: Factors::NONE, enrolled: Factors::NONE,
                        at,
                        connection: None,
                        device: None,
                    };
                    let admission = table.prove_by(&proof, &record, at, &mut out).unwrap();
                    prop_assert_eq!(admission.admitted.identity, proof.identity);
                }
                Step::End(client) => {
                    table.end(address(client), Reason::Logout, at, &mut out);
                }
                Step::Wait(seconds) => now += seconds * 1_000_000_000,
            }
            let at = BootTime::from_nanos(now);
            while let Some((due, client)) = table.pop_due(at) {
                prop_assert!(due <= at);
                table.refresh_by(client, &record, at, &mut out);
            }
            out.clear();

            let (mut devices, mut due) = (BTreeMap::<String, u32>::new(), Vec::new());
            for session in table.sessions() {
                due.extend(match judge(session, &Evidence::from(&record), &policy, at) {
                    Verdict::Active { deadline, .. } => {
                        *devices.entry(session.identity.key().to_owned()).or_default() += 1;
                        deadline
                    }
                    Verdict::Stale { since, .. } => Some(since.after(STALE_RETENTION)),
                    Verdict::Ended { .. } => None,
                });
            }
            prop_assert_eq!(table.next_deadline(), due.into_iter().min());
            prop_assert_eq!(table.active(), devices.values().sum::<u32>() as usize);
            prop_assert_eq!(table.active_users(), devices.len());
            prop_assert_eq!(table.licences_used(), devices.values().map(|count| count.div_ceil(3)).sum::<u32>());
            let walked: BTreeSet<ClientAddr> = table.portion(0, table.places()).map(|session| session.client).collect();
            prop_assert_eq!(walked.len(), table.len());
            for client in (0..CLIENTS).map(address) {
                let session = table.session(client).filter(|session| session.state == State::Active);
                let served = session.map(|session| (session.id, Arc::clone(&session.identity)));
                let published = match index.published(client, at) {
                    Some(Decision::Allow(admitted)) => Some((admitted.session, admitted.identity)),
                    _ => None,
                };
                prop_assert_eq!(published, served);
                prop_assert_eq!(walked.contains(&client), table.session(client).is_some());
            }
        }
    }
}
