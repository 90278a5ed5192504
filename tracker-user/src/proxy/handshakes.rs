//! TLS handshakes of clients: at most some at a time, and each within its time.

mod by_client;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use self::by_client::ByClient;
use super::front::http1::{Heads, Waiting};
use crate::net::{ClientStream, Connection, HandshakeError, TlsServer};
use crate::types::{ClientAddr, ConnectionId};

/// A handshake that is not done within this time is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many handshakes one core has under way. Beyond that the oldest of the client that has the most is given up: those
/// who only begin handshakes do not keep out those who finish them, however long these take.
pub(super) const MAX_HANDSHAKES: usize = if cfg!(test) { 4 } else { 1024 };

/// The handshakes of a core that are under way.
#[derive(Debug, Default)]
pub(super) struct Handshakes(RefCell<ByClient>);

/// What a handshake came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A new session of TLS.
    Full,
    /// One that goes on from an earlier one.
    Resumed,
    /// The client left before it said anything.
    Unused,
    /// The client spoke no TLS.
    Plain,
    /// Nothing in common.
    Incompatible,
    /// The client did not want to go on; most often it does not trust the certificate.
    Refused,
    /// The protocol was broken.
    Broken,
    /// The client left in the middle.
    Left,
    /// It took too long.
    TimedOut,
    /// The connection was ended from outside: the gateway stops, or there were too many handshakes.
    Ended,
}

impl Outcome {
    /// All of them.
    pub(super) const ALL: [Self; 10] = [
        Self::Full,
        Self::Resumed,
        Self::Unused,
        Self::Plain,
        Self::Incompatible,
        Self::Refused,
        Self::Broken,
        Self::Left,
        Self::TimedOut,
        Self::Ended,
    ];

    /// As metrics name it.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Unused => "unused",
            Self::Plain => "plain",
            Self::Incompatible => "incompatible",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::Left => "left",
            Self::TimedOut => "timed-out",
            Self::Ended => "ended",
        }
    }
}

impl From<&HandshakeError> for Outcome {
    fn from(error: &HandshakeError) -> Self {
        match error {
            HandshakeError::Unused => Self::Unused,
            HandshakeError::Plain => Self::Plain,
            HandshakeError::Incompatible(_) => Self::Incompatible,
            HandshakeError::Refused(_) => Self::Refused,
            HandshakeError::Broken(_) => Self::Broken,
            HandshakeError::Left(_) => Self::Left,
        }
    }
}

/// How a handshake ended.
pub(super) struct Done {
    /// The connection, if it can be served.
    pub(super) stream: Option<ClientStream>,
    pub(super) outcome: Outcome,
    /// Whether it speaks against the client ([`HandshakeError::is_offence`]).
    pub(super) is_offence: bool,
}

impl Handshakes {
    /// Does the handshake on a connection that was accepted just now. What has come of a message waits in memory, and counts
    /// among `heads`.
    pub(super) async fn run(&self, stream: ClientStream, server: &TlsServer, heads: &Rc<Heads>) -> Done {
        let failed = |outcome, is_offence| Done { stream: None, outcome, is_offence };
        let connection = Arc::clone(stream.connection());
        let client = connection.client();
        let _under_way = self.begin(&connection);
        let Ok(handshake) = stream.secure(server) else { return failed(Outcome::Ended, false) };
        let mut handshake = pin!(handshake);
        let mut waiting = Waiting::new(Rc::clone(heads));
        let ended_or_done = poll_fn(|cx| {
            let polled = connection.poll_until_end(cx, handshake.as_mut());
            if polled.is_pending() {
                waiting.set(handshake.held(), &connection);
            }
            polled
        });
        match timeout(HANDSHAKE_TIMEOUT, ended_or_done).await {
            Ok(Some(Ok(stream))) => {
                let outcome = if stream.is_resumed() { Outcome::Resumed } else { Outcome::Full };
                Done { stream: Some(stream), outcome, is_offence: false }
            }
            Ok(Some(Err(error))) => {
                debug!(%client, %error, "a TLS handshake came to nothing");
                failed(Outcome::from(&error), error.is_offence())
            }
            Ok(None) => failed(Outcome::Ended, false),
            Err(_) => {
                debug!(%client, "a TLS handshake took too long");
                // Whoever has said nothing has not had the gateway work.
                failed(Outcome::TimedOut, handshake.has_begun())
            }
        }
    }

    fn begin(&self, connection: &Arc<Connection>) -> UnderWay<'_> {
        let mut all = self.0.borrow_mut();
        all.insert(connection);
        if all.len() > MAX_HANDSHAKES
            && let Some(oldest) = all.pop()
        {
            oldest.end();
        }
        UnderWay { all: self, client: connection.client(), id: connection.id() }
    }
}

/// A handshake that counts.
struct UnderWay<'a> {
    all: &'a Handshakes,
    client: ClientAddr,
    id: ConnectionId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.all.0.borrow_mut().remove(self.client, self.id);
    }
}
