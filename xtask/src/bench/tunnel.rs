//! Tunnels that carry as much as goes: one and eight, down and up.
//!
//! The load tool holds both ends and counts what the reading end has read.

use std::path::Path;

use anyhow::Result;
use clap::Args;

use super::aims::Aim;
use super::rig::load::Tool;
use super::rig::peers::Squid;
use super::rig::report::{Unit, remarks, table};
use super::rig::series::{Rounds, Sample, Series};
use super::rig::{FAR_END, Rig, Subject, Way};
use super::{Outcome, find};

/// How long.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    rounds: Rounds,
}

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// So many tunnels at once.
    pub(crate) tunnels: usize,
    /// From the client to the origin.
    pub(crate) upload: bool,
}

const JOBS: [Job; 4] = [
    Job { tunnels: 1, upload: false },
    Job { tunnels: 8, upload: false },
    Job { tunnels: 1, upload: true },
    Job { tunnels: 8, upload: true },
];

impl Job {
    fn name(self) -> String {
        let direction = if self.upload { "upload" } else { "download" };
        format!("{} {direction}{}", self.tunnels, if self.tunnels == 1 { "" } else { "s" })
    }
}

/// The load of this scenario, with its tunnels open.
pub(crate) fn load(rig: &Rig, subject: &Subject, job: Job, seconds: f64) -> Result<Tool> {
    // Without a proxy the client is on the gateway's host and goes to the far end itself.
    let proxy = if subject.way == Way::Direct { FAR_END } else { subject.v4() };
    let mut words = vec!["stream".to_owned(), format!("--proxy={proxy}"), format!("--origin={FAR_END}")];
    words.push(format!("--origin-ns={}", rig.origin_ns()));
    words.extend([format!("--tunnels={}", job.tunnels), format!("--seconds={seconds}")]);
    words.extend((subject.way != Way::Proxy).then(|| "--plain".to_owned()));
    words.extend(job.upload.then(|| "--upload".to_owned()));
    rig.tool(subject, &words)
}

/// Measures.
pub(crate) fn run(options: &Options, bin: &Path) -> Result<Outcome> {
    let rig = Rig::new(bin)?;
    let subjects = [
        rig.direct(),
        rig.everything_on(0)?,
        rig.squid(Squid::Plain)?,
        rig.haproxy_tcp(true)?,
        rig.haproxy_tcp(false)?,
    ];
    let mut jobs: Vec<(&Subject, Job, Series)> = JOBS
        .iter()
        .flat_map(|job| subjects.iter().map(|subject| (subject, *job, Series::of(subject, &job.name()))))
        .collect();
    let Rounds { rounds, seconds } = options.rounds;
    rig.rounds(rounds, &mut jobs, |subject, job| {
        let tool = load(&rig, subject, *job, seconds)?;
        rig.measure(subject, || tool.bytes())
    })?;
    let mut text = format!(
        "Bytes really read at the far end of each tunnel, {rounds} rounds of {seconds} s. CPU is seconds per GB.\n"
    );
    let mut aims = Vec::new();
    let mut every = Vec::new();
    for job in JOBS {
        let name = job.name();
        let all: Vec<&Series> =
            jobs.iter().filter(|(_, asked, _)| *asked == job).map(|(_, _, series)| series).collect();
        text += &format!("\n{name}:\n\n{}", table(Unit::GIGABYTE, &all, &["squid", "haproxy, splice"]));
        let ours = find(&all, "trackerd")?;
        let of_squid = ours.ratio(find(&all, "squid")?, Sample::cpu);
        let of_splice = ours.ratio(find(&all, "haproxy, splice")?, Sample::cpu);
        aims.push(Aim::at_most(format!("tunnel, {name}: CPU of squid's"), of_squid, 0.4, Some(0.7)));
        aims.push(Aim::at_most(format!("tunnel, {name}: CPU of haproxy's splicing"), of_splice, 1.0, None));
        every.extend(all);
    }
    text += &remarks(&every);
    Ok(Outcome { text, aims })
}
