//! A battery of packets in a client's name, played to both observers: only what TCP takes as new data holds a session of mode
//! `traffic`, and both must come to the same decisions.

use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::answers::Session;
use lab::gateway::PROXY_PORT;
use lab::net::{GATEWAY_V4, GATEWAY_V6, Host, has_kernel_side};
use lab::raw::Raw;
use lab::segment::{ACK, FIN, FRAGMENT, Forge, OPTIONS, RST, SYN, Segment};
use lab::wait::{Stopwatch, silence};
use lab::{Lab, answers};

use crate::common::{ORIGIN, url};

/// The timeout; far longer than the time between two packets, and than a look at all sessions takes.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How long packets are sent.
const PLAY: Duration = Duration::from_millis(4_500);
/// How often.
const EVERY: Duration = Duration::from_millis(250);
/// Nothing moves any more for so long before they are.
const QUIET: Duration = Duration::from_millis(400);

/// What the client's connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waiting for its next request.
    Idle,
    /// The same by IPv6.
    IdleV6,
    /// The client has ended its side, and an answer is still to come.
    Ended,
    /// Nobody reads what the client sends: its window is closed.
    Full,
}

/// The packets of one round.
#[derive(Clone, Copy)]
enum Packets {
    /// A byte from the client's own socket.
    Own,
    /// Made by hand; the number of the round.
    Forged(fn(i32) -> Vec<Segment>),
}

struct Case {
    name: &'static str,
    state: State,
    packets: Packets,
    /// Whether the session is held.
    holds: bool,
}

const fn case(name: &'static str, holds: bool, state: State, packets: fn(i32) -> Vec<Segment>) -> Case {
    Case { name, state, packets: Packets::Forged(packets), holds }
}

/// A forged packet that TCP must not take as new data.
const fn idle(name: &'static str, packets: fn(i32) -> Vec<Segment>) -> Case {
    case(name, false, State::Idle, packets)
}

const BYTE: &[u8] = b"x";

const fn segment(offset: i32) -> Segment {
    Segment::new(offset, BYTE)
}

static CASES: [Case; 21] = [
    Case { name: "the client's own bytes", state: State::Idle, packets: Packets::Own, holds: true },
    case("new data", true, State::Idle, |round| vec![segment(round)]),
    case("the gap first, then what fills it", true, State::Idle, |round| {
        vec![segment(2 * round + 1), segment(2 * round)]
    }),
    case("new data by IPv6", true, State::IdleV6, |round| vec![segment(round)]),
    case("new data behind a fragment header of a whole packet", true, State::IdleV6, |round| {
        vec![Segment { extensions: &[FRAGMENT], ..segment(round) }]
    }),
    case("new data behind six extension headers", true, State::IdleV6, |round| {
        vec![Segment { extensions: &[OPTIONS; 6], ..segment(round) }]
    }),
    idle("nothing", |_| vec![]),
    idle("a bare acknowledgement", |_| vec![Segment::new(0, b"")]),
    idle("a keep-alive with a byte of garbage", |_| vec![segment(-1)]),
    idle("a retransmission", |_| vec![Segment::new(-4, b"\r\n\r\n")]),
    idle("beyond a gap, again and again", |_| vec![segment(1)]),
    idle("outside of the window", |_| vec![segment(1 << 30)]),
    idle("acknowledging what was never sent", |_| vec![Segment { acknowledges: 1 << 20, ..segment(0) }]),
    idle("without an acknowledgement", |_| vec![Segment { flags: 0, ..segment(0) }]),
    // Of a short one TCP knows before it asks anybody.
    idle("with a bad checksum", |_| vec![Segment { intact: false, payload: &[b'x'; 400], ..segment(0) }]),
    idle("on a SYN", |_| vec![Segment { flags: SYN | ACK, ..segment(0) }]),
    idle("on an RST that is not believed", |_| vec![Segment { flags: RST | ACK, ..segment(10) }]),
    idle("on a FIN beyond a gap", |_| vec![Segment { flags: FIN | ACK, ..segment(10) }]),
    idle("with an old time stamp", |_| vec![Segment { stamp: Some(-1_000_000), ..segment(0) }]),
    case("beyond the client's end, with another end", false, State::Ended, |_| {
        vec![segment(0), Segment { flags: FIN | ACK, ..segment(0) }]
    }),
    case("a probe of a closed window", false, State::Full, |_| vec![segment(0)]),
];

/// A client at work.
struct Player {
    case: &'static Case,
    raw: Raw,
    forge: Forge,
}

impl Player {
    /// Logs in, and brings the connection where it has to be.
    fn new(host: &Host, case: &'static Case, credentials: &str) -> Result<Self> {
        let to: IpAddr = if case.state == State::IdleV6 { GATEWAY_V6.into() } else { GATEWAY_V4.into() };
        let mut raw = Raw::connect(&host.ns, (to, PROXY_PORT).into())?;
        raw.get(ORIGIN, credentials)?;
        let code = raw.answer()?.0.code;
        ensure!(code == 200, "{}: alice cannot log in: {code}", case.name);
        match case.state {
            State::Idle | State::IdleV6 => {}
            State::Ended => {
                raw.get(&url("slow?ms=30000"), "")?;
                raw.half_close()?;
            }
            State::Full => {
                let head = "POST http://origin.example.test/slow?ms=30000 HTTP/1.1\r\n\
                            Host: origin.example.test\r\nContent-Length: 1000000000\r\n\r\n";
                raw.send(head)?;
                raw.fill_up(QUIET)?;
            }
        }
        silence(QUIET);
        let forge = Forge::of(&host.ns, &raw)?;
        Ok(Self { case, raw, forge })
    }

    /// Sends until it is told to stop; says when it has done so for long enough.
    fn play(&mut self, stop: &AtomicBool, enough: impl FnOnce()) -> Result<()> {
        let watch = Stopwatch::start();
        let mut enough = Some(enough);
        for round in 0.. {
            if stop.load(Relaxed) {
                break;
            }
            match self.case.packets {
                Packets::Own => self.raw.send("G")?,
                Packets::Forged(packets) => packets(round).iter().try_for_each(|one| self.forge.send(one))?,
            }
            silence((EVERY * (round.unsigned_abs() + 1)).saturating_sub(watch.elapsed()));
            if watch.elapsed() >= PLAY
                && let Some(enough) = enough.take()
            {
                enough();
            }
        }
        Ok(())
    }
}

fn play(observer: &str) -> Result<()> {
    let settings = format!(
        "[observer]\nmode = \"{observer}\"\n[timeouts]\nproxy-auth-timeout = \"{}s\"\n\
         proxy-re-authentication-mode = \"traffic\"\n",
        TIMEOUT.as_secs()
    );
    let lab = Lab::start_with(CASES.len(), &settings)?;
    let credentials = lab.many_credentials(0, "alice", CASES.len())?;
    let stop = AtomicBool::new(false);
    let sessions = std::thread::scope(|scope| -> Result<Vec<Session>> {
        let (told, hear) = mpsc::channel();
        let begin = |((host, case), credentials)| {
            let (told, stop) = (told.clone(), &stop);
            scope.spawn(move || -> Result<()> {
                let mut player = Player::new(host, case, credentials)?;
                // Nobody hears it if another one has failed.
                player.play(stop, move || told.send(()).unwrap_or_default())
            })
        };
        let parts = lab.net.clients.iter().zip(&CASES).zip(credentials.iter().map(String::as_str));
        let threads: Vec<_> = parts.map(begin).collect();
        drop(told);
        // Whoever fails never says so.
        let played = hear.iter().take(CASES.len()).count();
        let sessions = lab.gateway.ask(&["sessions", "--all"]);
        stop.store(true, Relaxed);
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))?;
        ensure!(played == CASES.len(), "only {played} have played");
        Ok(answers::sessions(&sessions?))
    })?;
    let mut wrong = String::new();
    for (host, case) in lab.net.clients.iter().zip(&CASES) {
        let address: IpAddr = if case.state == State::IdleV6 { host.v6.into() } else { host.v4.into() };
        let session = sessions.iter().find(|session| session.client == address.to_string());
        let state = session.map_or("none", |session| session.state.as_str());
        let expected = if case.holds { "active" } else { "stale" };
        if state != expected {
            wrong += &format!("\n{}: {state}, and not {expected}", case.name);
        }
    }
    ensure!(wrong.is_empty(), "with the observer {observer}:{wrong}");
    Ok(())
}

#[test]
fn only_what_tcp_takes_as_new_data_holds_a_session_as_the_kernel_side_sees_it() -> Result<()> {
    if lab::skipped() || !has_kernel_side() {
        return Ok(());
    }
    play("ebpf")
}

#[test]
fn only_what_tcp_takes_as_new_data_holds_a_session_as_the_proxy_sees_it() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    play("proxy")
}
