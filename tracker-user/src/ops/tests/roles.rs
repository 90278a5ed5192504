//! Roles: who has which, what becomes of sessions when they change, and that the pages never lock their administrators out.

use crate::types::ADMINISTRATOR;
use zeroize::Zeroizing;

use super::*;
use crate::auth::Password;
use crate::types::Role;

fn password(text: &str) -> Password {
    Password::new(Zeroizing::new(text.into()))
}

/// An administrator at the pages.
fn on_pages(name: &str) -> Actor {
    Actor::on_portal(&Identity::local(name), client(9))
}

async fn add(rig: &Rig, name: &str, role: Role) {
    rig.ops.add_user(name, password("correct horse"), role, operator()).await.unwrap();
}

#[tokio::test]
async fn a_role_is_changed_at_once_told_with_what_it_was_and_no_session_ends() {
    let rig = Rig::new();
    add(&rig, "Bob", Role::User).await;
    let bob = Identity::local("bob");
    let proof = crate::session::Proof {
        client: client(1),
        identity: Arc::new(bob.clone()),
        method: Method::Password,
        factors: Factors::NONE,
        enrolled: Factors::NONE,
        at: boot_now(),
        connection: None,
        device: None,
    };
    rig.parts().tracker.prove(proof).await.unwrap();
    let generation = rig.parts().local_users.generation("bob");
    for (role, again) in [(Role::Viewer, false), (Role::Viewer, true), (Role::Administrator, false)] {
        let changed = rig.ops.set_user_role("BOB", role, on_pages("admin")).await.unwrap();
        assert_eq!((changed.user.map(|user| user.role), changed.ended.len()), (Some(role), 0), "{again}");
        assert_eq!(rig.ops.role_of(&bob), role);
    }
    assert_eq!(rig.ops.sessions().await.unwrap().len(), 1);
    // Nor does a restart end it, and a password that is remembered as right still is.
    rig.ops.end_sessions_of_changed_users().await;
    assert_eq!(rig.ops.sessions().await.unwrap().len(), 1);
    assert_eq!(rig.parts().local_users.generation("bob"), generation);
    let told: Vec<_> = rig.ordered().into_iter().map(|line| (line.reason, line.role, line.before)).collect();
    let line = |how: &str, role: &str, before: Option<&str>| {
        (Some(how.to_owned()), Some(role.to_owned()), before.map(str::to_owned))
    };
    assert_eq!(
        told,
        [
            line("added", "user", None),
            line("role", "viewer", Some("user")),
            line("role", "administrator", Some("viewer")),
        ]
    );
    let (events, _) = rig.parts().store.events(Timestamp::UNIX_EPOCH, None, 99).unwrap();
    let by = events.last().and_then(|line| line.actor.clone());
    assert_eq!(by, Some(on_pages("admin")), "on disk, with who and from where");
    assert_eq!(rig.parts().store.users().unwrap()[0].role, Role::Administrator);
    assert!(rig.ops.set_user_role("carol", Role::User, operator()).await.is_err());
}

#[tokio::test]
async fn who_cannot_log_in_may_not_do_more_than_anybody() {
    let rig = Rig::new();
    add(&rig, "bob", Role::Administrator).await;
    let bob = Identity::local("Bob");
    assert_eq!(rig.ops.role_of(&bob), Role::Administrator);
    rig.ops.disable_user("bob", operator()).await.unwrap();
    assert_eq!(rig.ops.role_of(&bob), Role::User);
    rig.ops.enable_user("bob", operator()).await.unwrap();
    assert_eq!(rig.ops.role_of(&bob), Role::Administrator);
    // Called alike, and somebody else.
    for other in [Identity::new("bob", "LOCAL", "LOCAL"), Identity::new("bob", "EXAMPLE.TEST", "local")] {
        assert_eq!(rig.ops.role_of(&other), Role::User, "{other:?}");
    }
    rig.ops.remove_user("bob", operator()).await.unwrap();
    assert_eq!(rig.ops.role_of(&bob), Role::User);
    let parts = rig.parts();
    make_administrator(&parts.local_users, &parts.store, &parts.audit);
    assert!(parts.local_users.user(ADMINISTRATOR).is_none(), "there were users");
}

#[tokio::test]
async fn the_first_password_gives_no_role_before_it_is_changed() {
    let rig = Rig::new();
    let parts = rig.parts();
    make_administrator(&parts.local_users, &parts.store, &parts.audit);
    let admin = Identity::local(ADMINISTRATOR);
    assert_eq!(rig.ops.role_of(&admin), Role::User);
    rig.ops.set_user_password(ADMINISTRATOR, password("battery staple"), operator()).await.unwrap();
    assert_eq!(rig.ops.role_of(&admin), Role::Administrator);
}

#[tokio::test]
async fn users_of_realms_have_the_role_that_the_lists_give_from_that_moment_on() {
    let rig = Rig::new();
    let alice = Identity::new("Alice", "EXAMPLE.TEST", "EXAMPLE.TEST");
    assert_eq!(rig.ops.role_of(&alice), Role::User);
    for (key, role) in [("portal.viewers", Role::Viewer), ("portal.administrators", Role::Administrator)] {
        rig.ops.set(key, "alice@example.test", on_pages("admin")).await.unwrap();
        assert_eq!(rig.ops.role_of(&alice), role);
    }
    assert_eq!(rig.ops.role_of(&Identity::new("alice", "OTHER.TEST", "EXAMPLE.TEST")), Role::User);
    let kept = rig.ops.get(Some("portal.administrators")).await.unwrap();
    let set = kept[0].set.clone().unwrap();
    assert_eq!(set.by, Some(on_pages("admin")), "who set it, and from where");
    assert!(set.at.is_some());
    for key in ["portal.viewers", "portal.administrators"] {
        rig.ops.unset(key, on_pages("admin")).await.unwrap();
    }
    assert_eq!(rig.ops.role_of(&alice), Role::User);
}

/// Nobody takes the right to administer from themselves by a setting, whichever it is; others can, and so can the file.
#[tokio::test]
async fn nobody_takes_their_own_right_away_by_a_setting() {
    const LIST: &str = "portal.administrators";
    let rig = Rig::new();
    let who = |user: &str| Arc::new(Identity::new(user, "EXAMPLE.TEST", "EXAMPLE.TEST"));
    let (alice, bob) = (who("alice"), who("bob"));
    let actor = |who: &Identity| Actor::on_portal(who, client(9));
    rig.ops.set(LIST, "alice@EXAMPLE.TEST,bob@EXAMPLE.TEST", on_pages("admin")).await.unwrap();
    let told = rig.ordered().len();
    let refused = [
        rig.ops.set_administering(LIST, "bob@EXAMPLE.TEST", actor(&alice), Arc::clone(&alice)).await,
        rig.ops.unset_administering(LIST, actor(&alice), Arc::clone(&alice)).await,
    ];
    for found in refused {
        let error = found.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains(LIST), "{error}");
    }
    assert_eq!((rig.ops.role_of(&alice), rig.ordered().len()), (Role::Administrator, told));
    rig.ops.set_administering(KEY, "7m", actor(&alice), Arc::clone(&alice)).await.unwrap();
    // Bob takes it from alice, who has nothing to lose then.
    rig.ops.set_administering(LIST, "bob@EXAMPLE.TEST", actor(&bob), Arc::clone(&bob)).await.unwrap();
    assert_eq!(rig.ops.role_of(&alice), Role::User);
    // The gateway's own have theirs elsewhere.
    let admin = Arc::new(Identity::local("admin"));
    rig.ops.unset_administering(LIST, on_pages("admin"), admin).await.unwrap();
    assert_eq!(rig.ops.role_of(&bob), Role::User);
}

#[tokio::test]
async fn the_pages_never_take_away_the_last_administrator_and_the_operator_on_the_host_may() {
    let rig = Rig::new();
    add(&rig, "anna", Role::Administrator).await;
    add(&rig, "bob", Role::Administrator).await;
    add(&rig, "vera", Role::Viewer).await;
    let pages = || on_pages("anna");
    rig.ops.disable_user("bob", pages()).await.unwrap();
    let told = rig.ordered().len();
    let refused = [
        rig.ops.set_user_role("anna", Role::Viewer, pages()).await,
        rig.ops.disable_user("ANNA", pages()).await,
        rig.ops.remove_user("anna", pages()).await,
    ];
    for found in refused {
        let error = found.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().starts_with("anna is the only local user"), "{error}");
    }
    assert_eq!(rig.ops.role_of(&Identity::local("anna")), Role::Administrator);
    assert_eq!(rig.ordered().len(), told, "nothing was done, and nothing is told");
    // Whoever is no administrator, or is none any more, can go; so can the last one once there is another.
    rig.ops.remove_user("bob", pages()).await.unwrap();
    rig.ops.set_user_role("vera", Role::Administrator, pages()).await.unwrap();
    assert_eq!(rig.ops.remove_user("anna", pages()).await.unwrap().warning, None);
    // By the admin socket, with a word of warning.
    let changed = rig.ops.set_user_role("vera", Role::User, operator()).await.unwrap();
    assert!(changed.warning.is_some_and(|said| said.contains("trackerctl user role")));
}

/// Two administrators who take each other away at the same moment: one of them stays.
#[tokio::test]
async fn two_who_take_each_other_away_at_once_do_not_both_succeed() {
    let rig = Rig::new();
    add(&rig, "anna", Role::Administrator).await;
    add(&rig, "bob", Role::Administrator).await;
    let (first, second) = tokio::join!(
        rig.ops.set_user_role("bob", Role::User, on_pages("anna")),
        rig.ops.remove_user("anna", on_pages("bob")),
    );
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
}

/// What an administrator does on the pages stands in the trail, in memory and on disk, with who and from where.
#[tokio::test]
async fn orders_from_the_pages_are_told_with_who_gave_them_and_from_where() {
    let rig = Rig::with(2, Limits::default());
    let pages = || on_pages("anna");
    rig.ops.logout(crate::tracker::Whose::Client(client(0)), pages()).await.unwrap();
    for _ in 0..3 {
        let one = rig.parts().regulator.begin("192.0.2.1".parse().unwrap(), "alice@example.test").unwrap();
        one.known().failed();
    }
    rig.ops.lift_bans("alice@example.test".into(), pages()).await.unwrap();
    rig.ops.set(KEY, "7m", pages()).await.unwrap();
    rig.ops.unset(KEY, pages()).await.unwrap();
    rig.ops.add_user("carol", password("correct horse"), Role::Viewer, pages()).await.unwrap();
    rig.ops.set_user_password("carol", password("battery staple"), pages()).await.unwrap();
    let told = rig.ordered();
    let words: Vec<&str> = told.iter().map(|line| line.event.as_str()).collect();
    assert_eq!(words, ["ended", "lifted", "setting", "setting", "user", "user"]);
    assert!(told.iter().all(|line| line.actor.as_ref() == Some(&pages())), "{told:#?}");
    until(|| {
        let (kept, _) = rig.parts().store.events(Timestamp::UNIX_EPOCH, None, 99).unwrap();
        kept.iter().filter(|line| line.actor.as_ref() == Some(&pages())).count() == told.len()
    })
    .await;
}
