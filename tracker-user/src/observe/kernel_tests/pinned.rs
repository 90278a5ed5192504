//! What outlives the observer: records, marks, hints and settings; and what replaces what cannot be gone on with.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::*;
use super::lab::*;

/// The reason for which an earlier kernel side was not gone on with.
fn replaced(observer: &Observer) -> String {
    match pinning(observer) {
        Pinning::Kept { adopted: false, replaced: Some(why), .. } => why,
        other => panic!("nothing was replaced: {other:?}"),
    }
}

#[test]
fn everything_goes_on_while_nobody_is_there() {
    in_namespace(|| {
        let pins = Pins::new();
        let Some((first, hints)) = pins.start(|_| ()) else { return };
        assert!(matches!(pinning(&first), Pinning::Kept { adopted: false, replaced: None, .. }));
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        let (mut early, early_server) = pair(&listener, A);
        early.write_all(b"12345").unwrap();
        until(&first, A, |record| record.rx == 5);
        drop((first, hints));

        pause();
        early.write_all(b"678").unwrap();
        let second = pair(&listener, A);
        let b = pair(&listener, B);
        reset(b.0);
        drop(b.1);

        // Other settings than those it is working by: they wait for `apply`.
        let Some((again, mut hints)) = pins.start(|options| options.settings = limit(Duration::from_secs(1)))
        else {
            return;
        };
        assert!(is_adopted(&again), "{:?}", pinning(&again));
        let kept = record(&again, A);
        assert_eq!((kept.open, kept.rx, kept.changes), (2, 8, 2));
        let b = record(&again, B);
        assert_eq!((b.open, b.changes), (0, 2));
        assert!(b.closed_at >= b.opened_at && b.opened_at > kept.opened_at);
        let Source::Kernel(kernel) = &again.source else { panic!("the kernel side runs") };
        assert_eq!(kernel.settings().unwrap().limit, limit(Duration::from_secs(3600)).limit);
        again.settle().unwrap();
        assert_eq!(record(&again, A), kept, "there was nothing to repair");

        // The marks on the sockets are still there.
        pause();
        early.write_all(b"90").unwrap();
        assert_eq!(until(&again, A, |record| record.rx > 8).rx, 10);
        drop((early, early_server, second));
        until(&again, A, |record| record.connections() == 0);
        assert_clean(&again);

        // And so are the hints that nobody read.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for client in [A, B, B, A] {
                assert_eq!(hints.next().await.client, client.into());
            }
        });
    });
}

/// Sets a flag when it goes, also in a panic: the thread that waits for the flag would keep a failed test from ending.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn programs_are_replaced_without_a_gap() {
    in_namespace(|| {
        let pins = Pins::new();
        let Some(started) = pins.start(|_| ()) else { return };
        drop(started);
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        let done = AtomicBool::new(false);
        let rounds = std::thread::scope(|scope| {
            let traffic = scope.spawn(|| {
                let mut rounds = 0;
                while !done.load(Ordering::Relaxed) {
                    exchange(pair(&listener, A), 100, 1000);
                    rounds += 1;
                }
                rounds
            });
            let set = SetAtEnd(&done);
            for _ in 0..20 {
                let (observer, _hints) = pins.start(|_| ()).unwrap();
                assert!(is_adopted(&observer), "{:?}", pinning(&observer));
            }
            drop(set);
            traffic.join().unwrap()
        });
        let (observer, _hints) = pins.start(|_| ()).unwrap();
        let all = until(&observer, A, |record| record.connections() == 0);
        assert!(rounds > 100, "{rounds} rounds are too few to show anything");
        assert_eq!((all.rx, all.tx, all.changes), (rounds * 100, rounds * 1000, 3 * rounds as u32));
        // Nobody reads the hints here, so that their ring may be full.
        for what in Counter::ALL.into_iter().filter(|what| *what != Counter::HintDropped) {
            assert_eq!(counter(&observer, what), 0, "{}", what.name());
        }
    });
}

#[test]
fn maps_of_another_size_are_replaced_and_nothing_is_counted_twice() {
    in_namespace(|| {
        let pins = Pins::new();
        let Some(started) = pins.start(|_| ()) else { return };
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        let old = pair(&listener, A);
        drop(started);

        let (observer, _hints) = pins.start(|options| options.max_records = 2048).unwrap();
        assert!(replaced(&observer).contains("RECORDS"), "{}", replaced(&observer));
        assert_eq!(find(&observer, A), None);
        assert_eq!(pins.entries().len(), 1, "{:?}", pins.entries());
        observer.ensure(A.into(), boot_now()).unwrap();
        observer.settle().unwrap();
        let new = pair(&listener, A);
        assert_eq!(record(&observer, A).open, 2);
        drop((old, new));
        assert!(observer.warnings().iter().any(|text| text.contains("RECORDS")));
    });
}

#[test]
fn other_ports_are_watched_by_the_programs_that_replace_the_old() {
    in_namespace(|| {
        let pins = Pins::new();
        let Some(started) = pins.start(|_| ()) else { return };
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        let old = pair(&listener, A);
        drop(started);
        let (observer, _hints) = pins.start(|options| options.places = vec![8080.into()]).unwrap();
        assert!(is_adopted(&observer));
        observer.settle().unwrap();
        assert_eq!(record(&observer, A).open, 0, "that port is not watched any more");
        let other = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).unwrap();
        let new = (connect_socket(client_socket(B), 8080), other.accept().unwrap());
        assert_eq!(record(&observer, B).open, 1);
        drop((old, new));
        until(&observer, B, |record| record.connections() == 0);
        assert_eq!(record(&observer, A).open, 0);
        assert_clean(&observer);
    });
}

#[test]
fn a_directory_has_one_user() {
    in_namespace(|| {
        let pins = Pins::new();
        let Some(started) = pins.start(|_| ()) else { return };
        for mode in [ObserverMode::Ebpf, ObserverMode::Auto] {
            let options = ObserveOptions {
                mode,
                pin_dir: Some(pins.0.clone()),
                places: vec![PORT.into()],
                ..ObserveOptions::default()
            };
            let refused = Observer::start(&options).err();
            assert!(matches!(refused, Some(ObserveError::PinsInUse { .. })), "{refused:?}");
        }
        let refused = Observer::detach(&pins.0);
        assert!(matches!(refused, Err(ObserveError::PinsInUse { .. })), "{refused:?}");
        drop(started);
        assert!(is_adopted(&pins.start(|_| ()).unwrap().0));
    });
}

#[test]
fn detach_removes_everything() {
    in_namespace(|| {
        let pins = Pins::new();
        assert!(!Observer::detach(&pins.0).unwrap());
        let Some(started) = pins.start(|_| ()) else { return };
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        let old = pair(&listener, A);
        let Source::Kernel(kernel) = &started.0.source else { panic!("the kernel side runs") };
        let programs = kernel.program_ids();
        assert!(programs.iter().all(|id| is_loaded(*id)));
        drop(started);
        assert!(programs.iter().all(|id| is_loaded(*id)));

        assert!(Observer::detach(&pins.0).unwrap());
        assert!(!pins.0.exists());
        for _ in 0..200 {
            if !programs.iter().any(|id| is_loaded(*id)) {
                break;
            }
            // The kernel frees them after a grace period.
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!programs.iter().any(|id| is_loaded(*id)));
        assert!(!Observer::detach(&pins.0).unwrap());
        let (observer, _hints) = pins.start(|_| ()).unwrap();
        assert!(matches!(pinning(&observer), Pinning::Kept { adopted: false, replaced: None, .. }));
        assert_eq!(observer.all_recorded().unwrap(), vec![]);
        drop(old);
    });
}

fn is_loaded(program: u32) -> bool {
    aya::programs::loaded_programs().flatten().any(|info| info.id() == program)
}

#[test]
fn what_was_pulled_apart_is_replaced() {
    in_namespace(|| {
        let pins = Pins::new();
        for name in ["MARKS", "link-watch"] {
            let Some(started) = pins.start(|_| ()) else { return };
            drop(started);
            let abi = pins.0.join(pins.entries().first().unwrap());
            std::fs::remove_file(abi.join(name)).unwrap();
            let (observer, _hints) = pins.start(|_| ()).unwrap();
            let part = name.trim_start_matches("link-");
            assert!(replaced(&observer).contains(part), "{}", replaced(&observer));
            assert_eq!(pins.entries().len(), 1);
        }
        // What an older version left, and what is not ours.
        let others = [pins.0.join("abi-0-00"), pins.0.join("old-7"), pins.0.join("mine")];
        others.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        assert!(is_adopted(&pins.start(|_| ()).unwrap().0));
        assert_eq!(others.each_ref().map(|path| path.exists()), [false, false, true]);
        assert!(Observer::detach(&pins.0).unwrap());
        assert_eq!(pins.entries(), ["mine"]);
        std::fs::remove_dir_all(&pins.0).unwrap();
    });
}

/// A cgroup of one test, without processes.
pub(super) struct Cgroup(PathBuf);

impl Cgroup {
    pub(super) fn new(name: &str) -> Option<Self> {
        let path = host::cgroup_root()?.join(format!("tracker-test-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        Some(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn programs_whose_cgroup_is_gone_or_another_are_replaced() {
    in_namespace(|| {
        let pins = Pins::new();
        let Some(cgroup) = Cgroup::new("gone") else { return };
        let there = cgroup.path().to_owned();
        let Some(started) = pins.start(|options| options.cgroup = Some(there.clone())) else { return };
        drop(started);
        let (observer, hints) = pins.start(|_| ()).unwrap();
        assert!(replaced(&observer).contains("another cgroup"), "{}", replaced(&observer));
        drop((observer, hints));
        drop(pins.start(|options| options.cgroup = Some(there.clone())).unwrap());
        drop(cgroup);
        let link = bpf::open(&pins.0.join(pins.entries().first().unwrap()).join("link-watch")).unwrap();
        for _ in 0..200 {
            if bpf::look(link.as_fd()).unwrap().cgroup == 0 {
                break;
            }
            // The kernel detaches what hangs in a removed cgroup a little later.
            std::thread::sleep(Duration::from_millis(10));
        }
        let (observer, _hints) = pins.start(|_| ()).unwrap();
        assert!(replaced(&observer).contains("its cgroup is gone"), "{}", replaced(&observer));
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        let _open = pair(&listener, A);
        assert_eq!(record(&observer, A).open, 1);
    });
}

#[test]
fn without_bpffs_the_kernel_side_ends_with_the_observer() {
    let Some((observer, _hints)) = start(|options| options.pin_dir = Some("/tmp/tracker-pins".into())) else {
        return;
    };
    assert!(matches!(pinning(&observer), Pinning::Lost { because } if because.contains("bpffs")));
    assert!(observer.warnings().iter().any(|text| text.contains("not pinned")));
    assert!(!Path::new("/tmp/tracker-pins").exists());
}
