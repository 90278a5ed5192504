//! The same work under TLS: new and resumed handshakes, bytes through a tunnel, requests on kept connections, tunnels that do
//! nothing. One key (ECDSA, P-256) and one suite (TLS 1.3, AES-128-GCM) for all. And, without TLS, what it costs that each
//! request carries a password that is remembered.

use std::path::Path;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;

use super::aims::Aim;
use super::idle::{self, Found, Kind};
use super::rig::gateways::Variant;
use super::rig::load::Tool;
use super::rig::peers::Squid;
use super::rig::report::{Unit, remarks, table};
use super::rig::series::{Rounds, Sample, Series};
use super::rig::{FAR_END, ORIGIN, Rig, Subject, Way};
use super::{Outcome, find};

/// How long.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    rounds: Rounds,
    /// Connections on which requests are sent.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Tunnels that do nothing.
    #[arg(long, default_value_t = 2_000)]
    idle: usize,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Handshake { resumed: bool },
    Tunnel { upload: bool },
    Get,
}

const JOBS: [Job; 5] = [
    Job::Handshake { resumed: false },
    Job::Handshake { resumed: true },
    Job::Tunnel { upload: false },
    Job::Tunnel { upload: true },
    Job::Get,
];

impl Job {
    const fn name(self) -> &'static str {
        match self {
            Self::Handshake { resumed: false } => "new handshakes",
            Self::Handshake { resumed: true } => "resumed handshakes",
            Self::Tunnel { upload: false } => "download through a tunnel",
            Self::Tunnel { upload: true } => "upload through a tunnel",
            Self::Get => "requests on kept connections",
        }
    }

    const fn unit(self) -> Unit {
        match self {
            Self::Handshake { .. } => Unit::each("handshake", "handshakes/s"),
            Self::Tunnel { .. } => Unit::GIGABYTE,
            Self::Get => Unit::each("request", "requests/s"),
        }
    }

    fn prepare(self, rig: &Rig, subject: &Subject, options: &Options) -> Result<Tool> {
        let seconds = options.rounds.seconds;
        let mut words = match self {
            Self::Handshake { resumed } => {
                let mut words = vec!["handshake".to_owned()];
                words.extend(resumed.then(|| "--resumed".to_owned()));
                words
            }
            Self::Tunnel { upload } => {
                let mut words = vec!["stream".to_owned(), "--tls".to_owned(), format!("--origin={FAR_END}")];
                words.push(format!("--origin-ns={}", rig.origin_ns()));
                words.extend((subject.way == Way::Plain).then(|| "--plain".to_owned()));
                words.extend(upload.then(|| "--upload".to_owned()));
                words
            }
            Self::Get => vec![
                "get".to_owned(),
                "--tls".to_owned(),
                format!("--origin={ORIGIN}"),
                format!("--at-once={}", options.connections),
            ],
        };
        words.extend([format!("--proxy={}", subject.v4()), format!("--seconds={seconds}")]);
        rig.tool(subject, &words)
    }
}

/// Where ours listens under TLS.
const TLS_PORT: u16 = 3290;

/// Measures.
pub(crate) fn run(options: &Options, bin: &Path) -> Result<Outcome> {
    let rig = Rig::new(bin)?;
    let (memory, idle_aim) = memory(&rig, options)?;
    let (requests, tunnels) = (rig.haproxy_tls()?, rig.haproxy_tls_tcp()?);
    let subjects = [under_tls(&rig, 0)?, rig.squid(Squid::Tls)?];
    let Rounds { rounds, seconds } = options.rounds;
    let mut jobs: Vec<(&Subject, Job, Series)> = Vec::new();
    for job in JOBS {
        let haproxy = if matches!(job, Job::Tunnel { .. }) { &tunnels } else { &requests };
        for subject in subjects.iter().chain([haproxy]) {
            jobs.push((
                subject,
                job,
                Series { name: plain_name(subject), ..Series::of(subject, job.name()) },
            ));
        }
    }
    rig.rounds(rounds, &mut jobs, |subject, job| {
        let tool = job.prepare(&rig, subject, options)?;
        rig.measure(subject, || match job {
            Job::Tunnel { .. } => tool.bytes(),
            Job::Handshake { .. } | Job::Get => tool.dialogues(),
        })
    })?;
    let mut text = format!(
        "TLS 1.3, AES-128-GCM, ECDSA with P-256, {rounds} rounds of {seconds} s; a GET is of 1 KiB, on {} kept \
         connections.\n",
        options.connections
    );
    let (mut aims, mut every) = (Vec::new(), Vec::new());
    for job in JOBS {
        let all: Vec<&Series> =
            jobs.iter().filter(|(_, asked, _)| *asked == job).map(|(_, _, series)| series).collect();
        text += &format!("\n{}:\n\n{}", job.name(), table(job.unit(), &all, &["haproxy", "squid"]));
        let of = |name| Ok::<_, anyhow::Error>(find(&all, "trackerd")?.ratio(find(&all, name)?, Sample::cpu));
        let name = job.name();
        aims.push(match job {
            Job::Handshake { .. } => {
                Aim::at_most(format!("tls, {name}: CPU of haproxy's"), of("haproxy")?, 1.1, None)
            }
            Job::Tunnel { .. } => {
                Aim::at_most(format!("tls, {name}: CPU of haproxy's"), of("haproxy")?, 1.0, None)
            }
            Job::Get => Aim::at_most(format!("tls, {name}: CPU of squid's"), of("squid")?, 0.4, None),
        });
        every.extend(all);
    }
    text += &remarks(&every);
    text += &memory;
    aims.push(idle_aim);
    let (passwords, aim) = passwords(&rig, options)?;
    text += &passwords;
    aims.push(aim);
    Ok(Outcome { text, aims })
}

/// The peers' kinds go by one name here.
fn plain_name(subject: &Subject) -> String {
    subject.name.split(',').next().unwrap_or_default().to_owned()
}

/// Ours with everything on, to be asked under TLS.
fn under_tls(rig: &Rig, number: u16) -> Result<Subject> {
    let (chain, key) = rig.certificate()?;
    let port = TLS_PORT + number;
    let tls = format!(
        "[tls]\ncertificate = \"{}\"\nkey = \"{}\"\nproxy-listen = [\"0.0.0.0:{port}\"]\n",
        chain.display(),
        key.display()
    );
    let note = "tls.proxy-listen, session (Kerberos), kernel observer, access log to a file, metrics scraped once a second";
    let variant = Variant { settings: &[&tls], note, ..Variant::default() };
    let mut subject = rig.tracker("trackerd", 20 + number, &variant)?;
    subject.tracker()?.login(rig, 0, "alice")?;
    subject.port = port;
    Ok(subject)
}

/// What an idle tunnel takes.
fn memory(rig: &Rig, options: &Options) -> Result<(String, Aim)> {
    // Processes of its own: what was freed and kept would hide what the next one takes.
    let subjects = [under_tls(rig, 1)?, rig.haproxy_tls_tcp()?, rig.squid(Squid::Tls)?];
    let kind = Kind { tunnels: true, tls: true };
    let found: Vec<Found> =
        subjects.iter().map(|subject| idle::hold(rig, subject, kind, options.idle)).collect::<Result<_>>()?;
    let text = format!("\nTunnels that do nothing, {} of them:\n\n{}", options.idle, idle::table(&found));
    let of = |at: usize| found.get(at).map_or(f64::NAN, |found| found.proportional);
    Ok((text, Aim::at_most("tls: memory per idle tunnel of haproxy's", of(0) / of(1), 1.0, None)))
}

/// What a request costs that carries a remembered password, beside one on a session.
fn passwords(rig: &Rig, options: &Options) -> Result<(String, Aim)> {
    let note = "proxy.basic = \"always\", a session by Kerberos";
    let settings = &["[proxy]\nbasic = \"always\"\n"];
    let with = rig.tracker("trackerd, password", 22, &Variant { settings, note, ..Variant::default() })?;
    let without = rig.tracker("trackerd, session", 23, &Variant { settings, note, ..Variant::default() })?;
    for subject in [&with, &without] {
        subject.tracker()?.login(rig, 0, "alice")?;
    }
    let field = format!("Proxy-Authorization: Basic {}", BASE64.encode("alice:alice-pw"));
    // Once by itself: what is measured is what it costs from then on.
    let mut once = vec!["get".to_owned(), format!("--origin={ORIGIN}"), format!("--proxy={}", with.v4())];
    once.extend(["--at-once=1".to_owned(), "--count=1".to_owned(), format!("--field={field}")]);
    rig.tool(&with, &once)?.dialogues()?;
    let mut jobs = [&with, &without].map(|subject| (subject, (), Series::of(subject, "")));
    let Rounds { rounds, seconds } = options.rounds;
    rig.rounds(rounds, &mut jobs, |subject, ()| {
        let mut words =
            vec!["get".to_owned(), format!("--origin={ORIGIN}"), format!("--proxy={}", subject.v4())];
        words.extend([format!("--at-once={}", options.connections), format!("--seconds={seconds}")]);
        words.extend((subject.name == with.name).then(|| format!("--field={field}")));
        let tool = rig.tool(subject, &words)?;
        rig.measure(subject, || tool.dialogues())
    })?;
    let all: Vec<&Series> = jobs.iter().map(|(_, (), series)| series).collect();
    let (with, without) = (find(&all, &with.name)?, find(&all, &without.name)?);
    ensure!(with.samples.len() == without.samples.len(), "rounds are missing");
    let more = (with.median(Sample::cpu) - without.median(Sample::cpu)) * 1e6;
    let text = format!(
        "\nRequests that carry a remembered password, and requests on a session, without TLS:\n\n{}{}",
        table(Unit::each("request", "requests/s"), &all, &[]),
        remarks(&all)
    );
    Ok((text, Aim::at_most("tls: microseconds of CPU of a remembered password", more, 2.0, None)))
}
