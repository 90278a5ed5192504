//! The API's client, for `trackerctl`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::wire;
use crate::clock::boot_now;

/// How long the daemon may take to accept a connection,
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// and then to answer, and the answer to come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long to wait before the next try to connect.
const AGAIN: Duration = Duration::from_millis(50);

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
    /// The daemon is there, but does not answer.
    #[error("trackerd on {socket} does not answer: {cause}; its log and its metrics may tell why")]
    Silent {
        /// Where it listens.
        socket: PathBuf,
        /// For how long it was waited.
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

    /// `GET path`, a JSON document a line, handed on as they come, until the end or until `each` has enough. Where it `follows`
    /// what happens, nothing may come for as long as nothing happens.
    ///
    /// # Errors
    /// See [`ClientError`]. If the last line says why there are no more, that is the error.
    pub async fn lines(
        &self,
        path: &str,
        follows: bool,
        mut each: impl FnMut(Value) -> bool,
    ) -> Result<(), ClientError> {
        let mut body = self.send(Method::GET, path, Bytes::new()).await?.into_body();
        let mut pending = Vec::new();
        // A line that says what was amiss, until it is known whether it is the last one.
        let mut problem: Option<(Value, String)> = None;
        loop {
            let frame = if follows {
                body.frame().await
            } else {
                timeout(ANSWER_TIMEOUT, body.frame()).await.map_err(|_| self.silent(ANSWER_TIMEOUT))?
            };
            let Some(frame) = frame else {
                return problem.map_or(Ok(()), |(_, problem)| Err(ClientError::Refused(problem)));
            };
            let frame = frame.map_err(|error| self.unreachable(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            pending.extend_from_slice(data);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let Ok(value) = serde_json::from_slice::<Value>(&line) else { continue };
                if problem.take().is_some_and(|(earlier, _)| !each(earlier)) {
                    return Ok(());
                }
                match serde_json::from_value::<wire::Problem>(value.clone()) {
                    Ok(wire::Problem { error }) => problem = Some((value, error)),
                    Err(_) if !each(value) => return Ok(()),
                    Err(_) => {}
                }
            }
        }
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let begun = boot_now();
        loop {
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => return Ok(stream),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    return Err(ClientError::Privilege { socket: self.socket.clone() });
                }
                // As many as may wait to be accepted do.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if boot_now().since(begun) >= CONNECT_TIMEOUT {
                        return Err(self.silent(CONNECT_TIMEOUT));
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(self.unreachable(&error)),
            }
        }
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, ClientError> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(&error))?;
        tokio::spawn(connection);
        let request =
            Request::builder().method(method).uri(path).header(HOST, "trackerd").body(Full::from(body));
        let request: Request<Full<Bytes>> = request.map_err(|error| ClientError::Wrong(error.to_string()))?;
        let response = timeout(ANSWER_TIMEOUT, sender.send_request(request)).await;
        let response = response.map_err(|_| self.silent(ANSWER_TIMEOUT))?;
        let response = response.map_err(|error| self.unreachable(&error))?;
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
        let body = timeout(ANSWER_TIMEOUT, response.into_body().collect()).await;
        let body =
            body.map_err(|_| self.silent(ANSWER_TIMEOUT))?.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| self.unreachable(&error))
    }

    fn silent(&self, time: Duration) -> ClientError {
        let cause = format!("it has not answered within {} s", time.as_secs());
        ClientError::Silent { socket: self.socket.clone(), cause }
    }

    fn unreachable(&self, cause: &dyn std::fmt::Display) -> ClientError {
        ClientError::Unreachable { socket: self.socket.clone(), cause: cause.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// What is made of these lines of a daemon, and what is told in the end.
    async fn read(lines: &str) -> (Vec<Value>, Result<(), ClientError>) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("admin.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let daemon = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4_096]).await.unwrap();
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
            stream.write_all(format!("{head}{lines}").as_bytes()).await.unwrap();
        };
        let (client, mut told) = (Client::new(&socket), Vec::new());
        let read = client.lines("/v1/events", false, |value| {
            told.push(value);
            true
        });
        let ((), outcome) = tokio::join!(daemon, read);
        (told, outcome)
    }

    #[tokio::test]
    async fn lines_that_were_cut_short_are_an_error_and_a_notice_among_them_is_none() {
        let (told, outcome) =
            read("{\"event\":1}\n{\"error\":\"2 events were lost\"}\n{\"event\":2}\n").await;
        assert_eq!(told.len(), 3);
        outcome.unwrap();
        let (told, outcome) = read("{\"event\":1}\n{\"error\":\"the store failed\"}\n").await;
        assert_eq!(told.len(), 1);
        assert!(matches!(outcome, Err(ClientError::Refused(why)) if why == "the store failed"));
    }
}
