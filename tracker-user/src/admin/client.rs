//! The API's client, for `trackerctl`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::UnixStream;

use super::wire;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon understood and said no.
    #[error("{0}")]
    Refused(String),
    /// The request was wrong.
    #[error("{0}")]
    Wrong(String),
    /// The daemon cannot be reached.
    #[error("trackerd cannot be reached on {socket}: {cause}; is it running? (--socket names another)")]
    Unreachable {
        /// Where it was expected.
        socket: PathBuf,
        /// What happened.
        cause: String,
    },
    /// The socket may not be opened.
    #[error("{socket} may not be opened: run trackerctl as root or as a member of the socket's group")]
    Privilege {
        /// The socket.
        socket: PathBuf,
    },
}

/// A client of one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// A client of the daemon that listens on `socket`.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.into() }
    }

    /// `GET path`
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.whole(self.send(Method::GET, path, Bytes::new()).await?).await
    }

    /// `DELETE path`
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete(&self, path: &str) -> Result<Value, ClientError> {
        self.whole(self.send(Method::DELETE, path, Bytes::new()).await?).await
    }

    /// `method path` with a JSON body.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send_json(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Value, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Wrong(error.to_string()))?;
        self.whole(self.send(method, path, body.into()).await?).await
    }

    /// `GET path`, a JSON document a line, handed on as they come, until the end or until `each` has enough.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn lines(&self, path: &str, mut each: impl FnMut(Value) -> bool) -> Result<(), ClientError> {
        let mut body = self.send(Method::GET, path, Bytes::new()).await?.into_body();
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.unreachable(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            pending.extend_from_slice(data);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                if let Ok(value) = serde_json::from_slice(&line)
                    && !each(value)
                {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => ClientError::Privilege { socket: self.socket.clone() },
            _ => self.unreachable(&error),
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(&error))?;
        tokio::spawn(connection);
        let request =
            Request::builder().method(method).uri(path).header(HOST, "trackerd").body(Full::from(body));
        let request: Request<Full<Bytes>> = request.map_err(|error| ClientError::Wrong(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let problem = self.whole(response).await?;
        let problem = serde_json::from_value::<wire::Problem>(problem).map(|problem| problem.error);
        let problem = problem.unwrap_or_else(|_| format!("the daemon answered {status}"));
        // A value or key that cannot be is the caller's mistake; everything else is the daemon's no.
        Err(match status {
            StatusCode::BAD_REQUEST => ClientError::Wrong(problem),
            _ => ClientError::Refused(problem),
        })
    }

    async fn whole(&self, response: Response<Incoming>) -> Result<Value, ClientError> {
        let body = response.into_body().collect().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, cause: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unreachable { socket: self.socket.clone(), cause: cause.to_string() }
    }
}
