//! One client of a crash test: does what its seed says, and notes all that truly happened to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use anyhow::Result;
use lab::chance::Chance;
use lab::gateway::PROXY_PORT;
use lab::net::GATEWAY_V4;
use lab::ns::Ns;
use lab::raw::Raw;
use lab::wait::{Stopwatch, silence};

use super::model::{Fact, Outcome, Span};
use crate::takeover::FOREIGN;

/// How often a waiting client looks what the gateway did to its connections.
const LOOK_EVERY: Duration = Duration::from_millis(15);
/// A client holds no more connections than this.
const MOST_OPEN: usize = 3;

/// What all clients of one gateway share.
pub(super) struct Shared {
    /// The run's clock.
    pub(super) clock: Stopwatch,
    /// Raised when the clients are to come to an end.
    pub(super) stop: AtomicBool,
    /// Counts answers: some kills wait for one.
    pub(super) answers: AtomicU32,
    /// Numbers requests, so that each has a path of its own in the access log.
    pub(super) paths: AtomicU32,
    /// Fresh credentials of alice and of bob.
    pub(super) credentials: [Mutex<Vec<String>>; 2],
}

/// Who offers credentials.
const PEOPLE: [&str; 2] = ["alice", "bob"];

/// A client at work.
pub(super) struct Client<'a> {
    shared: &'a Shared,
    ns: &'a Ns,
    chance: Chance,
    open: Vec<Connection>,
    opened: u32,
    looked: Duration,
    facts: Vec<Fact>,
}

struct Connection {
    id: u32,
    raw: Raw,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// To the gateway, ready for a request.
    Idle,
    /// To the gateway, with an answer that has not come to its end.
    Dripping,
    /// To the other proxy on the gateway's host, which the daemon's death does not touch.
    Foreign,
}

impl<'a> Client<'a> {
    pub(super) fn new(shared: &'a Shared, ns: &'a Ns, chance: Chance) -> Self {
        let looked = shared.clock.elapsed();
        Self { shared, ns, chance, open: Vec::new(), opened: 0, looked, facts: Vec::new() }
    }

    /// Acts until told to stop; returns what happened.
    pub(super) fn run(mut self) -> Result<Vec<Fact>> {
        while !self.shared.stop.load(SeqCst) {
            let longest = if self.chance.percent(20) {
                // Over the timeout, more often than not with nothing open.
                while self.chance.percent(80) && !self.open.is_empty() {
                    self.close(0)?;
                }
                2_000
            } else {
                400
            };
            let pause = self.chance.span(Duration::from_millis(20)..Duration::from_millis(longest));
            self.wait(pause)?;
            self.act()?;
        }
        Ok(self.facts)
    }

    fn act(&mut self) -> Result<()> {
        match self.chance.number(0..100) {
            // A request on a new connection that stays open.
            0..25 => self.open(|client, raw| client.request(raw, None)),
            // On a new one that is closed at once.
            25..45 => {
                let before = self.open.len();
                self.open(|client, raw| client.request(raw, None))?;
                if self.open.len() > before { self.close(before) } else { Ok(()) }
            }
            // On one that is open.
            45..65 => {
                let which = self.choose();
                self.again(which)
            }
            65..73 => self.open(Self::drip),
            // To the other proxy, and data through it.
            73..80 => self.open_foreign(),
            80..86 => {
                let which = self.choose();
                self.ping(which)
            }
            _ => {
                let which = self.choose();
                if which < self.open.len() { self.close(which) } else { Ok(()) }
            }
        }
    }

    fn choose(&mut self) -> usize {
        usize::try_from(self.chance.number(0..self.open.len() as u64)).unwrap_or(0)
    }

    fn now(&self) -> Duration {
        self.shared.clock.elapsed()
    }

    fn since(&self, from: Duration) -> Span {
        Span { from, to: self.now() }
    }

    /// Waits, and keeps looking.
    fn wait(&mut self, span: Duration) -> Result<()> {
        let end = self.now() + span;
        while self.now() < end && !self.shared.stop.load(SeqCst) {
            silence(LOOK_EVERY.min(end.saturating_sub(self.now())));
            self.look()?;
        }
        Ok(())
    }

    /// What has the gateway done to the open connections since the last look?
    fn look(&mut self) -> Result<()> {
        let from = self.looked;
        let began = self.now();
        let mut index = 0;
        while let Some(connection) = self.open.get_mut(index) {
            let arrived = connection.raw.look()?;
            let id = connection.id;
            let at = self.since(from);
            if arrived.data {
                self.facts.push(Fact::Data(at));
            }
            if arrived.end {
                self.facts.push(Fact::Closed(id, at));
                self.open.remove(index);
            } else {
                index += 1;
            }
        }
        self.looked = began;
        Ok(())
    }

    /// Opens a connection to the gateway, if it is there, and does something with it.
    fn open(&mut self, act: impl FnOnce(&mut Self, Connection) -> Result<()>) -> Result<()> {
        self.open_to(PROXY_PORT, Kind::Idle, act)
    }

    fn open_foreign(&mut self) -> Result<()> {
        self.open_to(FOREIGN, Kind::Foreign, |client, connection| {
            client.open.push(connection);
            let last = client.open.len() - 1;
            client.ping(last)
        })
    }

    fn open_to(
        &mut self,
        port: u16,
        kind: Kind,
        act: impl FnOnce(&mut Self, Connection) -> Result<()>,
    ) -> Result<()> {
        if self.open.len() >= MOST_OPEN {
            let which = self.choose();
            return self.close(which);
        }
        self.look()?;
        let from = self.now();
        let Ok(raw) = Raw::connect(self.ns, SocketAddr::from((GATEWAY_V4, port))) else {
            // Nobody watches but the kernel side.
            return if self.chance.percent(50) { self.open_foreign() } else { Ok(()) };
        };
        self.opened += 1;
        self.facts.push(Fact::Opened(self.opened, self.since(from)));
        // Whatever ends now has ended after this opening.
        self.look()?;
        act(self, Connection { id: self.opened, raw, kind })
    }

    /// One more request on an open connection.
    fn again(&mut self, which: usize) -> Result<()> {
        self.look()?;
        if self.open.get(which).is_none_or(|connection| connection.kind != Kind::Idle) {
            return Ok(());
        }
        let connection = self.open.remove(which);
        self.request(connection, None)
    }

    /// Data through the other proxy and back, if that connection is one to it.
    fn ping(&mut self, which: usize) -> Result<()> {
        self.look()?;
        let from = self.now();
        let Some(connection) = self.open.get_mut(which).filter(|one| one.kind == Kind::Foreign) else {
            return Ok(());
        };
        // It may be dead; the next look tells.
        let echoed = connection.raw.send("ping").and_then(|()| connection.raw.exactly(4));
        let at = self.since(from);
        if echoed.is_ok() {
            self.facts.push(Fact::Data(at));
        }
        self.look()
    }

    fn drip(&mut self, connection: Connection) -> Result<()> {
        let pieces = self.chance.number(3..30);
        self.request(connection, Some(pieces))
    }

    /// Sends a request, with credentials or without, and notes the answer. Of a `drip` only the head is waited for.
    fn request(&mut self, mut connection: Connection, drip: Option<u64>) -> Result<()> {
        let number = self.shared.paths.fetch_add(1, SeqCst);
        let path = drip.map_or_else(|| format!("/bytes/{number}"), |_| format!("/drip/{number}"));
        let query = drip.map(|pieces| format!("?n={pieces}&ms=100")).unwrap_or_default();
        let person = self.chance.number(0..6);
        let mine = PEOPLE.iter().enumerate().find(|(index, _)| *index as u64 == person);
        let credentials = mine
            .and_then(|(index, user)| Some((*user, self.shared.credentials[index].lock().unwrap().pop()?)));
        let headers = credentials.as_ref().map_or("", |(_, line)| line.as_str());

        let from = self.now();
        let sent = connection.raw.get(&format!("http://origin.example.test{path}{query}"), headers);
        self.facts.push(Fact::Data(self.since(from)));
        let sent_at = self.now();
        let head = sent.and_then(|()| {
            if drip.is_none() { connection.raw.answer().map(|(head, _)| head) } else { connection.raw.head() }
        });
        let outcome = match head.as_ref().map(|head| head.code) {
            Ok(200) => Outcome::Served(None),
            Ok(407) => Outcome::Challenged,
            Ok(other) => Outcome::Status(other),
            Err(_) => Outcome::Broken,
        };
        let at = self.since(from);
        self.shared.answers.fetch_add(1, SeqCst);
        if drip.is_some() {
            connection.kind = Kind::Dripping;
        }
        let broken = outcome == Outcome::Broken;
        let offered = credentials.map(|(user, _)| user);
        self.facts.push(Fact::Request { at, path, offered, outcome });
        self.facts.push(Fact::Data(Span { from: sent_at, to: at.to }));
        if broken {
            self.facts.push(Fact::Closed(connection.id, Span { from, to: self.now() }));
        } else {
            self.open.push(connection);
        }
        self.look()
    }

    /// Ends a connection: by RST, or by FIN, waiting for the gateway's.
    fn close(&mut self, which: usize) -> Result<()> {
        self.look()?;
        if which >= self.open.len() {
            return Ok(());
        }
        let mut connection = self.open.remove(which);
        let by_reset = connection.kind == Kind::Dripping || self.chance.percent(50);
        let from = self.now();
        if by_reset {
            connection.raw.reset()?;
        } else {
            // It may be dead already.
            let _ = connection.raw.half_close();
            if !connection.raw.ended_within(Duration::from_secs(10))? {
                anyhow::bail!("the gateway does not close its side");
            }
        }
        self.facts.push(Fact::Closed(connection.id, self.since(from)));
        self.look()
    }
}

/// The address that a client of this number has.
pub(super) fn address(number: usize) -> Ipv4Addr {
    let last = u8::try_from(number + 11).unwrap_or(0);
    Ipv4Addr::new(10, 77, 0, last)
}
