//! `cargo xtask profile SCENARIO`: where the gateway's time goes, on the rig that the benchmarks stand on.
//!
//! Three looks, each at a run of its own: samples of user and kernel (`perf record`), system calls per unit of work
//! (`perf trace`), and with `--callgrind` the instructions of the user side for a bounded number of requests.

mod callgrind;
mod looks;

use std::fs;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use crate::bench::negotiate::Crowd;
use crate::bench::rig::gateways::Variant;
use crate::bench::rig::load::Work;
use crate::bench::rig::{ORIGIN, Rig, Subject, report};
use crate::bench::tunnel::Job;
use crate::bench::{connect, negotiate, tunnel};
use crate::{build, setup, sh};

/// What to look at.
#[derive(Args)]
pub(crate) struct Options {
    scenario: Scenario,
    /// How long each look takes.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Count instructions of the user side instead, for this many requests; valgrind makes everything fifty times slower.
    #[arg(long)]
    callgrind: bool,
    /// Requests under callgrind.
    #[arg(long, default_value_t = 2_000, requires = "callgrind")]
    count: u64,
    /// More settings for the gateway, as TOML.
    #[arg(long, default_value = "")]
    settings: String,
}

/// The loads that can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    Forward,
    Connect,
    /// Eight downloads.
    Tunnel,
    /// Eight uploads.
    Upload,
    Negotiate,
}

impl Scenario {
    const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Connect => "connect",
            Self::Tunnel => "tunnel",
            Self::Upload => "upload",
            Self::Negotiate => "negotiate",
        }
    }

    const fn unit(self) -> &'static str {
        match self {
            Self::Forward => "request",
            Self::Connect => "tunnel",
            Self::Tunnel | Self::Upload => "GB",
            Self::Negotiate => "login",
        }
    }
}

/// Takes a load's connections at once, so that all of it is inside the look.
const AT_ONCE: usize = 32;
/// Logins a second that tokens are made for.
const MOST: f64 = 8_000.0;

/// The stage: rig and gateway, with nothing else on it. The gateway goes first.
pub(crate) struct Stage {
    subject: Subject,
    rig: Rig,
    crowd: Crowd,
    scenario: Scenario,
}

impl Stage {
    fn new(options: &Options, under: &[&str]) -> Result<Self> {
        setup::install(&["linux-perf", "valgrind"])?;
        let bin = build::run(&build::Options::default())?;
        let rig = Rig::new(&bin)?;
        // A login is to be from an address that nobody has had before.
        let settings = ["[observer]\nmax-records = 1000000\n", &options.settings];
        let variant = Variant { settings: &settings, under, ..Variant::default() };
        let subject = rig.tracker("trackerd", 0, &variant)?;
        if options.scenario != Scenario::Negotiate {
            subject.tracker()?.login(&rig, 0, "alice")?;
        }
        let crowd = Crowd::new(&rig)?;
        Ok(Self { rig, subject, crowd, scenario: options.scenario })
    }

    /// Runs the load, everything prepared, inside `look`.
    fn load<T>(
        &mut self,
        seconds: f64,
        look: impl FnOnce(&mut dyn FnMut() -> Result<Work>) -> Result<T>,
    ) -> Result<T> {
        let Self { rig, subject, crowd, scenario } = self;
        let stream = |upload| tunnel::load(rig, subject, Job { tunnels: 8, upload }, seconds);
        let mut tool = match scenario {
            Scenario::Forward => None,
            Scenario::Connect => Some(connect::load(rig, subject, AT_ONCE, seconds, 0)?),
            Scenario::Tunnel => Some(stream(false)?),
            Scenario::Upload => Some(stream(true)?),
            Scenario::Negotiate => {
                Some(negotiate::load(rig, subject, crowd, (16, (MOST * seconds) as usize, seconds))?)
            }
        };
        let mut work = || match (tool.take(), &scenario) {
            (None, _) => rig.wrk(subject, 64, seconds),
            (Some(tool), Scenario::Tunnel | Scenario::Upload) => tool.bytes(),
            (Some(tool), _) => tool.dialogues(),
        };
        look(&mut work)
    }

    /// A load of exactly so many units.
    fn bounded(&mut self, count: u64) -> Result<Work> {
        const PATIENCE: f64 = 600.0;
        let Self { rig, subject, crowd, scenario } = self;
        let tool = match scenario {
            Scenario::Forward => {
                let words = [
                    "get".to_owned(),
                    format!("--proxy={}", subject.v4()),
                    format!("--origin={ORIGIN}"),
                    format!("--count={count}"),
                    format!("--seconds={PATIENCE}"),
                    "--at-once=8".to_owned(),
                ];
                rig.tool(subject, &words)?
            }
            Scenario::Connect => connect::load(rig, subject, 8, PATIENCE, count)?,
            Scenario::Negotiate => {
                negotiate::load(rig, subject, crowd, (8, usize::try_from(count)?, PATIENCE))?
            }
            Scenario::Tunnel | Scenario::Upload => {
                anyhow::bail!("a tunnel's work is the kernel's: callgrind would see none of it")
            }
        };
        tool.dialogues()
    }
}

/// Looks, prints the top, and writes everything to `target/profile/`.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(sh::is_root(), "this needs root: it makes network namespaces");
    let dir = sh::target_dir().join("profile");
    fs::create_dir_all(&dir)?;
    let scenario = options.scenario;
    let (name, text) = if options.callgrind {
        let text = callgrind::run(options, &dir)?;
        (format!("{}-callgrind.txt", scenario.name()), text)
    } else {
        let mut stage = Stage::new(options, &[])?;
        // What is only done once is not what the time goes into.
        stage.load(1.0, |work| work())?;
        let samples = looks::samples(&mut stage, options.seconds, &dir)?;
        let calls = looks::system_calls(&mut stage, options.seconds)?;
        (format!("{}.txt", scenario.name()), format!("{calls}\n{samples}"))
    };
    let text = format!("cargo xtask profile {}, {}\n{text}", scenario.name(), report::machine());
    let path = dir.join(name);
    fs::write(&path, &text)?;
    for line in text.lines().take(looks::TOP + 40) {
        println!("{line}");
    }
    eprintln!("all of it is in {}", path.display());
    Ok(())
}
