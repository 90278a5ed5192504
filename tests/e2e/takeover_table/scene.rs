//! One gateway with all rows of the table on it, and what becomes of the newcomers' requests.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use lab::dhcp::{Dhcp, Lease};
use lab::gateway::PROXY_PORT;
use lab::net::{GATEWAY_V4, GATEWAY_V6};
use lab::origin::SILENT_PORT;
use lab::raw::Raw;
use lab::wait::{Stopwatch, silence, until};
use lab::{Lab, answers};

use super::{BACK_TOO_LATE, Check, Mode, Row, TIMEOUT, Wire};
use crate::common::{SOON, has_open, lay_cable, raw_by_cable};

/// When a newcomer sends a request, counted from the first; none is as long as the timeout after the one before.
const REQUESTS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(900),
    Duration::from_millis(1_900),
    Duration::from_millis(3_000),
    Duration::from_millis(4_200),
];
/// A newcomer who comes after the timeout begins so much later.
const LATE: Duration = Duration::from_millis(3_400);

/// A request of the newcomer.
struct Sent {
    path: String,
    /// When it was sent.
    at: Duration,
    /// When the client was last seen doing something before.
    idle_since: Duration,
    code: u16,
}

/// One row at work.
struct Case {
    row: Row,
    /// The host that the newcomer sits at.
    host: usize,
    /// When the first user had certainly proved themselves.
    login: Duration,
    /// When the first user, or the newcomer, last did something.
    last: Duration,
    /// The newcomer's credentials, one for each request.
    credentials: Vec<String>,
    /// What the first user still holds open.
    held: Vec<Raw>,
    sent: Vec<Sent>,
    /// When the first request was, or is to be.
    begin: Duration,
}

impl Case {
    /// When the next request is to be sent.
    fn next(&self) -> Option<Duration> {
        // Whoever comes too late is told so at once.
        let all = if self.row == Row::Late { 1 } else { REQUESTS.len() };
        REQUESTS[..all].get(self.sent.len()).map(|after| self.begin + *after)
    }
}

/// Over what is there.
fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

pub(super) struct Scene {
    /// The newcomer's lease, and who gave it: to the end.
    leased: Option<(Dhcp, Lease)>,
    lab: Lab,
    mode: Mode,
    check: Check,
    wire: Wire,
    clock: Stopwatch,
    requests: u32,
    /// The hosts that are listed in `shared-hosts`.
    listed: Vec<usize>,
    alices: Vec<String>,
    /// Strangers' connections, which stay to the end.
    strangers: Vec<TcpStream>,
}

/// So many users' records there is room for; strangers have a quarter as many.
const RECORDS: usize = 64;

impl Scene {
    pub(super) fn new(mode: Mode, check: Check, wire: Wire) -> Result<Self> {
        let rows = wire.rows();
        let listed = rows.iter().filter(|row| matches!(row, Row::SharedListed | Row::UnlistedMeanwhile));
        let listed: Vec<usize> = listed.map(|row| row.hosts(rows).0).collect();
        let settings = format!(
            "[proxy]
listen = [\"[::]:{PROXY_PORT}\"]
[observer]
max-records = {RECORDS}
[timeouts]
proxy-auth-timeout = \"{}s\"
proxy-re-authentication-mode = \"{}\"
shared-hosts = {:?}
{}{}",
            TIMEOUT.as_secs(),
            mode.word(),
            listed.iter().map(|host| format!("10.77.0.{}", host + 11)).collect::<Vec<_>>(),
            check.settings(),
            wire.settings(),
        );
        let lab = Lab::start_with(rows.len() * 2, &settings)?;
        let alices = lab.many_credentials(0, "alice", rows.len())?;
        if rows.contains(&Row::OtherLink) {
            let (one, other) = Row::OtherLink.hosts(rows);
            lay_cable(&lab, one)?;
            lay_cable(&lab, other)?;
        }
        let clock = Stopwatch::start();
        let (leased, requests, strangers) = (None, 0, Vec::new());
        Ok(Self { leased, lab, mode, check, wire, clock, requests, listed, alices, strangers })
    }

    /// Plays all rows; returns what to write into each cell.
    pub(super) fn play(mut self) -> Result<Vec<String>> {
        let rows = self.wire.rows();
        let volunteered = self.lab.many_credentials(0, "bob", REQUESTS.len())?;
        let began = self.clock.elapsed();
        // First, because it takes its time: the others' second requests should not wait for it.
        let mut cases = Vec::new();
        if rows.contains(&Row::Dhcp) {
            cases.push(self.lease()?);
        }
        for row in rows.iter().copied().filter(|row| !row.while_down() && *row != Row::Dhcp) {
            let mut case = self.login(row)?;
            if row == Row::OtherUserVolunteers {
                case.credentials.clone_from(&volunteered);
            }
            self.change(&mut case)?;
            if row == Row::Late {
                case.begin = self.clock.elapsed() + LATE;
            } else {
                self.request(&mut case)?;
            }
            cases.push(case);
            self.send_what_is_due(&mut cases)?;
        }
        self.send_the_rest(&mut cases)?;

        for row in rows.iter().copied().filter(|row| row.while_down()) {
            let mut case = self.login(row)?;
            self.logged(&cases)?;
            let state = self.lab.scratch.join("state");
            let backup = self.lab.scratch.join("backup");
            if row == Row::Backup {
                copy(&state, &backup)?;
                ensure!(self.lab.gateway.ctl(&["logout", &self.lab.address(case.host)])?.exit == 0);
            }
            self.lab.gateway.kill();
            if row == Row::Backup {
                copy(&backup, &state)?;
            }
            case.last = self.clock.elapsed();
            case.held.clear();
            self.change(&mut case)?;
            self.lab.gateway.start()?;
            let mut alone = vec![case];
            self.request(&mut alone[0])?;
            self.send_the_rest(&mut alone)?;
            cases.append(&mut alone);
        }
        self.logged(&cases)?;
        println!("{:?} {:?} {:?}: {:?}", self.mode, self.check, self.wire, self.clock.elapsed() - began);
        self.cells(&cases)
    }

    /// The first user gives a lease back, and the newcomer gets it.
    fn lease(&mut self) -> Result<Case> {
        let dhcp = Dhcp::start(&self.lab.scratch, &self.lab.net)?;
        let (first, second) = Row::Dhcp.hosts(self.wire.rows());
        let lease = dhcp.lease(&mut self.lab.net.clients[first])?;
        let mut case = self.login(Row::Dhcp)?;
        self.leave(&mut case)?;
        dhcp.release(lease)?;
        let second_lease = dhcp.lease(&mut self.lab.net.clients[second])?;
        self.leased = Some((dhcp, second_lease));
        case.host = second;
        self.request(&mut case)?;
        Ok(case)
    }

    /// The first user logs in, and holds the connection.
    fn login(&mut self, row: Row) -> Result<Case> {
        let (host, _) = row.hosts(self.wire.rows());
        let Some(credentials) = self.alices.pop() else { bail!("out of credentials") };
        if row == Row::Strangers {
            self.crowd()?;
        }
        let mut raw = self.connect(row, host)?;
        let held = if row == Row::ResetAtLogin {
            raw.get("http://origin.example.test/", &credentials)?;
            raw.reset()?;
            Vec::new()
        } else {
            let code = if row == Row::Silent {
                raw.tunnel(&format!("origin.example.test:{SILENT_PORT}"), &credentials)?.code
            } else {
                raw.get("http://origin.example.test/", &credentials)?;
                raw.answer()?.0.code
            };
            ensure!(code == 200, "alice cannot log in: {code}");
            vec![raw]
        };
        let login = self.clock.elapsed();
        let (credentials, sent) = (Vec::new(), Vec::new());
        Ok(Case { row, host, login, last: login, credentials, held, sent, begin: login })
    }

    /// The first user's connections are closed, and that is known.
    fn leave(&mut self, case: &mut Case) -> Result<()> {
        for mut raw in case.held.drain(..) {
            // Under TLS, an end without its word for it is taken for somebody else's, and nothing is left of a tunnel.
            if case.row == Row::Reset { raw.reset()? } else { raw.half_close()? }
        }
        if case.row == Row::Silent {
            // Nobody ends the tunnel's other side: the connection stays.
            silence(Duration::from_millis(200));
            has_open(&self.lab, case.host, 1)?;
        } else if case.row == Row::OtherLink {
            // They have a name of their own; what is told apart here does not wait for the close.
        } else if case.row != Row::SharedListed {
            has_open(&self.lab, case.host, 0)?;
        }
        case.last = self.clock.elapsed();
        Ok(())
    }

    /// The newcomer takes the first user's place.
    fn change(&mut self, case: &mut Case) -> Result<()> {
        let (first, second) = case.row.hosts(self.wire.rows());
        if case.row.leaves() {
            self.leave(case)?;
        }
        match case.row {
            Row::ListedMeanwhile => self.list(|listed| listed.push(first))?,
            Row::UnlistedMeanwhile => self.list(|listed| listed.retain(|host| *host != first))?,
            Row::Arp => self.says_more(first, second)?,
            _ => {}
        }
        if first != second {
            // On another link the address is there already.
            if case.row != Row::OtherLink {
                self.lab.net.take_over(first, second)?;
            }
            case.host = second;
        }
        Ok(())
    }

    fn connect(&self, row: Row, host: usize) -> Result<Raw> {
        match self.wire {
            Wire::Tls => self.lab.raw_tls(host),
            Wire::Plain if row == Row::OtherLink => raw_by_cable(&self.lab, host),
            Wire::Plain => self.lab.raw(host),
        }
    }

    /// More strangers than there are records for.
    fn crowd(&mut self) -> Result<()> {
        let (_, host) = Row::Strangers.hosts(self.wire.rows());
        let [a, b, c, d] = self.lab.net.many_addresses(host)?;
        let to = SocketAddrV6::new(GATEWAY_V6, PROXY_PORT, 0, 0);
        let ns = &self.lab.net.clients[host].ns;
        let count = u16::try_from(RECORDS)?;
        let comes = |n: u16| ns.connect_from(Ipv6Addr::new(a, b, c, d, 0, 0, 0, n), to);
        self.strangers = (1..=count).map(comes).collect::<Result<_>>()?;
        Ok(())
    }

    /// Changes which hosts are listed in `shared-hosts`.
    fn list(&mut self, change: impl FnOnce(&mut Vec<usize>)) -> Result<()> {
        change(&mut self.listed);
        let addresses: Vec<String> = self.listed.iter().map(|host| self.lab.address(*host)).collect();
        self.lab.gateway.ask(&["set", "shared-hosts", &addresses.join(",")])?;
        Ok(())
    }

    /// The newcomer connects from two more addresses, and says that they are at the first user's hardware address.
    fn says_more(&mut self, first: usize, second: usize) -> Result<()> {
        let ns = &self.lab.net.clients[second].ns;
        let more = [201, 202].map(|last| Ipv4Addr::new(10, 77, 0, last));
        for address in more {
            ns.ip(&format!(
                "addr add {address}/24 dev eth0\nroute replace {GATEWAY_V4}/32 dev eth0 src {address}"
            ))?;
            let mut raw = self.lab.raw(second)?;
            raw.get("http://origin.example.test/", "")?;
            ensure!(raw.answer()?.0.code == 407, "{address} is nobody's");
            ns.ip(&format!("route del {GATEWAY_V4}/32 dev eth0\naddr del {address}/24 dev eth0"))?;
        }
        self.lab.net.claim(second, &more.map(IpAddr::from), &self.lab.net.device(first)?)
    }

    /// One request of the newcomer, on a new connection.
    fn request(&mut self, case: &mut Case) -> Result<()> {
        self.requests += 1;
        let path = format!("/bytes/{}", self.requests);
        let credentials = case.credentials.pop().unwrap_or_default();
        let at = self.clock.elapsed();
        if case.sent.is_empty() {
            case.begin = at;
        }
        let mut raw = self.connect(case.row, case.host)?;
        raw.get(&format!("http://origin.example.test{path}"), &credentials)?;
        let code = raw.answer()?.0.code;
        drop(raw);
        case.sent.push(Sent { path, at, idle_since: case.last, code });
        case.last = self.clock.elapsed();
        Ok(())
    }

    /// Waits until the access log has the lines of what was served: it writes them a moment later.
    fn logged(&self, cases: &[Case]) -> Result<()> {
        let served = || cases.iter().flat_map(|case| &case.sent).filter(|sent| sent.code == 200);
        until("the access log's lines", SOON, || {
            let log = self.lab.gateway.log();
            served().all(|sent| log.contains(&format!("path=\"{}\"", sent.path))).then_some(())
        })
    }

    /// Sends the requests whose time has come.
    fn send_what_is_due(&mut self, cases: &mut [Case]) -> Result<()> {
        for case in cases {
            if case.next().is_some_and(|at| at <= self.clock.elapsed()) {
                self.request(case)?;
            }
        }
        Ok(())
    }

    fn send_the_rest(&mut self, cases: &mut [Case]) -> Result<()> {
        while let Some(next) = cases.iter().filter_map(Case::next).min() {
            silence(next.saturating_sub(self.clock.elapsed()));
            self.send_what_is_due(cases)?;
        }
        Ok(())
    }

    fn cells(&self, cases: &[Case]) -> Result<Vec<String>> {
        let log = self.lab.gateway.log();
        let users = answers::served(&log);
        let cell = |row: &Row| {
            let case = cases.iter().find(|case| case.row == *row).expect("every row was played");
            self.cell(case, &users)
        };
        self.wire.rows().iter().map(cell).collect()
    }

    /// How often the newcomer was taken for the first user, and until when.
    fn cell(&self, case: &Case, users: &HashMap<String, String>) -> Result<String> {
        let place = || format!("{:?}, {:?}, {:?}", case.row, self.mode, self.check);
        let newcomer = if case.row == Row::OtherUserVolunteers { "bob" } else { "" };
        let mut wrong = Vec::new();
        for sent in &case.sent {
            match (sent.code, users.get(&sent.path).map(String::as_str)) {
                (407, _) => {}
                (200, Some(user)) if user == newcomer => {}
                (200, Some("alice")) => wrong.push(sent),
                other => bail!("{}: {other:?}", place()),
            }
        }
        let is_caught = self.check.catches(case.row);
        let away = case.sent.first().map_or(Duration::ZERO, |first| first.at.saturating_sub(case.login));
        if case.row == Row::Down && !is_caught && wrong.is_empty() && away >= TIMEOUT {
            return Ok(BACK_TOO_LATE.to_owned());
        }
        for sent in &wrong {
            // The documented bounds.
            let (from, holds) = match self.mode {
                Mode::Absolute => (case.login, false),
                Mode::Traffic => (sent.idle_since, false),
                Mode::Session => (sent.idle_since, !case.row.leaves() && !case.row.while_down()),
            };
            let idle = sent.at.saturating_sub(from);
            ensure!(holds || idle <= TIMEOUT, "{}: served as alice after {idle:?}", place());
        }
        if is_caught {
            ensure!(wrong.is_empty(), "{}: {} requests were served as alice's", place(), wrong.len());
        }
        let cell = match (wrong.len(), self.mode) {
            // Then the cell tells the bound.
            (0, Mode::Absolute) if case.row.may_not_count() && !is_caught => "T from login",
            (0, _) if case.row.may_not_count() && !is_caught => "T idle",
            (0, _) => "0",
            (all, Mode::Session | Mode::Traffic) if all == case.sent.len() => "T idle",
            (1..=4, Mode::Absolute) => "T from login",
            (some, _) => bail!("{}: {some} of {} requests were served as alice's", place(), case.sent.len()),
        };
        let note = match case.row {
            Row::PowerLoss => " (a)",
            Row::Silent => " (b)",
            _ => "",
        };
        let holds = self.mode == Mode::Session && cell != "0";
        Ok(format!("{cell}{}", if holds { note } else { "" }))
    }
}
