//! Kerberos: a new connection from a new address, 407, a fresh token, 200, the end. 16 at once.
//!
//! Every login comes from an address of its own, or a session would spare it the challenge. Ours is measured twice: with a
//! session for each client, on disk before it counts, and for `shared-hosts`, where like with the peers each connection
//! proves itself and nothing is remembered.

use std::net::Ipv6Addr;
use std::path::Path;

use anyhow::Result;
use clap::Args;

use super::aims::Aim;
use super::rig::gateways::Variant;
use super::rig::load::Tool;
use super::rig::peers::Squid;
use super::rig::place::PROXY_CORE;
use super::rig::report::{Unit, remarks, table};
use super::rig::series::{Rounds, Sample, Series};
use super::rig::{ORIGIN, Rig, Runs, Subject, Way};
use super::{Outcome, find};

/// How long.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    rounds: Rounds,
    /// So many at once.
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// Logins a second that tokens are made for; the load ends when they are used up.
    #[arg(long, default_value_t = 6_000)]
    most: usize,
}

/// Room for all clients.
const RECORDS: &str = "[observer]\nmax-records = 1000000\n";
const SHARED: &str = "[timeouts]\nshared-hosts = [\"fd77:0:0:1::/64\"]\n";
/// Tokens for the bare loop in each round.
const BARE: usize = 20_000;

/// Clients, each with an address that nobody has had before.
pub(crate) struct Crowd(u128);

impl Crowd {
    /// The crowd of this rig's first client host.
    pub(crate) fn new(rig: &Rig) -> Result<Self> {
        let [a, b, c, d] = rig.lab.net.many_addresses(0)?;
        Ok(Self(u128::from(Ipv6Addr::new(a, b, c, d, 1, 0, 0, 0))))
    }

    /// The first of `count` new ones.
    pub(crate) fn take(&mut self, count: usize) -> Ipv6Addr {
        let first = Ipv6Addr::from(self.0);
        self.0 += count as u128;
        first
    }
}

/// The load of this scenario, with its tokens made.
pub(crate) fn load(
    rig: &Rig,
    subject: &Subject,
    crowd: &mut Crowd,
    (at_once, tokens, seconds): (usize, usize, f64),
) -> Result<Tool> {
    let words = [
        "negotiate".to_owned(),
        format!("--proxy={}", subject.v6()),
        format!("--origin={ORIGIN}"),
        format!("--at-once={at_once}"),
        format!("--seconds={seconds}"),
        format!("--from={}", crowd.take(tokens)),
        format!("--tokens={tokens}"),
    ];
    rig.tool(subject, &words)
}

/// Measures.
pub(crate) fn run(options: &Options, bin: &Path) -> Result<Outcome> {
    let rig = Rig::new(bin)?;
    let mut crowd = Crowd::new(&rig)?;
    let tracker = |name, number, settings, note| {
        rig.tracker(name, number, &Variant { settings, note, ..Variant::default() })
    };
    let subjects = [
        tracker("trackerd", 0, &[RECORDS][..], "a session for each login, everything on")?,
        tracker(
            "trackerd, shared hosts",
            1,
            &[RECORDS, SHARED],
            "shared-hosts: each connection proves itself; everything on",
        )?,
        rig.squid(Squid::Negotiate)?,
        rig.apache()?,
        alone(&rig, Alone::Bare)?,
        alone(&rig, Alone::InMemory)?,
        alone(&rig, Alone::Verifier)?,
    ];
    let mut jobs: Vec<(&Subject, (), Series)> =
        subjects.iter().map(|subject| (subject, (), Series::of(subject, ""))).collect();
    let Rounds { rounds, seconds } = options.rounds;
    rig.rounds(rounds, &mut jobs, |subject, ()| {
        if subject.way == Way::Direct {
            let deed = if subject.name == Alone::Verifier.name() { "verify" } else { "accept" };
            let keytab = format!("--keytab={}", rig.lab.keytab.display());
            let mut words = vec![deed.to_owned(), keytab, format!("--tokens={BARE}")];
            words.extend((subject.name == Alone::InMemory.name()).then(|| "--memory".to_owned()));
            let tool = rig.tool_in(subject, subject.group.as_ref(), &words)?;
            return rig.measure(subject, || tool.dialogues());
        }
        let tokens = (options.most as f64 * seconds) as usize;
        let tool = load(&rig, subject, &mut crowd, (options.at_once, tokens, seconds))?;
        rig.measure(subject, || tool.dialogues())
    })?;
    let all: Vec<&Series> = jobs.iter().map(|(_, (), series)| series).collect();
    let (ours, shared) = (find(&all, "trackerd")?, find(&all, "trackerd, shared hosts")?);
    let (bare, memory) = (find(&all, Alone::Bare.name())?, find(&all, Alone::InMemory.name())?);
    let verifier = find(&all, Alone::Verifier.name())?;
    let (squid, apache) = (find(&all, "squid, Negotiate")?, find(&all, "apache")?);
    let aims = vec![
        Aim::at_most("negotiate: CPU of squid's", ours.ratio(squid, Sample::cpu), 0.2, None),
        Aim::least("negotiate: CPU of apache's", ours.ratio(apache, Sample::cpu), 1.0),
        Aim::at_most("negotiate, shared hosts: CPU of squid's", shared.ratio(squid, Sample::cpu), 0.2, None),
        // 85 % of the rate per core is 1 / 0.85 of the CPU time.
        Aim::least("verifier: CPU of the bare loop's", verifier.ratio(bare, Sample::cpu), 1.0 / 0.85),
        Aim::least(
            "verifier: CPU of the bare loop's, keytab in memory",
            verifier.ratio(memory, Sample::cpu),
            1.0 / 0.85,
        ),
    ];
    let text = format!(
        "A new connection from a new address, 407, a fresh token, 200 with 1 KiB, the end; {} at once, {rounds} rounds \
         of {seconds} s or {} tokens.\n\n{}{}",
        options.at_once,
        (options.most as f64 * seconds) as usize,
        table(Unit::each("login", "logins/s"), &all, &["squid, Negotiate", "apache"]),
        remarks(&all)
    );
    Ok(Outcome { text, aims })
}

/// What runs without a network, in the load tool.
#[derive(Clone, Copy)]
enum Alone {
    /// The library as anybody would call it.
    Bare,
    /// With the keytab in memory, as ours has it.
    InMemory,
    /// The gateway's verifier: token in, identity out.
    Verifier,
}

impl Alone {
    const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare loop, FILE keytab",
            Self::InMemory => "bare loop, MEMORY keytab",
            Self::Verifier => "verifier alone",
        }
    }
}

/// The load tool in the place of a proxy.
fn alone(rig: &Rig, what: Alone) -> Result<Subject> {
    let name = what.name().to_owned();
    let group = Some(rig.group(&name)?);
    let note = match what {
        Alone::Verifier => format!(
            "the gateway's own on core {PROXY_CORE}: queue, thread, triage, names, counters; 16 at once, {BARE} tokens"
        ),
        _ => {
            format!("gss_accept_sec_context on core {PROXY_CORE}, one thread, replay cache on, {BARE} tokens")
        }
    };
    Ok(Subject { name, note, port: 0, way: Way::Direct, group, runs: Runs::Nothing })
}
