//! One request and its answer, whatever brings the one and takes the other.
//!
//! A front (`front`) speaks a version of HTTP on a connection and makes exchanges of what comes. For each it calls
//! [`serve`] with three things: the [`Peer`] on the other end of the connection, the request's head, and the
//! [`Downstream`], by which content comes and the answer goes. `authorize` says for whom, `forward` and `connect` whereto.
//! None of them knows the connection: an exchange may be the only one on it or one of many.
//!
//! The calls are static: each front has its own copy of what serves it, and pays nothing for the border.

mod answer;
mod pages;
mod peer;
mod reply;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::StatusCode;
use tokio::net::TcpStream;

pub(super) use self::answer::Answer;
pub(super) use self::peer::Peer;
pub(super) use self::reply::Reply;
use super::access::Entry;
use super::http1::{Broke, ResponseContent};
use super::message::{Method, Name, RequestHead};
use super::pool::Origin;
use super::timer::Timer;
use super::tunnel::Side;
use super::{authorize, connect, forward};
use crate::types::{SessionId, UserMessage};

/// The client is no longer there, or does not take what it is sent in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientGone;

/// How an exchange reaches its client. An exchange that ends without a whole answer (`respond`, or `end_answer` with true)
/// has broken off, and its client is to see that.
pub(super) trait Downstream {
    /// Which one it is of those on its connection.
    fn number(&self) -> u32;

    /// The line of the access log.
    fn entry(&mut self) -> &mut Entry;

    /// What bounds the time of whatever it waits for at the moment.
    fn timer(&mut self) -> &mut Timer;

    /// The request goes on to an origin: this head first, then the content, with the framing that the head tells of.
    fn start_upload(&mut self, head: Vec<u8>);

    /// It begins anew, for another connection. False if content has gone on already, and is lost.
    fn restart_upload(&mut self) -> bool;

    /// Goes on with it, until all is written or something has to be waited for.
    fn poll_upload(&mut self, cx: &mut Context<'_>, origin: &mut Origin) -> Poll<Result<(), Broke>>;

    /// Whether anything of it was written since this was asked last.
    fn has_uploaded(&mut self) -> bool;

    /// Whether all of it was.
    fn is_uploaded(&self) -> bool;

    /// While nothing else is to be done for the client: ready when it has gone away.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Sends an interim answer (1xx), where the client would understand it.
    async fn interim(&mut self, answer: &Answer<'_>) -> Result<(), ClientGone>;

    /// Sends an answer of our own, whole, and deals with what is left of the request.
    async fn respond(&mut self, reply: Reply);

    /// The answer of an origin begins.
    fn start_answer(&mut self, answer: &Answer<'_>, content: ResponseContent);

    /// Goes on with its content, until all is sent or something has to be waited for.
    fn poll_answer(&mut self, cx: &mut Context<'_>, origin: &mut Origin) -> Poll<Result<(), Broke>>;

    /// It was sent whole, or will not be.
    fn end_answer(&mut self, is_whole: bool);

    /// Says that the tunnel is there which CONNECT asked for. What comes and goes from now on is the tunnel's.
    async fn open_tunnel(&mut self, mutual_auth: Option<&str>) -> Result<(), ClientGone>;

    /// The same after a request that asked for another protocol, and an origin that said 101.
    async fn switch_protocol(&mut self, answer: &Answer<'_>, protocol: &[u8]) -> Result<(), ClientGone>;
}

/// Serves one request: it is answered when this returns, or has broken off, or has become a tunnel to what is returned.
pub(super) async fn serve<D: Downstream>(
    peer: &Peer,
    head: RequestHead,
    down: &mut D,
) -> Option<Side<TcpStream>> {
    down.entry().begin(head.method_name());
    let tunnel = match pass_on(peer, head, down).await {
        Ok(tunnel) => tunnel,
        Err(reply) => {
            down.respond(reply).await;
            None
        }
    };
    if peer.is_proved() {
        peer.conduct().serves();
    }
    tunnel
}

/// Sends the request where it is meant to go, if it may. An error is the answer that the client gets instead.
async fn pass_on<D: Downstream>(
    peer: &Peer,
    mut head: RequestHead,
    down: &mut D,
) -> Result<Option<Side<TcpStream>>, Reply> {
    let options = peer.worker().shared.options.load_full();
    let destination = peer.destination(&head)?;
    let line = down.entry().line();
    line.destination = Some(Arc::clone(&destination.key));
    line.set_path(head.path().split(|&b| b == b'?').next().unwrap_or_default());
    if line.path.is_empty() && head.method() != Method::Connect {
        line.path.push('/');
    }
    if head.repeats(Name::Host) {
        return Err(Reply::bad_request(&UserMessage::new("The request has more than one Host field.")));
    }
    if head.is_loop(&options.via) {
        let text = UserMessage::new("This request for ").name(&destination.key);
        let text = text.then(" has come back to the proxy that sent it.");
        return Err(Reply::new(StatusCode::LOOP_DETECTED, &text));
    }
    let authorized = authorize::authorize(peer, &mut head, &options).await?;
    peer.serves(&authorized);
    down.entry().line().user = Some(Arc::clone(&authorized.user));
    down.timer().set(options.response_timeout);
    let session = authorized.session;
    let passing_on = async {
        if head.method() == Method::Connect {
            connect::connect(peer, head, down, &destination, &options, &authorized).await
        } else {
            forward::forward(peer, head, down, &destination, &options, &authorized).await
        }
    };
    match while_bound(peer, session, passing_on).await {
        Some(passed_on) => passed_on.map_err(|reply| reply.proved(authorized.mutual_auth)),
        None => Ok(None),
    }
}

/// Does `work` for as long as the connection is bound to this session. An exchange beside this one may prove another user: what
/// was asked for in the name of the one before is not theirs to read, so it breaks off (`None`) before another byte moves.
async fn while_bound<F: Future>(peer: &Peer, session: SessionId, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if peer.session() == Some(session) { work.as_mut().poll(cx).map(Some) } else { Poll::Ready(None) }
    })
    .await
}
