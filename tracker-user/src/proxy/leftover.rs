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
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tracker_ebpf::abi::ClientAddr;

use super::client::Client;
use super::http1::{Body, Buffer, Discard};
use super::worker::Worker;
use crate::clock::{BootTime, boot_now};

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

/// How many of them may be one client's, or one IPv6 network's: what is one customer's there is a /64.
const CONNECTIONS_OF_CLIENT: usize = 8;

/// The connections of a core that are read on for long, by client.
#[derive(Debug, Default)]
pub(super) struct Leftovers(RefCell<HashMap<IpAddr, usize>>);

impl Leftovers {
    /// Counts one more; false if there are too many.
    fn admit(&self, network: IpAddr) -> bool {
        let mut all = self.0.borrow_mut();
        let own = all.get(&network).copied().unwrap_or_default();
        let is_admitted = own < CONNECTIONS_OF_CLIENT && all.values().sum::<usize>() < CONNECTIONS;
        if is_admitted {
            all.insert(network, own + 1);
        }
        is_admitted
    }

    fn release(&self, network: IpAddr) {
        let mut all = self.0.borrow_mut();
        if let Some(own) = all.get_mut(&network) {
            *own -= 1;
            if *own == 0 {
                all.remove(&network);
            }
        }
    }
}

fn network(client: ClientAddr) -> IpAddr {
    match client.ip() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// How long one connection is read on.
struct Patience {
    ends: BootTime,
    silence: Duration,
    /// What to release at the end.
    admitted: Option<(Rc<Worker>, IpAddr)>,
}

impl Patience {
    fn with(client: &Client) -> Self {
        let (worker, network) = (&client.worker, network(client.address));
        let admitted = worker.leftovers.admit(network).then(|| (Rc::clone(worker), network));
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
        if let Some((worker, network)) = &self.admitted {
            worker.leftovers.release(*network);
        }
    }
}

impl Client {
    /// Reads what is left of a request and throws it away; false if it does not come, or not in time.
    pub(super) async fn discard(&mut self, rest: Body) -> bool {
        if rest.is_over() {
            return true;
        }
        let mut discard = Discard::new(rest);
        self.read_on(|client, cx| {
            let done = discard.poll(cx, &mut client.input, &mut client.io);
            (done, discard.has_moved())
        })
        .await
        .unwrap_or(false)
    }

    /// Says that this was all, and reads on until the client has said so as well.
    pub(super) async fn linger(&mut self) {
        let _ = poll_fn(|cx| Pin::new(&mut self.io).poll_shutdown(cx)).await;
        if self.has_ended {
            return;
        }
        self.input = Buffer::default();
        self.read_on(|client, cx| {
            let mut moved = false;
            loop {
                match client.input.poll_fill(&mut client.io, cx) {
                    Poll::Ready(Ok(1..)) => moved = true,
                    Poll::Ready(_) => return (Poll::Ready(()), moved),
                    Poll::Pending => return (Poll::Pending, moved),
                }
                client.input.consume(usize::MAX);
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
    fn a_client_and_all_together_are_bounded_and_what_ends_makes_room() {
        let all = Leftovers::default();
        let admit = |address: &str| all.admit(network(address.parse().unwrap()));
        assert!((0..CONNECTIONS_OF_CLIENT).all(|_| admit("192.0.2.1")));
        assert!(!admit("192.0.2.1") && admit("192.0.2.2"));
        assert!((0..CONNECTIONS_OF_CLIENT).all(|n| admit(&format!("2001:db8::{n}"))));
        assert!(!admit("2001:db8::ffff:1") && admit("2001:db8:0:1::1"), "a /64 is one client");
        all.release(network("192.0.2.1".parse().unwrap()));
        assert!(admit("192.0.2.1"));
        let rest = CONNECTIONS - 2 * CONNECTIONS_OF_CLIENT - 2;
        assert!((0..rest).all(|n| admit(&format!("198.51.{}.{}", n / 200, n % 200))));
        assert!(!admit("203.0.113.1"), "all are taken");
        all.release(network("192.0.2.2".parse().unwrap()));
        assert!(admit("203.0.113.1"));
    }
}
