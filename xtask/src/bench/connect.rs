//! Tunnels that are used once: CONNECT, one GET of a kibibyte through it, the end. 32 at once.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use super::aims::Aim;
use super::rig::load::Tool;
use super::rig::peers::Squid;
use super::rig::report::{Unit, remarks, table};
use super::rig::series::{Rounds, Sample, Series};
use super::rig::{ORIGIN, Rig, Subject, Way};
use super::{Outcome, find};

/// How long.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    rounds: Rounds,
    /// So many at once.
    #[arg(long, default_value_t = 32)]
    at_once: usize,
}

/// The load of this scenario, prepared.
pub(crate) fn load(rig: &Rig, subject: &Subject, at_once: usize, seconds: f64, count: u64) -> Result<Tool> {
    let mut words = vec!["connect".to_owned()];
    words.push(format!("--proxy={}", subject.v4()));
    words.push(format!("--origin={ORIGIN}"));
    words.extend([
        format!("--at-once={at_once}"),
        format!("--seconds={seconds}"),
        format!("--count={count}"),
    ]);
    words.extend((subject.way == Way::Direct).then(|| "--direct".to_owned()));
    rig.tool(subject, &words)
}

/// Measures.
pub(crate) fn run(options: &Options, bin: &Path) -> Result<Outcome> {
    let rig = Rig::new(bin)?;
    let subjects = [rig.direct(), rig.everything_on(0)?, rig.tinyproxy()?, rig.squid(Squid::Plain)?];
    let mut jobs: Vec<(&Subject, (), Series)> =
        subjects.iter().map(|subject| (subject, (), Series::of(subject, ""))).collect();
    let Rounds { rounds, seconds } = options.rounds;
    rig.rounds(rounds, &mut jobs, |subject, ()| {
        let tool = load(&rig, subject, options.at_once, seconds, 0)?;
        rig.measure(subject, || tool.dialogues())
    })?;
    let all: Vec<&Series> = jobs.iter().map(|(_, (), series)| series).collect();
    let (ours, squid, tiny) = (find(&all, "trackerd")?, find(&all, "squid")?, find(&all, "tinyproxy")?);
    let aims = vec![
        Aim::at_most("connect: CPU of squid's", ours.ratio(squid, Sample::cpu), 0.6, None),
        Aim::least("connect: CPU of tinyproxy's", ours.ratio(tiny, Sample::cpu), 1.0),
    ];
    let text = format!(
        "A new connection, CONNECT, one GET of 1 KiB, the end; {} at once, {rounds} rounds of {seconds} s.\n\n{}{}",
        options.at_once,
        table(Unit::each("tunnel", "tunnels/s"), &all, &["squid", "tinyproxy"]),
        remarks(&all)
    );
    Ok(Outcome { text, aims })
}
