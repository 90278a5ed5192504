//! One request and its answer, whatever brings the one and takes the other.
//!
//! A front (`front`) speaks a version of HTTP on a connection and makes exchanges of what comes. For each it calls
//! [`serve`] with three things: the [`Peer`] on the other end of the connection, the request's head, and the
//! [`Downstream`], by which content comes and the answer goes. `authorize` says for whom, `forward` and `connect` whereto.
//! None of them knows the connection: an exchange may be the only one on it or one of many.
//!
//! The calls are static: each front has its own copy of what serves it, and pays nothing for the border.

mod answer;
mod page;
mod pages;
mod peer;
mod reply;
#[cfg(test)]
mod tests;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::StatusCode;
use tokio::net::TcpStream;

pub(super) use self::answer::Answer;
pub(super) use self::peer::Peer;
pub(super) use self::reply::Reply;
use super::access::{Entry, RequestNumber};
use super::authorize::Authorized;
use super::destination::Destination;
use super::http1::{Broke, ResponseContent};
use super::message::{Method, Name, RequestHead};
use super::options::ProxyOptions;
use super::pool::Origin;
use super::timer::Timer;
use super::tunnel::Side;
use super::{authorize, connect, forward};
use crate::net::Handed;
use crate::observe::Route;
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
    let number = peer.count_request();
    if number == 1 {
        peer.note_language(&head);
    }
    down.entry().begin(head.method_name());
    let tunnel = match pass_on(peer, head, down).await {
        Ok(tunnel) => tunnel,
        Err(reply) => {
            let number = RequestNumber::new(peer.connection().id(), number);
            down.entry().line().number = reply.has_page().then_some(number);
            down.respond(peer.dress(reply, number)).await;
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
    let right = match own_pages(peer, &head, &destination, &options) {
        // Nobody is asked who they are for these pages, and nobody is served as somebody else's: credentials are for none.
        Some((handed, way)) => {
            head.wipe(Name::ProxyAuthorization);
            down.entry().line().is_for_own_pages = true;
            Right::OwnPages { handed, way }
        }
        None => {
            let authorized = authorize::authorize(peer, &mut head, &options).await?;
            peer.serves(&authorized);
            down.entry().line().user = Some(Arc::clone(&authorized.user));
            Right::User(authorized)
        }
    };
    down.timer().set(options.response_timeout);
    let session = right.user().map(|authorized| authorized.session);
    let passing_on = async {
        if head.method() == Method::Connect {
            connect::connect(peer, head, down, &destination, &options, &right).await
        } else {
            forward::forward(peer, head, down, &destination, &options, &right).await
        }
    };
    match while_bound(peer, session, passing_on).await {
        Some(passed_on) => passed_on.map_err(|reply| reply.proved(right.into_mutual_auth())),
        None => Ok(None),
    }
}

/// The way to the gateway's own pages, for a request that means them.
#[inline]
fn own_pages(
    peer: &Peer,
    head: &RequestHead,
    destination: &Destination,
    options: &ProxyOptions,
) -> Option<(Arc<Handed>, SocketAddr)> {
    let pages = options.own_pages.as_ref()?;
    let routes = &peer.worker().routes;
    let is_here = |address| matches!(routes.of(address, destination.port), Ok(Route::Here));
    let way = pages.way(head.method(), destination, is_here)?;
    Some((Arc::clone(&pages.handed), way))
}

/// By what right something is fetched.
#[derive(Debug)]
pub(super) enum Right {
    /// Of a user, on their session.
    User(Authorized),
    /// Of everybody: it is the gateway's own page. For this client alone, by a connection of its own.
    OwnPages {
        /// Where it is said first whose the connection is.
        handed: Arc<Handed>,
        /// Where it leads.
        way: SocketAddr,
    },
}

impl Right {
    /// The user's.
    pub(super) const fn user(&self) -> Option<&Authorized> {
        match self {
            Self::User(authorized) => Some(authorized),
            Self::OwnPages { .. } => None,
        }
    }

    /// The gateway's own proof for the answer.
    pub(super) fn mutual_auth(&self) -> Option<&str> {
        self.user()?.mutual_auth.as_deref()
    }

    fn into_mutual_auth(self) -> Option<String> {
        match self {
            Self::User(authorized) => authorized.mutual_auth,
            Self::OwnPages { .. } => None,
        }
    }
}

/// Does `work` for as long as the connection is bound to this session, if it is done on one. An exchange beside this one may prove another user: what
/// was asked for in the name of the one before is not theirs to read, so it breaks off (`None`) before another byte moves.
async fn while_bound<F: Future>(peer: &Peer, session: Option<SessionId>, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if session.is_none() || peer.session() == session {
            work.as_mut().poll(cx).map(Some)
        } else {
            Poll::Ready(None)
        }
    })
    .await
}
