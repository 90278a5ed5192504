//! The API's server: HTTP/1.1 and JSON over a unix socket.

use std::convert::Infallible;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::peer::{NAMES, Peer};
use super::respond::Pace;
use super::route::answer;
use crate::clock::{BootTime, boot_now};
use crate::config::Config;
use crate::ops::Ops;
use crate::private;
use crate::threads::Threads;

/// The socket's name in the run directory.
pub const SOCKET: &str = "admin.sock";
/// The group of the socket may administer.
const SOCKET_MODE: u32 = 0o660;
/// So many operators are answered at once; others wait. Each takes a descriptor of the reserve.
const CONNECTIONS: usize = 24;
/// How long an operator's program may take to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an operator's program may take for one answer, from its request to the last byte that it reads.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The same while the places are taken. No look takes longer than 12 s, and others' `trackerctl` wait for 15 s.
const CROWDED_TIMEOUT: Duration = Duration::from_secs(13);
/// How often it is looked whether a program has taken too long, or others wait for its place.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether the socket is still in its place.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Of the run directory. Whoever may write there can put another socket in the place of ours.
pub const DIRECTORY: u32 = 0o750;

/// Where the store's last transaction may be noted until the next boot: in directories of the gateway's own, each with its mode.
#[must_use]
pub fn witnesses(config: &Config) -> [(&Path, u32); 2] {
    [(&config.observer.pin_dir, private::DIRECTORY), (&config.run_dir, DIRECTORY)]
}
const WRITABLE_FOR_ALL: u32 = 0o002;

/// The bound socket.
#[derive(Debug)]
pub struct AdminServer {
    listener: UnixListener,
    run_dir: PathBuf,
    path: PathBuf,
    /// Of the socket's file.
    inode: u64,
}

impl AdminServer {
    /// Binds the socket in `run_dir`, which is made where it is missing. A socket that a dead daemon left is replaced;
    /// one that answers is not.
    ///
    /// # Errors
    /// When another daemon answers on it, or the directory cannot be used.
    pub fn bind(run_dir: &Path) -> io::Result<Self> {
        directory(run_dir)?;
        let path = run_dir.join(SOCKET);
        if path.exists() {
            if std::os::unix::net::UnixStream::connect(&path).is_ok() {
                let text = format!("another trackerd answers on {}", path.display());
                return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
            }
            std::fs::remove_file(&path)?;
        }
        let listener = bound(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
        let inode = std::fs::metadata(&path)?.ino();
        Ok(Self { listener, run_dir: run_dir.into(), path, inode })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until it is dropped. A socket that was removed is made anew.
    pub async fn run(mut self, ops: Ops) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        // The first of them are started when there is something to do: nothing can fail.
        let Ok(names) = Threads::start("account-name", NAMES).map(Arc::new) else { return };
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = false;
        loop {
            tokio::select! {
                (slot, stream) = accepted(&self.listener, &slots) => {
                    tokio::spawn(serve(stream, slot, Arc::clone(&slots), ops.clone(), Arc::clone(&names)));
                }
                _ = look.tick() => told = self.stay(told),
            }
        }
    }

    /// Makes the socket anew if it was removed. Where that is refused, it is told once: returns whether it was.
    fn stay(&mut self, told: bool) -> bool {
        if self.is_in_place() {
            return false;
        }
        match Self::bind(&self.run_dir) {
            Ok(anew) => {
                warn!(path = %self.path.display(), "the admin socket had been removed, and was made anew");
                // What is dropped now has no file any more; the new one may have got its number.
                self.inode = 0;
                *self = anew;
                false
            }
            Err(error) if !told => {
                warn!(path = %self.path.display(), %error, "the admin socket is gone: nobody can administer this trackerd");
                true
            }
            Err(_) => true,
        }
    }

    fn is_in_place(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|there| there.ino() == self.inode)
    }
}

/// The next operator, as soon as there is a place for one.
async fn accepted(
    listener: &UnixListener,
    slots: &Arc<Semaphore>,
) -> (Option<OwnedSemaphorePermit>, UnixStream) {
    loop {
        // Never closed.
        let slot = Arc::clone(slots).acquire_owned().await.ok();
        match listener.accept().await {
            Ok((stream, _)) => return (slot, stream),
            Err(error) => {
                warn!(%error, "an operator's connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers an operator's program, until it leaves. Nobody keeps a place from others for good: who takes too long for an
/// answer is left, and when the places are taken, each program is left behind its present answer.
async fn serve(
    stream: UnixStream,
    slot: Option<OwnedSemaphorePermit>,
    slots: Arc<Semaphore>,
    ops: Ops,
    names: Arc<Threads>,
) {
    let peer = Peer::of(&stream);
    let present = Arc::new(Mutex::new(None));
    let service = service_fn(|request| {
        let (ops, names, present) = (ops.clone(), Arc::clone(&names), Arc::clone(&present));
        async move {
            let begun = boot_now();
            let note = |pace| *present.lock().unwrap_or_else(PoisonError::into_inner) = Some((begun, pace));
            note(Pace::Whole);
            let response = answer(request, &ops, peer, &names).await;
            note(response.extensions().get().copied().unwrap_or(Pace::Whole));
            Ok::<_, Infallible>(response)
        }
    });
    let mut served = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut watch = interval(WATCH_EVERY);
    // The first is at once.
    watch.tick().await;
    loop {
        tokio::select! {
            served = served.as_mut() => {
                drop(slot);
                if let Err(error) = served {
                    debug!(%error, "an operator's connection failed");
                }
                return;
            }
            _ = watch.tick() => {
                // The last one is in the hand of whoever accepts.
                let crowded = slots.available_permits() == 0;
                let present = *present.lock().unwrap_or_else(PoisonError::into_inner);
                if is_overdue(present, boot_now(), crowded) {
                    debug!("an operator's program took too long to read its answer");
                    return;
                }
                if crowded {
                    served.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Whether an answer that began then has taken too long. Whoever follows what happens may stay: of these there are only so
/// many. Whoever reads the trail, perhaps page by page, may take their time unless the places are taken.
fn is_overdue(present: Option<(BootTime, Pace)>, now: BootTime, crowded: bool) -> bool {
    let Some((begun, pace)) = present else { return false };
    let limit = match pace {
        Pace::Follows => return false,
        _ if crowded => CROWDED_TIMEOUT,
        Pace::Lines => return false,
        Pace::Whole => ANSWER_TIMEOUT,
    };
    now.since(begun) >= limit
}

/// A listening socket that is not for a moment open to others: whoever has connected stays connected. On Linux the file
/// that `bind` makes has no more rights than the socket had before.
fn bound(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    fchmod(&socket, Mode::from_bits_truncate(SOCKET_MODE))?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&socket, Backlog::MAXCONN)?;
    UnixListener::from_std(socket.into())
}

/// Makes the run directory where it is missing. One that is there may be open to others, as its path must be for
/// operators; but not for writing.
fn directory(path: &Path) -> io::Result<()> {
    if !path.try_exists()? {
        return DirBuilder::new().recursive(true).mode(DIRECTORY).create(path);
    }
    private::owned(path)?;
    if std::fs::metadata(path)?.mode() & WRITABLE_FOR_ALL == 0 {
        return Ok(());
    }
    private::directory(path, !WRITABLE_FOR_ALL & 0o777, |name| name == SOCKET)
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        // Another daemon's may be there by now, if ours was removed.
        if std::fs::metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_of_another_daemon_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let first = AdminServer::bind(directory.path()).unwrap();
        // As what cleans up in /run does.
        std::fs::remove_file(first.path()).unwrap();
        let second = AdminServer::bind(directory.path()).unwrap();
        drop(first);
        assert!(second.path().exists());
        let path = second.path().to_owned();
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn only_followers_stay_for_as_long_as_they_like() {
        let begun = boot_now();
        let (soon, late) = (begun.after(CROWDED_TIMEOUT), begun.after(ANSWER_TIMEOUT));
        let overdue = |pace, now, crowded| is_overdue(Some((begun, pace)), now, crowded);
        for (pace, alone, crowded) in
            [(Pace::Whole, true, true), (Pace::Lines, false, true), (Pace::Follows, false, false)]
        {
            assert_eq!(overdue(pace, late, false), alone, "{pace:?}");
            assert_eq!(overdue(pace, soon, true), crowded, "{pace:?}");
            assert!(!overdue(pace, begun, true) && !overdue(pace, soon, false), "{pace:?}");
        }
        assert!(!is_overdue(None, late, true), "the header has a limit of its own");
    }

    #[tokio::test]
    async fn a_socket_that_was_removed_is_made_anew_and_another_daemons_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let mut server = AdminServer::bind(directory.path()).unwrap();
        let mode = || std::fs::metadata(directory.path().join(SOCKET)).unwrap().mode() & 0o777;
        assert_eq!(mode(), SOCKET_MODE);
        assert!(!server.stay(false), "it is there");
        std::fs::remove_file(server.path()).unwrap();
        assert!(!server.stay(false));
        assert!(server.is_in_place());
        assert_eq!(mode(), SOCKET_MODE);
        let slots = Arc::new(Semaphore::new(1));
        let (connected, _) =
            tokio::join!(UnixStream::connect(server.path()), accepted(&server.listener, &slots));
        connected.unwrap();
        // Another daemon has taken the place.
        std::fs::remove_file(server.path()).unwrap();
        let other = AdminServer::bind(directory.path()).unwrap();
        assert!(server.stay(false) && server.stay(true));
        drop(server);
        assert!(other.is_in_place());
    }
}
