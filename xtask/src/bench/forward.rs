//! Plain requests: a kibibyte on 64 kept connections, side by side with what people run today.
//!
//! Ours has everything on, and runs once more without each of kernel observer, access log and metrics; the peers do
//! nothing but forward.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use super::aims::Aim;
use super::rig::gateways::Variant;
use super::rig::peers::Squid;
use super::rig::report::{Unit, remarks, table};
use super::rig::series::{Rounds, Sample, Series};
use super::rig::{Rig, Subject};
use super::{Outcome, find};

/// How long.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    rounds: Rounds,
    /// Connections held by the load.
    #[arg(long, default_value_t = 64)]
    connections: usize,
}

/// Ours, without one thing at a time.
const VARIANTS: [(&str, Variant<'static>); 3] = [
    (
        "trackerd, no kernel observer",
        Variant {
            settings: &["[observer]\nmode = \"proxy\"\n"],
            log: None,
            unmeasured: false,
            under: &[],
            note: "observer.mode = \"proxy\": the daemon watches its own connections",
        },
    ),
    (
        "trackerd, no access log",
        Variant {
            settings: &[],
            log: Some("info,access=off"),
            unmeasured: false,
            under: &[],
            note: "TRACKER_LOG=info,access=off",
        },
    ),
    (
        "trackerd, no metrics",
        Variant { settings: &[], log: None, unmeasured: true, under: &[], note: "metrics.listen = \"\"" },
    ),
];

/// Measures.
pub(crate) fn run(options: &Options, bin: &Path) -> Result<Outcome> {
    let rig = Rig::new(bin)?;
    let mut subjects = vec![rig.direct(), rig.everything_on(0)?];
    for (number, (name, variant)) in (1..).zip(&VARIANTS) {
        let subject = rig.tracker(name, number, variant)?;
        subject.tracker()?.login(&rig, 0, "alice")?;
        subjects.push(subject);
    }
    subjects.extend([rig.haproxy()?, rig.squid(Squid::Plain)?, rig.squid(Squid::Logging)?]);
    let mut jobs: Vec<(&Subject, (), Series)> =
        subjects.iter().map(|subject| (subject, (), Series::of(subject, ""))).collect();
    let Rounds { rounds, seconds } = options.rounds;
    rig.rounds(rounds, &mut jobs, |subject, ()| {
        rig.measure(subject, || rig.wrk(subject, options.connections, seconds))
    })?;
    let all: Vec<&Series> = jobs.iter().map(|(_, (), series)| series).collect();
    let (ours, haproxy, squid) = (find(&all, "trackerd")?, find(&all, "haproxy")?, find(&all, "squid")?);
    let aims = vec![
        Aim::at_most("forward: CPU of haproxy's", ours.ratio(haproxy, Sample::cpu), 1.0, Some(1.5)),
        Aim::least("forward: CPU of squid's", ours.ratio(squid, Sample::cpu), 0.4),
        Aim::at_most("forward: p99 of haproxy's", ours.ratio(haproxy, |s| s.work.p99), 1.25, None),
    ];
    let text = format!(
        "A GET of 1 KiB on {} kept connections (wrk), {rounds} rounds of {seconds} s.\n\n{}{}",
        options.connections,
        table(Unit::each("request", "requests/s"), &all, &["haproxy", "squid"]),
        remarks(&all)
    );
    Ok(Outcome { text, aims })
}
