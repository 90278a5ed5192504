//! Local users in memory, and their passwords.

use std::time::Duration;

use argon2::Params;
use jiff::Timestamp;

use super::*;
use crate::auth::outcome::Rejection;
use crate::types::Role;

fn password(text: &str) -> Password {
    Password::new(Zeroizing::new(text.into()))
}

/// What a user and a password come to: the user, or why not.
async fn check(users: &LocalUsers, user: &str, text: &str) -> Result<Identity, Cause> {
    users.check(user, password(text)).await.map_err(|failure| match failure {
        Failure::Rejected(Rejection { cause: crate::auth::Cause::Password(cause), why, .. }) => {
            assert!(!why.contains(text) || text.is_empty(), "{why}");
            cause
        }
        other => panic!("{other:?}"),
    })
}

fn set(users: &LocalUsers, user: &str, change: impl FnOnce(&mut StoredUser)) {
    users
        .change::<()>(user, |now, _| {
            let mut user = now.unwrap().clone();
            change(&mut user);
            Ok(Some(user))
        })
        .unwrap();
}

#[tokio::test]
async fn a_right_password_is_its_users_and_everything_else_is_refused_for_its_cause() {
    let users = LocalUsers::of(&[("Bob", "correct horse"), ("üte", "pässwört")]);
    let bob = check(&users, "bOB", "correct horse").await.unwrap();
    assert!(bob.is_local() && bob.user() == "Bob" && bob == Identity::local("bob"), "{bob:?}");
    assert_eq!(check(&users, "bob", "correct horsf").await, Err(Cause::WrongPassword));
    assert_eq!(check(&users, "bob ", "correct horse").await, Err(Cause::UnknownUser));
    assert_eq!(check(&users, "alice", "correct horse").await, Err(Cause::UnknownUser));
    assert_eq!(check(&users, &"x".repeat(100_000), "correct horse").await, Err(Cause::UnknownUser));
    assert_eq!(check(&users, "bob", "").await, Err(Cause::Length));
    assert_eq!(check(&users, "bob", &"x".repeat(129)).await, Err(Cause::Length));
    assert_eq!(check(&users, "bob", &"\u{1f512}".repeat(129)).await, Err(Cause::Length));
    // Written in another way, both are the same.
    assert!(check(&users, "U\u{308}te", "pa\u{308}sswo\u{308}rt").await.is_ok());
    set(&users, "bob", |bob| bob.must_change = true);
    assert_eq!(check(&users, "bob", "correct horse").await, Err(Cause::MustChange));
    assert_eq!(check(&users, "bob", "correct horsf").await, Err(Cause::WrongPassword));
    set(&users, "bob", |bob| bob.disabled = true);
    assert_eq!(check(&users, "bob", "correct horse").await, Err(Cause::Disabled));
    assert!(users.knows("bob") && users.knows("u\u{308}te") && !users.knows("alice"));
    set(&users, "üte", |user| user.password = PasswordHash::new("of another version".into()));
    assert_eq!(check(&users, "üte", "pässwört").await, Err(Cause::WrongPassword));
}

#[test]
fn a_generation_stands_for_a_password_and_comes_only_once() {
    let users = LocalUsers::of(&[("bob", "correct horse"), ("alice", "another one")]);
    let (bob, alice) = (users.generation("bob"), users.generation("alice"));
    assert!(bob.is_some() && bob != alice && users.generation("carol").is_none());
    // Nothing has changed.
    set(&users, "bob", |_| {});
    assert_eq!(users.generation("bob"), bob);
    let mut seen = vec![bob, alice];
    for change in [(|bob| bob.disabled = true) as fn(&mut StoredUser), |bob| bob.disabled = false] {
        set(&users, "bob", change);
        assert!(!seen.contains(&users.generation("bob")), "{seen:?}");
        seen.push(users.generation("bob"));
    }
    let user = users.user("bob");
    users.change::<()>("bob", |_, count| Ok((count == 9).then(|| user.clone().unwrap()))).unwrap();
    assert_eq!((users.generation("bob"), users.count()), (None, 1));
    users.change::<()>("bob", |now, _| Ok(now.cloned().or(user.clone()))).unwrap();
    assert!(!seen.contains(&users.generation("bob")), "the same name again is another user");
    assert_eq!(users.generation("alice"), alice);
    assert_eq!(users.change("bob", |_, _| Err(7)), Err(7));
    assert!(users.knows("bob"));
}

/// However many come, so many are looked at and so many wait; nobody else is kept waiting.
#[tokio::test]
async fn more_than_may_wait_are_refused_at_once() {
    let one = Size { least: 1, most: 1, queue: 2 };
    let users = LocalUsers::with(Vec::new(), None, one).unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (began, begun) = std::sync::mpsc::channel();
    let _busy = users.threads.run(move || began.send(()).map(|()| held.recv())).unwrap();
    begun.recv().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut check = Box::pin(users.check("bob", password("correct horse")));
        assert!(timeout(Duration::ZERO, &mut check).await.is_err(), "it waits");
        waiting.push(check);
    }
    assert!(matches!(users.check("bob", password("correct horse")).await, Err(Failure::Busy)));
    drop(release);
    for check in waiting {
        assert!(matches!(check.await, Err(Failure::Rejected(_))));
    }
    assert!(matches!(users.check("bob", password("correct horse")).await, Err(Failure::Rejected(_))));
}

#[tokio::test]
async fn a_hash_by_earlier_parameters_is_replaced_at_the_next_login_and_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path(), None).unwrap());
    let weak = Params::new(8, 1, 1, Some(32)).unwrap();
    let user = StoredUser {
        name: "bob".into(),
        password: Hasher::default().make_by(&weak, b"correct horse").unwrap(),
        disabled: false,
        must_change: false,
        role: Role::User,
        created: Timestamp::UNIX_EPOCH,
        changed: Timestamp::UNIX_EPOCH,
    };
    store.put_user(&user, None).unwrap();
    let users = LocalUsers::start(Arc::clone(&store)).unwrap();
    let generation = users.generation("bob");
    assert_eq!(check(&users, "bob", "correct horsf").await, Err(Cause::WrongPassword));
    assert_eq!(store.users().unwrap(), std::slice::from_ref(&user));
    assert!(check(&users, "bob", "correct horse").await.is_ok());
    let kept = store.users().unwrap().remove(0);
    assert!(kept.password.reveal().contains("m=19456,t=2,p=1"), "{}", kept.password.reveal());
    assert_eq!(StoredUser { password: user.password.clone(), ..kept }, user, "nothing else has changed");
    assert_eq!(users.generation("bob"), generation, "it is the same password");
    assert!(check(&users, "bob", "correct horse").await.is_ok());
}

#[test]
fn a_drawn_password_is_long_readable_and_another_each_time() {
    let drawn: Vec<String> = (0..50).map(|_| LocalUsers::draw().unwrap().reveal().to_owned()).collect();
    for (place, one) in drawn.iter().enumerate() {
        assert_eq!((one.len(), one.split('-').count()), (23, 4), "{one}");
        assert!(one.chars().all(|c| c == '-' || c.is_ascii_digit() || c.is_ascii_lowercase()), "{one}");
        assert!(!one.contains(['i', 'l', 'o', 'u']) && !drawn[..place].contains(one), "{one}");
        LocalUsers::judge("admin", &password(one)).unwrap();
    }
    assert_eq!(LETTERS.len().pow(20_u32 / 2), 1 << 50, "a hundred bits");
}
