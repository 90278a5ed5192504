//! Requests for `http://` addresses: sent on to the origin, and its answer sent back, streaming both ways.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use hyper::StatusCode;
use tracing::debug;

use super::client::{Client, Next, Refusal};
use super::destination::{Destination, Target};
use super::dial::{Failure, dial};
use super::http1::{
    Answered, BadResponse, Broke, Coding, Method, Onward, Recipient, Request, Response, Transfer,
};
use super::leftover::MAX_LEFTOVER;
use super::options::ProxyOptions;
use super::pages::{Page, framing};
use super::pool::{NoAnswer, Origin};
use super::ports;
use super::tunnel::Side;
use crate::net::Carries;
use crate::types::UserMessage;

/// So many interim answers (1xx) may come before the final one.
const MAX_INTERIM: usize = 1000;

pub(super) async fn forward(
    client: &mut Client,
    request: &Request,
    destination: &Arc<Destination>,
    target: Target,
    options: &ProxyOptions,
    proof: Option<String>,
) -> Result<Next, Box<Refusal>> {
    let head = client.input.unread();
    let method = request.method_name(head);
    client.connection.carry(Carries::Request { method, to: Arc::clone(&destination.key) });
    if !ports::are_open(&options.forward_ports, destination.port) {
        client.input.consume(request.length);
        let port = UserMessage::new("Requests to port ").number(destination.port);
        let text = port.then(" are not allowed by this proxy.");
        let page = ports::closed(client, destination, &text);
        return Err(Box::new(Refusal { page, rest: request.body(), proof }));
    }
    let forwards = request.max_forwards(head);
    if forwards == Some(0) {
        client.input.consume(request.length);
        return Err(Box::new(Refusal { page: last_hop(request), rest: request.body(), proof }));
    }
    let onward = Onward {
        host: target.authority(request.target(head)),
        path: target.path(request.target(head)),
        via: &options.via,
        forwards: forwards.map(|left| left - 1),
    };
    let out = request.write(head, &onward);
    let upgrades = request.upgrades(head);
    let authorises = request.binds_connection(head);
    client.input.consume(request.length);
    let exchange = Exchange {
        request,
        destination,
        options,
        upgrades,
        authorises,
        proof,
        upload: Transfer::new(out, request.body(), Coding::Same),
        is_wanted: false,
        client,
    };
    exchange.run().await
}

/// An answer to who asks the last proxy on the way.
fn last_hop(request: &Request) -> Page {
    Page::empty(if request.method == Method::Trace { StatusCode::METHOD_NOT_ALLOWED } else { StatusCode::OK })
}

/// What can go wrong between a request and its answer.
#[derive(Debug)]
enum Problem {
    Dial(Failure),
    NoAnswer(NoAnswer),
    TimedOut,
    ClientBroke,
    /// The client is no longer there to hear of it.
    ClientGone,
}

/// What is wrong with an origin's answer, for the person at the client.
pub(super) fn bad_answer(bad: BadResponse, origin: UserMessage) -> UserMessage {
    match bad {
        BadResponse::Syntax => origin.then(" answered with something that is not HTTP."),
        BadResponse::TooLarge => origin.then(" answered with a head that is too large."),
        BadResponse::Endless => origin.then(" gave no answer: it sends interim answers without end."),
        BadResponse::Framing(bad) => {
            origin.then(" gave an answer of which the end cannot be told: ").then(framing(bad)).then(".")
        }
    }
}

/// One request and its answer.
struct Exchange<'a> {
    client: &'a mut Client,
    request: &'a Request,
    destination: &'a Arc<Destination>,
    options: &'a ProxyOptions,
    /// The client wants to change the protocol.
    upgrades: bool,
    /// The client may be authenticating the connection to the origin.
    authorises: bool,
    proof: Option<String>,
    upload: Transfer,
    /// The origin has said 100.
    is_wanted: bool,
}

impl Exchange<'_> {
    async fn run(mut self) -> Result<Next, Box<Refusal>> {
        let (mut origin, response, is_pinned) = match self.converse().await {
            Ok(conversed) => conversed,
            Err(Problem::ClientGone) => return Ok(Next::Close),
            Err(problem) => {
                let page = self.page(&problem);
                return Err(self.refuse(page));
            }
        };
        let head = origin.input.unread();
        let recipient = self.recipient();
        if response.status == 101 {
            let Some(to) = response.upgrade(head).filter(|_| self.upgrades) else {
                let text = UserMessage::new("The origin changed the protocol without being asked.");
                return Err(self.refuse(Page::new(StatusCode::BAD_GATEWAY, &text).closing()));
            };
            let out = response.switching(head, to, &recipient);
            origin.input.consume(response.length);
            return Ok(self.switch(origin, &out).await);
        }
        if response.status == 407 {
            let origin = UserMessage::new("").name(&self.destination.key);
            let text = origin.then(" asks for proxy credentials, which only a proxy may do.");
            return Err(self.refuse(Page::new(StatusCode::BAD_GATEWAY, &text)));
        }
        let answered = match response.answer(head, &recipient) {
            Ok(answered) => answered,
            Err(bad) => {
                let page = self.page(&Problem::NoAnswer(NoAnswer::Bad(bad)));
                return Err(self.refuse(page));
            }
        };
        origin.input.consume(response.length);
        self.client.entry.line().status = StatusCode::from_u16(response.status).ok();
        Ok(self.download(origin, answered, is_pinned).await)
    }

    fn recipient(&self) -> Recipient<'_> {
        Recipient {
            version: self.request.version,
            method: self.request.method,
            keeps_alive: self.client.keeps_alive(self.request)
                && self.upload.left() <= MAX_LEFTOVER
                && !self.is_content_open(),
            proof: self.proof.as_deref(),
            via: &self.options.via,
        }
    }

    /// Whether nobody knows if the content will come: the client was about to wait for 100, and is answered instead
    /// (RFC 9110, section 10.1.1).
    fn is_content_open(&self) -> bool {
        self.request.expects && !self.is_wanted && self.upload.content() == 0 && self.request.has_content()
    }

    fn refuse(mut self, page: Page) -> Box<Refusal> {
        self.client.entry.line().received = self.upload.content();
        let rest = std::mem::take(&mut self.upload).into_rest(&mut self.client.input);
        Box::new(Refusal { page, rest, proof: self.proof })
    }

    /// Sends the request on an idle connection or on a new one, until the head of an answer is there. An idle one may
    /// have been closed by the origin without our knowing: then the request is sent again, if that does no harm.
    async fn converse(&mut self) -> Result<(Origin, Response, bool), Problem> {
        loop {
            let (mut origin, is_pinned) = self.origin().await?;
            match self.exchange(&mut origin).await {
                Ok(response) => return Ok((origin, response, is_pinned)),
                Err(Problem::NoAnswer(NoAnswer::Closed))
                    if origin.reused
                        && self.request.method.is_safe()
                        && !self.request.has_content()
                        && self.upload.rewind() => {}
                Err(problem) => return Err(problem),
            }
        }
    }

    /// A connection to the origin, and whether it is this client's own.
    async fn origin(&mut self) -> Result<(Origin, bool), Problem> {
        let (worker, options) = (&self.client.worker, self.options);
        let (key, generation) = (&self.destination.key, worker.shared.generation());
        let idle_timeout = options.pool_idle_timeout;
        if let Some(own) = self.client.pinned.take_if(|own| own.key == *key)
            && own.is_usable(idle_timeout, generation, crate::clock::boot_now())
        {
            worker.shared.stats.origins_reused.inc();
            return Ok((own, true));
        }
        if let Some(idle) = worker.pool.take(key, idle_timeout, generation) {
            worker.shared.stats.origins_reused.inc();
            return Ok((idle, false));
        }
        // Making the connection has its own time.
        self.client.timer.clear();
        let io = dial(self.client, self.destination, options).await.map_err(Problem::Dial)?;
        self.client.timer.set(options.response_timeout);
        Ok((Origin::new(io, Arc::clone(key), generation), false))
    }

    /// Sends the request, and waits for the head of the final answer.
    async fn exchange(&mut self, origin: &mut Origin) -> Result<Response, Problem> {
        for _ in 0..MAX_INTERIM {
            let response = self.head(origin).await?;
            if !response.is_interim() {
                return Ok(response);
            }
            self.is_wanted |= response.status == 100;
            let interim = response.interim(origin.input.unread(), &self.recipient());
            origin.input.consume(response.length);
            if let Some(interim) = interim {
                self.client.send(&interim).await.map_err(|()| Problem::ClientGone)?;
            }
        }
        Err(Problem::NoAnswer(NoAnswer::Bad(BadResponse::Endless)))
    }

    async fn head(&mut self, origin: &mut Origin) -> Result<Response, Problem> {
        let Self { client, upload, options, .. } = self;
        let mut is_sent = upload.is_over();
        poll_fn(|cx| {
            if !is_sent {
                match client.poll_upload(cx, upload, &mut origin.io) {
                    Poll::Ready(Ok(())) => is_sent = true,
                    Poll::Ready(Err(Broke::From(_))) => return Poll::Ready(Err(Problem::ClientBroke)),
                    // It may have answered all the same.
                    Poll::Ready(Err(Broke::To(_))) => is_sent = true,
                    Poll::Pending => {}
                }
                // The origin's time runs while nothing more is sent to it.
                if upload.has_moved() {
                    client.timer.set(options.response_timeout);
                }
            }
            match origin.poll_answer(cx) {
                Poll::Ready(answer) => return Poll::Ready(answer.map_err(Problem::NoAnswer)),
                Poll::Pending if is_sent && client.poll_gone(cx).is_ready() => {
                    return Poll::Ready(Err(Problem::ClientGone));
                }
                Poll::Pending => {}
            }
            client.timer.poll(cx).map(|()| Err(Problem::TimedOut))
        })
        .await
    }

    /// Sends the answer on; what of the request is still to come goes on meanwhile.
    async fn download(self, mut origin: Origin, answered: Answered, is_pinned: bool) -> Next {
        let Self { client, mut upload, options, authorises, .. } = self;
        let Answered { head, body, coding, client_kept, origin_kept, origin_asks } = answered;
        let mut download = Transfer::new(head, body, coding);
        let mut is_sent = upload.is_over();
        client.timer.clear();
        let end = poll_fn(|cx| {
            if !is_sent {
                match client.poll_upload(cx, &mut upload, &mut origin.io) {
                    Poll::Ready(Err(Broke::From(error))) => return Poll::Ready(Err(error)),
                    // The origin needs no more of it to answer.
                    Poll::Ready(Ok(()) | Err(Broke::To(_))) => is_sent = true,
                    Poll::Pending => {}
                }
            }
            match download.poll(cx, &mut origin.input, &mut origin.io, &mut client.io) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
                Poll::Ready(Err(Broke::From(error) | Broke::To(error))) => Poll::Ready(Err(error)),
                Poll::Pending if is_sent && client.poll_gone(cx).is_ready() => {
                    Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        let line = client.entry.line();
        line.received = upload.content();
        line.sent = download.content();
        if let Err(error) = end {
            // The client sees that the answer breaks off: its connection does.
            debug!(client = %client.address, %error, "an answer broke off");
            client.entry.finish(false);
            return Next::Close;
        }
        client.entry.finish(true);
        let is_whole = upload.is_over();
        if origin_kept && is_whole && origin.input.is_empty() {
            if is_pinned || authorises || origin_asks {
                origin.rest();
                client.pinned = Some(origin);
            } else {
                let worker = &client.worker;
                let (limit, room) = (options.pool_per_origin, worker.room_for_idle());
                worker.pool.put(origin, limit, room, worker.shared.generation());
            }
        }
        if !client_kept {
            if !is_whole || !client.input.is_empty() {
                client.linger().await;
            } else {
                client.end().await;
            }
            return Next::Close;
        }
        let rest = upload.into_rest(&mut client.input);
        if client.discard(rest).await { Next::Request } else { Next::Close }
    }

    /// 101: from here on the connection is a tunnel.
    async fn switch(self, origin: Origin, head: &[u8]) -> Next {
        self.client.entry.line().status = Some(StatusCode::SWITCHING_PROTOCOLS);
        if !self.upload.is_over() || self.client.send(head).await.is_err() {
            return Next::Close;
        }
        Next::Tunnel(Side { io: origin.io, early: origin.input.into_bytes() })
    }

    fn page(&mut self, problem: &Problem) -> Page {
        let origin = UserMessage::new("").name(&self.destination.key);
        let (status, text) = match problem {
            Problem::Dial(failure) => {
                self.client.entry.line().problem = Some(failure.to_string());
                return failure.page(self.destination);
            }
            Problem::ClientBroke | Problem::ClientGone => {
                return Page::bad_request(&UserMessage::new(
                    "The request broke off before its end, or its content is malformed.",
                ));
            }
            Problem::TimedOut => {
                (StatusCode::GATEWAY_TIMEOUT, origin.then(" did not answer the request in time."))
            }
            Problem::NoAnswer(NoAnswer::Bad(bad)) => (StatusCode::BAD_GATEWAY, bad_answer(*bad, origin)),
            Problem::NoAnswer(NoAnswer::Closed) => (
                StatusCode::BAD_GATEWAY,
                origin.then(" closed the connection before it had answered the request."),
            ),
        };
        Page::new(status, &text)
    }
}
