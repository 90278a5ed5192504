//! What changes something: good, refused, not found; and who it was in the audit trail.

use super::*;
use crate::tracker::Whose;

#[tokio::test]
async fn a_setting_that_is_set_and_unset_names_its_operator_and_its_old_and_new_value() {
    let rig = Rig::new();
    let set = rig.ops.set("proxy-auth-timeout", "7", operator()).await.unwrap();
    assert_eq!((set.value.as_str(), set.source), ("7m", Source::Set));
    assert_eq!(set.set.unwrap().by, Some(operator()));
    let unset = rig.ops.unset(KEY, operator()).await.unwrap();
    assert_eq!((unset.value.as_str(), unset.source), ("10m", Source::Default));
    let told = |to: &str, from: &str| (format!("{KEY} = {to}"), from.to_owned(), operator());
    assert_eq!(rig.changes(), [told("7m", "10m"), told("10m", "7m")]);
    let (events, _) = rig.parts().store.events(jiff::Timestamp::UNIX_EPOCH, None, 10).unwrap();
    let kept: Vec<_> = events.into_iter().filter_map(|event| event.actor).collect();
    assert_eq!(kept, [operator(), operator()], "on disk as well");
    let applied: Vec<_> =
        rig.applied.lock().unwrap().iter().map(|config| config.timeouts.timeout.as_secs()).collect();
    assert_eq!(applied, [420, 600]);
}

/// Killed in the middle of an order, the gateway has both, or neither: no setting is in force that nobody has ordered.
#[tokio::test]
async fn a_setting_on_disk_has_its_line_on_disk() {
    let rig = Rig::new();
    // From here on, what comes later is not written any more.
    rig.parts().journal.close();
    rig.ops.set("proxy-auth-timeout", "7", operator()).await.unwrap();
    rig.ops.unset(KEY, operator()).await.unwrap();
    let (events, _) = rig.parts().store.events(jiff::Timestamp::UNIX_EPOCH, None, 10).unwrap();
    let kept: Vec<_> = events.into_iter().filter_map(|event| event.setting).collect();
    assert_eq!(kept, [format!("{KEY} = 7m"), format!("{KEY} = 10m")]);
}

#[tokio::test]
async fn what_is_refused_changes_nothing_and_says_what_helps() {
    let rig = Rig::new();
    for (key, value, kind, says) in [
        ("no-such-key", "1", ErrorKind::Wrong, "no-such-key"),
        ("proxy-auth-timeout", "soon", ErrorKind::Wrong, "proxy-auth-timeout"),
        ("proxy.listen", "127.0.0.1:1", ErrorKind::Conflict, "restart trackerd"),
    ] {
        let error = rig.ops.set(key, value, operator()).await.unwrap_err();
        assert!(error.kind() == kind && error.to_string().contains(says), "{key}: {error}");
    }
    let error = rig.ops.unset(KEY, operator()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("was not set"), "{error}");
    let error = rig.ops.unset("no-such-key", operator()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Wrong, "{error}");
    assert_eq!(rig.ops.get(Some("no-such-key")).await.unwrap_err().kind(), ErrorKind::Wrong);
    rig.parts().store.close();
    let error = rig.ops.set(KEY, "7m", operator()).await.unwrap_err();
    assert!(
        error.kind() == ErrorKind::NoRoom && error.to_string().contains("nothing was changed"),
        "{error}"
    );
    assert_eq!(rig.ops.get(Some(KEY)).await.unwrap()[0].value, "10m");
    assert!(rig.ops.get(None).await.unwrap().len() > 50);
    assert!(rig.changes().is_empty() && rig.applied.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_file_that_is_read_again_is_the_actor_of_every_key_that_it_changes() {
    let rig = Rig::new();
    let file = || Actor::unknown(Via::File);
    assert!(rig.ops.reload(file()).await.unwrap().is_empty());
    std::fs::write(&rig.file, "[timeouts]\nproxy-auth-timeout = \"8m\"\n[licences]\nmax-users = 7\n")
        .unwrap();
    let changed = rig.ops.reload(file()).await.unwrap();
    assert_eq!(changed.len(), 2, "{changed:?}");
    let mut told = rig.changes();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    let line = |setting: &str, before: &str| (setting.to_owned(), before.to_owned(), file());
    assert_eq!(told, [line("licences.max-users = 7", "0"), line("timeouts.proxy-auth-timeout = 8m", "10m")]);
    // The newer word is the file's; an operator's own is on top again.
    rig.ops.set(KEY, "9m", operator()).await.unwrap();
    std::fs::write(&rig.file, "[timeouts]\nproxy-auth-timeout = \"6m\"\n").unwrap();
    rig.ops.reload(Actor::unknown(Via::Signal)).await.unwrap();
    let last: Vec<_> = rig.changes().into_iter().skip(3).collect();
    assert!(last.contains(&(format!("{KEY} = 6m"), "9m".into(), Actor::unknown(Via::Signal))), "{last:?}");
    assert!(rig.parts().store.settings().unwrap().is_empty(), "what was set is outlived");

    std::fs::write(&rig.file, "no-such-key = 1\n").unwrap();
    let before = rig.changes().len();
    let error = rig.ops.reload(file()).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Conflict && error.to_string().contains("no-such-key"), "{error}");
    assert_eq!(rig.changes().len(), before);
    assert!(rig.parts().configuration.warnings().iter().any(|warning| warning.contains("was refused")));
}

#[tokio::test]
async fn an_order_is_carried_out_to_its_end_whoever_leaves() {
    let rig = Rig::with(1, Limits::default());
    drop(tokio::time::timeout(Duration::ZERO, rig.ops.set(KEY, "7m", operator())).await);
    until(|| rig.applied.lock().unwrap().len() == 1).await;
    until(|| rig.parts().store.settings().unwrap().contains_key(KEY)).await;
    drop(tokio::time::timeout(Duration::ZERO, rig.ops.logout(Whose::All, operator())).await);
    until(|| rig.ordered().len() == 2).await;
}

#[tokio::test]
async fn a_logout_names_its_operator_and_ends_who_is_meant() {
    let rig = Rig::with(1_200, Limits::default());
    let ended = |whose| {
        let logout = rig.ops.logout(whose, operator());
        async { logout.await.map(|done| done.ended.len()).map_err(|error| (error.kind(), error.to_string())) }
    };
    assert_eq!(ended(Whose::Client(client(3))).await, Ok(1));
    let line = rig.ordered().pop().unwrap();
    assert_eq!((line.actor, line.client.as_deref()), (Some(operator()), Some("10.0.0.3")));
    assert_eq!(line.reason.as_deref(), Some("admin"));
    let nobody = |text: &str| Err((ErrorKind::NotFound, text.to_owned()));
    assert_eq!(ended(Whose::Client(client(3))).await, nobody("nobody is logged in from 10.0.0.3"));
    assert_eq!(ended(Whose::User("User0@example.test".into())).await, Ok(4));
    assert_eq!(ended(Whose::User("user0".into())).await, nobody("user0 is not logged in"));
    assert_eq!(ended(Whose::All).await, Ok(1_195));
    assert_eq!(ended(Whose::All).await, Ok(0), "that nobody is left is no failure");
    assert!(rig.ops.sessions().await.unwrap().is_empty());
    assert_eq!(rig.ordered().len(), 1_200, "each of them has a line");
}

#[tokio::test]
async fn a_logout_that_the_disk_does_not_take_is_no_success() {
    let rig = Rig::with(600, Limits::default());
    rig.parts().journal.close();
    let error = rig.ops.logout(Whose::All, operator()).await.unwrap_err();
    assert!(matches!(error, OpsError::NotKept { ended: 600, .. }), "{error}");
    assert_eq!(error.kind(), ErrorKind::NoRoom);
}
