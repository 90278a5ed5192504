//! The API's server: HTTP/1.1 and JSON over a unix socket.

use std::convert::Infallible;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use nix::sys::stat::{Mode, umask};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::decisions::Hypothetical;
use super::report::{ReportError, Sources};
use super::{query, wire};
use crate::audit::{Actor, Via};
use crate::config::Config;
use crate::links;
use crate::live::{ChangeError, Standing};
use crate::private;
use crate::session::Reason;
use crate::store::Wanted;
use crate::tracker::{NotKept, Whose};
use crate::types::ClientAddr;

/// The socket's name in the run directory.
pub const SOCKET: &str = "admin.sock";
/// The group of the socket may administer.
const SOCKET_MODE: u32 = 0o660;
/// An operator's name is waited for so long; their number is known anyway.
const NAME_PATIENCE: Duration = Duration::from_secs(1);
/// So many operators are answered at once; others wait. Each takes a descriptor of the reserve.
const CONNECTIONS: usize = 24;
/// Of these, so many at most that follow the audit trail: they stay for as long as they like.
const FOLLOWERS: usize = 16;
/// How long an operator's program may take to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Of the run directory. Whoever may write there can put another socket in the place of ours.
pub const DIRECTORY: u32 = 0o750;
const WRITABLE_FOR_ALL: u32 = 0o002;
/// No request body is larger.
const BODY_LIMIT: usize = 64 * 1024;
/// So many tenures are answered unless another number is asked for.
const HISTORY: usize = 1_000;
/// So many at most: they are put together in memory.
const HISTORY_AT_MOST: usize = 100_000;

type Body = BoxBody<Bytes, Infallible>;

/// The bound socket.
#[derive(Debug)]
pub struct AdminServer {
    listener: UnixListener,
    path: PathBuf,
    /// Of the socket's file.
    inode: u64,
}

impl AdminServer {
    /// Binds the socket in `run_dir`, which is made where it is missing. A socket that a dead daemon left is replaced;
    /// one that answers is not.
    ///
    /// # Errors
    /// When another daemon answers on it, or the directory cannot be used.
    pub fn bind(run_dir: &Path) -> io::Result<Self> {
        directory(run_dir)?;
        let path = run_dir.join(SOCKET);
        if path.exists() {
            if std::os::unix::net::UnixStream::connect(&path).is_ok() {
                let text = format!("another trackerd answers on {}", path.display());
                return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
            }
            std::fs::remove_file(&path)?;
        }
        // Not for a moment is it open to others: whoever has connected stays connected.
        let before = umask(Mode::from_bits_truncate(!SOCKET_MODE & 0o777));
        let bound = UnixListener::bind(&path);
        umask(before);
        let listener = bound?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
        let inode = std::fs::metadata(&path)?.ino();
        Ok(Self { listener, path, inode })
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until it is dropped.
    pub async fn run(self, sources: Sources) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let followers = Arc::new(Semaphore::new(FOLLOWERS));
        loop {
            // Never closed.
            let slot = Arc::clone(&slots).acquire_owned().await;
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "an operator's connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (sources, followers) = (sources.clone(), Arc::clone(&followers));
            tokio::spawn(async move {
                let peer = Peer::of(&stream);
                let _slot = slot;
                let service = service_fn(|request| {
                    let (sources, followers) = (sources.clone(), Arc::clone(&followers));
                    async move { Ok::<_, Infallible>(answer(request, &sources, peer, &followers).await) }
                });
                let served = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    debug!(%error, "an operator's connection failed");
                }
            });
        }
    }
}

/// Makes the run directory where it is missing. One that is there may be open to others, as its path must be for
/// operators; but not for writing.
fn directory(path: &Path) -> io::Result<()> {
    if !path.try_exists()? {
        return DirBuilder::new().recursive(true).mode(DIRECTORY).create(path);
    }
    private::owned(path)?;
    if std::fs::metadata(path)?.mode() & WRITABLE_FOR_ALL == 0 {
        return Ok(());
    }
    private::directory(path, !WRITABLE_FOR_ALL & 0o777, |name| name == SOCKET)
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        // Another daemon's may be there by now, if ours was removed.
        if std::fs::metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Who is at the other end of a connection, as the kernel tells.
#[derive(Clone, Copy, Debug)]
struct Peer {
    uid: Option<u32>,
    pid: Option<i32>,
}

impl Peer {
    fn of(stream: &UnixStream) -> Self {
        let credentials = stream.peer_cred().ok();
        Self { uid: credentials.map(|peer| peer.uid()), pid: credentials.and_then(|peer| peer.pid()) }
    }

    /// With the account's name, if the name service has it soon.
    async fn actor(self) -> Actor {
        let Self { uid: Some(uid), pid } = self else { return Actor::unknown(Via::Socket) };
        let nameless = Actor { uid: Some(uid), pid, ..Actor::unknown(Via::Socket) };
        let (named, name) = oneshot::channel();
        let asked = std::thread::Builder::new().name("account-name".into()).spawn(move || {
            // Whoever asked may have given up.
            let _ = named.send(Actor::on_socket(uid, pid));
        });
        match asked {
            Ok(_) => timeout(NAME_PATIENCE, name).await.ok().and_then(Result::ok).unwrap_or(nameless),
            Err(_) => nameless,
        }
    }
}

/// A refusal: status and sentence.
struct Refused(StatusCode, String);

impl From<ReportError> for Refused {
    fn from(error: ReportError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<ChangeError> for Refused {
    fn from(error: ChangeError) -> Self {
        let status = match error {
            ChangeError::UnknownKey(_) | ChangeError::BadValue(_) => StatusCode::BAD_REQUEST,
            ChangeError::NeedsRestart { .. } => StatusCode::CONFLICT,
            ChangeError::NotSet { .. } => StatusCode::NOT_FOUND,
            ChangeError::Store(_) => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self(status, error.to_string())
    }
}

async fn answer(
    request: Request<Incoming>,
    sources: &Sources,
    peer: Peer,
    followers: &Arc<Semaphore>,
) -> Response<Body> {
    route(request, sources, peer, followers)
        .await
        .unwrap_or_else(|Refused(status, error)| json(status, &wire::Problem { error }))
}

async fn route(
    request: Request<Incoming>,
    sources: &Sources,
    peer: Peer,
    followers: &Arc<Semaphore>,
) -> Result<Response<Body>, Refused> {
    let path = request.uri().path().to_owned();
    let path: Vec<&str> = path.trim_matches('/').split('/').collect();
    let method = request.method().clone();
    match (&method, path.as_slice()) {
        (&Method::GET, ["v1", "status"]) => ok(&sources.status().await?),
        (&Method::GET, ["v1", "sessions"]) => ok(&sources.sessions().await?),
        (&Method::GET, ["v1", "sessions", client]) => {
            match sources.session(address(&query::decode(client))?).await? {
                Some(session) => ok(&session),
                None => Err(Refused(StatusCode::NOT_FOUND, format!("nobody is logged in from {client}"))),
            }
        }
        (&Method::GET, ["v1", "users"]) => ok(&sources.users().await?),
        (&Method::GET, ["v1", "hosts"]) => ok(&sources.hosts().await?),
        (&Method::POST, ["v1", "logout"]) => logout(request, sources, peer).await,
        (&Method::GET, ["v1", "settings"]) => settings(sources, None).await,
        (&Method::GET, ["v1", "settings", key]) => settings(sources, Some(key)).await,
        (&Method::PUT, ["v1", "settings", key]) => {
            let wire::NewValue { value } = body(request).await?;
            sources.live.set(key, &value, peer.actor().await).await?;
            settings(sources, Some(key)).await
        }
        (&Method::DELETE, ["v1", "settings", key]) => {
            sources.live.unset(key, peer.actor().await).await?;
            settings(sources, Some(key)).await
        }
        (&Method::GET, ["v1", "events"]) => events(sources, request.uri().query(), followers),
        (&Method::GET, ["v1", "explain", client]) => {
            let query = request.uri().query();
            let asked = Hypothetical {
                url: query::value(query, "url"),
                host: query::value(query, "host"),
                user_agent: query::value(query, "user-agent"),
                cookie: query::value(query, "cookie"),
            };
            ok(&sources.explain(address(&query::decode(client))?, &asked).await?)
        }
        (&Method::GET, ["v1", "history"]) => history(sources, request.uri().query()).await,
        _ => Err(Refused(StatusCode::NOT_FOUND, format!("no such request: {method} /{}", path.join("/")))),
    }
}

async fn settings(sources: &Sources, key: Option<&str>) -> Result<Response<Body>, Refused> {
    let settings = sources.live.get(key).await?;
    let settings: Vec<wire::Setting> = settings
        .into_iter()
        .map(|Standing { key, value, source, file, set }| wire::Setting {
            key: key.name().into(),
            value,
            source,
            default: key.get(&Config::default()),
            file,
            set_by: set.as_ref().and_then(|set| set.by.clone()),
            set_at: set.as_ref().and_then(|set| set.at),
            live: key.is_live(),
            help: key.help().into(),
        })
        .collect();
    match (key, settings.as_slice()) {
        (Some(_), [setting]) => ok(setting),
        _ => ok(&settings),
    }
}

async fn logout(
    request: Request<Incoming>,
    sources: &Sources,
    peer: Peer,
) -> Result<Response<Body>, Refused> {
    let (whose, whom) = match body(request).await? {
        wire::Logout { client: Some(client), user: None, all: false } => {
            (Whose::Client(address(&client)?), format!("nobody is logged in from {client}"))
        }
        wire::Logout { client: None, user: Some(user), all: false } => {
            let whom = format!("{user} is not logged in");
            (Whose::User(user.as_str().into()), whom)
        }
        wire::Logout { client: None, user: None, all: true } => (Whose::All, String::new()),
        _ => {
            let text = "exactly one of client, user and all is needed";
            return Err(Refused(StatusCode::BAD_REQUEST, text.into()));
        }
    };
    let everybody = matches!(whose, Whose::All);
    let (ended, warning) = match sources.tracker.end(whose, Reason::Admin, Some(peer.actor().await)).await {
        Ok(ended) => (ended, None),
        // It is known to the mark, if not to the database: no crash brings it back.
        Err(NotKept { ended, unkept }) if unkept.revoked => (ended, Some(unkept.to_string())),
        Err(NotKept { ended, unkept }) if ended.is_empty() => {
            return Err(Refused(StatusCode::SERVICE_UNAVAILABLE, unkept.problem));
        }
        Err(NotKept { ended, unkept }) => {
            let text = format!("{} ended, but not on disk: {unkept}", ended.len());
            return Err(Refused(StatusCode::INSUFFICIENT_STORAGE, text));
        }
    };
    if ended.is_empty() && !everybody {
        return Err(Refused(StatusCode::NOT_FOUND, whom));
    }
    let ended = ended.iter().map(|session| wire::EndedSession {
        id: session.id.to_string(),
        client: links::shown(session.client).to_string(),
        user: session.identity.user().into(),
        domain: session.identity.domain().into(),
    });
    ok(&wire::LoggedOut { ended: ended.collect(), warning })
}

async fn history(sources: &Sources, query: Option<&str>) -> Result<Response<Body>, Refused> {
    let client = query::value(query, "client").map(|text| address(&text)).transpose()?;
    let user = query::value(query, "user").map(|text| text.as_str().into());
    let at = query::value(query, "at").map(|text| moment(&text)).transpose()?;
    let most = match query::value(query, "limit") {
        None => HISTORY,
        Some(text) => text.parse::<usize>().map_or_else(
            |_| Err(Refused(StatusCode::BAD_REQUEST, format!("{text:?} is not a number"))),
            |most| Ok(most.min(HISTORY_AT_MOST)),
        )?,
    };
    ok(&sources.history(Wanted { client, user, at, most }).await?)
}

/// The trail, a JSON document a line; with `since` as far back as the store reaches, with `follow` it goes on until the
/// operator leaves.
fn events(
    sources: &Sources,
    query: Option<&str>,
    followers: &Arc<Semaphore>,
) -> Result<Response<Body>, Refused> {
    let follow = match query::value(query, "follow").is_some_and(|value| value == "1") {
        true => Some(Arc::clone(followers).try_acquire_owned().map_err(|_| {
            let text =
                format!("{FOLLOWERS} programs follow the events already; end one of them (lsof names them)");
            Refused(StatusCode::SERVICE_UNAVAILABLE, text)
        })?),
        false => None,
    };
    let since = query::value(query, "since").map(|text| moment(&text)).transpose()?;
    let (past, mut followed) = sources.audit.follow();
    let past: Vec<wire::Event> = past.iter().map(|entry| wire::Event::from(&**entry)).collect();
    let (lines, mut body) = mpsc::channel::<Bytes>(64);
    let sources = sources.clone();
    tokio::spawn(async move {
        if let Some(since) = since {
            let (events, mut received) = mpsc::channel(64);
            let sent = async move { sources.send_past(since, past, &events).await };
            let passed_on = async {
                while let Some(event) = received.recv().await {
                    lines.send(line(&event)).await?;
                }
                Ok::<_, mpsc::error::SendError<Bytes>>(())
            };
            if tokio::join!(sent, passed_on).1.is_err() {
                return;
            }
        } else {
            for event in past {
                if lines.send(line(&event)).await.is_err() {
                    return;
                }
            }
        }
        let Some(_place) = follow else { return };
        loop {
            let event = tokio::select! {
                // Whoever has left keeps no place until the next event.
                () = lines.closed() => return,
                event = followed.recv() => event,
            };
            let event = match event {
                Ok(entry) => line(&wire::Event::from(&*entry)),
                Err(RecvError::Lagged(lost)) => {
                    line(&wire::Problem { error: format!("{lost} events were lost: the reader is too slow") })
                }
                Err(RecvError::Closed) => return,
            };
            if lines.send(event).await.is_err() {
                return;
            }
        }
    });
    let stream = futures_util::stream::poll_fn(move |context| {
        body.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(stream)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

fn line(value: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

fn address(text: &str) -> Result<ClientAddr, Refused> {
    links::parse(text).map_err(|error| Refused(StatusCode::BAD_REQUEST, format!("{text:?} is {error}")))
}

fn moment(text: &str) -> Result<Timestamp, Refused> {
    let bad = |_| Refused(StatusCode::BAD_REQUEST, format!("{text:?} is not an RFC 3339 time"));
    text.parse().map_err(bad)
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refused> {
    let bad = |error: &dyn std::fmt::Display| {
        Refused(StatusCode::BAD_REQUEST, format!("the request body: {error}"))
    };
    let body = Limited::new(request.into_body(), BODY_LIMIT).collect().await.map_err(|error| bad(&error))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| bad(&error))
}

fn ok(value: &impl Serialize) -> Result<Response<Body>, Refused> {
    Ok(json(StatusCode::OK, value))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let mut response = Response::new(Full::from(line(value)).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_of_another_daemon_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let first = AdminServer::bind(directory.path()).unwrap();
        // As what cleans up in /run does.
        std::fs::remove_file(first.path()).unwrap();
        let second = AdminServer::bind(directory.path()).unwrap();
        drop(first);
        assert!(second.path().exists());
        let path = second.path().to_owned();
        drop(second);
        assert!(!path.exists());
    }
}
