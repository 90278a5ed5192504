//! Connections that do nothing: what each of them takes of the proxy's memory.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use lab::wait::silence;

use super::Outcome;
use super::aims::Aim;
use super::rig::gateways::Variant;
use super::rig::peers::Squid;
use super::rig::report::Table;
use super::rig::{FAR_END, ORIGIN, Rig, Subject, Way};

/// How many.
#[derive(Args)]
pub(crate) struct Options {
    /// Tunnels, and after them kept connections. Each tunnel takes two descriptors of the proxy and of the load.
    #[arg(long, default_value_t = 4_000)]
    count: usize,
}

/// Memory that was freed a moment ago may still be counted.
const SETTLES: Duration = Duration::from_secs(2);

/// What one subject takes: KiB per connection.
pub(crate) struct Found {
    name: String,
    note: String,
    kind: Kind,
    resident: f64,
    /// What it shares is divided among those who share it.
    pub(crate) proportional: f64,
}

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Tunnels, or connections that have asked once.
    pub(crate) tunnels: bool,
    /// Under TLS.
    pub(crate) tls: bool,
}

/// Measures.
pub(crate) fn run(options: &Options, bin: &Path) -> Result<Outcome> {
    let rig = Rig::new(bin)?;
    let mut found = Vec::new();
    for tunnels in [true, false] {
        // A fresh process each time: what was freed and kept would hide what the next one takes.
        let note = "everything on";
        let ours = rig.tracker("trackerd", u16::from(tunnels), &Variant { note, ..Variant::default() })?;
        ours.tracker()?.login(&rig, 0, "alice")?;
        let mut subjects = vec![ours, rig.squid(Squid::Plain)?];
        if tunnels {
            subjects.extend([rig.haproxy_tcp(true)?, rig.haproxy_tcp(false)?, rig.tinyproxy()?]);
        } else {
            // tinyproxy keeps no connections.
            subjects.push(rig.haproxy()?);
        }
        for subject in &subjects {
            found.push(hold(&rig, subject, Kind { tunnels, tls: false }, options.count)?);
        }
    }
    let of = |name: &str| {
        found.iter().find(|one| one.kind.tunnels && one.name == name).map_or(f64::NAN, |one| one.proportional)
    };
    let haproxy = of("haproxy, copy").min(of("haproxy, splice"));
    let aims = vec![
        Aim::at_most("idle: memory per tunnel of haproxy's", of("trackerd") / haproxy, 1.0, None),
        Aim::least("idle: memory per tunnel of squid's", of("trackerd") / of("squid"), 0.333),
    ];
    let text = format!(
        "{} connections each; memory of the proxy's processes, the difference between none and all of them. Each tunnel \
         has carried 16 bytes both ways, each kept connection one GET.\n\n{}",
        options.count,
        table(&found),
    );
    Ok(Outcome { text, aims })
}

/// All of them, and what they are.
pub(crate) fn table(found: &[Found]) -> String {
    let mut table = Table::new(&["".into(), "what".into(), "RSS KiB each".into(), "PSS KiB each".into()]);
    for one in found {
        let what = if one.kind.tunnels { "tunnel" } else { "kept connection" };
        let cells = [
            one.name.clone(),
            format!("{what}{}", if one.kind.tls { " under TLS" } else { "" }),
            format!("{:.2}", one.resident),
            format!("{:.2}", one.proportional),
        ];
        table.row(&cells);
    }
    let mut notes: Vec<String> = found.iter().map(|one| format!("- {}: {}\n", one.name, one.note)).collect();
    notes.sort();
    notes.dedup();
    format!("{}\n{}", table.text(), notes.concat())
}

/// Opens that many, and looks at the memory before and after.
pub(crate) fn hold(rig: &Rig, subject: &Subject, kind: Kind, count: usize) -> Result<Found> {
    let Kind { tunnels, tls } = kind;
    let memory = || subject.group.as_ref().map(super::rig::place::Cgroup::memory).unwrap_or_default();
    let words = |count: usize| {
        let mut words =
            vec!["hold".to_owned(), format!("--proxy={}", subject.v4()), format!("--count={count}")];
        words.push(format!("--origin={}", if tunnels { FAR_END } else { ORIGIN }));
        words.extend(tunnels.then(|| format!("--tunnels-to={}", rig.origin_ns())));
        words.extend((subject.way == Way::Plain).then(|| "--plain".to_owned()));
        words.extend(tls.then(|| "--tls".to_owned()));
        words
    };
    // The first connections pay for what all of them use.
    rig.tool(subject, &words(16))?.go()?;
    silence(SETTLES);
    let before = memory();
    let tool = rig.tool(subject, &words(count))?;
    silence(SETTLES);
    let after = memory();
    tool.go()?;
    let each = |after: u64, before: u64| (after as f64 - before as f64) / 1024.0 / count as f64;
    let (resident, proportional) = (each(after.0, before.0), each(after.1, before.1));
    eprintln!("    {}: {resident:.2} KiB per connection", subject.name);
    Ok(Found { name: subject.name.clone(), note: subject.note.clone(), kind, resident, proportional })
}
