//! Heads that are not there yet: what waits for the rest of them in memory, bounded in all. Under TLS that is also what has come of
//! a handshake's message or of a record.
//!
//! A connection that waits in a small head holds what it has been sent and nothing else. One that waits in a large head is
//! noted here; when they take too much in all, those that began first are ended, since they are the slowest.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use prometheus::IntCounter;

use crate::net::Connection;
use crate::proxy::stats::Stats;

/// What the heads of all cores may take together, in bytes, beyond the small ones.
const MOST: usize = 64 << 20;

/// Up to this a head is small: most are, and most come in one piece.
const SMALL: usize = 4 * 1024;

/// The large heads of one core.
pub(in crate::proxy) struct Heads {
    most: usize,
    taken: Cell<usize>,
    next: Cell<u64>,
    /// In the order in which they became large.
    waiting: RefCell<BTreeMap<u64, (usize, Arc<Connection>)>>,
    ended: IntCounter,
}

impl Heads {
    /// For one of so many cores.
    pub(in crate::proxy) fn new(of: usize, stats: &Stats) -> Self {
        Self::with(MOST / of.max(1), stats.heads_ended.clone())
    }

    /// One that may take this much.
    pub(in crate::proxy) fn with(most: usize, ended: IntCounter) -> Self {
        Self { most, taken: Cell::new(0), next: Cell::new(0), waiting: RefCell::default(), ended }
    }

    /// Takes a place's number, and gives its memory back.
    fn remove(&self, number: u64) {
        if let Some((bytes, _)) = self.waiting.borrow_mut().remove(&number) {
            self.taken.set(self.taken.get() - bytes);
        }
    }

    fn insert(&self, number: u64, bytes: usize, connection: &Arc<Connection>) {
        self.remove(number);
        self.waiting.borrow_mut().insert(number, (bytes, Arc::clone(connection)));
        self.taken.set(self.taken.get() + bytes);
        while self.taken.get() > self.most
            && let Some((_, (bytes, connection))) = self.waiting.borrow_mut().pop_first()
        {
            self.taken.set(self.taken.get() - bytes);
            if connection.end() {
                self.ended.inc();
            }
        }
    }
}

/// What one connection has waiting.
pub(in crate::proxy) struct Waiting {
    heads: Rc<Heads>,
    number: Option<u64>,
}

impl Waiting {
    pub(in crate::proxy) const fn new(heads: Rc<Heads>) -> Self {
        Self { heads, number: None }
    }

    /// So many bytes of memory wait for more to come.
    pub(in crate::proxy) fn set(&mut self, bytes: usize, connection: &Arc<Connection>) {
        if bytes <= SMALL {
            return self.clear();
        }
        let heads = &self.heads;
        let number = *self.number.get_or_insert_with(|| heads.next.replace(heads.next.get() + 1));
        heads.insert(number, bytes, connection);
    }

    /// Nothing does.
    pub(super) fn clear(&mut self) {
        if let Some(number) = self.number.take() {
            self.heads.remove(number);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::{ClientStream, Connections, Signal};

    async fn stream(registry: &Arc<Connections>) -> (ClientStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, peer) = listener.accept().await.unwrap();
        (registry.accept(peer.ip().into(), peer, near), far)
    }

    #[tokio::test]
    async fn those_that_began_first_are_ended_and_small_ones_never() {
        let registry = Arc::new(Connections::new(None));
        let ended = IntCounter::new("x", "x").unwrap();
        let heads = Rc::new(Heads::with(3 * 100_000, ended.clone()));
        let mut all = Vec::new();
        for _ in 0..6 {
            all.push((stream(&registry).await, Waiting::new(Rc::clone(&heads))));
        }
        let signals = |all: &Vec<((ClientStream, TcpStream), Waiting)>| -> Vec<bool> {
            all.iter().map(|((stream, _), _)| stream.connection().signal() == Signal::End).collect()
        };
        for ((stream, _), waiting) in &mut all {
            waiting.set(SMALL, stream.connection());
        }
        assert_eq!(heads.taken.get(), 0);
        // The first one grows, which makes it no younger.
        for at in [0, 1, 2, 0] {
            let ((stream, _), waiting) = &mut all[at];
            waiting.set(100_000, stream.connection());
        }
        assert_eq!((heads.taken.get(), ended.get()), (300_000, 0));
        let ((stream, _), waiting) = &mut all[3];
        waiting.set(70_000, stream.connection());
        assert_eq!(signals(&all), [true, false, false, false, false, false]);
        // What comes to its end makes room.
        all[1].1.clear();
        drop(all.remove(2));
        let ((stream, _), waiting) = &mut all[3];
        waiting.set(200_000, stream.connection());
        assert_eq!(signals(&all), [true, false, false, false, false]);
        let ((stream, _), waiting) = &mut all[4];
        waiting.set(400_000, stream.connection());
        assert_eq!(
            signals(&all),
            [true, false, true, true, true],
            "one that is too large by itself goes, too"
        );
        assert_eq!((heads.taken.get(), ended.get()), (0, 4));
        drop(all);
        assert_eq!(heads.taken.get(), 0);
    }
}
