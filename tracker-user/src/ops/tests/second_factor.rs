//! Further factors: who has what, taking it away, and another key.

use zeroize::Zeroizing;

use super::*;
use crate::auth::Password;
use crate::auth::factors::{Authenticator, RecoveryCode};
use crate::store::SealedTable;
use crate::types::{Factor, Role};

fn user(name: &str, realm: &str) -> Arc<Identity> {
    Arc::new(Identity::new(name, realm, realm))
}

fn authenticator() -> Authenticator {
    let text = r#"{"parameters":{"algorithm":"SHA1","digits":6,"period":30},"secret":"010203","last_step":7,"drift":1,
        "since":"2026-01-01T00:00:00Z","used":"2026-02-01T00:00:00Z"}"#;
    serde_json::from_str(text).unwrap()
}

/// Has somebody set up an authenticator, an address and a recovery code. On disk when this returns.
async fn set_up(rig: &Rig, who: &Arc<Identity>) {
    let (_, row) = rig
        .parts()
        .factors
        .change(who, |account| {
            account.authenticator = Some(authenticator());
            account.recovery_address = Some(Zeroizing::new("alice.smith@example.org".to_owned()));
            account.recovery_codes = vec![RecoveryCode([7; 32])];
        })
        .unwrap();
    keep(rig, row).await;
}

async fn keep(rig: &Rig, row: Entry) {
    let (tell, told) = tokio::sync::oneshot::channel();
    rig.parts().journal.submit(vec![row], Some(Box::new(|kept| tell.send(kept).unwrap())));
    told.await.unwrap().unwrap();
}

fn rows(rig: &Rig) -> Vec<String> {
    let rows = rig.parts().store.sealed(SealedTable::SecondFactors).unwrap();
    rows.into_iter().map(|(key, _)| key).collect()
}

/// What the audit trail on disk says of second factors.
fn told(rig: &Rig) -> Vec<(Option<String>, Option<String>, Option<Actor>)> {
    let (events, _) = rig.parts().store.events(Timestamp::UNIX_EPOCH, None, 99).unwrap();
    let of = events.into_iter().filter(|event| event.event == "second-factor");
    of.map(|event| (event.user, event.reason, event.actor)).collect()
}

#[tokio::test]
async fn what_somebody_has_set_up_is_shown_without_its_secrets() {
    let rig = Rig::new();
    let alice = user("Alice", "EXAMPLE.TEST");
    set_up(&rig, &alice).await;
    rig.ops.add_user("Bob", password("correct horse"), Role::User, operator()).await.unwrap();
    let all = rig.ops.second_factors().await.unwrap();
    assert_eq!(all.len(), 1);
    let set_up = all[0].set_up.clone().unwrap();
    assert_eq!((all[0].identity.to_string().as_str(), all[0].demand), ("Alice@EXAMPLE.TEST", None));
    assert_eq!(set_up.authenticator.map(|of| of.drift), Some(1));
    assert_eq!((set_up.recovery_address.as_deref(), set_up.recovery_codes), (Some("a…@example.org"), 1));
    for called in ["alice", "ALICE@example.test", "example.test\\Alice"] {
        assert_eq!(rig.ops.second_factor(called).await.unwrap().len(), 1, "{called}");
    }
    let bob = rig.ops.second_factor("bob").await.unwrap();
    assert_eq!(bob[0].set_up, Some(SetUp::default()), "one of the gateway's own, who has set up nothing");
    let error = rig.ops.second_factor("mallory").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_reset_is_of_one_user_told_with_its_operator_and_on_disk() {
    let rig = Rig::new();
    let (one, other) = (user("alice", "A.TEST"), user("alice", "B.TEST"));
    set_up(&rig, &one).await;
    set_up(&rig, &other).await;
    let error = rig.ops.reset_second_factor("Alice", operator()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("alice@a.test or alice@b.test"), "{error}");
    let reset = rig.ops.reset_second_factor("A.TEST\\ALICE", operator()).await.unwrap();
    assert_eq!((*reset.identity == *one, reset.warning), (true, None));
    assert_eq!(rows(&rig), ["alice@b.test"]);
    assert_eq!(rig.parts().factors.enrolled(&one), Factors::NONE);
    assert_eq!(rig.parts().factors.enrolled(&other), Factors::NONE.with(Factor::Totp));
    assert_eq!(told(&rig), [(Some("alice".into()), Some("reset".into()), Some(operator()))]);
    assert_eq!(rig.ordered().len(), 1, "and in memory once");
    let error = rig.ops.reset_second_factor("alice@a.test", operator()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn whoever_is_added_under_the_name_of_somebody_removed_inherits_nothing() {
    let rig = Rig::new();
    let add = |name| rig.ops.add_user(name, password("correct horse"), Role::User, operator());
    add("Bob").await.unwrap();
    let bob = Arc::new(Identity::local("Bob"));
    set_up(&rig, &bob).await;
    // Whom there is already is not added, and loses nothing by it.
    add("BOB").await.unwrap_err();
    assert_eq!(rows(&rig), ["bob@"]);
    rig.ops.remove_user("bob", operator()).await.unwrap();
    assert!(rows(&rig).is_empty() && told(&rig).len() == 1);
    // A crash, or an earlier version, may have left something.
    set_up(&rig, &bob).await;
    add("boB").await.unwrap();
    assert_eq!((rows(&rig).len(), rig.parts().factors.enrolled(&bob)), (0, Factors::NONE));
    let alice = user("alice", "EXAMPLE.TEST");
    for who in [&bob, &alice, &Arc::new(Identity::local("gone"))] {
        set_up(&rig, who).await;
    }
    rig.ops.forget_factors_of_removed_users().await;
    keep(&rig, rig.parts().factors.change(&alice, |account| account.wrong = 1).unwrap().1).await;
    assert_eq!(rows(&rig), ["alice@example.test", "bob@"]);
}

#[tokio::test]
async fn another_key_is_told_as_a_setting_and_opens_everything() {
    let rig = Rig::new();
    let alice = user("alice", "EXAMPLE.TEST");
    set_up(&rig, &alice).await;
    let before = rig.parts().store.sealed(SealedTable::SecondFactors).unwrap();
    let rotated = rig.ops.rotate_second_factor_key(operator()).await.unwrap();
    assert_ne!(rotated.before, rotated.after);
    assert_eq!(rotated.unreadable, 0);
    let after = rig.parts().store.sealed(SealedTable::SecondFactors).unwrap();
    assert_ne!(before, after);
    let setting = format!("second-factor.key = {}", rotated.after);
    assert_eq!(rig.changes(), [(setting, rotated.before, operator())]);
    assert!(rig.parts().factors.account(&alice).is_some());
}

fn password(text: &str) -> Password {
    Password::new(Zeroizing::new(text.into()))
}
