//! Many connections on one thread, each going through the steps of a dialogue: send this, want that status.
//!
//! Edge-triggered epoll and one buffer per place: cheap enough that the proxy is the limit, not the load.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage, sockopt};
use rustls::ClientConfig;

use crate::tls::Line;

/// One request and the answer that is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// What is sent.
    pub(crate) request: Vec<u8>,
    /// The status that must come back.
    pub(crate) status: u16,
    /// No body follows: the answer to a CONNECT.
    pub(crate) bare: bool,
}

/// What happens to the connection after the last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The other side closes, and then we do.
    Theirs,
    /// We close.
    Ours,
    /// It is used for the next dialogue.
    Keep,
}

/// One client's words.
#[derive(Clone, Debug)]
pub(crate) struct Dialogue {
    /// Its address, where that matters.
    pub(crate) from: Option<IpAddr>,
    /// In this order.
    pub(crate) steps: Vec<Step>,
}

/// With whom.
#[derive(Clone, Debug)]
pub(crate) struct To {
    /// Where.
    pub(crate) address: SocketAddr,
    /// Under TLS, if it says how.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

/// How long it goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// So many dialogues at most.
    pub(crate) count: u64,
    /// So long at most.
    pub(crate) time: Duration,
    /// So many at once.
    pub(crate) at_once: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// From the beginning of each dialogue (with connecting) to its end.
    pub(crate) times: Vec<Duration>,
    /// Those that went wrong.
    pub(crate) failed: u64,
    /// From the first to the last.
    pub(crate) took: Duration,
}

/// More failures than this, and the measurement is worthless.
const TOO_MANY: u64 = 100;
/// Nothing happens for so long: something is stuck.
const STUCK: u16 = 10_000;
const CHUNK: usize = 16 * 1024;

/// Holds dialogues with `to` until `next` has no more of them or a limit is reached.
pub(crate) fn hold(
    to: &To,
    end: End,
    limits: Limits,
    mut next: impl FnMut() -> Option<Dialogue>,
) -> Result<Outcome> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let begun = Instant::now();
    let mut outcome = Outcome::default();
    let mut started = 0_u64;
    let mut more = |places: &mut Vec<Option<Place>>, at: usize, kept: Option<Line>| -> Result<()> {
        let wanted = started < limits.count && begun.elapsed() < limits.time;
        let dialogue = if wanted { next() } else { None };
        let place = places.get_mut(at).context("no such place")?;
        *place = None;
        if let Some(dialogue) = dialogue {
            started += 1;
            let again = kept.is_some();
            let place = place.insert(Place::begin(dialogue, end, to, kept, &epoll, at)?);
            if again {
                // Nothing will tell that it is writable: it has been all the time.
                place.send()?;
            }
        }
        Ok(())
    };
    let mut places: Vec<Option<Place>> = (0..limits.at_once).map(|_| None).collect();
    for at in 0..limits.at_once {
        more(&mut places, at, None)?;
    }
    let mut events = vec![EpollEvent::empty(); limits.at_once.max(1)];
    while places.iter().any(Option::is_some) {
        let count = epoll.wait(&mut events, STUCK)?;
        ensure!(count > 0, "nothing has happened for {STUCK} ms");
        for event in events.iter().take(count) {
            let at = usize::try_from(event.data())?;
            let Some(place) = places.get_mut(at).and_then(Option::as_mut) else { continue };
            match place.advance() {
                Ok(false) => continue,
                Ok(true) => outcome.times.push(place.begun.elapsed()),
                Err(error) => {
                    outcome.failed += 1;
                    if outcome.failed == 1 {
                        eprintln!("the first failure: {error:#}");
                    }
                    if outcome.failed > TOO_MANY {
                        bail!("too many failures");
                    }
                    place.broken = true;
                }
            }
            let kept = places.get_mut(at).and_then(Option::take).and_then(Place::kept);
            more(&mut places, at, kept)?;
        }
    }
    outcome.took = begun.elapsed();
    Ok(outcome)
}

/// One connection and how far its dialogue has come.
struct Place {
    stream: Line,
    dialogue: Dialogue,
    end: End,
    step: usize,
    sent: usize,
    received: Vec<u8>,
    begun: Instant,
    broken: bool,
}

impl Place {
    fn begin(
        dialogue: Dialogue,
        end: End,
        to: &To,
        kept: Option<Line>,
        epoll: &Epoll,
        at: usize,
    ) -> Result<Self> {
        let begun = Instant::now();
        let stream = match kept {
            Some(stream) => stream,
            None => {
                let stream = Line::new(connect(dialogue.from, to.address)?, to.tls.as_ref())?;
                let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
                epoll.add(&stream, EpollEvent::new(flags, u64::try_from(at)?))?;
                stream
            }
        };
        Ok(Self { stream, dialogue, end, step: 0, sent: 0, received: Vec::new(), begun, broken: false })
    }

    fn kept(self) -> Option<Line> {
        (self.end == End::Keep && !self.broken).then_some(self.stream)
    }

    /// Does what can be done now; true at the end of the dialogue.
    fn advance(&mut self) -> Result<bool> {
        loop {
            if self.step == self.dialogue.steps.len() {
                if self.end != End::Theirs {
                    return Ok(true);
                }
                return match self.fill()? {
                    None => Ok(false),
                    Some(0) => Ok(true),
                    Some(_) => bail!("more came than was announced"),
                };
            }
            if !self.send()? {
                return Ok(false);
            }
            let step = self.dialogue.steps.get(self.step).context("no such step")?;
            if let Some(length) = answer(&self.received, step)? {
                self.received.drain(..length);
                self.step += 1;
                self.sent = 0;
                continue;
            }
            match self.fill()? {
                None => return Ok(false),
                Some(0) => bail!("it ended in step {} after {} bytes", self.step, self.received.len()),
                Some(_) => {}
            }
        }
    }

    /// Sends what is left of this step's request; false if it does not all go now.
    fn send(&mut self) -> Result<bool> {
        let request = self.dialogue.steps.get(self.step).map_or(&[][..], |step| &step.request);
        while let Some(rest) = request.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(count) => self.sent += count,
                // Also while the connection is being made.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error).context("sending"),
            }
        }
        Ok(true)
    }

    /// Reads once; `None` if there is nothing to read now.
    fn fill(&mut self) -> Result<Option<usize>> {
        let mut chunk = [0; CHUNK];
        match self.stream.read(&mut chunk) {
            Ok(count) => {
                self.received.extend_from_slice(chunk.get(..count).unwrap_or_default());
                Ok(Some(count))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error).context("receiving"),
        }
    }
}

/// The length of a whole answer at the beginning of what came, once it is there.
fn answer(received: &[u8], step: &Step) -> Result<Option<usize>> {
    let Some(head) = received.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(received.get(..head).unwrap_or_default())?;
    let status = text.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
    ensure!(status == Some(step.status), "wanted {}, got:\n{text}", step.status);
    let head = head + 4;
    if step.bare {
        return Ok(Some(head));
    }
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length: usize = length.with_context(|| format!("no length in:\n{text}"))?.1.trim().parse()?;
    Ok((received.len() >= head + length).then_some(head + length))
}

/// Begins to connect, without waiting.
fn connect(from: Option<IpAddr>, to: SocketAddr) -> Result<TcpStream> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(family, SockType::Stream, flags, None)?;
    socket::setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    if let Some(from) = from {
        socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    }
    match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(TcpStream::from(socket)),
        Err(error) => Err(error).context("connecting"),
    }
}
