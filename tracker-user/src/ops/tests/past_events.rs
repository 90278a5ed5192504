//! The audit trail backwards: each event once, whatever page it falls on, and whoever has it.

use super::*;
use crate::audit::{Event, RefusedEvent, TrailEntry};
use crate::tracker::Whose;

fn refused(time: Timestamp, why: &str, client: Option<ClientAddr>) -> Arc<TrailEntry> {
    let refused =
        RefusedEvent { client, cause: "dns", why: why.into(), method: None, user: None, count: None };
    Arc::new(TrailEntry { time, event: Event::Refused(refused) })
}

async fn keep(rig: &Rig, entries: Vec<Arc<TrailEntry>>) {
    let (told, kept) = tokio::sync::oneshot::channel();
    let answer = Box::new(|kept: Result<(), _>| told.send(kept.is_ok()).unwrap());
    rig.parts().journal.submit(entries.into_iter().map(Entry::Event).collect(), Some(answer));
    assert!(kept.await.unwrap());
}

/// What all pages of so many events say, one after the other.
async fn all(rig: &Rig, mut wanted: WantedEvents) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let page = rig.ops.past_events(wanted.clone()).await.unwrap();
        assert!(page.events.len() <= wanted.most);
        told.extend(page.events.into_iter().map(|event| event.reason.unwrap_or_default()));
        let Some(next) = page.next else { return told };
        assert_eq!(next.to_string().parse(), Ok(next));
        wanted.before = Some(next);
    }
}

#[tokio::test]
async fn each_event_is_told_once_the_newest_first() {
    let rig = Rig::new();
    let at = |second: i64| Timestamp::from_second(1_900_000_000 + second / 3).unwrap();
    // The store alone has the first ones; three share a moment each. Memory alone has some of the last.
    let mut expected = Vec::new();
    let mut kept = Vec::new();
    for number in 0..2_500 {
        let entry = refused(at(number), &number.to_string(), None);
        expected.push((entry.time, number));
        if number >= 2_400 {
            rig.parts().audit.record_kept(Arc::clone(&entry));
        }
        if number % 7 != 0 || number < 2_400 {
            kept.push(entry);
        }
    }
    keep(&rig, kept).await;
    for most in [1_000, 7, 1] {
        // One by one takes long for all of it.
        let since = (most == 1).then(|| at(2_390));
        let told = all(&rig, WantedEvents { most, since, ..WantedEvents::default() }).await;
        let wanted = expected.iter().rev().filter(|(time, _)| since.is_none_or(|since| since <= *time));
        let mut numbers: Vec<i64> = told.iter().map(|number| number.parse().unwrap()).collect();
        let times: Vec<_> = numbers.iter().map(|number| at(*number)).collect();
        assert!(times.is_sorted_by(|a, b| a >= b), "pages of {most}");
        numbers.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
        assert_eq!(numbers, wanted.map(|(_, number)| *number).collect::<Vec<_>>(), "pages of {most}");
    }
}

#[tokio::test]
async fn what_is_wanted_is_told_and_nothing_else() {
    let rig = Rig::with(2, Limits::default());
    let now = wall_now();
    keep(&rig, vec![refused(now, "a", Some(client(0))), refused(now, "b", Some(client(7)))]).await;
    rig.ops.logout(Whose::Client(client(1)), operator()).await.unwrap();
    let most = 10;
    let of = async |wanted| all(&rig, WantedEvents { most, ..wanted }).await;
    assert_eq!(of(WantedEvents { client: Some(client(7)), ..WantedEvents::default() }).await, ["b"]);
    assert_eq!(of(WantedEvents { kinds: vec!["ended".into()], ..WantedEvents::default() }).await, ["admin"]);
    assert_eq!(of(WantedEvents { user: Some("user0".into()), ..WantedEvents::default() }).await, ["admin"]);
    assert_eq!(of(WantedEvents { user: Some("nobody".into()), ..WantedEvents::default() }).await, [""; 0]);
    // Whose order it was.
    let actor = operator().user.unwrap();
    assert_eq!(
        of(WantedEvents { user: Some(actor.as_str().into()), ..WantedEvents::default() }).await,
        ["admin"]
    );
    assert!("1-".parse::<TrailPlace>().is_err() && "x-1".parse::<TrailPlace>().is_err());
}
