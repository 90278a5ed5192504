//! The watchdog of the source: programs that were detached, pins that were removed, and what is believed meanwhile.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd as _;
use std::time::Duration;

use super::super::*;
use super::lab::*;
use super::pinned::Cgroup;
use crate::session::Evidence;

fn kernel(observer: &Observer) -> &Kernel {
    match &observer.source {
        Source::Kernel(kernel) => kernel,
        Source::Eyes { because, .. } => panic!("{because}"),
    }
}

/// Somebody detaches a program.
fn detach(observer: &Observer, program: &str) {
    let index = pins::LINKS.iter().position(|(name, _)| *name == program).unwrap();
    let links = kernel(observer).links.lock().unwrap();
    bpf::detach(links[index].as_fd()).unwrap();
}

fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

/// A client's connection is followed by another after `gap`, while nobody sees it; then the programs are attached again.
fn unseen_gap(gap: u64, check: impl FnOnce(&Observer, TcpListener, BootTime) + Send) {
    in_namespace(|| {
        let pins = Pins::new();
        let started = pins.start(|options| options.settings = limit(Duration::from_millis(500)));
        let Some((observer, _hints)) = started else { return };
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        let first = pair(&listener, A);
        assert!(observer.check());
        assert_eq!(observer.blindness(), None);
        assert_eq!(observer.evidence(A.into()).unwrap(), find(&observer, A).as_ref().map(Evidence::from));

        detach(&observer, "watch");
        let before = boot_now();
        pause(20);
        observer.check();
        let blindness = observer.blindness().expect("it was detached");
        assert!(blindness.since < before && blindness.why.contains("watch"), "{blindness:?}");
        assert_eq!(observer.watched_since(), None);
        drop(first);
        pause(gap);
        let _second = pair(&listener, A);
        // The record does not know, and what is believed is not what it says.
        assert_eq!(record(&observer, A).open, 1);
        let believed = observer.evidence(A.into()).unwrap().unwrap();
        assert_eq!((believed.open, believed.closed_at), (0, Some(blindness.since)));
        assert_eq!(observer.evidence(C.into()).unwrap().unwrap().open, 0);

        observer.resync(|_, _| {}).unwrap();
        assert_eq!(observer.blindness(), None);
        assert!(observer.watched_since().unwrap() > before);
        assert_eq!(record(&observer, A).open, 1);
        // From here on everything is as ever, once.
        let third = pair(&listener, A);
        assert_eq!(record(&observer, A).open, 2);
        drop(third);
        until(&observer, A, |record| record.open == 1);
        assert!(observer.check());
        check(&observer, listener, blindness.since);
        drop(observer);
        let again = pins.start(|_| ()).unwrap().0;
        assert!(is_adopted(&again), "{:?}", pinning(&again));
    });
}

#[test]
fn a_gap_that_may_have_gone_by_unseen_is_a_gap() {
    unseen_gap(600, |observer, _, since| {
        let known = record(observer, A);
        assert_eq!(known.closed_gap_start, since.as_nanos());
        assert_eq!(known.closed_gap_end, known.opened_at);
    });
}

#[test]
fn a_blind_moment_that_is_too_short_for_a_gap_is_none() {
    unseen_gap(0, |observer, _, since| {
        let known = record(observer, A);
        assert_eq!((known.closed_gap_end, known.closed_at), (0, since.as_nanos()));
    });
}

#[test]
fn any_of_the_programs_is_missed() {
    in_namespace(|| {
        for program in ["received", "sent"] {
            let Some((observer, _hints)) = start(|_| ()) else { return };
            detach(&observer, program);
            observer.check();
            assert!(observer.blindness().is_some_and(|blindness| blindness.why.contains(program)));
            assert!(observer.warnings().iter().any(|text| text.contains("blind")));
            observer.resync(|_, _| {}).unwrap();
            observer.check();
            assert_eq!(observer.blindness(), None);
        }
    });
}

#[test]
fn what_the_records_never_hear_of_makes_the_source_doubtful() {
    in_namespace(|| {
        let Some((observer, mut hints)) = start(|_| ()) else { return };
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        drop(pair(&listener, B));
        until(&observer, B, |record| record.connections() == 0);
        observer.resync(|_, _| {}).unwrap();
        let agreed = boot_now();
        // The quick check is not asked, so that only the evidence is left.
        detach(&observer, "watch");
        let _unseen = (pair(&listener, A), pair(&listener, A));
        observer.resync(|_, _| {}).unwrap();
        assert_eq!(observer.blindness(), None, "once may be chance");
        observer.resync(|_, _| {}).unwrap();
        let blindness = observer.blindness().expect("connections that nobody saw");
        assert!(blindness.since <= agreed && blindness.why.contains("not seen"), "{blindness:?}");

        // Attached again; but only what is seen is believed.
        observer.resync(|_, _| {}).unwrap();
        assert!(observer.blindness().is_some());
        let seen = pair(&listener, B);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            loop {
                let hint = hints.next().await;
                observer.noticed(&hint);
                if hint.client == B.into() && hint.at > agreed.as_nanos() {
                    break;
                }
            }
        });
        observer.resync(|_, _| {}).unwrap();
        assert_eq!(observer.blindness(), None);
        assert_eq!((find(&observer, A), record(&observer, B).open), (None, 1));
        drop(seen);
        until(&observer, B, |record| record.connections() == 0);
    });
}

#[test]
fn a_daemon_that_dies_blind_leaves_word() {
    in_namespace(|| {
        let pins = Pins::new();
        let Some((observer, hints)) = pins.start(|_| ()) else { return };
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        let _open = pair(&listener, A);
        let (watched, since) = (observer.watched_since().unwrap(), boot_now());
        pause(10);
        kernel(&observer).note_sight(watched, Some(since)).unwrap();
        observer.apply(limit(Duration::from_millis(5))).unwrap();
        drop((observer, hints));

        let (observer, hints) = pins.start(|_| ()).unwrap();
        assert!(is_adopted(&observer));
        assert_eq!(observer.watched_since(), Some(watched));
        observer.settle().unwrap();
        let known = record(&observer, A);
        assert_eq!((known.open, known.closed_gap_start), (1, since.as_nanos()));
        assert!(observer.watched_since().unwrap() > since);
        // Said once.
        let watched = observer.watched_since();
        drop((observer, hints));
        let (observer, _hints) = pins.start(|_| ()).unwrap();
        observer.settle().unwrap();
        assert_eq!(observer.watched_since(), watched);
        assert_eq!(record(&observer, A), known);
    });
}

#[test]
fn pins_that_were_removed_come_back() {
    in_namespace(|| {
        let pins = Pins::new();
        let Some((observer, hints)) = pins.start(|_| ()) else { return };
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        let _open = pair(&listener, A);
        let abi = pins.0.join(pins.entries().first().unwrap());
        std::fs::remove_file(abi.join("RECORDS")).unwrap();
        observer.check();
        assert!(abi.join("RECORDS").exists());
        for pin in std::fs::read_dir(&abi).unwrap() {
            std::fs::remove_file(pin.unwrap().path()).unwrap();
        }
        std::fs::remove_dir(&abi).unwrap();
        std::fs::remove_dir(&pins.0).unwrap();
        observer.check();
        assert_eq!(observer.blindness(), None, "the programs were attached all the time");
        assert!(matches!(Observer::detach(&pins.0), Err(ObserveError::PinsInUse { .. })));
        let _second = pair(&listener, A);
        drop((observer, hints));
        let again = pins.start(|_| ()).unwrap().0;
        assert!(is_adopted(&again), "{:?}", pinning(&again));
        assert_eq!(record(&again, A).open, 2);
    });
}

#[test]
fn a_daemon_outside_of_the_watched_cgroup_is_told_so_and_a_cgroup_that_comes_back_is_attached_to() {
    in_namespace(|| {
        let Some(cgroup) = Cgroup::new("outside") else { return };
        let path = cgroup.path().to_owned();
        let Some((observer, _hints)) = start(|options| options.cgroup = Some(path.clone())) else { return };
        let blindness = observer.blindness().expect("this process is not in there");
        assert!(blindness.why.contains("observer.cgroup"), "{blindness:?}");
        assert_eq!(blindness.since, BootTime::default());
        assert_eq!(kernel(&observer).detached(), None);
        drop(cgroup);
        for _ in 0..200 {
            if kernel(&observer).detached().is_some() {
                break;
            }
            pause(10);
        }
        observer.check();
        assert!(kernel(&observer).detached().is_some_and(|why| why.contains("tracker-test")));
        let _cgroup = Cgroup::new("outside").unwrap();
        observer.check();
        assert_eq!(kernel(&observer).detached(), None);
        assert!(observer.blindness().is_some());
    });
}
