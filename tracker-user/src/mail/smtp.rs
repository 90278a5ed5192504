//! The conversation with a mail server (RFC 5321), under TLS (RFC 3207, RFC 8314), by whoever is known to it (RFC 4954).

mod prepare;
mod reply;

use std::net::SocketAddr;
use std::time::Duration;

use data_encoding::BASE64;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use self::prepare::{Prepared, prepare};
use self::reply::{Reply, Taken, take};
use super::server::Server;
use crate::threads::Threads;

/// So long one address of the server is waited for,
const CONNECT: Duration = Duration::from_secs(10);
/// so many of its addresses are tried,
const ADDRESSES: usize = 4;
/// so long a handshake may take,
const HANDSHAKE: Duration = Duration::from_secs(20);
/// and so long an answer: servers let strangers wait for half a minute.
const ANSWER: Duration = Duration::from_secs(60);
/// The last answer takes longer: of whoever did not wait for it, a mail is sent twice (RFC 5321, section 4.5.3.2.6).
const LAST_ANSWER: Duration = Duration::from_secs(2 * 60);
/// Whoever says farewell does not wait long.
const FAREWELL: Duration = Duration::from_secs(2);

/// A mail was not handed over. Each says why, and what to do, to an operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// The server cannot be reached at present, or ended the conversation.
    #[error("{0}")]
    Unreachable(String),
    /// The server can be reached, but nothing can be handed over to it until somebody changes something.
    #[error("{0}")]
    Unusable(String),
    /// It takes this mail later (4xx).
    #[error("{0}")]
    Later(String),
    /// It does not take this mail (5xx).
    #[error("{0}")]
    Refused(String),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A conversation in which mails can be handed over.
pub(super) struct Conversation {
    stream: Box<dyn Stream>,
    /// What has come and is not read yet.
    read: Vec<u8>,
    /// The server, as operators are told of it.
    server: String,
    /// Whether it is under TLS.
    pub(super) is_secure: bool,
    /// What the server can do, in upper case, one a line.
    abilities: Vec<String>,
}

/// A conversation with the server, as far as mails can be handed over. Takes a few minutes at most.
///
/// # Errors
/// When there is none.
pub(super) async fn open(server: &Server, helo: &str, threads: &Threads) -> Result<Conversation, Failure> {
    let Prepared { addresses, tls, password } = prepare(server.clone(), threads).await?;
    let (socket, address) = connect(server, &addresses).await?;
    // Nobody listens between this host and itself.
    let is_here = address.ip().to_canonical().is_loopback();
    let mut conversation = Conversation {
        stream: Box::new(socket),
        read: Vec::new(),
        server: server.to_string(),
        is_secure: false,
        abilities: Vec::new(),
    };
    if server.is_smtps {
        conversation.begin_tls(server, tls.clone()).await?;
    }
    conversation.greeted().await?;
    conversation.hello(helo).await?;
    if !conversation.is_secure && !is_here {
        if !conversation.can("STARTTLS") {
            return Err(Failure::Unusable(format!(
                "the mail server {server} does not offer STARTTLS, and no mail is handed over in the clear: switch TLS on \
                 there, or name it by smtps:// in mail.smtp if it is under TLS from the beginning"
            )));
        }
        conversation.start_tls(server, tls, helo).await?;
    }
    if let (Some(user), Some(password)) = (&server.user, password) {
        conversation.authenticate(user, &password).await?;
    }
    Ok(conversation)
}

async fn connect(server: &Server, addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), Failure> {
    let mut last = "it has no address".to_owned();
    for address in addresses.iter().take(ADDRESSES) {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok((socket, *address)),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = format!("{} does not answer", address.ip()),
        }
    }
    Err(Failure::Unreachable(format!("the mail server {server} cannot be reached: {last}")))
}

impl Conversation {
    /// Hands a mail over: the server has taken it when this returns.
    ///
    /// # Errors
    /// When it has not, or has not said so. After [`Failure::Later`] and [`Failure::Refused`] the conversation goes on.
    pub(super) async fn hand_over(&mut self, from: &str, to: &str, mail: &str) -> Result<(), Failure> {
        let outcome = self.transaction(from, to, mail).await;
        if matches!(outcome, Err(Failure::Later(_) | Failure::Refused(_))) {
            self.command("RSET", ANSWER).await?;
        }
        outcome
    }

    async fn transaction(&mut self, from: &str, to: &str, mail: &str) -> Result<(), Failure> {
        for command in [format!("MAIL FROM:<{from}>"), format!("RCPT TO:<{to}>"), "DATA".to_owned()] {
            let reply = self.command(&command, ANSWER).await?;
            if !reply.is_positive() {
                return Err(self.not_taken(&reply, mail));
            }
        }
        self.write(mail.as_bytes()).await?;
        let reply = self.command(".", LAST_ANSWER).await?;
        if reply.is_done() { Ok(()) } else { Err(self.not_taken(&reply, mail)) }
    }

    /// Why the server did not take a mail.
    fn not_taken(&self, reply: &Reply, mail: &str) -> Failure {
        let said = format!("the mail server {} says: {}", self.server, reply.shown(mail));
        match reply.code {
            // It is the gateway that is wrong, not the mail (RFC 4954, section 6).
            530 | 534 | 535 | 538 => Failure::Unusable(format!(
                "{said}; name its user in mail.smtp and their password in mail.password-file"
            )),
            421 => Failure::Unreachable(said),
            400..500 => Failure::Later(said),
            500..600 => Failure::Refused(said),
            _ => Failure::Unreachable(format!("{said}, which is no answer")),
        }
    }

    /// Ends it in order.
    pub(super) async fn close(mut self) {
        // Whether it hears it changes nothing.
        let _ = timeout(FAREWELL, self.command("QUIT", FAREWELL)).await;
    }

    async fn greeted(&mut self) -> Result<(), Failure> {
        let reply = self.reply(ANSWER).await?;
        if reply.is_done() { Ok(()) } else { Err(self.unwilling(&reply)) }
    }

    async fn hello(&mut self, name: &str) -> Result<(), Failure> {
        let reply = self.command(&format!("EHLO {name}"), ANSWER).await?;
        if !reply.is_done() {
            return Err(self.unwilling(&reply));
        }
        self.abilities = reply.lines.into_iter().skip(1).map(|line| line.to_ascii_uppercase()).collect();
        Ok(())
    }

    /// The server does not want to talk at all.
    fn unwilling(&self, reply: &Reply) -> Failure {
        let said = format!("the mail server {} says: {}", self.server, reply.shown(""));
        if reply.code < 500 { Failure::Unreachable(said) } else { Failure::Unusable(said) }
    }

    fn can(&self, ability: &str) -> bool {
        self.abilities.iter().any(|own| own.split(' ').next() == Some(ability))
    }

    async fn start_tls(
        &mut self,
        server: &Server,
        tls: Option<TlsConnector>,
        helo: &str,
    ) -> Result<(), Failure> {
        let reply = self.command("STARTTLS", ANSWER).await?;
        if !reply.is_done() {
            return Err(self.unwilling(&reply));
        }
        // What came before the handshake must not count after it: anybody may have written it.
        if !self.read.is_empty() {
            return Err(Failure::Unusable(format!(
                "the mail server {server}, or somebody in between, has sent more than its answer to STARTTLS: nothing is \
                 handed over there"
            )));
        }
        self.begin_tls(server, tls).await?;
        self.hello(helo).await
    }

    async fn begin_tls(&mut self, server: &Server, tls: Option<TlsConnector>) -> Result<(), Failure> {
        let name = ServerName::try_from(server.host.clone());
        let (Some(tls), Ok(name)) = (tls, name) else {
            return Err(Failure::Unusable(
                "this host trusts no authority, so that no mail server can prove itself: install ca-certificates".into(),
            ));
        };
        let plain = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
        let secure = match timeout(HANDSHAKE, tls.connect(name, plain)).await {
            Ok(Ok(secure)) => secure,
            Ok(Err(error)) if is_about_a_certificate(&error) => {
                return Err(Failure::Unusable(format!(
                    "the certificate of the mail server {server} is not trusted: {error}; put the one that issued it among \
                     those that this host trusts, and name the server in mail.smtp as its certificate does"
                )));
            }
            Ok(Err(error)) => {
                return Err(Failure::Unreachable(format!("no TLS with the mail server {server}: {error}")));
            }
            Err(_) => {
                return Err(Failure::Unreachable(format!(
                    "the mail server {server} does not finish its TLS handshake"
                )));
            }
        };
        self.stream = Box::new(secure);
        self.is_secure = true;
        Ok(())
    }

    /// Logs in, by PLAIN (RFC 4616) or else LOGIN, which older servers have instead.
    async fn authenticate(&mut self, user: &str, password: &str) -> Result<(), Failure> {
        let mut offered = self.abilities.iter().filter_map(|own| own.strip_prefix("AUTH"));
        let mechanisms = offered.next().unwrap_or_default().to_owned();
        let has = |mechanism: &str| mechanisms.split([' ', '=']).any(|own| own == mechanism);
        let reply = if has("PLAIN") {
            let mut plain = Zeroizing::new(Vec::with_capacity(user.len() + password.len() + 2));
            for part in [&b"\0"[..], user.as_bytes(), b"\0", password.as_bytes()] {
                plain.extend_from_slice(part);
            }
            self.secret_command("AUTH PLAIN ", &plain).await?
        } else if has("LOGIN") {
            let mut reply = self.command("AUTH LOGIN", ANSWER).await?;
            for part in [user, password] {
                if reply.code != 334 {
                    break;
                }
                reply = self.secret_command("", part.as_bytes()).await?;
            }
            reply
        } else {
            return Err(Failure::Unusable(format!(
                "the mail server {} lets nobody log in by PLAIN or LOGIN here: leave the user out of mail.smtp, or name the \
                 port for submission",
                self.server
            )));
        };
        // What it says is not told: it may repeat what it was sent.
        match reply.code {
            235 => Ok(()),
            400..500 => Err(Failure::Unreachable(format!(
                "the mail server {} cannot check the password at present ({})",
                self.server, reply.code
            ))),
            code => Err(Failure::Unusable(format!(
                "the mail server {} does not accept the user of mail.smtp with the password of mail.password-file ({code}): \
                 correct them",
                self.server
            ))),
        }
    }

    /// A command with a secret behind it, in base64.
    async fn secret_command(&mut self, command: &str, secret: &[u8]) -> Result<Reply, Failure> {
        let length = BASE64.encode_len(secret.len());
        let mut line = Zeroizing::new(Vec::with_capacity(command.len() + length + 2));
        line.extend_from_slice(command.as_bytes());
        line.resize(command.len() + length, 0);
        if let Some(place) = line.get_mut(command.len()..) {
            BASE64.encode_mut(secret, place);
        }
        line.extend_from_slice(b"\r\n");
        self.write(&line).await?;
        self.reply(ANSWER).await
    }

    async fn command(&mut self, command: &str, limit: Duration) -> Result<Reply, Failure> {
        self.write(format!("{command}\r\n").as_bytes()).await?;
        self.reply(limit).await
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = timeout(ANSWER, async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(&error.to_string())),
            Err(_) => Err(self.lost("it takes nothing")),
        }
    }

    /// One answer, whole.
    async fn reply(&mut self, limit: Duration) -> Result<Reply, Failure> {
        match timeout(limit, self.read_reply()).await {
            Ok(reply) => reply,
            Err(_) => Err(self.lost("it does not answer")),
        }
    }

    async fn read_reply(&mut self) -> Result<Reply, Failure> {
        let mut lines = Vec::new();
        let mut piece = [0; 1024];
        loop {
            match take(&mut self.read, &mut lines) {
                Taken::Whole(reply) => return Ok(reply),
                Taken::Part => {}
                Taken::Wrong(what) => return Err(self.lost(what)),
            }
            let length = match self.stream.read(&mut piece).await {
                Ok(0) => return Err(self.lost("it has ended the connection")),
                Ok(length) => length,
                Err(error) => return Err(self.lost(&error.to_string())),
            };
            self.read.extend_from_slice(piece.get(..length).unwrap_or_default());
        }
    }

    fn lost(&self, why: &str) -> Failure {
        Failure::Unreachable(format!(
            "the conversation with the mail server {} broke off: {why}",
            self.server
        ))
    }
}

fn is_about_a_certificate(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

#[cfg(test)]
mod tests;
