//! Answers on the wire: a JSON document, a list of them that is written portion by portion, or lines as they come.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::wire;
use crate::ops::{ErrorKind, OpsError};

/// So much of a list is written at once: not all of it is in memory a second time.
const CHUNK: usize = 64 * 1024;

pub(super) type Body = BoxBody<Bytes, Infallible>;

/// How long a program may take to read an answer. Lines carry it among the response's extensions; what has none is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// It is all there, and waits to be read.
    Whole,
    /// It is read from the store line by line, no faster than the program reads it.
    Lines,
    /// It has no end: the program follows what happens.
    Follows,
}

/// A refusal: status and sentence.
pub(super) struct Refused(pub(super) StatusCode, pub(super) String);

impl Refused {
    /// The request cannot be understood.
    pub(super) fn wrong(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }
}

impl From<OpsError> for Refused {
    fn from(error: OpsError) -> Self {
        let status = match error.kind() {
            ErrorKind::Wrong => StatusCode::BAD_REQUEST,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::NoRoom => StatusCode::INSUFFICIENT_STORAGE,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

impl From<Refused> for Response<Body> {
    fn from(Refused(status, error): Refused) -> Self {
        json(status, &wire::Problem { error })
    }
}

pub(super) fn ok(value: &impl Serialize) -> Response<Body> {
    json(StatusCode::OK, value)
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let mut response = Response::new(Full::from(line(value)).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A JSON array of what `render` makes of each item, made when it is sent.
pub(super) fn list<T, W>(items: Vec<T>, render: impl Fn(&T) -> W + Send + Sync + 'static) -> Response<Body>
where
    T: Send + Sync + 'static,
    W: Serialize,
{
    let mut items = items.into_iter();
    let (mut begun, mut ended) = (false, false);
    let chunks = std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let mut chunk = Vec::with_capacity(CHUNK + 1_024);
        while chunk.len() < CHUNK {
            let Some(item) = items.next() else {
                if !begun {
                    chunk.push(b'[');
                }
                chunk.extend_from_slice(b"]\n");
                ended = true;
                break;
            };
            chunk.push(if begun { b',' } else { b'[' });
            begun = true;
            // What is on the wire are plain structs: they can be written.
            let _ = serde_json::to_writer(&mut chunk, &render(&item));
        }
        Some(Bytes::from(chunk))
    });
    streamed(futures_util::stream::iter(chunks), "application/json")
}

/// A JSON document a line, as they come.
pub(super) fn lines(pace: Pace, lines: impl Stream<Item = Bytes> + Send + Sync + 'static) -> Response<Body> {
    let mut response = streamed(lines, "application/x-ndjson");
    response.extensions_mut().insert(pace);
    response
}

fn streamed(
    chunks: impl Stream<Item = Bytes> + Send + Sync + 'static,
    content_type: &'static str,
) -> Response<Body> {
    let frames = futures_util::StreamExt::map(chunks, |chunk| Ok(Frame::data(chunk)));
    let mut response = Response::new(StreamBody::new(frames).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(super) fn line(value: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_list_in_chunks_is_the_document_that_it_was_as_a_whole() {
        for count in [0_u32, 1, 2, 20_000] {
            let numbers: Vec<u32> = (0..count).collect();
            let whole = line(&numbers);
            let sent = list(numbers, |number| *number).into_body().collect().await.unwrap().to_bytes();
            assert!(sent == whole, "{count}");
        }
    }
}
