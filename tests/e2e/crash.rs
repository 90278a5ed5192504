//! The proof that a crash changes nothing: random clients against two gateways, one left alone, one killed again and
//! again; every decision of both is compared with a reference that remembers all that happened.
//!
//! `TRACKER_SEED=N` repeats a run's schedule; `TRACKER_KILLS=N` asks for so many kills in all (`cargo xtask prove crash`).

mod client;
mod model;
mod model_tests;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::chance::Chance;
use lab::gateway::Gateway;
use lab::wait::{Stopwatch, silence};
use lab::{Lab, answers};

use self::client::{Client, Shared};
use self::model::{Comparison, Fact, Mode, Model, Outcome, Rules};
use crate::takeover::{foreign_proxy, watching};

/// As short as can be set: the more deadlines pass in a run, the better.
const TIMEOUT: Duration = Duration::from_secs(1);
const LIFETIME: Duration = Duration::from_secs(3);
/// The clients of each gateway.
const CLIENTS: usize = 8;
/// About the time between two kills, and down.
const KILL_TAKES: Duration = Duration::from_millis(2_800);
/// How many kills a mode gets in the short version.
const FEW_KILLS: u32 = 8;
/// The settings that each mode is tried with: lifetime or not, asked on reopening or not.
const ROUNDS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    kills: u32,
    agreed: u32,
    unclear: u32,
    /// Of those that agreed, how many refused the client although a user of it was known.
    refused: u32,
    /// Requests that were served.
    served: u32,
    /// Of those, how many for somebody whose name the access log told.
    named: u32,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.kills += other.kills;
        self.agreed += other.agreed;
        self.unclear += other.unclear;
        self.refused += other.refused;
        self.served += other.served;
        self.named += other.named;
    }
}

/// One round on one gateway.
struct Round {
    rules: Rules,
    chance: Chance,
    kills: u32,
    /// It goes on for at least this long.
    length: Duration,
}

impl Round {
    fn settings(&self) -> String {
        let mode = match self.rules.mode {
            Mode::Session => "session",
            Mode::Traffic => "traffic",
            Mode::Absolute => "absolute",
        };
        let lifetime = if self.rules.lifetime.is_some() { "enable" } else { "disable" };
        let revalidate = if self.rules.on_reopen { "on-reopen" } else { "on-timeout" };
        format!(
            "[timeouts]
proxy-auth-timeout = \"{}s\"
proxy-re-authentication-mode = \"{mode}\"
proxy-auth-lifetime = \"{lifetime}\"
proxy-auth-lifetime-timeout = \"{}s\"
revalidate = \"{revalidate}\"
",
            TIMEOUT.as_secs(),
            LIFETIME.as_secs(),
        )
    }

    /// Lets the clients loose on a gateway, kills it as often as wanted, and compares.
    fn run(&self) -> Result<Tally> {
        let mut lab = Lab::start_with(CLIENTS, &watching(&self.settings()))?;
        foreign_proxy(&lab)?;
        let tokens = 8 + usize::try_from(self.length.as_secs())? * 4;
        let credentials = |user| anyhow::Ok(Mutex::new(lab.many_credentials(0, user, tokens)?));
        let shared = Shared {
            clock: Stopwatch::start(),
            stop: AtomicBool::new(false),
            answers: AtomicU32::new(0),
            paths: AtomicU32::new(0),
            credentials: [credentials("alice")?, credentials("bob")?],
        };
        let Lab { gateway, net, .. } = &mut lab;
        let (kills, traces) = thread::scope(|scope| -> Result<_> {
            let clients = net.clients.iter().zip(0..).map(|(host, number)| {
                let client = Client::new(&shared, &host.ns, self.chance.part(number));
                scope.spawn(move || client.run())
            });
            let clients: Vec<_> = clients.collect();
            let killed = kill_again_and_again(gateway, &shared, self);
            shared.stop.store(true, SeqCst);
            let traces = clients.into_iter().map(|client| client.join().expect("no panic"));
            let traces: Vec<Vec<Fact>> = traces.collect::<Result<_>>()?;
            Ok((killed?, traces))
        })?;
        let log = gateway.log();
        let users = answers::served(&log);
        let mut tally = Tally { kills, ..Tally::default() };
        for (number, facts) in traces.iter().enumerate() {
            let compared = self.compare(facts, &users).with_context(|| {
                format!("client {} of a gateway with {} kills", client::address(number), self.kills)
            });
            tally.add(compared.with_context(|| log_tail(&log))?);
        }
        Ok(tally)
    }

    /// Tells the reference what happened, and compares its decisions with those that were taken.
    fn compare(&self, facts: &[Fact], users: &HashMap<String, String>) -> Result<Tally> {
        let mut model = Model::new(self.rules);
        let mut tally = Tally::default();
        for (index, fact) in facts.iter().enumerate() {
            let mut fact = fact.clone();
            if let Fact::Request { path, outcome: Outcome::Served(user), .. } = &mut fact {
                *user = users.get(path).cloned();
                tally.served += 1;
                tally.named += u32::from(user.is_some());
            }
            let before = model.shown();
            match model.learn(&fact) {
                Comparison::None => {}
                Comparison::Agreed => {
                    tally.agreed += 1;
                    let refused = matches!(&fact, Fact::Request { outcome: Outcome::Challenged, .. });
                    tally.refused += u32::from(refused && model.waits());
                }
                Comparison::Unclear => tally.unclear += 1,
                Comparison::Disagreed => {
                    let mut story = String::new();
                    for fact in facts.iter().take(index + 1) {
                        writeln!(story, "{fact:?}")?;
                    }
                    anyhow::bail!("{:?}\n{story}impossible: {fact:?}\npossible were: {before}", self.rules);
                }
            }
        }
        Ok(tally)
    }
}

/// Kills and restarts the gateway; without kills to make, lets it run for as long.
fn kill_again_and_again(gateway: &mut Gateway, shared: &Shared, round: &Round) -> Result<u32> {
    let ms = Duration::from_millis;
    let mut chance = round.chance.part(1_000);
    let mut kills = 0;
    while kills < round.kills {
        silence(chance.span(ms(200)..ms(2_200)));
        if chance.percent(40) {
            // Right behind an answer: what it announced must be on disk.
            let answers = shared.answers.load(SeqCst);
            let watch = Stopwatch::start();
            while shared.answers.load(SeqCst) == answers && watch.elapsed() < ms(1_500) {
                thread::yield_now();
            }
        }
        gateway.kill();
        kills += 1;
        let down = if chance.percent(30) { ms(0) } else { chance.span(ms(0)..TIMEOUT + ms(1_500)) };
        silence(down);
        if kills < round.kills && chance.percent(20) {
            // Again while it starts.
            gateway.start_unready()?;
            silence(chance.span(ms(0)..ms(300)));
            gateway.kill();
            kills += 1;
        }
        gateway.start()?;
    }
    let rest = round.length.saturating_sub(shared.clock.elapsed()).max(ms(1_500));
    silence(rest);
    Ok(kills)
}

fn log_tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    format!("the end of the log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"))
}

/// All rounds of one mode, each with a gateway that is left alone and one that is killed.
fn prove(mode: Mode) -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let asked = std::env::var("TRACKER_KILLS").ok().and_then(|kills| kills.parse::<u32>().ok());
    let per_mode = asked.map_or(FEW_KILLS, |all| all.div_ceil(3));
    let seed = Chance::seed();
    println!("{mode:?}: TRACKER_SEED={seed}");
    let watch = Stopwatch::start();
    let (mut alone, mut killed) = (Tally::default(), Tally::default());
    for (number, (lifetime, on_reopen)) in ROUNDS.into_iter().enumerate() {
        let rules = Rules { mode, timeout: TIMEOUT, lifetime: lifetime.then_some(LIFETIME), on_reopen };
        let kills_each = per_mode.div_ceil(ROUNDS.len() as u32);
        let round = |kills| Round {
            rules,
            chance: Chance::new(seed).part(mode as u64 * 10 + number as u64),
            kills,
            length: KILL_TAKES * kills_each,
        };
        let (one, other) = thread::scope(|scope| {
            let one = scope.spawn(|| round(0).run());
            let other = scope.spawn(|| round(kills_each).run());
            (one.join().expect("no panic"), other.join().expect("no panic"))
        });
        alone.add(one.with_context(|| format!("TRACKER_SEED={seed}"))?);
        killed.add(other.with_context(|| format!("TRACKER_SEED={seed}"))?);
    }
    println!("{mode:?} in {:?}: left alone: {alone:?}; killed: {killed:?}", watch.elapsed());
    ensure!(killed.kills >= per_mode);
    for tally in [alone, killed] {
        ensure!(tally.agreed > tally.unclear * 3, "too little was compared: {tally:?}");
        // The line is written when the answer has gone out: a kill in between loses it.
        ensure!(tally.named * 10 > tally.served * 6, "the access log told too few names: {tally:?}");
    }
    Ok(())
}

#[test]
fn crashes_change_no_decision_in_mode_session() -> Result<()> {
    prove(Mode::Session)
}

#[test]
fn crashes_change_no_decision_in_mode_traffic() -> Result<()> {
    prove(Mode::Traffic)
}

#[test]
fn crashes_change_no_decision_in_mode_absolute() -> Result<()> {
    prove(Mode::Absolute)
}
