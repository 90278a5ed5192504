//! A network namespace of one's own, an observer in it, and clients and servers that behave as told.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};

use tracker_ebpf::mark::TELL_EVERY;

use super::super::*;

pub(super) const PORT: u16 = 3128;
pub(super) const A: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
pub(super) const B: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 12);
pub(super) const C: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 13);

/// Runs `test` in a thread that has a fresh network namespace, or says why not.
pub(super) fn in_namespace(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                return skip(&format!("no network namespace can be made: {error}"));
            }
            assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            test();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The same, with an observer; `options` may change what it is started with.
pub(super) fn observed(
    options: impl FnOnce(&mut ObserveOptions) + Send,
    test: impl FnOnce(&Observer, Hints) + Send,
) {
    in_namespace(|| {
        if let Some((observer, hints)) = start(options) {
            test(&observer, hints);
        }
    });
}

/// Where tests pin: the process and a number follow.
const PINS: &str = "/sys/fs/bpf/tracker-test-";

/// Removes what tests that were killed have left behind.
fn sweep() {
    for entry in std::fs::read_dir("/sys/fs/bpf").into_iter().flatten().flatten() {
        let path = entry.path();
        let owner =
            path.to_str().and_then(|path| path.strip_prefix(PINS)?.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = Observer::detach(&path);
        }
    }
}

/// A pin directory of one test, removed with all that is in it.
pub(super) struct Pins(pub(super) PathBuf);

impl Pins {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(format!("{PINS}{}-{number}", std::process::id()).into())
    }

    /// The names of what is in it.
    pub(super) fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Starts an observer that pins there.
    pub(super) fn start(&self, change: impl FnOnce(&mut ObserveOptions)) -> Option<(Observer, Hints)> {
        launch(|options| {
            options.pin_dir = Some(self.0.clone());
            change(options);
        })
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = Observer::detach(&self.0);
    }
}

/// How an observer is pinned.
pub(super) fn pinning(observer: &Observer) -> Pinning {
    match observer.kind() {
        Kind::Ebpf { pinning, .. } => pinning,
        Kind::Proxy { because } => panic!("{because}"),
    }
}

/// Whether it goes on from an earlier one.
pub(super) fn is_adopted(observer: &Observer) -> bool {
    matches!(pinning(observer), Pinning::Kept { adopted: true, .. })
}

/// Starts an observer on the port, with a limit of an hour unless told otherwise.
pub(super) fn start(change: impl FnOnce(&mut ObserveOptions)) -> Option<(Observer, Hints)> {
    let started = launch(change)?;
    started.0.settle().unwrap();
    Some(started)
}

/// The same, and the records are as they were found.
fn launch(change: impl FnOnce(&mut ObserveOptions)) -> Option<(Observer, Hints)> {
    let mut options = ObserveOptions {
        mode: ObserverMode::Ebpf,
        places: vec![PORT.into()],
        max_records: 1024,
        settings: limit(Duration::from_secs(3600)),
        ..ObserveOptions::default()
    };
    change(&mut options);
    match Observer::start(&options) {
        Ok((observer, events)) => Some((observer, events.hints)),
        Err(error) if error.is_privilege() || matches!(error, ObserveError::NoObject) => {
            skip(&error.because());
            None
        }
        Err(error) => panic!("{}", error.because()),
    }
}

fn skip(why: &str) {
    assert!(std::env::var_os("TRACKER_REQUIRE_PRIVILEGED").is_none_or(|value| value != "1"), "{why}");
    println!("skipped: {why}");
}

pub(super) fn limit(limit: Duration) -> Settings {
    Settings { limit: limit.as_nanos() as u64, ..Settings::default() }
}

pub(super) fn listen(address: impl Into<IpAddr>) -> TcpListener {
    TcpListener::bind(SocketAddr::new(address.into(), PORT)).unwrap()
}

/// A client's socket, not yet connected.
pub(super) fn client_socket(from: Ipv4Addr) -> OwnedFd {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    // Thousands of short connections from few addresses: the port is chosen late, per destination.
    setsockopt(&fd, sockopt::IpBindAddressNoPort, &true).unwrap();
    let [a, b, c, d] = from.octets();
    bind(fd.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0)).unwrap();
    fd
}

pub(super) fn connect_socket(fd: OwnedFd, port: u16) -> TcpStream {
    connect(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
    TcpStream::from(fd)
}

pub(super) fn connect_from(from: Ipv4Addr) -> TcpStream {
    connect_socket(client_socket(from), PORT)
}

/// A connection from `from`: the client's end and the server's.
pub(super) fn pair(listener: &TcpListener, from: Ipv4Addr) -> (TcpStream, TcpStream) {
    let client = connect_from(from);
    (client, listener.accept().unwrap().0)
}

/// Sends `up` bytes, reads the server's `down` bytes, and closes; the server closes second.
pub(super) fn exchange((mut client, mut server): (TcpStream, TcpStream), up: usize, down: usize) {
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut request = vec![0; up];
            server.read_exact(&mut request).unwrap();
            server.write_all(&vec![2; down]).unwrap();
            // Waits for the client's end.
            assert_eq!(server.read(&mut [0]).unwrap(), 0);
        });
        client.write_all(&vec![1; up]).unwrap();
        let mut answer = vec![0; down];
        client.read_exact(&mut answer).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
    });
}

/// Waits until a connection tells its record of whatever it sees next.
pub(super) fn pause() {
    std::thread::sleep(2 * Duration::from_nanos(TELL_EVERY));
}

/// Closing with the socket option set sends an RST.
pub(super) fn reset(stream: TcpStream) {
    setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
    drop(stream);
}

pub(super) fn record(observer: &Observer, client: impl Into<IpAddr>) -> Record {
    find(observer, client).expect("the client has a record")
}

pub(super) fn find(observer: &Observer, client: impl Into<IpAddr>) -> Option<Record> {
    observer.record(client.into().into()).unwrap()
}

/// Waits until the client's record is as wanted.
pub(super) fn until(
    observer: &Observer,
    client: impl Into<IpAddr> + Copy,
    wanted: impl Fn(&Record) -> bool,
) -> Record {
    let mut last = None;
    for _ in 0..2000 {
        last = find(observer, client);
        if let Some(record) = last.filter(&wanted) {
            return record;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("the record never became as wanted; last: {last:?}, counters: {:?}", observer.counters());
}

pub(super) fn counter(observer: &Observer, what: Counter) -> u64 {
    observer.counters().unwrap()[what as usize]
}

/// Nothing went wrong in the kernel.
pub(super) fn assert_clean(observer: &Observer) {
    for what in Counter::ALL {
        assert_eq!(counter(observer, what), 0, "{}", what.name());
    }
}
