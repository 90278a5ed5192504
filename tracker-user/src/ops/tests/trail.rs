//! The audit trail: as far back as the store has it, on with what happens, and never cut short without a word.

use super::*;
use crate::audit::{Event, Kind, RefusedEvent, TrailEntry};
use crate::tracker::Whose;

/// So many events that only the store has.
async fn stored(rig: &Rig, count: i64) {
    let begin = wall_now().as_second() - 10_000;
    let event = |second| {
        let time = Timestamp::from_second(begin + second).unwrap();
        let refused = RefusedEvent {
            client: None,
            cause: "dns",
            why: "".into(),
            method: None,
            user: None,
            count: None,
        };
        Entry::Event(Arc::new(TrailEntry { time, event: Event::Refused(refused) }))
    };
    let (told, kept) = tokio::sync::oneshot::channel();
    let answer = Box::new(|kept: Result<(), _>| told.send(kept.is_ok()).unwrap());
    rig.parts().journal.submit((0..count).map(event).collect(), Some(answer));
    assert!(kept.await.unwrap());
}

#[tokio::test]
async fn the_trail_is_told_from_the_store_and_from_memory_and_goes_on() {
    let rig = Rig::with(2, Limits::default());
    stored(&rig, 2_500).await;
    rig.ops.logout(Whose::Client(client(0)), operator()).await.unwrap();
    let mut events = rig.ops.events(Some(Timestamp::UNIX_EPOCH), true).await.unwrap();
    for _ in 0..2_500 {
        let told = events.next().await.unwrap().unwrap();
        assert!(matches!(&told, Told::Stored(event) if event.event == "refused"), "{told:?}");
    }
    let is_an_end = |told| matches!(told, Some(Ok(Told::Event(entry))) if entry.event.kind() == Kind::Ended);
    assert!(is_an_end(events.next().await));
    rig.ops.logout(Whose::Client(client(1)), operator()).await.unwrap();
    assert!(is_an_end(events.next().await));
    // Without `since`, it is what memory has; without `follow`, there is an end.
    let mut events = rig.ops.events(None, false).await.unwrap();
    assert!(is_an_end(events.next().await) && is_an_end(events.next().await));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_trail_that_cannot_be_read_says_so_at_its_beginning_and_at_its_end() {
    let rig = Rig::new();
    stored(&rig, 2_500).await;
    let mut events = rig.ops.events(Some(Timestamp::UNIX_EPOCH), false).await.unwrap();
    let mut told = 0;
    let error = loop {
        match events.next().await.expect("no end without a word") {
            Ok(_) => told += 1,
            Err(error) => break error,
        }
        // The second page is not read before most of the first one has been.
        rig.parts().store.close();
    };
    assert!(told == 1_000 && matches!(error, OpsError::Store(_)), "{told} {error}");
    assert!(events.next().await.is_none());
    let error = rig.ops.events(Some(Timestamp::UNIX_EPOCH), false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn only_so_many_follow_and_who_leaves_makes_room() {
    let rig = Rig::with(0, Limits { followers: 2, ..Limits::default() });
    let first = rig.ops.events(None, true).await.unwrap();
    let _second = rig.ops.events(None, true).await.unwrap();
    let error = rig.ops.events(None, true).await.unwrap_err();
    assert_eq!(error.to_string(), "2 programs follow the events already; end one of them (lsof names them)");
    assert!(rig.ops.events(None, false).await.is_ok(), "to look is not to follow");
    drop(first);
    until(|| rig.ops.0.followers.available_permits() == 1).await;
    assert!(rig.ops.events(None, true).await.is_ok());
}
