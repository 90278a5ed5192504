//! Who is at the other end of a connection to the admin socket, as the kernel tells (`SO_PEERCRED`).

use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::audit::{Actor, Via};
use crate::threads::{Size, Threads};

/// An operator's name is waited for so long; their number is known anyway.
const NAME_PATIENCE: Duration = Duration::from_secs(1);
/// The name service may not answer for long: so many wait for it, and others have no name meanwhile.
pub(super) const NAMES: Size = Size { least: 0, most: 4, queue: 16 };

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    uid: Option<u32>,
    pid: Option<i32>,
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> Self {
        let credentials = stream.peer_cred().ok();
        Self { uid: credentials.map(|peer| peer.uid()), pid: credentials.and_then(|peer| peer.pid()) }
    }

    /// With the account's name, if the name service has it soon.
    pub(super) async fn actor(self, names: &Threads) -> Actor {
        let Self { uid: Some(uid), pid } = self else { return Actor::unknown(Via::Socket) };
        let nameless = Actor { uid: Some(uid), pid, ..Actor::unknown(Via::Socket) };
        let Ok(name) = names.run(move || Actor::on_socket(uid, pid)) else { return nameless };
        timeout(NAME_PATIENCE, name).await.ok().and_then(Result::ok).unwrap_or(nameless)
    }
}
