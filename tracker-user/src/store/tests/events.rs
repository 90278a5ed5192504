//! Events on their way into the history: nothing is lost.

use std::sync::Arc;

use proptest::prelude::*;

use crate::audit;
use crate::audit::TrailEntry;
use crate::audit::arbitrary::{names, proved, session_event, time};
use crate::session;
use crate::session::What;
use crate::store::content::Batch;
use crate::store::{Store, Wanted};
use crate::types::{Factors, Traffic};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_ends_stands_in_the_history_with_all_that_is_known(time in time(), of in session_event(), login in any::<bool>(), proved in proved()) {
        let What::Ended { reason, duration, by, .. } = of.event.what.clone() else { return Ok(()) };
        let began = time - jiff::SignedDuration::try_from(duration).unwrap();
        let begun = session::Event { what: What::Login(proved), ..of.event.clone() };
        let mut events = vec![Arc::new(TrailEntry { time, event: audit::Event::Session(of.clone()) })];
        if login {
            events.insert(0, Arc::new(TrailEntry { time: began, event: audit::Event::Session(begun.into()) }));
        }
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), None).unwrap();
        store.write(&Batch { events, ..Batch::default() }).unwrap();
        let found = store.history(&Wanted { client: Some(of.event.client), user: None, at: None, most: 9 }).unwrap();
        prop_assert_eq!(found.len(), 1);
        let entry = &found[0];
        prop_assert_eq!((entry.session, entry.from, entry.until), (of.event.session, began, Some(time)));
        prop_assert_eq!((entry.reason, &entry.by), (Some(reason), &by.map(|by| by.to_string())));
        prop_assert!(names(&of.event.identity, Some(&entry.user), Some(&entry.domain), entry.realm.as_deref()));
        prop_assert_eq!(entry.rx.zip(entry.tx).map(|(rx, tx)| Traffic { rx, tx }), of.traffic);
        prop_assert_eq!(entry.method, login.then_some(proved.method));
        if login {
            prop_assert_eq!(entry.factors.iter().copied().collect::<Factors>(), proved.factors);
        }
    }
}
