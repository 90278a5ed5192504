//! Requests for `http://` addresses: sent on to the origin, and its answer sent back, streaming both ways.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use http::StatusCode;
use tokio::net::TcpStream;
use tracing::debug;

use super::destination::Destination;
use super::dial::{Failure, reach};
use super::exchange::{Answer, Downstream, Peer, Reply, Right};
use super::http1::{BadResponse, Broke, Onward, ResponseContent, ResponseHead, onward};
use super::message::{Method, RequestHead, RequestLine};
use super::options::ProxyOptions;
use super::pool::{NoAnswer, Origin};
use super::ports;
use super::tunnel::Side;
use crate::net::Carries;
use crate::types::UserMessage;

/// So many interim answers (1xx) may come before the final one.
const MAX_INTERIM: usize = 1000;

/// Sends the request on, and the answer back. An error is the answer that the client gets instead.
pub(super) async fn forward<D: Downstream>(
    peer: &Peer,
    head: RequestHead,
    down: &mut D,
    destination: &Arc<Destination>,
    options: &ProxyOptions,
    right: &Right,
) -> Result<Option<Side<TcpStream>>, Reply> {
    let (method, to) = (head.method_name(), Arc::clone(&destination.key));
    peer.connection().begin_exchange(down.number(), Carries::Request { method, to });
    if right.user().is_some() && !ports::are_open(&options.forward_ports, destination.port) {
        let port = UserMessage::new("Requests to port ").number(destination.port);
        let text = port.then(" are not allowed by this proxy.");
        return Err(ports::closed(peer, down.entry(), destination, &text));
    }
    let forwards = head.max_forwards();
    if forwards == Some(0) {
        return Err(last_hop(head.method()));
    }
    down.start_upload(onward(&head, &Onward { via: &options.via, forwards: forwards.map(|left| left - 1) }));
    let forwarding = Forwarding {
        peer,
        line: *head.line(),
        destination,
        options,
        right,
        upgrades: head.upgrade().is_some(),
        authorises: head.binds_connection(),
        down,
    };
    // Its memory is not held while the origin is waited for.
    drop(head);
    forwarding.run().await
}

/// An answer to who asks the last proxy on the way.
fn last_hop(method: Method) -> Reply {
    Reply::empty(if method == Method::Trace { StatusCode::METHOD_NOT_ALLOWED } else { StatusCode::OK })
}

/// The last answer to a request, as the client gets it.
fn final_answer<'a>(
    head: ResponseHead<'a>,
    options: &'a ProxyOptions,
    right: &'a Right,
    binds_connection: bool,
) -> Answer<'a> {
    Answer { head, via: &options.via, binds_connection, mutual_auth: right.mutual_auth() }
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
            origin.then(" gave an answer of which the end cannot be told: ").then(bad.user_words()).then(".")
        }
    }
}

/// One request on its way to an origin, and the answer on its way back.
struct Forwarding<'a, D> {
    peer: &'a Peer,
    down: &'a mut D,
    line: RequestLine,
    destination: &'a Arc<Destination>,
    options: &'a ProxyOptions,
    right: &'a Right,
    /// The client wants to change the protocol.
    upgrades: bool,
    /// The client may be authenticating the connection to the origin.
    authorises: bool,
}

impl<D: Downstream> Forwarding<'_, D> {
    async fn run(mut self) -> Result<Option<Side<TcpStream>>, Reply> {
        let (mut origin, is_pinned) = match self.converse().await {
            Ok(conversed) => conversed,
            Err(Problem::ClientGone) => return Ok(None),
            Err(problem) => return Err(self.reply(&problem)),
        };
        let head = origin.response();
        if head.status() == 101 {
            let Some(protocol) = head.upgrade().filter(|_| self.upgrades) else {
                let text = UserMessage::new("The origin changed the protocol without being asked.");
                return Err(Reply::new(StatusCode::BAD_GATEWAY, &text).closing());
            };
            self.down.entry().line().status = Some(StatusCode::SWITCHING_PROTOCOLS);
            let answer = final_answer(head, self.options, self.right, false);
            if !self.down.is_uploaded() || self.down.switch_protocol(&answer, protocol).await.is_err() {
                return Ok(None);
            }
            origin.consume_response();
            // From here on it is a tunnel.
            return Ok(Some(Side { io: origin.io, early: origin.input.into_bytes() }));
        }
        if head.status() == 407 {
            let origin = UserMessage::new("").name(&self.destination.key);
            let text = origin.then(" asks for proxy credentials, which only a proxy may do.");
            return Err(Reply::new(StatusCode::BAD_GATEWAY, &text));
        }
        let content = match head.content(self.line.method) {
            Ok(content) => content,
            Err(bad) => return Err(self.reply(&Problem::NoAnswer(NoAnswer::Bad(bad)))),
        };
        let is_bound = head.challenge_binds();
        self.down.entry().line().status = StatusCode::from_u16(head.status()).ok();
        self.download(origin, content, is_bound, is_pinned).await;
        Ok(None)
    }

    /// Sends the request on an idle connection or on a new one, until the head of an answer is there. An idle one may
    /// have been closed by the origin without our knowing: then the request is sent again, if that does no harm. Also says
    /// whether the connection is one that was kept for this user alone.
    async fn converse(&mut self) -> Result<(Origin, bool), Problem> {
        loop {
            let (mut origin, is_pinned) = self.origin().await?;
            match self.exchange(&mut origin).await {
                Ok(()) => return Ok((origin, is_pinned)),
                Err(Problem::NoAnswer(NoAnswer::Closed))
                    if origin.reused
                        && self.line.method.is_safe()
                        && !self.line.has_content()
                        && self.down.restart_upload() => {}
                Err(problem) => return Err(problem),
            }
        }
    }

    /// A connection to the origin, and whether it was kept for this user alone.
    async fn origin(&mut self) -> Result<(Origin, bool), Problem> {
        let (worker, options) = (self.peer.worker(), self.options);
        let (key, generation) = (&self.destination.key, worker.shared.generation());
        let idle_timeout = options.pool_idle_timeout;
        // Those to the gateway's own pages are of one client and one request.
        if let Some(authorized) = self.right.user() {
            if let Some(own) = self.peer.take_pinned(key, authorized)
                && own.is_usable(idle_timeout, generation, crate::clock::boot_now())
            {
                worker.shared.stats.origins_reused.inc();
                return Ok((own, true));
            }
            if let Some(idle) = worker.pool.take(key, idle_timeout, generation) {
                worker.shared.stats.origins_reused.inc();
                return Ok((idle, false));
            }
        }
        // Making the connection has its own time.
        self.down.timer().clear();
        let dialled = reach(self.peer, self.down.entry(), self.destination, options, self.right).await;
        let io = dialled.map_err(Problem::Dial)?;
        self.down.timer().set(options.response_timeout);
        Ok((Origin::new(io, Arc::clone(key), generation), false))
    }

    /// Sends the request, and waits for the head of the final answer.
    async fn exchange(&mut self, origin: &mut Origin) -> Result<(), Problem> {
        for _ in 0..MAX_INTERIM {
            self.head(origin).await?;
            let head = origin.response();
            if !head.is_interim() {
                return Ok(());
            }
            let answer = Answer { head, via: &self.options.via, binds_connection: false, mutual_auth: None };
            self.down.interim(&answer).await.map_err(|_| Problem::ClientGone)?;
            origin.consume_response();
        }
        Err(Problem::NoAnswer(NoAnswer::Bad(BadResponse::Endless)))
    }

    async fn head(&mut self, origin: &mut Origin) -> Result<(), Problem> {
        let Self { down, options, .. } = self;
        let mut is_sent = down.is_uploaded();
        poll_fn(|cx| {
            if !is_sent {
                match down.poll_upload(cx, origin) {
                    Poll::Ready(Ok(())) => is_sent = true,
                    Poll::Ready(Err(Broke::From(_))) => return Poll::Ready(Err(Problem::ClientBroke)),
                    // It may have answered all the same.
                    Poll::Ready(Err(Broke::To(_))) => is_sent = true,
                    Poll::Pending => {}
                }
                // The origin's time runs while nothing more is sent to it.
                if down.has_uploaded() {
                    down.timer().set(options.response_timeout);
                }
            }
            match origin.poll_response(cx) {
                Poll::Ready(answer) => return Poll::Ready(answer.map_err(Problem::NoAnswer)),
                Poll::Pending if is_sent && down.poll_gone(cx).is_ready() => {
                    return Poll::Ready(Err(Problem::ClientGone));
                }
                Poll::Pending => {}
            }
            down.timer().poll(cx).map(|()| Err(Problem::TimedOut))
        })
        .await
    }

    /// Sends the answer on; what of the request is still to come goes on meanwhile. `is_bound`: the origin asks for what may
    /// authenticate the connection.
    async fn download(self, mut origin: Origin, content: ResponseContent, is_bound: bool, is_pinned: bool) {
        let origin_kept = content.origin_kept;
        let Self { peer, down, options, authorises, right, .. } = self;
        down.start_answer(&final_answer(origin.response(), options, right, is_bound), content);
        origin.consume_response();
        let mut is_sent = down.is_uploaded();
        down.timer().clear();
        let end = poll_fn(|cx| {
            if !is_sent {
                match down.poll_upload(cx, &mut origin) {
                    Poll::Ready(Err(Broke::From(error))) => return Poll::Ready(Err(error)),
                    // The origin needs no more of it to answer.
                    Poll::Ready(Ok(()) | Err(Broke::To(_))) => is_sent = true,
                    Poll::Pending => {}
                }
            }
            match down.poll_answer(cx, &mut origin) {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
                Poll::Ready(Err(Broke::From(error) | Broke::To(error))) => Poll::Ready(Err(error)),
                Poll::Pending if is_sent && down.poll_gone(cx).is_ready() => {
                    Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        let is_uploaded = down.is_uploaded();
        down.end_answer(end.is_ok());
        if let Err(error) = end {
            // The client sees that the answer breaks off.
            debug!(client = %peer.address(), %error, "an answer broke off");
            return;
        }
        if let Some(authorized) = right.user()
            && origin_kept
            && is_uploaded
            && origin.input.is_empty()
        {
            if is_pinned || authorises || is_bound {
                peer.pin(origin, authorized);
            } else {
                let worker = peer.worker();
                let (limit, room) = (options.pool_per_origin, worker.room_for_idle());
                worker.pool.put(origin, limit, room, worker.shared.generation());
            }
        }
    }

    fn reply(&mut self, problem: &Problem) -> Reply {
        let origin = UserMessage::new("").name(&self.destination.key);
        let (status, text) = match problem {
            Problem::Dial(failure) => {
                self.down.entry().line().problem = Some(failure.to_string());
                return failure.reply(self.destination);
            }
            Problem::ClientBroke | Problem::ClientGone => {
                return Reply::bad_request(&UserMessage::new(
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
        Reply::new(status, &text)
    }
}
