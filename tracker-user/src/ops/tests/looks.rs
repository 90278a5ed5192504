//! What can be looked at: good, and not there.

use super::*;

#[tokio::test]
async fn status_counts_without_looking_at_anybody() {
    let rig = Rig::with(600, Limits::default());
    let (status, asked) = rig.asked_during(rig.ops.status()).await;
    let status = status.unwrap();
    assert_eq!((status.active, status.stale, status.users, status.licences.used), (600, 0, 120, 120));
    assert_eq!((status.records, status.connections, status.licences.max), (600, 0, None));
    assert!(status.warnings.contains(&"of a test".to_owned()), "{:?}", status.warnings);
    assert!(asked.iter().all(|asked| *asked == Asked::Other), "nothing is walked over: {asked:?}");
}

#[tokio::test]
async fn sessions_are_told_the_newest_first() {
    let rig = Rig::with(600, Limits::default());
    let sessions = rig.ops.sessions().await.unwrap();
    let ids: Vec<u64> = sessions.iter().map(|session| session.id.number()).collect();
    assert_eq!(ids, (1_000..1_600).rev().collect::<Vec<_>>());
    let first = sessions.last().unwrap();
    assert_eq!((first.scope.client, &first.identity), (client(0), &user(0)));
    assert!(
        first.standing == Standing::Active && first.expires.is_some() && first.reason.is_none(),
        "{first:?}"
    );
}

#[tokio::test]
async fn one_session_is_told_with_what_belongs_to_it_or_is_not_there() {
    let rig = Rig::with(3, Limits::default());
    let detail = rig.ops.session(client(2)).await.unwrap();
    assert_eq!((detail.session.id.number(), detail.sessions.len(), detail.connections.len()), (1_002, 0, 0));
    let error = rig.ops.session(client(3)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "nobody is logged in from 10.0.0.3");
    assert!(rig.ops.connections(client(2)).await.unwrap().is_empty());
    assert!(rig.ops.decisions(client(2)).await.unwrap().is_empty());
}

#[tokio::test]
async fn users_have_all_their_clients() {
    let rig = Rig::with(12, Limits::default());
    let users = rig.ops.users().await.unwrap();
    let told: Vec<_> =
        users.iter().map(|user| (user.identity.user(), user.clients.len(), user.licences)).collect();
    assert_eq!(told, [("user0", 5, 1), ("user1", 5, 1), ("user2", 2, 1)]);
    assert!(users.iter().all(|user| user.stale_clients.is_empty()));
}

#[tokio::test]
async fn hosts_are_everybody_who_has_a_record() {
    let limits = Limits { rate_span: Duration::ZERO, ..Limits::default() };
    let rig = Rig::with(3, limits);
    // A stranger.
    rig.parts().observer.eyes().unwrap().opened(client(9), boot_now());
    let hosts = rig.ops.hosts().await.unwrap();
    assert_eq!(hosts.len(), 4);
    let of = |number| hosts.iter().find(|host| host.client == client(number)).unwrap();
    assert_eq!((&of(1).users, of(1).state), (&vec![user(0)], Some(State::Active)));
    assert_eq!((of(9).users.len(), of(9).state, of(9).activity.open_connections), (0, None, 1));
    assert!(of(1).activity.last_traffic.is_none() && of(1).activity.closed.is_none(), "{:?}", of(1));
}

#[tokio::test]
async fn explain_says_what_a_request_would_get() {
    let rig = Rig::with(3, Limits::default());
    let known = rig.ops.explain(client(1), Hypothetical::default()).await.unwrap();
    let (id, identity) = known.session.unwrap();
    assert_eq!((id.number(), identity, known.offer.is_some()), (1_001, user(0), false));
    assert_eq!(known.findings.iter().filter(|finding| finding.decides).count(), 1);
    let stranger = rig.ops.explain(client(7), Hypothetical::default()).await.unwrap();
    assert_eq!((stranger.answer, stranger.session.is_none()), (Answer::Challenge, true));
    rig.ops.set("kerberos.conditions.disabled", "true", operator()).await.unwrap();
    let described = Hypothetical { url: Some("http://o.test/".into()), ..Hypothetical::default() };
    let denied = rig.ops.explain(client(7), described).await.unwrap();
    assert_eq!(denied.answer, Answer::Deny);
    assert!(!denied.offer.unwrap().offered && denied.why.contains("disabled"), "{}", denied.why);
}

#[tokio::test]
async fn history_has_what_runs_and_what_is_over() {
    let rig = Rig::with(7, Limits::default());
    let wanted = crate::store::Wanted { client: None, user: None, at: None, most: 5 };
    let told = rig.ops.history(wanted.clone()).await.unwrap();
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told.iter().all(|tenure| tenure.until.is_none()));
    rig.ops.logout(crate::tracker::Whose::Client(client(6)), operator()).await.unwrap();
    let of = crate::store::Wanted { user: Some("user1".into()), ..wanted };
    let told = rig.ops.history(of.clone()).await.unwrap();
    let over: Vec<_> = told.iter().map(|tenure| (tenure.client.as_str(), tenure.until.is_some())).collect();
    assert!(
        told.len() == 2 && over.contains(&("10.0.0.6", true)) && over.contains(&("10.0.0.5", false)),
        "{over:?}"
    );
    rig.parts().store.close();
    let error = rig.ops.history(of).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn a_look_is_bounded_in_number_time_and_size() {
    let limits = Limits { walks: 1, wait: Duration::from_millis(5), entries: 1_000, ..Limits::default() };
    let rig = Rig::with(600, limits);
    let place = rig.ops.place().await.unwrap();
    let error = rig.ops.sessions().await.unwrap_err();
    assert!(
        matches!(error, OpsError::TooMany { walks: 1, .. }) && error.to_string().contains("try again"),
        "{error}"
    );
    assert!(rig.ops.session(client(1)).await.is_ok(), "one client is no walk");
    drop(place);
    assert_eq!(rig.ops.sessions().await.unwrap().len(), 600);

    let rig = Rig::with(600, Limits { entries: 300, rate_span: Duration::ZERO, ..limits });
    for error in [
        rig.ops.sessions().await.unwrap_err(),
        rig.ops.users().await.unwrap_err(),
        rig.ops.hosts().await.unwrap_err(),
    ] {
        assert!(matches!(error, OpsError::TooLarge { most: 300 }), "{error}");
    }
    let rig = Rig::with(600, Limits { patience: Duration::ZERO, ..limits });
    let error = rig.ops.sessions().await.unwrap_err();
    assert!(matches!(error, OpsError::TooSlow { .. }), "{error}");
}
