//! HTTP by hand on a socket of a client host, plain or under TLS, for everything that curl does not do: idle connections,
//! resets, half-closes, odd requests.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::ClientConnection;

use crate::ns::Ns;
use crate::realm::Realm;
use crate::tls;
use crate::wait::{Stopwatch, until};

/// How long a read waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection with a buffer for what was read too far.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    buffer: Vec<u8>,
}

/// An answer's status line and headers.
#[derive(Debug)]
pub struct Head {
    /// The status.
    pub code: u16,
    /// The whole head.
    pub text: String,
}

/// What [`Raw::look`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// Something to read.
    pub data: bool,
    /// The end of the connection, in whatever way.
    pub end: bool,
}

impl Head {
    /// A header's first value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }
}

impl Raw {
    /// Connects from a host of the lab.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn connect(ns: &Ns, to: SocketAddr) -> Result<Self> {
        let stream = ns.connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::plain(stream))
    }

    const fn plain(stream: TcpStream) -> Self {
        Self { stream, tls: None, buffer: Vec::new() }
    }

    /// The same connection under TLS, by a client that takes any certificate.
    ///
    /// # Errors
    /// When the handshake fails.
    pub fn secure(self) -> Result<Self> {
        let Self { mut stream, buffer, .. } = self;
        let mut session = Box::new(tls::client()?);
        while session.is_handshaking() {
            session.complete_io(&mut stream).context("the TLS handshake")?;
        }
        Ok(Self { stream, tls: Some(session), buffer })
    }

    /// Sends what TLS has to say for itself, and no payload: new keys for what is sent from now on (RFC 8446, 4.6.3).
    ///
    /// # Errors
    /// On a plain connection, and when the connection is dead.
    pub fn ping(&mut self) -> Result<()> {
        let Self { stream, tls: Some(tls), .. } = self else { bail!("only TLS says something for itself") };
        tls.refresh_traffic_keys()?;
        // The message goes out with the next write, if not by itself.
        while tls.wants_write() {
            tls.write_tls(stream)?;
        }
        Ok(())
    }

    /// Waits for a connection: the other side of one, to play an origin by hand.
    ///
    /// # Errors
    /// When the listener is dead.
    pub fn accept(listener: &TcpListener) -> Result<Self> {
        let stream = listener.accept()?.0;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self::plain(stream))
    }

    /// Our end.
    ///
    /// # Errors
    /// When the socket was destroyed.
    pub fn local(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    pub(crate) const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Writes until the other side takes no more for so long.
    ///
    /// # Errors
    /// When the connection is dead.
    pub fn fill_up(&mut self, quiet: Duration) -> Result<()> {
        self.stream.set_write_timeout(Some(quiet))?;
        loop {
            match self.write(&[b'x'; 64 * 1024]) {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.stream.set_write_timeout(Some(PATIENCE))?)
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the connection is dead.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            let count = self.write(rest)?;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends a GET for a URL with more header lines, each ending in CR LF.
    ///
    /// # Errors
    /// When the connection is dead.
    pub fn get(&mut self, url: &str, headers: &str) -> Result<()> {
        let host = url.split('/').nth(2).unwrap_or_default();
        self.send(format!("GET {url} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n"))
    }

    /// Asks for a tunnel, with more header lines.
    ///
    /// # Errors
    /// When the connection dies.
    pub fn tunnel(&mut self, to: &str, headers: &str) -> Result<Head> {
        self.send(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{headers}\r\n"))?;
        self.head()
    }

    /// Reads a head.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn head(&mut self) -> Result<Head> {
        let text = self.head_of_request()?;
        let code = text.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
        Ok(Head { code, text })
    }

    /// Reads a head that has no status.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn head_of_request(&mut self) -> Result<String> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(self.fill()? > 0, "the connection ended inside a head: {}", self.shown());
        };
        Ok(String::from_utf8_lossy(&self.take(end)).into_owned())
    }

    /// Reads an answer with its body.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn answer(&mut self) -> Result<(Head, Vec<u8>)> {
        let head = self.head()?;
        let chunked = head.header("transfer-encoding").is_some_and(|value| value.contains("chunked"));
        let body = if chunked {
            self.chunks()?.0
        } else if let Some(length) = head.header("content-length") {
            self.exactly(length.parse()?)?
        } else if matches!(head.code, 100..=199 | 204 | 304) {
            Vec::new()
        } else {
            self.rest()?
        };
        Ok((head, body))
    }

    /// Reads a chunked body and its trailers.
    ///
    /// # Errors
    /// When the connection ends before the last chunk.
    pub fn chunks(&mut self) -> Result<(Vec<u8>, String)> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
                .with_context(|| format!("no chunk size: {line:?}"))?;
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size)?);
            self.exactly(2)?;
        }
        let mut trailers = String::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((body, trailers));
            }
            trailers.push_str(&line);
            trailers.push('\n');
        }
    }

    /// Reads a line without its end.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn line(&mut self) -> Result<String> {
        let end = loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                break at;
            }
            ensure!(self.fill()? > 0, "the connection ended inside a line: {}", self.shown());
        };
        let line = self.take(end);
        self.take(2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Reads this many bytes.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < count {
            ensure!(self.fill()? > 0, "the connection ended after {} of {count} bytes", self.buffer.len());
        }
        Ok(self.take(count))
    }

    /// Reads up to the end.
    ///
    /// # Errors
    /// When the connection is reset, or does not end.
    pub fn rest(&mut self) -> Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Says that nothing more will be sent, under TLS by its own word, too.
    ///
    /// # Errors
    /// When the connection is dead.
    pub fn half_close(&mut self) -> Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            while tls.wants_write() {
                tls.write_tls(&mut self.stream)?;
            }
        }
        Ok(self.stream.shutdown(Shutdown::Write)?)
    }

    /// Ends the connection with a RST.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn reset(self) -> Result<()> {
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        Ok(setsockopt(&self.stream, sockopt::Linger, &linger)?)
    }

    /// Makes the kernel send keep-alive probes, one a second.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn keep_alive_probes(&self) -> Result<()> {
        setsockopt(&self.stream, sockopt::KeepAlive, &true)?;
        setsockopt(&self.stream, sockopt::TcpKeepIdle, &1)?;
        Ok(setsockopt(&self.stream, sockopt::TcpKeepInterval, &1)?)
    }

    /// Takes what has arrived without waiting for more.
    ///
    /// # Errors
    /// When the socket cannot be set up.
    pub fn look(&mut self) -> Result<Arrived> {
        self.stream.set_nonblocking(true)?;
        let mut chunk = [0; 16 * 1024];
        let mut arrived = Arrived::default();
        while !arrived.end {
            match self.read(&mut chunk) {
                Ok(count @ 1..) => {
                    self.buffer.extend_from_slice(&chunk[..count]);
                    arrived.data = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => arrived.end = true,
            }
        }
        self.stream.set_nonblocking(false)?;
        Ok(arrived)
    }

    /// True if the other side has ended the connection in any way; waits up to `limit` for that.
    ///
    /// # Errors
    /// When the socket cannot be set up.
    pub fn ended_within(&mut self, limit: Duration) -> Result<bool> {
        let watch = Stopwatch::start();
        let mut chunk = [0; 4096];
        let ended = loop {
            let left = limit.saturating_sub(watch.elapsed());
            if left.is_zero() {
                break false;
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.read(&mut chunk) {
                Ok(0) => break true,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    break false;
                }
                Err(_) => break true,
            }
        };
        self.stream.set_read_timeout(Some(PATIENCE))?;
        Ok(ended)
    }

    /// Reads wait for so long from now on.
    ///
    /// # Errors
    /// When the socket cannot be set up.
    pub fn wait_for(&self, limit: Duration) -> Result<()> {
        Ok(self.stream.set_read_timeout(Some(limit))?)
    }

    /// Whether nothing was read that was not asked for.
    #[must_use]
    pub fn rest_is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    fn read(&mut self, chunk: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.tls {
            None => self.stream.read(chunk),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.stream).read(chunk),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.tls {
            None => self.stream.write(bytes),
            Some(tls) => rustls::Stream::new(tls.as_mut(), &mut self.stream).write(bytes),
        }
    }

    fn fill(&mut self) -> Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let count = self.read(&mut chunk).context("reading from the connection")?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(count);
        std::mem::replace(&mut self.buffer, rest)
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }
}

/// A fresh `Negotiate` token (base64) for the proxy called `name`, as curl makes it from the tickets in `cache`.
///
/// # Errors
/// When curl has no ticket and can get none.
pub fn token(ns: &Ns, realm: &Realm, cache: &Path, name: &str) -> Result<String> {
    tokens(ns, realm, cache, name, 1)?.pop().context("curl sent no token")
}

/// So many fresh tokens, each good for one proof.
///
/// # Errors
/// When curl has no ticket and can get none.
pub fn tokens(ns: &Ns, realm: &Realm, cache: &Path, name: &str, count: usize) -> Result<Vec<String>> {
    let sent = catch(ns, name, count, |curl| {
        curl.args(["--proxy-negotiate", "--proxy-user", ":"]);
        curl.envs(realm.environment()).env("KRB5CCNAME", cache);
    })?;
    let token = |credentials: &String| credentials.strip_prefix("Negotiate ").map(str::to_owned);
    sent.iter().map(|credentials| token(credentials).with_context(|| credentials.clone())).collect()
}

/// The values of `Proxy-Authorization` in so many requests of curl, which `armed` has given its credentials.
///
/// curl sends them, unasked, to a listener on its own host that it takes for the proxy; no gateway has seen them.
///
/// # Errors
/// When curl sends a request without.
pub(crate) fn catch(
    ns: &Ns,
    name: &str,
    count: usize,
    armed: impl FnOnce(&mut Command),
) -> Result<Vec<String>> {
    let listener = ns.listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let port = listener.local_addr()?.port();
    let mut command = ns.command("curl");
    command.args(["-sS", "--max-time", "10"]);
    command.args(["--resolve", &format!("{name}:{port}:127.0.0.1")]);
    command.args(["--proxy", &format!("http://{name}:{port}")]);
    command.args((0..count).map(|number| format!("http://token.invalid/{number}")));
    armed(&mut command);
    let mut curl = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    listener.set_nonblocking(true)?;
    let mut sent = Vec::new();
    let mut gone = false;
    while sent.len() < count && !gone {
        let accepted = until("curl to connect", PATIENCE, || {
            gone = curl.try_wait().ok().flatten().is_some();
            listener.accept().ok().map(Some).or_else(|| gone.then_some(None))
        });
        let head = match accepted {
            Ok(Some((stream, _))) => answer_with_nothing(stream)?,
            Ok(None) => String::new(),
            Err(error) => {
                let _ = (curl.kill(), curl.wait());
                return Err(error);
            }
        };
        match head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: ")) {
            Some(credentials) => sent.push(credentials.trim().to_owned()),
            None => {
                let _ = (curl.kill(), curl.wait());
                bail!("curl sent no credentials: {head}");
            }
        }
    }
    let _ = curl.wait();
    Ok(sent)
}

/// Reads a request's head and gives an empty answer, the last on this connection.
fn answer_with_nothing(stream: TcpStream) -> Result<String> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut raw = Raw::plain(stream);
    while !raw.buffer.ends_with(b"\r\n\r\n") && raw.fill()? > 0 {}
    raw.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    Ok(raw.shown())
}

/// The header line that carries a token.
#[must_use]
pub fn credentials(token: &str) -> String {
    format!("Proxy-Authorization: Negotiate {token}\r\n")
}
