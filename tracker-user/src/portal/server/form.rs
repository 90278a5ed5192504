//! What comes with a request: no more than a form, and within its time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

/// No form is larger, in bytes.
pub(super) const LARGEST: usize = 16 * 1024;
/// How long a browser may take to send it.
pub(super) const TIME: Duration = Duration::from_secs(10);
/// So much of what is too large is taken and thrown away, so that its sender reads the answer.
const THROWN_AWAY: usize = 512 * 1024;

/// It is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// It is larger than any form.
    Large,
    /// It did not come in time.
    Late,
    /// It is broken.
    Broken,
}

impl NotTaken {
    /// As it is counted.
    pub(super) const fn cause(self) -> &'static str {
        match self {
            Self::Large => "form-size",
            Self::Late => "form-time",
            Self::Broken => "form-broken",
        }
    }
}

/// Reads it whole.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, NotTaken> {
    let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    // Whoever asks first is told before they have sent anything.
    if length.is_some_and(|length| length > LARGEST as u64) && headers.contains_key(EXPECT) {
        return Err(NotTaken::Large);
    }
    timeout(TIME, gather(body)).await.unwrap_or(Err(NotTaken::Late))
}

async fn gather(mut body: Body) -> Result<Bytes, NotTaken> {
    let (mut read, mut thrown_away) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| NotTaken::Broken)?.into_data() else { continue };
        if thrown_away == 0 && read.len() + data.len() <= LARGEST {
            read.extend_from_slice(&data);
            continue;
        }
        thrown_away += data.len();
        if thrown_away > THROWN_AWAY {
            break;
        }
    }
    if thrown_away > 0 { Err(NotTaken::Large) } else { Ok(read.freeze()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_so_much_and_only_in_time() {
        let none = HeaderMap::new();
        for (size, taken) in [(0, true), (LARGEST, true), (LARGEST + 1, false), (4 << 20, false)] {
            let read = read(&none, Body::from(vec![b'x'; size])).await;
            assert_eq!(read.is_ok_and(|read| read.len() == size), taken, "{size}");
        }
        let slow = futures_util::stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>("x"), ()))
        });
        assert_eq!(read(&none, Body::from_stream(slow)).await, Err(NotTaken::Late));
        let broken = futures_util::stream::iter([Ok("x"), Err(std::io::Error::other("cut"))]);
        assert_eq!(read(&none, Body::from_stream(broken)).await, Err(NotTaken::Broken));
        let mut first = HeaderMap::new();
        first.insert(EXPECT, "100-continue".parse().unwrap());
        first.insert(CONTENT_LENGTH, "16385".parse().unwrap());
        let never = Body::from_stream(futures_util::stream::pending::<std::io::Result<Bytes>>());
        assert_eq!(read(&first, never).await, Err(NotTaken::Large));
    }
}
