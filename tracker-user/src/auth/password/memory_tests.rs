//! The memory against a plain model, and the bound on what it takes.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const COUNTS_ONCE_FOR: Duration = Duration::from_secs(900);

fn client(number: u8) -> ClientAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

fn at(seconds: u64) -> BootTime {
    BootTime::default().after(Duration::from_secs(1_000 + seconds))
}

fn user(account: &str) -> Identity {
    Identity::new(account, "R", "R")
}

#[test]
fn a_tag_is_of_all_its_parts_and_of_its_key() {
    let (secrets, others) = (Secrets::new().unwrap(), Secrets::new().unwrap());
    let tag = |client, account, password| secrets.sent(client, account, password).tag;
    let one = tag(client(1), "alice@r", "secret");
    assert_eq!(one, tag(client(1), "alice@r", "secret"));
    for other in [
        tag(client(2), "alice@r", "secret"),
        tag(client(1), "alice@", "rsecret"),
        tag(client(1), "alice@rs", "ecret"),
        tag(client(1), "alice@r", "secreT"),
        tag(client(1), "alice@r", ""),
        others.sent(client(1), "alice@r", "secret").tag,
    ] {
        assert_ne!(one, other);
    }
    assert!(!format!("{secrets:?} {one:?}").contains("secret"));
}

/// What can happen to one of few pairs.
#[derive(Clone, Copy, Debug)]
enum Happened {
    Accepted {
        client: u8,
        account: usize,
        password: usize,
        generation: u64,
    },
    /// The same, asked for before the last thing was forgotten.
    AcceptedLate {
        client: u8,
        account: usize,
        password: usize,
    },
    Refused {
        client: u8,
        account: usize,
        password: usize,
    },
    LoggedOut {
        client: u8,
        account: usize,
    },
    Banned {
        client: u8,
        account: usize,
    },
    Cleared,
}

const ACCOUNTS: [&str; 2] = ["alice@r", "bob@r"];
const PASSWORDS: [&str; 3] = ["one", "two", "three"];

fn happened() -> impl Strategy<Value = Happened> {
    let (client, account, password) = (1..3_u8, 0..2_usize, 0..3_usize);
    prop_oneof![
        4 => (client.clone(), account.clone(), password.clone(), 0..2_u64).prop_map(
            |(client, account, password, generation)| Happened::Accepted { client, account, password, generation }
        ),
        1 => (client.clone(), account.clone(), password.clone())
            .prop_map(|(client, account, password)| Happened::AcceptedLate { client, account, password }),
        4 => (client.clone(), account.clone(), password)
            .prop_map(|(client, account, password)| Happened::Refused { client, account, password }),
        1 => (client.clone(), account.clone()).prop_map(|(client, account)| Happened::LoggedOut { client, account }),
        1 => (client, account).prop_map(|(client, account)| Happened::Banned { client, account }),
        1 => Just(Happened::Cleared),
    ]
}

/// Whether the password of this pair is remembered as right, and since when as wrong: told from all that has happened.
fn expected(past: &[(u64, Happened)], now: u64, of: (u8, usize, usize), generation: u64) -> (bool, bool) {
    let (mut right, mut wrong): (Option<(u64, u64)>, Option<u64>) = (None, None);
    for (when, event) in past {
        match *event {
            Happened::Accepted { client, account, password, generation }
                if (client, account) == (of.0, of.1) =>
            {
                right = (password == of.2).then_some((*when, generation));
                wrong = wrong.filter(|_| password != of.2);
            }
            Happened::AcceptedLate { client, account, password } if (client, account) == (of.0, of.1) => {
                right = None;
                wrong = wrong.filter(|_| password != of.2);
            }
            Happened::Refused { client, account, password } if (client, account, password) == of => {
                right = None;
                wrong = wrong.filter(|since| when - since < 900).or(Some(*when));
            }
            Happened::LoggedOut { client, account } if (client, account) == (of.0, of.1) => right = None,
            Happened::Banned { client, account } if client == of.0 || account == of.1 => right = None,
            Happened::Cleared => (right, wrong) = (None, None),
            _ => {}
        }
    }
    let is_right = right.is_some_and(|(since, of)| of == generation && now - since < 300);
    (is_right, wrong.is_some_and(|since| now - since < 900))
}

proptest! {
    #[test]
    fn what_is_remembered_follows_from_what_happened(
        events in prop::collection::vec((0..400_u64, happened()), 0..24),
    ) {
        let (secrets, mut memory) = (Secrets::new().unwrap(), Memory::default());
        let sent = |client: u8, account: usize, password: usize| {
            secrets.sent(super::tests::client(client), ACCOUNTS[account], PASSWORDS[password])
        };
        let (mut now, mut past) = (0, Vec::new());
        for (later, event) in events {
            now += later;
            let before = |memory: &Memory, client: u8, generation| {
                let forgotten = memory.forgotten(super::tests::client(client));
                Before { generation: Some(generation), bans: 0, forgotten }
            };
            match event {
                Happened::Accepted { client, account, password, generation } => {
                    let before = before(&memory, client, generation);
                    memory.accept(&sent(client, account, password), user(ACCOUNTS[account]), &before, at(now));
                }
                Happened::AcceptedLate { client, account, password } => {
                    let now_before = before(&memory, client, 0);
                    let before = Before { forgotten: now_before.forgotten.wrapping_sub(1), ..now_before };
                    memory.accept(&sent(client, account, password), user(ACCOUNTS[account]), &before, at(now));
                }
                Happened::Refused { client, account, password } => {
                    let sent = sent(client, account, password);
                    memory.refuse(&sent, Cause::WrongPassword, None, COUNTS_ONCE_FOR, at(now));
                }
                Happened::LoggedOut { client, account } => {
                    memory.forget(super::tests::client(client), &user(ACCOUNTS[account]));
                }
                Happened::Banned { client, account } => {
                    memory.forget_banned(super::tests::client(client), ACCOUNTS[account]);
                }
                Happened::Cleared => memory.clear(),
            }
            past.push((now, event));
            for client in 1..3_u8 {
                for (account, name) in ACCOUNTS.into_iter().enumerate() {
                    for password in 0..3 {
                        let of = (client, account, password);
                        let sent = sent(client, account, password);
                        for generation in 0..2 {
                            let recalled = memory.recall(&sent, Some(generation), at(now));
                            let recalled = recalled.map(|right| right.identity.clone());
                            let (is_right, is_wrong) = expected(&past, now, of, generation);
                            prop_assert_eq!(recalled, is_right.then(|| user(name)), "{:?}", of);
                            prop_assert_eq!(memory.wrong(&sent, None, at(now)).is_some(), is_wrong, "{:?}", of);
                        }
                        prop_assert!(memory.recall(&sent, None, at(now)).is_none());
                    }
                }
            }
        }
    }
}

#[test]
fn of_many_pairs_those_that_were_silent_longest_are_forgotten() {
    let (secrets, mut memory) = (Secrets::new().unwrap(), Memory::default());
    let names: Vec<String> = (0..PAIRS + 100).map(|number| format!("{number}@r")).collect();
    let sent = |number: usize| secrets.sent(client((number % 200) as u8), &names[number], "x");
    for number in 0..PAIRS {
        memory.accept(&sent(number), user("a"), &Before::default(), at(0));
    }
    memory.refuse(&sent(0), Cause::WrongPassword, None, COUNTS_ONCE_FOR, at(1));
    for number in PAIRS..PAIRS + 100 {
        memory.accept(&sent(number), user("a"), &Before::default(), at(1));
    }
    assert_eq!(memory.by_age.len(), PAIRS);
    assert_eq!(memory.clients.values().map(HashMap::len).sum::<usize>(), PAIRS);
    assert!(memory.recall(&sent(1), None, at(1)).is_none() && memory.wrong(&sent(0), None, at(1)).is_some());
    assert!(memory.recall(&sent(101), None, at(1)).is_some());
    // As many wrong passwords of one pair as there may be, and no more.
    let passwords: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    for password in &passwords {
        memory.refuse(
            &secrets.sent(client(1), "b@r", password),
            Cause::WrongPassword,
            None,
            COUNTS_ONCE_FOR,
            at(2),
        );
    }
    let known = passwords
        .iter()
        .filter(|password| memory.wrong(&secrets.sent(client(1), "b@r", password), None, at(2)).is_some());
    assert_eq!(known.count(), WRONG);
}

/// Whoever logs in and out all the time keeps nobody else's password from being remembered.
#[test]
fn what_is_forgotten_of_one_client_is_counted_for_few_others() {
    let mut memory = Memory::default();
    let before: Vec<u64> = (0..=255).map(|number| memory.forgotten(client(number))).collect();
    memory.forget(client(1), &user("alice"));
    let changed = |memory: &Memory| {
        (0..=255).filter(|&n| memory.forgotten(client(n)) != before[usize::from(n)]).count()
    };
    assert_ne!(memory.forgotten(client(1)), before[1]);
    assert!(changed(&memory) < 16);
    memory.forget_banned(client(1), "alice");
    assert_eq!(changed(&memory), 256);
    let banned = memory.forgotten(client(2));
    memory.clear();
    assert_ne!(memory.forgotten(client(2)), banned);
}
