//! The gateway's own users: what is done to them, who is logged out by it, and what is on disk then.

use crate::types::ADMINISTRATOR;
use zeroize::Zeroizing;

use super::*;
use crate::auth::Password;
use crate::session::{Proof, Reason};
use crate::tracker::{Refusal, Whose};
use crate::types::Role;

fn password(text: &str) -> Password {
    Password::new(Zeroizing::new(text.into()))
}

fn proof(number: u32, identity: &Identity, at: crate::clock::BootTime) -> Proof {
    Proof {
        client: client(number),
        identity: Arc::new(identity.clone()),
        method: Method::Password,
        factors: Factors::NONE,
        enrolled: Factors::NONE,
        at,
        connection: None,
        device: None,
    }
}

/// Everybody who is logged in, and where.
async fn logged_in(rig: &Rig) -> Vec<(String, ClientAddr)> {
    let sessions = rig.ops.sessions().await.unwrap();
    let mut all: Vec<_> =
        sessions.iter().map(|session| (session.identity.to_string(), session.scope.client)).collect();
    all.sort();
    all
}

#[tokio::test]
async fn a_user_is_added_changed_and_removed_and_each_of_it_is_told_with_its_operator() {
    let rig = Rig::new();
    let users = &rig.parts().local_users;
    let added =
        rig.ops.add_user("Bob", password("correct horse"), Role::Administrator, operator()).await.unwrap();
    assert!(
        added.user.is_some_and(|bob| bob.role == Role::Administrator && !bob.disabled && !bob.must_change)
    );
    assert!(users.check("bob", password("correct horse")).await.is_ok());
    rig.ops.set_user_password("BOB", password("battery staple"), operator()).await.unwrap();
    assert!(users.check("bob", password("correct horse")).await.is_err());
    assert!(users.check("bob", password("battery staple")).await.is_ok());
    for _ in 0..2 {
        let disabled = rig.ops.disable_user("bob", operator()).await.unwrap();
        assert!(disabled.name == "Bob" && disabled.user.unwrap().disabled);
    }
    assert!(users.check("bob", password("battery staple")).await.is_err());
    rig.ops.enable_user("bob", operator()).await.unwrap();
    assert!(users.check("bob", password("battery staple")).await.is_ok());
    let removed = rig.ops.remove_user("bob", operator()).await.unwrap();
    assert!(removed.user.is_none() && !users.knows("bob"));
    let told: Vec<_> = rig.ordered().into_iter().map(|line| (line.event, line.reason, line.user)).collect();
    let line = |how: &str| ("user".to_owned(), Some(how.to_owned()), Some("Bob".to_owned()));
    assert_eq!(told, ["added", "password", "disabled", "enabled", "removed"].map(line));
    let (events, _) = rig.parts().store.events(Timestamp::UNIX_EPOCH, None, 99).unwrap();
    let kept: Vec<_> = events.into_iter().map(|line| (line.reason, line.actor)).collect();
    let line = |how: &str| (Some(how.to_owned()), Some(operator()));
    assert_eq!(kept, ["added", "password", "disabled", "enabled", "removed"].map(line));
    assert!(rig.parts().store.users().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_refused_changes_nothing_and_says_why() {
    let rig = Rig::new();
    rig.ops.add_user("bob", password("correct horse"), Role::User, operator()).await.unwrap();
    let kept = rig.parts().store.users().unwrap();
    let refused = |found: Result<UserChanged, OpsError>| {
        let error = found.unwrap_err();
        (error.kind(), error.to_string())
    };
    let add = |name, text| rig.ops.add_user(name, password(text), Role::User, operator());
    let set = |name, text| rig.ops.set_user_password(name, password(text), operator());
    for (found, kind, says) in [
        (add("BOB", "battery staple").await, ErrorKind::Conflict, "BOB already"),
        (add("alice@local", "battery staple").await, ErrorKind::Wrong, "without a domain"),
        (add("alice", "short").await, ErrorKind::Conflict, "fewer than 8 characters"),
        (add("alice-smith", "Alice-Smith").await, ErrorKind::Conflict, "the user's name"),
        (set("bob", "password").await, ErrorKind::Conflict, "tried first"),
        (set("alice", "battery staple").await, ErrorKind::NotFound, "no local user alice"),
        (rig.ops.disable_user("alice", operator()).await, ErrorKind::NotFound, "no local user alice"),
        (rig.ops.enable_user("a b", operator()).await, ErrorKind::Wrong, "a b"),
        (rig.ops.remove_user("alice", operator()).await, ErrorKind::NotFound, "no local user alice"),
    ] {
        let (found, said) = refused(found);
        assert!(found == kind && said.contains(says), "{found:?}: {said}");
    }
    rig.parts().store.close();
    // Each time: what was closed is not opened again by whoever comes late.
    for found in [add("alice", "battery staple").await, set("bob", "battery staple").await] {
        let (kind, said) = refused(found);
        assert!(kind == ErrorKind::NoRoom && said.contains("nothing was changed"), "{said}");
    }
    assert_eq!(rig.parts().local_users.all(), kept);
    assert!(rig.parts().local_users.check("bob", password("correct horse")).await.is_ok());
    assert_eq!(rig.ordered().len(), 1, "nothing else is told");
}

/// The contract: whoever is disabled or removed, or has another password, is logged out before it is answered; and nobody
/// else is, be they called alike.
#[tokio::test]
async fn a_change_ends_the_users_sessions_and_those_of_nobody_else() {
    let rig = Rig::new();
    let (local, kerberos) = (Identity::local("Bob"), Identity::new("bob", "LOCAL", "LOCAL"));
    for name in ["bob", "bobby"] {
        rig.ops.add_user(name, password("correct horse"), Role::User, operator()).await.unwrap();
    }
    let tracker = rig.parts().tracker.clone();
    let others =
        [(2, kerberos.clone()), (3, Identity::local("bobby")), (4, Identity::new("bob", "A.TEST", ""))];
    for (number, who) in &others {
        tracker.prove(proof(*number, who, boot_now())).await.unwrap();
    }
    let staying = logged_in(&rig).await;
    assert_eq!(staying.len(), 3);
    for change in 0..3 {
        for number in [0, 1] {
            tracker.prove(proof(number, &local, boot_now())).await.unwrap();
        }
        assert_eq!(logged_in(&rig).await.len(), 5);
        let changed = match change {
            0 => rig.ops.set_user_password("bob", password("battery staple"), operator()).await,
            1 => rig.ops.disable_user("bob", operator()).await,
            _ => rig.ops.remove_user("bob", operator()).await,
        };
        let ended = changed.unwrap().ended;
        assert_eq!(ended.len(), 2, "{change}");
        assert!(ended.iter().all(|session| *session.identity == local));
        assert_eq!(logged_in(&rig).await, staying, "{change}");
    }
    let line = rig.ordered().into_iter().rev().find(|line| line.event == "ended").unwrap();
    assert_eq!((line.reason.as_deref(), line.actor), (Some("admin"), Some(operator())));
    // The two that are called so, by name and by domain.
    let ended = |typed: &str| rig.ops.logout(Whose::User(typed.into()), operator());
    tracker.prove(proof(0, &local, boot_now())).await.unwrap();
    let of = |ended: Vec<Session>| {
        ended.iter().map(|session| session.identity.key().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(ended("bob@LOCAL").await.unwrap().ended), ["bob@"]);
    assert!(ended("local\\bob").await.is_err());
    assert_eq!(of(ended("bob").await.unwrap().ended), ["bob@local", "bob@a.test"]);
}

/// Two of one name are two: on one address the one kicks the other out, and each takes a licence.
#[tokio::test]
async fn a_local_user_and_one_of_the_realm_local_are_two_people() {
    let rig = Rig::new();
    let (local, kerberos) = (Identity::local("bob"), Identity::new("bob", "LOCAL", "LOCAL"));
    let tracker = rig.parts().tracker.clone();
    tracker.prove(proof(0, &local, boot_now())).await.unwrap();
    tracker.prove(proof(1, &kerberos, boot_now())).await.unwrap();
    assert_eq!(rig.ops.status().await.unwrap().licences.used, 2);
    let users = rig.ops.users().await.unwrap();
    assert_eq!(users.len(), 2);
    tracker.prove(proof(0, &kerberos, boot_now())).await.unwrap();
    let kicked = rig.parts().audit.past(|event| event.by().is_some());
    let [kicked] = &kicked[..] else { panic!("{kicked:?}") };
    assert_eq!((kicked.event.user(), kicked.event.by()), (Some(&local), Some(&kerberos)));
    assert_eq!(kicked.event.reason().as_deref(), Some(Reason::Kicked.as_str()));
    // What is shown and kept tells them apart, too.
    let asked =
        |typed: &str| crate::store::Wanted { client: None, user: Some(typed.into()), at: None, most: 9 };
    let past = rig.ops.history(asked("local\\bob")).await.unwrap();
    assert_eq!(past.iter().map(|entry| entry.realm.clone()).collect::<Vec<_>>(), [None]);
    let both = rig.ops.history(asked("bob")).await.unwrap();
    assert_eq!(both.len(), 3);
    assert_eq!(both.iter().filter(|entry| entry.realm.as_deref() == Some("local")).count(), 2);
}

/// A password that was verified just before it was changed must not begin a session just after.
#[tokio::test]
async fn what_was_being_verified_while_the_user_changed_proves_nothing() {
    let rig = Rig::new();
    rig.ops.add_user("bob", password("correct horse"), Role::User, operator()).await.unwrap();
    let (bob, other) = (Identity::local("bob"), Identity::new("bob", "LOCAL", "LOCAL"));
    let before = boot_now();
    rig.ops.set_user_password("bob", password("battery staple"), operator()).await.unwrap();
    let tracker = rig.parts().tracker.clone();
    let late = tracker.prove(proof(0, &bob, before)).await;
    assert!(matches!(late, Err(Refusal::Revoked)), "{late:?}");
    assert!(tracker.prove(proof(1, &other, before)).await.is_ok(), "of somebody else");
    assert!(tracker.prove(proof(0, &bob, boot_now())).await.is_ok(), "sent after it");
}

#[tokio::test]
async fn a_login_is_noted_for_the_list() {
    let rig = Rig::new();
    rig.ops.add_user("Bob", password("correct horse"), Role::User, operator()).await.unwrap();
    assert_eq!(rig.ops.local_users().await.unwrap()[0].last_login, None);
    let began = wall_now();
    for who in [Identity::local("bob"), Identity::local("nobody"), Identity::new("bob", "LOCAL", "LOCAL")] {
        rig.parts().tracker.prove(proof(0, &who, boot_now())).await.unwrap();
    }
    let users = rig.ops.local_users().await.unwrap();
    let last = users[0].last_login.unwrap();
    assert!(
        users.len() == 1 && last.duration_since(began).abs() < jiff::SignedDuration::from_secs(60),
        "{last}"
    );
    assert_eq!(rig.parts().store.last_logins().unwrap().len(), 1, "of users only");
}

#[tokio::test]
async fn the_administrator_is_made_once_and_never_again() {
    let rig = Rig::new();
    let parts = rig.parts();
    let make = || make_administrator(&parts.local_users, &parts.store, &parts.audit);
    make();
    let file = parts.store.first_password_file();
    let first = std::fs::read_to_string(&file).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let admin = &rig.ops.local_users().await.unwrap()[0];
    assert!(admin.name == ADMINISTRATOR && admin.role == Role::Administrator && admin.must_change);
    let status = rig.ops.status().await.unwrap();
    assert!(
        status.local_users.count == 1
            && status.warnings.iter().any(|said| said.contains("user password admin"))
    );
    let check = |text: String| parts.local_users.check(ADMINISTRATOR, password(&text));
    let refused = check(first.trim().to_owned()).await.unwrap_err();
    assert_eq!(refused.label(), "must-change");
    // Another start.
    make();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), first);

    rig.ops.set_user_password(ADMINISTRATOR, password("battery staple"), operator()).await.unwrap();
    assert!(!file.exists(), "it says nothing that is true any more");
    assert!(check("battery staple".into()).await.is_ok());
    assert!(
        !rig.ops.status().await.unwrap().warnings.iter().any(|said| said.contains("user password admin"))
    );
    // A crash had left it behind.
    std::fs::write(&file, "old").unwrap();
    make();
    assert!(!file.exists());
    rig.ops.remove_user(ADMINISTRATOR, operator()).await.unwrap();
    make();
    assert!(
        !parts.local_users.knows(ADMINISTRATOR) && !file.exists(),
        "whoever was removed does not come back"
    );
    let how: Vec<_> =
        rig.ordered().into_iter().filter_map(|line| line.actor).map(|actor| actor.via).collect();
    assert_eq!(how[0], Via::Start);
}

#[tokio::test]
async fn where_there_are_users_no_administrator_is_made() {
    let rig = Rig::new();
    let parts = rig.parts();
    rig.ops.add_user("bob", password("correct horse"), Role::User, operator()).await.unwrap();
    rig.ops.remove_user("bob", operator()).await.unwrap();
    make_administrator(&parts.local_users, &parts.store, &parts.audit);
    assert_eq!(parts.local_users.count(), 0);
}

/// Killed between the change of a user and the end of the sessions, nobody was told that it was done; but the sessions must
/// not go on.
#[tokio::test]
async fn sessions_that_a_crash_has_left_of_changed_users_end_at_the_next_start() {
    let rig = Rig::new();
    let tracker = rig.parts().tracker.clone();
    let added =
        |name: &'static str| rig.ops.add_user(name, password("correct horse"), Role::User, operator());
    for (number, name) in [(0, "bob"), (1, "anna"), (2, "carol")] {
        added(name).await.unwrap();
        tracker.prove(proof(number, &Identity::local(name), boot_now())).await.unwrap();
    }
    tracker.prove(proof(3, &Identity::local("gone"), boot_now())).await.unwrap();
    tracker.prove(proof(4, &Identity::new("gone", "LOCAL", "LOCAL"), boot_now())).await.unwrap();
    // As the disk has it then.
    let change = |name: &str, change: fn(&mut crate::store::StoredUser)| {
        let users = &rig.parts().local_users;
        let changed = users.change::<()>(name, |now, _| {
            let mut user = now.unwrap().clone();
            change(&mut user);
            Ok(Some(user))
        });
        changed.unwrap();
    };
    change("bob", |bob| bob.disabled = true);
    change("anna", |anna| anna.changed = wall_now());
    rig.ops.end_sessions_of_changed_users().await;
    let left: Vec<_> = logged_in(&rig).await.into_iter().map(|(who, _)| who).collect();
    assert_eq!(left, ["LOCAL\\gone", "local\\carol"]);
}
