//! What is left of a request that was answered without being read.
//!
//! The connection stays usable only if the rest of the request is read first: a handshake over several legs would be
//! broken off otherwise, and a client that is still sending would be hit by a reset before it has read the answer. So
//! the rest is read and thrown away, within limits. Where it is larger, reading it stops, and the connection closes.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::connection::Client;

/// How much is read.
pub(super) const MAX_LEFTOVER: u64 = 1 << 20;

/// How long that may take.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Leftover {
    client: Arc<Client>,
    body: Incoming,
}

impl Leftover {
    /// `None` if nothing is left.
    pub(super) fn new(client: &Arc<Client>, body: Incoming) -> Option<Self> {
        (!body.is_end_stream()).then(|| Self { client: Arc::clone(client), body })
    }

    /// Whether it is known beforehand that the connection cannot be kept.
    pub(super) fn is_too_large(&self) -> bool {
        self.body.size_hint().lower() > MAX_LEFTOVER
    }

    pub(super) fn drain(self) {
        let Self { client, mut body } = self;
        // Outside a runtime everything is being dropped anyway.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let ended = client.connection.ended().clone();
            let read = async {
                let mut bytes = 0;
                while let Some(Ok(frame)) = body.frame().await {
                    bytes += frame.data_ref().map_or(0, bytes::Bytes::len) as u64;
                    if bytes > MAX_LEFTOVER {
                        break;
                    }
                }
            };
            tokio::select! {
                _ = tokio::time::timeout(TIMEOUT, read) => {}
                () = ended.cancelled() => {}
            }
            drop(body);
            client.activity.idle_again();
        });
    }
}
