//! The API's server: HTTP/1.1 and JSON over a unix socket.

use std::convert::Infallible;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
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
use super::route::answer;
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
/// How often it is looked whether the socket is still in its place.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Of the run directory. Whoever may write there can put another socket in the place of ours.
pub const DIRECTORY: u32 = 0o750;
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
                    tokio::spawn(serve(stream, slot, ops.clone(), Arc::clone(&names)));
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

async fn serve(stream: UnixStream, slot: Option<OwnedSemaphorePermit>, ops: Ops, names: Arc<Threads>) {
    let peer = Peer::of(&stream);
    let service = service_fn(|request| {
        let (ops, names) = (ops.clone(), Arc::clone(&names));
        async move { Ok::<_, Infallible>(answer(request, &ops, peer, &names).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    drop(slot);
    if let Err(error) = served {
        debug!(%error, "an operator's connection failed");
    }
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
