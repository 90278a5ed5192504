//! One request on an HTTP/1 connection, and its answer.

use std::task::{Context, Poll};

use http::StatusCode;

use super::leftover::MAX_LEFTOVER;
use super::{NUMBER, Wire, write};
use crate::proxy::access::Entry;
use crate::proxy::exchange::{Answer, ClientGone, Downstream, Peer, Reply};
use crate::proxy::http1::{Body, Broke, Coding, ResponseContent, Transfer};
use crate::proxy::message::{Method, RequestLine, Version};
use crate::proxy::pool::Origin;
use crate::proxy::timer::Timer;

/// What happens on the connection after an exchange.
pub(super) enum Next {
    /// The next request.
    Request,
    /// The end.
    Close,
}

/// See the module.
pub(super) struct Exchange<'a> {
    peer: &'a Peer,
    wire: &'a mut Wire,
    line: RequestLine,
    /// The client would use the connection for another request.
    keeps_alive: bool,
    upload: Transfer,
    download: Transfer,
    /// The origin has said 100.
    is_wanted: bool,
    /// The connection goes on after the answer that has been begun, as far as that is known.
    kept: bool,
    ending: Ending,
}

/// How the exchange ends.
enum Ending {
    /// It breaks off: the client sees that its answer is not whole, or that there is none.
    Broken,
    /// It was answered, and the next request may follow when the rest of this one has come.
    Kept(Body),
    /// It was answered. The client has to be listened to until it has read that, if it may still send something.
    Closing { may_still_send: bool },
}

impl<'a> Exchange<'a> {
    pub(super) fn new(peer: &'a Peer, wire: &'a mut Wire, line: RequestLine, keeps_alive: bool) -> Self {
        Self {
            peer,
            wire,
            upload: Transfer::new(Vec::new(), Body::of_request(&line), Coding::Same),
            download: Transfer::default(),
            line,
            keeps_alive,
            is_wanted: false,
            kept: false,
            ending: Ending::Broken,
        }
    }

    /// Deals with what the client still sends, and says what comes next.
    pub(super) async fn end(self) -> Next {
        match self.ending {
            Ending::Kept(rest) => {
                if self.wire.discard(rest).await {
                    return Next::Request;
                }
            }
            Ending::Closing { may_still_send: true } => self.wire.linger().await,
            Ending::Closing { may_still_send: false } => self.wire.end().await,
            Ending::Broken => {}
        }
        Next::Close
    }

    /// Whether the connection goes on after this exchange, as far as client and gateway are concerned.
    fn keeps_alive(&self) -> bool {
        self.keeps_alive && !self.wire.has_ended && !self.wire.is_closing()
    }

    /// Whether nobody knows if the content will come: the client was about to wait for 100, and is answered instead
    /// (RFC 9110, section 10.1.1).
    fn is_content_open(&self) -> bool {
        self.line.expects && !self.is_wanted && self.upload.content() == 0 && self.line.has_content()
    }

    /// Whether a client that asked for a tunnel seems to wait for the answer. What has come behind the head was meant for the
    /// tunnel, and may be somebody else's words, whom the client speaks for: it is no request (RFC 9931).
    fn is_all_said(&self) -> bool {
        self.wire.input.is_empty() && !self.line.has_content()
    }

    /// What has not been read of the request.
    fn take_rest(&mut self) -> Body {
        std::mem::take(&mut self.upload).into_rest(&mut self.wire.input)
    }
}

impl Downstream for Exchange<'_> {
    fn number(&self) -> u32 {
        NUMBER
    }

    fn entry(&mut self) -> &mut Entry {
        &mut self.wire.entry
    }

    fn timer(&mut self) -> &mut Timer {
        &mut self.wire.timer
    }

    fn start_upload(&mut self, head: Vec<u8>) {
        self.upload.begin(head);
    }

    fn restart_upload(&mut self) -> bool {
        self.upload.rewind()
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>, origin: &mut Origin) -> Poll<Result<(), Broke>> {
        self.upload.poll(cx, &mut self.wire.input, &mut self.wire.io, &mut origin.io)
    }

    fn has_uploaded(&mut self) -> bool {
        self.upload.has_moved()
    }

    fn is_uploaded(&self) -> bool {
        self.upload.is_over()
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wire.poll_gone(cx)
    }

    async fn interim(&mut self, answer: &Answer<'_>) -> Result<(), ClientGone> {
        self.is_wanted |= answer.head.status() == 100;
        if self.line.version == Version::Http10 {
            return Ok(());
        }
        self.wire.send(&write::interim(answer, self.line.version)).await
    }

    async fn respond(&mut self, reply: Reply) {
        let received = self.upload.content();
        let rest = self.take_rest();
        let is_challenge = reply.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        // A handshake over several legs would be broken off with the connection.
        let is_handshake = is_challenge && self.peer.conversation().is_in_handshake();
        let is_connect = self.line.method == Method::Connect;
        let closes = reply.closes()
            || (is_connect && !(is_challenge && self.is_all_said()))
            // Nobody knows whether the content will come (RFC 9110, section 10.1.1).
            || (self.line.expects && !rest.is_over() && !is_handshake);
        // A challenged client comes again in any case. Told of a close, curl 7.88 comes with the rest of its file only.
        let kept = self.keeps_alive() && !closes && (is_challenge || rest.at_least() <= MAX_LEFTOVER);
        self.wire.owes_credentials = is_connect;
        let may_still_send = closes || !rest.is_over() || !self.wire.input.is_empty();
        let stats = &self.peer.worker().shared.stats;
        if is_challenge {
            stats.challenges.inc();
        }
        let line = self.wire.entry.line();
        line.status = Some(reply.status());
        line.received = received;
        line.sent = if self.line.method == Method::Head { 0 } else { reply.content().len() as u64 };
        // What came before may have stopped the timer, or run it down.
        self.wire.timer.set(self.peer.worker().shared.options.load().header_timeout);
        let bytes = write::reply(&reply, self.line.version, self.line.method, kept);
        if self.wire.send(&bytes).await.is_ok() {
            self.wire.entry.finish(true);
            self.ending = if kept { Ending::Kept(rest) } else { Ending::Closing { may_still_send } };
        }
    }

    fn start_answer(&mut self, answer: &Answer<'_>, content: ResponseContent) {
        let ResponseContent { body, length, .. } = content;
        let coding = match (&body, self.line.version) {
            (Body::Chunked(_) | Body::UntilClose, Version::Http10) => Coding::Plain,
            (Body::UntilClose, Version::Http11) => Coding::Chunked,
            _ => Coding::Same,
        };
        self.kept = coding != Coding::Plain
            && self.keeps_alive()
            && self.upload.left() <= MAX_LEFTOVER
            && !self.is_content_open();
        let framing = write::Framing::of(&body, coding, length);
        let head = write::answer(answer, self.line.version, framing, self.kept);
        self.download = Transfer::new(head, body, coding);
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>, origin: &mut Origin) -> Poll<Result<(), Broke>> {
        self.download.poll(cx, &mut origin.input, &mut origin.io, &mut self.wire.io)
    }

    fn end_answer(&mut self, is_whole: bool) {
        let line = self.wire.entry.line();
        line.received = self.upload.content();
        line.sent = self.download.content();
        self.wire.entry.finish(is_whole);
        if !is_whole {
            return;
        }
        let may_still_send = !self.upload.is_over() || !self.wire.input.is_empty();
        self.ending =
            if self.kept { Ending::Kept(self.take_rest()) } else { Ending::Closing { may_still_send } };
    }

    async fn open_tunnel(&mut self, mutual_auth: Option<&str>) -> Result<(), ClientGone> {
        self.wire.send(&write::established(self.line.version, mutual_auth)).await
    }

    async fn switch_protocol(&mut self, answer: &Answer<'_>, protocol: &[u8]) -> Result<(), ClientGone> {
        self.wire.send(&write::switching(answer, self.line.version, protocol)).await
    }
}
