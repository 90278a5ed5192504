//! Which rows are shown, beside a plain sort of all of them; and snapshots of a gateway that runs.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use proptest::prelude::*;

use super::gather::users;
use super::select::PAGE;
use super::*;
use crate::ops::Standing;
use crate::session::{FactorPolicy, Mode, Policy};
use crate::types::{ClientAddr, Device, Identity, Method, SessionId};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A session whose values differ from its neighbours' in every column, but repeat.
fn session(number: u32) -> SessionRow {
    let mixed = number.wrapping_mul(2_654_435_761);
    let [_, a, b, c] = number.to_be_bytes();
    SessionRow {
        id: SessionId::test(u64::from(number) + 1),
        client: ClientAddr::from_v4([10, a, b, c]),
        port: None,
        identity: Arc::new(Identity::new(&format!("User{}", mixed % 700), "EXAMPLE.TEST", "EXAMPLE")),
        device: number.is_multiple_of(3).then(|| Device::new(&[2, 0, 0, a, b, c]).unwrap()),
        method: Method::ALL[(mixed % 2) as usize],
        standing: [Standing::Active, Standing::Active, Standing::Stale, Standing::Waiting]
            [(mixed % 4) as usize],
        mode: Mode::Session,
        created: at(i64::from(mixed % 5_000)),
        expires: (!mixed.is_multiple_of(5)).then(|| at(i64::from(mixed % 9_000))),
        usage: Usage {
            connections: mixed % 12,
            last_traffic: (!mixed.is_multiple_of(7)).then(|| at(i64::from(mixed % 8_000))),
            received: u64::from(mixed % 100_000),
            sent: u64::from(mixed) * 1_000,
            receive_rate: f64::from(mixed % 999) / 7.0,
            send_rate: f64::from(mixed % 77_777),
        },
    }
}

fn policy() -> Policy {
    Policy {
        timeouts: crate::config::Config::default().timeouts,
        max_users: 0,
        devices_per_user: 5,
        guests: Vec::new(),
        factors: FactorPolicy::default(),
        since: boot_now(),
    }
}

/// Of so many sessions, each at a host of its own.
pub(crate) fn snapshot(many: u32) -> Snapshot {
    let sessions: Vec<SessionRow> = (0..many).map(session).collect();
    let host = |(place, row): (u32, &SessionRow)| HostRow {
        client: row.client,
        sessions: (place, place + 1),
        kinds: row.kinds(),
        opened: Some(row.created),
        closed: row.expires,
        usage: row.usage,
    };
    Snapshot {
        taken: at(9_999),
        hosts: (0..).zip(&sessions).map(host).collect(),
        users: users(&sessions, &policy()),
        sessions,
    }
}

fn wanted() -> impl Strategy<Value = Select> {
    (
        prop::sample::select(&Table::ALL[..]),
        prop::sample::select(vec!["", "user1", "10.0.1", "example", "02:00", "nobody at all"]),
        prop::option::of(prop::sample::select(&StandingFilter::ALL[..])),
        prop::option::of(prop::sample::select(&Method::ALL[..])),
        0_usize..20,
        any::<bool>(),
        prop::option::of(0_usize..12),
    )
        .prop_map(|(table, text, standing, method, column, is_descending, page)| Select {
            table,
            text: text.into(),
            standing,
            method,
            sort: table.columns()[column % table.columns().len()],
            is_descending,
            page,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    /// A page is that part of all that match, in order; all pages together are all of them, each once.
    #[test]
    fn a_page_is_a_part_of_the_whole(many in 0_u32..900, wanted in wanted()) {
        let snapshot = snapshot(many);
        let all = snapshot.select(&Select { page: None, ..wanted.clone() });
        prop_assert_eq!(all.rows.len(), all.matching);
        prop_assert_eq!(all.total, snapshot.len(wanted.table));
        prop_assert_eq!(all.rows.iter().collect::<HashSet<_>>().len(), all.rows.len());
        let value = |place: &u32| snapshot.row(wanted.table, *place).unwrap().value(wanted.sort);
        for pair in all.rows.windows(2) {
            let (first, second) = (value(&pair[0]), value(&pair[1]));
            let order = first.compare(&second);
            let order = if wanted.is_descending && !first.is_nothing() && !second.is_nothing() { order.reverse() } else { order };
            prop_assert!(order.is_le(), "{:?} before {:?}", first, second);
        }
        let page = snapshot.select(&wanted);
        if let Some(number) = wanted.page {
            let last = all.matching.saturating_sub(1) / PAGE;
            let from = number.min(last) * PAGE;
            prop_assert_eq!(&page.rows, &all.rows[from..(from + PAGE).min(all.rows.len())]);
            prop_assert_eq!((page.page, page.pages()), (number.min(last), last + 1));
        }
        // What all that match use is the same on every page.
        prop_assert_eq!((page.matching, page.usage, page.licences), (all.matching, all.usage, all.licences));
        if wanted.text.is_empty() && wanted.standing.is_none() && wanted.method.is_none() {
            prop_assert_eq!(all.matching, all.total);
        }
        let mut buffer = String::new();
        for place in &all.rows {
            let row = snapshot.row(wanted.table, *place).unwrap();
            let texts = wanted.table.columns().iter().any(|column| row.value(*column).has(&wanted.text, &mut buffer));
            prop_assert!(wanted.text.is_empty() || texts);
        }
    }
}

#[test]
fn numbers_sort_as_numbers_names_without_regard_to_case_and_nothing_comes_last() {
    let mut rows: Vec<SessionRow> = (0..4).map(session).collect();
    for (row, (name, sent, expires)) in rows.iter_mut().zip([
        ("bob", 9, Some(5)),
        ("Alice", 10, None),
        ("carol", 100, Some(1)),
        ("Bert", 2, Some(9)),
    ]) {
        row.identity = Arc::new(Identity::new(name, "EXAMPLE.TEST", "EXAMPLE"));
        row.usage.sent = sent;
        row.expires = expires.map(at);
    }
    let snapshot =
        Snapshot { taken: at(0), users: users(&rows, &policy()), hosts: Vec::new(), sessions: rows };
    let names = |sort, is_descending| {
        let wanted = Select { sort, is_descending, ..Select::all(Table::Sessions) };
        let rows = snapshot.select(&wanted).rows;
        rows.iter()
            .map(|place| snapshot.sessions[*place as usize].identity.user().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(Column::Sent, false), ["Bert", "bob", "Alice", "carol"]);
    assert_eq!(names(Column::User, false), ["Alice", "Bert", "bob", "carol"]);
    assert_eq!(names(Column::Deadline, false), ["carol", "bob", "Bert", "Alice"]);
    assert_eq!(names(Column::Deadline, true), ["Bert", "bob", "carol", "Alice"]);
}

#[test]
fn a_user_has_each_address_once_and_the_licences_of_those_that_are_served() {
    let identity = Arc::new(Identity::new("alice", "EXAMPLE.TEST", "EXAMPLE"));
    let row =
        |number: u32, standing| SessionRow { identity: Arc::clone(&identity), standing, ..session(number) };
    let rows = [
        row(1, Standing::Active),
        SessionRow { client: session(1).client, ..row(2, Standing::Active) },
        row(3, Standing::Stale),
        row(4, Standing::Active),
    ];
    let policy = Policy { devices_per_user: 1, ..policy() };
    let users = users(&rows, &policy);
    assert_eq!(users.len(), 1);
    assert_eq!(users[0].clients, [session(1).client, session(4).client]);
    assert_eq!(users[0].other_clients, [session(3).client]);
    assert_eq!(users[0].licences, 2);
    let guests = vec![session(4).client.ip().into()];
    assert_eq!(super::gather::users(&rows, &Policy { guests, ..policy.clone() })[0].licences, 1);
    assert_eq!(users[0].usage.connections, rows.iter().map(|row| row.usage.connections).sum::<u32>());
}

/// Everybody who waits for one gets the same; and what is not looked at is forgotten.
#[tokio::test]
async fn one_snapshot_for_all_who_look() {
    let rig = crate::ops::tests::Rig::with(700, Limits::default());
    let looks = futures_util::future::join_all((0..8).map(|_| rig.ops.snapshot())).await;
    let first = looks[0].as_ref().unwrap();
    assert!(looks.iter().all(|look| Arc::ptr_eq(look.as_ref().unwrap(), first)));
    let told = rig.ops.sessions().await.unwrap();
    assert_eq!(first.sessions.len(), told.len());
    for view in told {
        let row = first.sessions.iter().find(|row| row.id == view.id).unwrap();
        assert_eq!((row.client, row.standing, row.method), (view.scope.client, view.standing, view.method));
        assert_eq!((row.created, row.usage.connections), (view.created, view.activity.open_connections));
    }
    assert_eq!(first.users.len(), rig.ops.users().await.unwrap().len());
    let (snapshot, selection) = rig.ops.select(Select::all(Table::Sessions)).await.unwrap();
    assert_eq!((selection.matching, selection.rows.len()), (700, PAGE));
    assert_eq!(snapshot.sessions.len(), 700);
}

#[tokio::test]
async fn more_than_a_snapshot_has_room_for_are_refused() {
    let limits = Limits { entries: 300, rate_span: Duration::from_millis(1), ..Limits::default() };
    let rig = crate::ops::tests::Rig::with(700, limits);
    assert!(matches!(rig.ops.snapshot().await, Err(OpsError::TooLarge { most: 300 })));
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let time = |value: TimeVal| Duration::from_micros((value.tv_sec() * 1_000_000 + value.tv_usec()) as u64);
    time(usage.user_time()) + time(usage.system_time())
}

/// How much a snapshot costs, without records of the kernel. By hand, as [`cost_of_a_page`].
#[tokio::test]
#[ignore = "prints, and asserts nothing"]
async fn cost_of_a_snapshot() {
    let rig = crate::ops::tests::Rig::with(5_000, Limits::default());
    assert_eq!(rig.ops.snapshot().await.unwrap().sessions.len(), 5_000);
    let (begun, many) = (cpu_time(), 10);
    for _ in 0..many {
        tokio::time::sleep(FRESH + Duration::from_millis(100)).await;
        rig.ops.snapshot().await.unwrap();
    }
    println!("{:?} of CPU a snapshot", (cpu_time() - begun) / many);
}

/// How much a page of a snapshot costs. By hand: `cargo test --release -p tracker-user --lib -- --ignored cost_of --nocapture`.
#[test]
#[ignore = "prints, and asserts nothing"]
fn cost_of_a_page() {
    let snapshot = snapshot(5_000);
    for (text, page) in [("", 0), ("", 25), ("user1", 0), ("10.0.1", 0), ("no such", 0)] {
        for column in [Column::User, Column::Sent, Column::Address] {
            let wanted = Select {
                text: text.into(),
                sort: column,
                is_descending: true,
                page: Some(page),
                ..Select::all(Table::Sessions)
            };
            let begun = boot_now();
            let rows = (0..50).map(|_| snapshot.select(&wanted).rows.len()).sum::<usize>();
            println!(
                "{text:?} {column:?} {page}: {:?} a page, {} rows",
                boot_now().since(begun) / 50,
                rows / 50
            );
        }
    }
}
