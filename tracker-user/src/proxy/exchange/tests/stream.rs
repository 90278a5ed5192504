//! A front without a connection: heads come from pseudo-fields, content from memory, and what the client gets is kept.
//! It is what a stream of HTTP/2 will be: one of several on a connection, with no descriptor of its own.

use std::collections::VecDeque;
use std::io::Write as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite as _;

use super::super::{Answer, ClientGone, Downstream, Peer, Reply};
use crate::proxy::access::Entry;
use crate::proxy::buffer::Buffer;
use crate::proxy::http1::{Body, Broke, ResponseContent, Step};
use crate::proxy::message::{Content, Fields, Method, RequestHead, RequestLine, Span, Target, Version};
use crate::proxy::pool::Origin;
use crate::proxy::timer::Timer;

/// A head whose parts came one by one, as HPACK tells them.
pub(super) fn head(
    method: &str,
    authority: &str,
    path: &str,
    content: Content,
    fields: &[(&str, &str)],
) -> RequestHead {
    let mut bytes = Vec::new();
    let mut put = |text: &str| {
        let start = bytes.len();
        bytes.extend_from_slice(text.as_bytes());
        start..bytes.len()
    };
    let (name, authority) = (put(method), put(authority));
    let scheme = put(if method == "CONNECT" { "" } else { "http" });
    let path = put(path);
    let fields: Vec<_> = fields.iter().map(|(name, value)| (put(name), put(value))).collect();
    let bytes: Buffer = bytes.as_slice().into();
    let all = bytes.unread();
    let span = |range: std::ops::Range<usize>| Span::find(&all[range], all);
    let line = RequestLine {
        method: Method::of(method.as_bytes()),
        name: span(name),
        target: Target { scheme: span(scheme), authority: span(authority), path: span(path) },
        version: Version::Http11,
        content,
        expects: false,
    };
    let fields =
        Fields::of(fields.iter().map(|(name, value)| (&all[name.clone()], &all[value.clone()])), all);
    RequestHead::new(bytes, line, fields)
}

/// What the client got.
#[derive(Debug, Default)]
pub(super) struct Got {
    pub(super) interim: Vec<u16>,
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) content: Vec<u8>,
    pub(super) is_whole: bool,
}

impl Got {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }
}

/// See the module.
pub(super) struct Stream {
    number: u32,
    entry: Entry,
    timer: Timer,
    /// Content that has come from the client, frame by frame.
    frames: VecDeque<&'static [u8]>,
    length: Content,
    /// Written for the origin and not sent yet.
    out: Vec<u8>,
    is_framed: bool,
    has_moved: bool,
    body: Body,
    /// The client has reset the stream.
    pub(super) is_reset: bool,
    pub(super) got: Got,
}

impl Stream {
    pub(super) fn new(peer: &Peer, number: u32, length: Content, frames: &[&'static [u8]]) -> Self {
        Self {
            number,
            entry: Entry::new(Rc::clone(peer.worker()), peer.address()),
            timer: Timer::new(Duration::from_secs(10)),
            frames: frames.iter().copied().collect(),
            length,
            out: Vec::new(),
            is_framed: false,
            has_moved: false,
            body: Body::None,
            is_reset: false,
            got: Got::default(),
        }
    }

    fn answer(&mut self, answer: &Answer<'_>) {
        self.got.status = answer.head.status();
        answer.each_field(|name, value| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            self.got.fields.push((text(name), text(&value.concat())));
        });
    }
}

impl Downstream for Stream {
    fn number(&self) -> u32 {
        self.number
    }

    fn entry(&mut self) -> &mut Entry {
        &mut self.entry
    }

    fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    fn start_upload(&mut self, head: Vec<u8>) {
        self.out = head;
    }

    fn restart_upload(&mut self) -> bool {
        false
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>, origin: &mut Origin) -> Poll<Result<(), Broke>> {
        loop {
            while !self.out.is_empty() {
                let sent = ready!(Pin::new(&mut origin.io).poll_write(cx, &self.out)).map_err(Broke::To)?;
                self.out.drain(..sent);
                self.has_moved = true;
            }
            if self.is_framed {
                return Poll::Ready(Ok(()));
            }
            let chunked = self.length == Content::Unknown;
            match self.frames.pop_front() {
                Some(frame) if chunked => {
                    write!(self.out, "{:x}\r\n", frame.len()).unwrap();
                    self.out.extend_from_slice(frame);
                    self.out.extend_from_slice(b"\r\n");
                }
                Some(frame) => self.out.extend_from_slice(frame),
                None => {
                    self.is_framed = true;
                    self.out.extend_from_slice(if chunked { b"0\r\n\r\n" } else { b"" });
                }
            }
        }
    }

    fn has_uploaded(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    fn is_uploaded(&self) -> bool {
        self.is_framed && self.out.is_empty()
    }

    fn poll_gone(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        if self.is_reset { Poll::Ready(()) } else { Poll::Pending }
    }

    async fn interim(&mut self, answer: &Answer<'_>) -> Result<(), ClientGone> {
        self.got.interim.push(answer.head.status());
        Ok(())
    }

    async fn respond(&mut self, reply: Reply) {
        self.got.status = reply.status().as_u16();
        reply.each_field(|name, value| self.got.fields.push((name.to_owned(), value.to_owned())));
        self.got.content = reply.content().as_bytes().to_vec();
        self.got.is_whole = true;
    }

    fn start_answer(&mut self, answer: &Answer<'_>, content: ResponseContent) {
        self.answer(answer);
        self.body = content.body;
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>, origin: &mut Origin) -> Poll<Result<(), Broke>> {
        loop {
            match self.body.step(origin.input.unread())? {
                Step::Pass { count, content } => {
                    if content {
                        self.got.content.extend_from_slice(&origin.input.unread()[..count]);
                    }
                    origin.input.consume(count);
                }
                Step::Replace { count, .. } => origin.input.consume(count),
                Step::End => return Poll::Ready(Ok(())),
                Step::More => {
                    if ready!(origin.input.poll_fill(&mut origin.io, cx)).map_err(Broke::From)? == 0 {
                        self.body.closed()?;
                    }
                }
            }
        }
    }

    fn end_answer(&mut self, is_whole: bool) {
        self.got.is_whole = is_whole;
    }

    async fn open_tunnel(&mut self, mutual_auth: Option<&str>) -> Result<(), ClientGone> {
        self.got.status = 200;
        self.got.fields.extend(mutual_auth.map(|token| ("Proxy-Authenticate".to_owned(), token.to_owned())));
        Ok(())
    }

    async fn switch_protocol(&mut self, answer: &Answer<'_>, _protocol: &[u8]) -> Result<(), ClientGone> {
        self.answer(answer);
        Ok(())
    }
}
