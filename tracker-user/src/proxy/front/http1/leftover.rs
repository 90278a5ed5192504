//! What a client still sends when it has had its answer: read and thrown away, so that it gets to read that.
//!
//! Many clients (Firefox, Java) read nothing before they have sent all of their request. Where the connection is closed
//! on what they send, TCP resets it, and the answer is lost; a 407 that is lost so is a login that never happens. So a
//! connection is closed in stages (RFC 9112, section 9.6): our side first, and theirs when they have come to their end.
//! What that may cost is bounded: by time, whatever the size; and by the number of connections, of one client and in all,
//! beyond which there is much less time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite;

use super::Wire;
use crate::clock::{BootTime, boot_now};
use crate::proxy::buffer::Buffer;
use crate::proxy::http1::{Body, Discard};
use crate::proxy::worker::Worker;
use crate::types::ClientAddr;

/// With more left than this, a client is told that the connection ends: it may stop sending then, and often does. With less,
/// a new connection would cost it more.
pub(super) const MAX_LEFTOVER: u64 = 1 << 20;

/// How long it is read on in all,
const MOST: Duration = Duration::from_secs(60);

/// while nothing has come for so long,
const SILENCE: Duration = Duration::from_secs(5);

/// and in all when there are too many already.
const LEAST: Duration = Duration::from_secs(2);

/// How many connections a core reads on for long.
const CONNECTIONS: usize = 256;

/// How many of them may be one client's,
const CONNECTIONS_OF_CLIENT: usize = 8;

/// and how many one IPv6 network's (a /64): a host has as many addresses there as it likes, and an office has many hosts.
const CONNECTIONS_OF_NETWORK: usize = 64;

/// The connections of a core that are read on for long, by client, and by network.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Leftovers {
    by_client: RefCell<HashMap<ClientAddr, usize>>,
    by_network: RefCell<HashMap<ClientAddr, usize>>,
}

impl Leftovers {
    /// Counts one more; false if there are too many.
    fn admit(&self, client: ClientAddr) -> bool {
        let (mut clients, mut networks) = (self.by_client.borrow_mut(), self.by_network.borrow_mut());
        let of = |all: &HashMap<_, usize>, who| all.get(&who).copied().unwrap_or_default();
        let is_admitted = of(&clients, client) < CONNECTIONS_OF_CLIENT
            && of(&networks, client.network()) < CONNECTIONS_OF_NETWORK
            && networks.values().sum::<usize>() < CONNECTIONS;
        if is_admitted {
            *clients.entry(client).or_default() += 1;
            *networks.entry(client.network()).or_default() += 1;
        }
        is_admitted
    }

    fn release(&self, client: ClientAddr) {
        for (all, who) in [(&self.by_client, client), (&self.by_network, client.network())] {
            let mut all = all.borrow_mut();
            if let Some(own) = all.get_mut(&who) {
                *own -= 1;
                if *own == 0 {
                    all.remove(&who);
                }
            }
        }
    }
}

/// How long one connection is read on.
struct Patience {
    ends: BootTime,
    silence: Duration,
    /// What to release at the end.
    admitted: Option<(Rc<Worker>, ClientAddr)>,
}

impl Patience {
    fn with(wire: &Wire) -> Self {
        let (worker, address) = (&wire.worker, wire.io.connection().client());
        let admitted = worker.leftovers.admit(address).then(|| (Rc::clone(worker), address));
        let most = if admitted.is_some() { MOST } else { LEAST };
        Self { ends: boot_now().after(most), silence: SILENCE.min(most), admitted }
    }

    /// How long it may be silent from now on.
    fn left(&self) -> Duration {
        self.ends.since(boot_now()).min(self.silence)
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        if let Some((worker, client)) = &self.admitted {
            worker.leftovers.release(*client);
        }
    }
}

impl Wire {
    /// Reads what is left of a request and throws it away; false if it does not come, or not in time.
    pub(super) async fn discard(&mut self, rest: Body) -> bool {
        if rest.is_over() {
            return true;
        }
        let mut discard = Discard::new(rest);
        self.read_on(|wire, cx| {
            let done = discard.poll(cx, &mut wire.input, &mut wire.io);
            (done, discard.has_moved())
        })
        .await
        .unwrap_or(false)
    }

    /// The last answer was all there is, and the client is told so, where it would not see it otherwise.
    pub(super) async fn end(&mut self) {
        self.timer.set(SILENCE);
        poll_fn(|cx| match self.io.poll_end(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => self.timer.poll(cx),
        })
        .await;
    }

    /// No other request is waited for, and the client is told so, where it would not see it otherwise: one try.
    pub(super) async fn take_leave(&mut self) {
        poll_fn(|cx| {
            // Whoever does not read misses it, and sees the connection closed.
            let _ = self.io.poll_end(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Says that this was all, and reads on until the client has said so as well.
    pub(super) async fn linger(&mut self) {
        // Under TLS this may have to wait until the client reads.
        self.timer.set(SILENCE);
        let is_said = poll_fn(|cx| match Pin::new(&mut self.io).poll_shutdown(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            Poll::Pending => self.timer.poll(cx).map(|()| false),
        });
        if !is_said.await || self.has_ended {
            return;
        }
        self.input = Buffer::default();
        self.read_on(|wire, cx| {
            let mut moved = false;
            loop {
                match wire.input.poll_fill(&mut wire.io, cx) {
                    Poll::Ready(Ok(1..)) => moved = true,
                    Poll::Ready(_) => return (Poll::Ready(()), moved),
                    Poll::Pending => return (Poll::Pending, moved),
                }
                wire.input.consume(usize::MAX);
            }
        })
        .await;
    }

    /// Goes on with `read`, which says whether it is done and whether anything came; `None` when the time is over.
    async fn read_on<T>(
        &mut self,
        mut read: impl FnMut(&mut Self, &mut Context<'_>) -> (Poll<T>, bool),
    ) -> Option<T> {
        let patience = Patience::with(self);
        self.timer.set(patience.left());
        poll_fn(|cx| {
            let (done, has_moved) = read(self, cx);
            if let Poll::Ready(done) = done {
                return Poll::Ready(Some(done));
            }
            if has_moved {
                self.timer.set(patience.left());
            }
            self.timer.poll(cx).map(|()| None)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_its_network_and_all_together_are_bounded_and_what_ends_makes_room() {
        let all = Leftovers::default();
        let client = |address: &str| address.parse::<ClientAddr>().unwrap();
        let admit = |address: &str| all.admit(client(address));
        for own in ["192.0.2.1", "2001:db8::1", "fe80::1%7"] {
            assert!((0..CONNECTIONS_OF_CLIENT).all(|_| admit(own)) && !admit(own), "{own}");
        }
        assert!(
            admit("192.0.2.2") && admit("2001:db8::2") && admit("fe80::1%8"),
            "a neighbour is another client"
        );
        let rest = CONNECTIONS_OF_NETWORK - CONNECTIONS_OF_CLIENT - 1;
        assert!((0..rest).all(|n| admit(&format!("2001:db8::ffff:{n:x}"))));
        assert!(!admit("2001:db8::3") && admit("2001:db8:0:1::1"), "one with many addresses there");
        all.release(client("192.0.2.1"));
        all.release(client("2001:db8::1"));
        assert!(admit("192.0.2.1") && admit("2001:db8::3"));
        let rest = CONNECTIONS - CONNECTIONS_OF_NETWORK - 2 * CONNECTIONS_OF_CLIENT - 3;
        assert!((0..rest).all(|n| admit(&format!("198.51.{}.{}", n / 200, n % 200))));
        assert!(!admit("203.0.113.1"), "all are taken");
        all.release(client("192.0.2.2"));
        assert!(admit("203.0.113.1"));
    }
}
