//! Hints: where to look. They come from the kernel's ring buffer, or from the proxy's own eyes.

use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tracker_ebpf::abi::{HINT_CLOSED, HINT_OPENED, Hint};

use crate::types::ClientAddr;

/// The ring is looked at this often even if nothing wakes us.
const SAFETY: Duration = Duration::from_secs(1);

/// The stream of hints. There is one, and one reader: unread hints wait in the kernel's own ring (or in a bounded queue),
/// and those that find no room are counted there, which is the tracker's cue to resync.
pub struct Hints {
    source: Source,
    /// Those about connections that come through balancers.
    relayed: Option<mpsc::Receiver<Hint>>,
}

enum Source {
    Ring(Box<Ring>),
    Queue(mpsc::Receiver<Hint>),
}

/// The ring; watched by tokio from the first call on, since the observer may be made outside a runtime.
enum Ring {
    Fresh(RingFd),
    Watched(AsyncFd<RingFd>),
    /// It could not be registered (no descriptor left): looked at by the clock only.
    Polled(RingFd),
    /// Only while one state is exchanged for another.
    Between,
}

/// aya's ring as tokio wants to see it.
struct RingFd(RingBuf<MapData>);

impl AsRawFd for RingFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl RingFd {
    /// The next hint that can be understood; the item is copied and given back at once.
    fn next(&mut self) -> Option<Hint> {
        loop {
            let item = self.0.next()?;
            if let Some(hint) = decode(&item) {
                return Some(hint);
            }
            tracing::warn!(
                bytes = item.len(),
                "a hint of unknown form: is another version's kernel side attached?"
            );
        }
    }
}

impl Hints {
    pub(super) fn from_ring(ring: RingBuf<MapData>) -> Self {
        Self { source: Source::Ring(Box::new(Ring::Fresh(RingFd(ring)))), relayed: None }
    }

    pub(super) fn from_queue(queue: mpsc::Receiver<Hint>) -> Self {
        Self { source: Source::Queue(queue), relayed: None }
    }

    pub(super) fn and(self, relayed: mpsc::Receiver<Hint>) -> Self {
        Self { relayed: Some(relayed), ..self }
    }

    /// Waits for the next hint. Cancel-safe; a reader that never waits still lets other tasks run. Needs a runtime with
    /// IO and time.
    pub async fn next(&mut self) -> Hint {
        tokio::task::coop::consume_budget().await;
        let Self { source, relayed } = self;
        tokio::select! {
            hint = source.next() => hint,
            hint = received(relayed.as_mut()) => hint,
        }
    }
}

impl Source {
    async fn next(&mut self) -> Hint {
        match self {
            Self::Ring(ring) => ring.next().await,
            Self::Queue(queue) => received(Some(queue)).await,
        }
    }
}

/// The next hint of a queue.
async fn received(queue: Option<&mut mpsc::Receiver<Hint>>) -> Hint {
    match queue {
        Some(queue) => match queue.recv().await {
            Some(hint) => hint,
            // The observer is gone: nothing will ever happen again.
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

impl Ring {
    async fn next(&mut self) -> Hint {
        self.watch();
        loop {
            if let Some(hint) = self.take() {
                return hint;
            }
            // A time-out is no event: it only makes the loop look again.
            let _ = tokio::time::timeout(SAFETY, self.wait()).await;
        }
    }

    fn watch(&mut self) {
        *self = match std::mem::replace(self, Self::Between) {
            Self::Fresh(ring) => {
                #[expect(unsafe_code, reason = "tokio's only constructor that is not deprecated")]
                // SAFETY: RingFd owns its descriptor, which stays the same and open while it lives.
                let registered = unsafe { AsyncFd::register(ring) };
                match registered {
                    Ok(watched) => Self::Watched(watched),
                    Err(refused) => {
                        let (ring, error) = refused.into_parts();
                        tracing::warn!(%error, "the kernel's hints cannot be waited for: looking once a second");
                        Self::Polled(ring)
                    }
                }
            }
            other => other,
        };
    }

    fn take(&mut self) -> Option<Hint> {
        match self {
            Self::Fresh(ring) | Self::Polled(ring) => ring.next(),
            Self::Watched(watched) => watched.get_mut().next(),
            Self::Between => None,
        }
    }

    async fn wait(&mut self) {
        if let Self::Watched(watched) = self
            && let Ok(mut guard) = watched.readable_mut().await
        {
            // Not before the ring is empty, and looked at once more after: what comes in between wakes us again.
            guard.clear_ready();
        } else {
            std::future::pending::<()>().await;
        }
    }
}

/// `client, at, kind, amended`, as the kernel side wrote them.
fn decode(bytes: &[u8]) -> Option<Hint> {
    let (client, rest) = bytes.split_first_chunk::<16>()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    let amended: &[u8; 4] = rest.try_into().ok()?;
    let hint = Hint {
        client: ClientAddr(*client),
        at: u64::from_ne_bytes(*at),
        kind: u32::from_ne_bytes(*kind),
        amended: u32::from_ne_bytes(*amended),
    };
    matches!(hint.kind, HINT_OPENED | HINT_CLOSED).then_some(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(hint: &Hint) -> Vec<u8> {
        let mut bytes = hint.client.0.to_vec();
        bytes.extend(hint.at.to_ne_bytes());
        bytes.extend(hint.kind.to_ne_bytes());
        bytes.extend(hint.amended.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_whole_hints_of_a_known_kind_are_understood() {
        let hint =
            Hint { client: ClientAddr::from_v4([192, 0, 2, 1]), at: 42, kind: HINT_CLOSED, amended: 1 };
        let bytes = encode(&hint);
        assert_eq!(bytes.len(), size_of::<Hint>());
        assert_eq!(decode(&bytes), Some(hint));
        assert_eq!(decode(&bytes[..31]), None);
        assert_eq!(decode(&[bytes.as_slice(), &[0]].concat()), None);
        assert_eq!(decode(&encode(&Hint { kind: 3, ..hint })), None);
        assert_eq!(decode(&[]), None);
    }

    #[tokio::test]
    async fn a_queue_is_read_in_order() {
        let (sender, receiver) = mpsc::channel(4);
        let mut hints = Hints::from_queue(receiver);
        for at in 1..=3 {
            sender.try_send(Hint { at, kind: HINT_OPENED, ..Hint::default() }).unwrap();
        }
        for at in 1..=3 {
            assert_eq!(hints.next().await.at, at);
        }
    }
}
