//! An event on its way to the API, at once or by way of the disk: nothing is lost.

use jiff::Timestamp;
use proptest::prelude::*;

use super::{Event, PastSession};
use crate::audit;
use crate::audit::arbitrary::{event, names, time};
use crate::audit::{
    AdminEvent, BanEvent, LicencesEvent, LocalUserEvent, MailEvent, RefusedEvent, SecondFactorEvent,
    SessionEvent, SettingEvent, TrailEntry,
};
use crate::session;
use crate::session::{Proved, Reason, What};
use crate::store::{HistoryEntry, StalePeriod, StoredEvent};
use crate::types::{ClientAddr, Factor, Method, Role, SessionId, Traffic};

/// The word of a value, read back.
fn read<T: std::str::FromStr>(word: Option<&String>) -> Option<T> {
    word.map(|word| word.parse().ok().expect("a word that reads back"))
}

/// The line says all that the event does: every value reads back from its word.
fn says_all(line: &Event, TrailEntry { time, event }: &TrailEntry) -> Result<(), TestCaseError> {
    prop_assert_eq!((&line.time, line.event.as_str()), (time, event.kind().as_str()));
    match event {
        audit::Event::Session(SessionEvent { event, actor, connections_closed, traffic }) => {
            let session::Event { at: _, client, connection: _, session, identity, what } = event;
            prop_assert_eq!(read::<ClientAddr>(line.client.as_ref()), Some(*client));
            prop_assert_eq!(read::<SessionId>(line.session.as_ref()), Some(*session));
            let [user, domain, realm] = [&line.user, &line.domain, &line.realm].map(Option::as_deref);
            prop_assert!(names(identity, user, domain, realm), "{:?} as {:?}", identity, line);
            prop_assert_eq!((&line.actor, line.connections_closed), (actor, *connections_closed));
            let moved = line.rx.zip(line.tx).map(|(rx, tx)| Traffic { rx, tx });
            prop_assert_eq!(moved, *traffic);
            let reason = read::<Reason>(line.reason.as_ref());
            let factors = line.factors.iter().map(|factor| factor.parse::<Factor>().unwrap()).collect();
            match what {
                What::Login(proved) | What::Renewed(proved) => {
                    let method = read::<Method>(line.method.as_ref()).unwrap();
                    prop_assert_eq!(Proved { method, factors }, *proved);
                }
                What::Stale(why) => prop_assert_eq!(reason, Some(*why)),
                What::Ended { reason: why, duration, by, was_stale: _, traffic_before: _ } => {
                    prop_assert_eq!(reason, Some(*why));
                    prop_assert_eq!(line.duration, Some(duration.as_secs_f64()));
                    prop_assert_eq!(&line.by, &by.as_ref().map(ToString::to_string));
                }
            }
        }
        audit::Event::Refused(RefusedEvent { client, cause, why, method, user, count }) => {
            prop_assert_eq!(read::<ClientAddr>(line.client.as_ref()), *client);
            prop_assert_eq!((line.cause.as_deref(), line.reason.as_deref()), (Some(*cause), Some(&**why)));
            prop_assert_eq!((read::<Method>(line.method.as_ref()), line.count), (*method, *count));
            let [named, domain, realm] = [&line.user, &line.domain, &line.realm].map(Option::as_deref);
            prop_assert!(user.as_ref().map_or(named.is_none(), |user| names(user, named, domain, realm)));
        }
        audit::Event::Ban(BanEvent { is_lifted: _, scope, client, user, why, count, actor }) => {
            prop_assert_eq!(read::<ClientAddr>(line.client.as_ref()), *client);
            prop_assert_eq!((line.cause.as_deref(), line.reason.as_deref()), (Some(*scope), Some(&**why)));
            prop_assert_eq!((&line.actor, line.count), (actor, *count));
            let [named, domain, realm] = [&line.user, &line.domain, &line.realm].map(Option::as_deref);
            prop_assert!(user.as_ref().map_or(named.is_none(), |user| names(user, named, domain, realm)));
        }
        audit::Event::Setting(SettingEvent { key, before, after, how, actor }) => {
            prop_assert_eq!(line.setting.clone(), Some(format!("{key} = {after}")));
            prop_assert_eq!((line.before.as_ref(), line.reason.as_deref()), (Some(before), Some(*how)));
            prop_assert_eq!(line.actor.as_ref(), Some(actor));
        }
        audit::Event::LocalUser(LocalUserEvent { user, how, role, before, actor }) => {
            prop_assert_eq!(read::<Role>(line.role.as_ref()), *role);
            prop_assert_eq!(read::<Role>(line.before.as_ref()), *before);
            let [named, domain, realm] = [&line.user, &line.domain, &line.realm].map(Option::as_deref);
            prop_assert!(names(user, named, domain, realm));
            prop_assert_eq!((line.reason.as_deref(), line.actor.as_ref()), (Some(*how), Some(actor)));
        }
        audit::Event::Admin(AdminEvent { user, client, role, login, why, actor }) => {
            let [named, domain, realm] = [&line.user, &line.domain, &line.realm].map(Option::as_deref);
            prop_assert!(names(user, named, domain, realm));
            prop_assert_eq!(read::<ClientAddr>(line.client.as_ref()), Some(*client));
            prop_assert_eq!(read::<Role>(line.role.as_ref()), Some(*role));
            let factors = line.factors.iter().map(|factor| factor.parse::<Factor>().unwrap()).collect();
            let proved = read::<Method>(line.method.as_ref()).map(|method| Proved { method, factors });
            prop_assert_eq!(
                (proved, line.reason.as_deref(), line.actor.as_ref()),
                (*login, *why, Some(actor))
            );
        }
        audit::Event::SecondFactor(SecondFactorEvent { user, client, what, of, actor, count }) => {
            let [named, domain, realm] = [&line.user, &line.domain, &line.realm].map(Option::as_deref);
            prop_assert!(names(user, named, domain, realm));
            prop_assert_eq!(read::<ClientAddr>(line.client.as_ref()), *client);
            prop_assert_eq!(
                (line.cause.as_deref(), line.actor.as_ref(), line.count),
                (Some(what.as_str()), actor.as_ref(), *count)
            );
            let reason = line.reason.clone().unwrap_or_default();
            let rest = reason.strip_prefix(what.as_str());
            let of = of.as_deref().map_or(String::new(), |of| format!(": {of}"));
            prop_assert_eq!(rest, Some(of.as_str()));
        }
        audit::Event::Licences(LicencesEvent { level, used, max }) => {
            prop_assert_eq!(line.reason.as_deref(), Some(level.as_str()));
            prop_assert_eq!((line.used, line.max), (Some(*used), Some(*max)));
        }
        audit::Event::Mail(MailEvent { user, what, why }) => {
            let [named, domain, realm] = [&line.user, &line.domain, &line.realm].map(Option::as_deref);
            match user {
                Some(user) => prop_assert!(names(user, named, domain, realm)),
                None => prop_assert_eq!(named, None),
            }
            let reason = format!("{}: {why}", what.as_str());
            prop_assert_eq!(
                (line.cause.as_deref(), line.reason.as_deref()),
                (Some(what.as_str()), Some(&*reason))
            );
        }
        audit::Event::Replaced(why) => prop_assert_eq!(line.reason.as_deref(), Some(&**why)),
    }
    Ok(())
}

proptest! {
    #[test]
    fn an_event_loses_nothing_on_its_way_to_the_api_and_to_the_disk(time in time(), event in event()) {
        let entry = TrailEntry { time, event };
        let line = Event::from(&entry);
        says_all(&line, &entry)?;
        let text = serde_json::to_string(&line).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Event>(&text).unwrap(), &line);
        let stored = serde_json::to_vec(&StoredEvent::from(&entry)).unwrap();
        let read: StoredEvent = serde_json::from_slice(&stored).unwrap();
        prop_assert_eq!(Event::from(read), line);
    }
}

#[test]
fn the_history_says_what_the_store_has() {
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    let running = HistoryEntry {
        session: SessionId::test(7),
        client: "10.0.0.1".into(),
        user: "alice".into(),
        domain: "EXAMPLE".into(),
        realm: None,
        method: None,
        factors: Vec::new(),
        from: at(0),
        until: None,
        reason: None,
        by: None,
        stale: Vec::new(),
        stale_count: 0,
        rx: None,
        tx: None,
    };
    let said = |entry: &HistoryEntry| serde_json::to_value(PastSession::from(entry.clone())).unwrap();
    assert_eq!(
        said(&running),
        serde_json::json!({
            "session": "00000001-0000000000000007", "client": "10.0.0.1", "user": "alice", "domain": "EXAMPLE",
            "method": "", "from": "2027-01-15T08:00:00Z", "until": null, "reason": null, "by": null, "stale": [],
            "stale_count": 0, "state": "active",
        })
    );
    let stale = StalePeriod { from: at(1), until: None, reason: Reason::ClosedTimeout };
    let waiting = HistoryEntry { stale: vec![stale], stale_count: 1, ..running };
    assert_eq!(said(&waiting)["state"], "stale");
    assert_eq!(said(&waiting)["stale"][0]["reason"], "closed-timeout");
    let over = HistoryEntry {
        until: Some(at(9)),
        reason: Some(Reason::Logout),
        method: Some(Method::Kerberos),
        rx: Some(3),
        tx: Some(4),
        ..waiting
    };
    for (field, value) in [("state", "ended"), ("reason", "logout"), ("method", "kerberos")] {
        assert_eq!(said(&over)[field], value, "{field}");
    }
    assert_eq!((&said(&over)["rx"], &said(&over)["tx"]), (&3.into(), &4.into()));
}
