//! The tables: as Markdown, printed and kept below `target/bench/`, from where docs/BENCHMARKS.md takes them over.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use super::series::{Sample, Series};
use crate::sh;

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit {
    /// `request`.
    pub(crate) name: &'static str,
    /// Heading of the rate.
    pub(crate) rate: &'static str,
    /// The unit of CPU time per unit, and how many of it make a second.
    pub(crate) time: (&'static str, f64),
    /// Decimals of rates.
    pub(crate) decimals: usize,
    /// Whether there are latencies.
    pub(crate) latency: bool,
}

impl Unit {
    /// Requests, connections, logins.
    pub(crate) const fn each(name: &'static str, rate: &'static str) -> Self {
        Self { name, rate, time: ("µs", 1e6), decimals: 0, latency: true }
    }

    /// Bytes.
    pub(crate) const GIGABYTE: Self =
        Self { name: "GB", rate: "GB/s", time: ("s", 1.0), decimals: 2, latency: false };
}

/// Lines of text, made into a table by bars.
#[derive(Debug, Default)]
pub(crate) struct Table(String);

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[String]) -> Self {
        let mut table = Self::default();
        table.row(headings);
        let _ = writeln!(table.0, "|{}", "---|".repeat(headings.len()));
        table
    }

    /// One more row.
    pub(crate) fn row(&mut self, cells: &[String]) {
        let _ = writeln!(self.0, "| {} |", cells.join(" | "));
    }

    /// As Markdown.
    pub(crate) fn text(self) -> String {
        self.0
    }
}

/// Rates, latencies, CPU and memory of all series, and CPU in parts of each of the `references`.
pub(crate) fn table(unit: Unit, all: &[&Series], references: &[&str]) -> String {
    let references: Vec<&&Series> =
        references.iter().filter_map(|name| all.iter().find(|series| series.name == *name)).collect();
    let (time, scale) = unit.time;
    let mut headings = vec!["".to_owned(), format!("{} (spread)", unit.rate)];
    if unit.latency {
        headings.extend(["p50 ms".into(), "p99 ms".into()]);
    }
    headings.push(format!("CPU {time}/{} (spread)", unit.name));
    headings.extend(["user".into(), "system".into(), "whole core".into()]);
    headings.push(format!("k instructions/{}, user + kernel", unit.name));
    headings.push("RSS MiB".into());
    headings.extend(references.iter().map(|series| format!("of the CPU of {}", series.name)));
    let mut table = Table::new(&headings);
    for series in all {
        let runs = series.median(Sample::cpu) > 0.0;
        let cell = |text: String| if runs { text } else { String::new() };
        let per_unit = |figure: fn(&Sample) -> f64| {
            number(series.median(|sample| figure(sample) / sample.work.units) * scale)
        };
        let rate = series.median(Sample::rate);
        let mut cells = vec![
            series.name.clone(),
            format!("{rate:.*} ({:.0} %)", unit.decimals, series.spread(Sample::rate) * 100.0),
        ];
        if unit.latency {
            cells.push(format!("{:.2}", series.median(|sample| sample.work.p50)));
            cells.push(format!("{:.2}", series.median(|sample| sample.work.p99)));
        }
        let cpu = number(series.median(Sample::cpu) * scale);
        cells.push(cell(format!("{cpu} ({:.0} %)", series.spread(Sample::cpu) * 100.0)));
        cells.push(cell(per_unit(|sample| sample.usage.user)));
        cells.push(cell(per_unit(|sample| sample.usage.system)));
        cells.push(cell(per_unit(|sample| sample.usage.proxy_core.busy)));
        let thousands = |figure: fn(&Sample) -> f64| {
            number(series.median(|sample| figure(sample) / sample.work.units / 1e3))
        };
        let counted = series.median(|sample| sample.instructions.1) > 0.0;
        let instructions =
            format!("{} + {}", thousands(|s| s.instructions.0), thousands(|s| s.instructions.1));
        cells.push(if counted { instructions } else { String::new() });
        cells.push(cell(format!("{:.1}", series.median(|sample| sample.resident as f64) / 1_048_576.0)));
        cells.extend(references.iter().map(|other| cell(format!("{:.2}", series.ratio(other, Sample::cpu)))));
        table.row(&cells);
    }
    table.text()
}

/// Three figures that count, or so.
fn number(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else if value >= 1.0 {
        2
    } else {
        3
    };
    format!("{value:.decimals$}")
}

/// What must be known to believe the table: versions, configurations, and who was in the way.
pub(crate) fn remarks(all: &[&Series]) -> String {
    let mut text = String::from("\n");
    let mut told: Vec<&str> = Vec::new();
    for series in all.iter().filter(|series| !series.note.is_empty()) {
        if !told.contains(&series.note.as_str()) {
            told.push(&series.note);
            let _ = writeln!(text, "- {}: {}", series.name, series.note);
        }
    }
    for series in all {
        let rounds = series.samples.len();
        let limited = series.samples.iter().filter(|sample| sample.load_was_the_limit()).count();
        if limited > 0 {
            let _ = writeln!(
                text,
                "- {}: in {limited} of {rounds} rounds the load was the limit (its core had less than 5 % idle, the \
                 proxy's more): the rate is the load's, the CPU time the proxy's",
                series.title()
            );
        }
        let worst = series.samples.iter().map(Sample::disturbed).fold(0.0, f64::max);
        let disturbed = series.samples.iter().filter(|sample| sample.disturbed() > 0.05).count();
        if disturbed > 0 && series.median(Sample::cpu) > 0.0 {
            let _ = writeln!(
                text,
                "- {}: in {disturbed} of {rounds} rounds another program (or the host) took more than 5 % of the \
                 proxy's core, up to {:.0} %",
                series.title(),
                worst * 100.0
            );
        }
    }
    text
}

/// Which machine, when.
pub(crate) fn machine() -> String {
    let asked = |program: &str, arguments: &[&str]| {
        sh::ask(program, arguments).map(|text| text.trim().to_owned()).unwrap_or_default()
    };
    let revision = asked("git", &["describe", "--always", "--dirty"]);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu =
        cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown").to_owned();
    let nginx = fs::read_to_string("/etc/debian_version").unwrap_or_default();
    format!(
        "{}, revision {revision}; Debian {}, kernel {}, {cpu}.\n",
        jiff::Zoned::now().strftime("%F %H:%M"),
        nginx.trim(),
        asked("uname", &["-r"])
    )
}

/// Prints a scenario's text and writes it to `target/bench/NAME.md`.
pub(crate) fn publish(name: &str, text: &str) -> Result<PathBuf> {
    let dir = sh::target_dir().join("bench");
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{name}.md"));
    fs::write(&path, text)?;
    println!("{text}");
    eprintln!("written to {}", path.display());
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::super::load::Work;
    use super::super::usage::Usage;
    use super::*;

    #[test]
    fn a_table_has_as_many_cells_in_each_row() {
        let sample = |user| Sample {
            work: Work { units: 1000.0, seconds: 2.0, p50: 1.0, p99: 2.0 },
            usage: Usage { user, system: 0.5, ..Usage::default() },
            ..Sample::default()
        };
        let series = |name: &str, user| Series {
            name: name.into(),
            what: String::new(),
            note: "x".into(),
            samples: vec![sample(user)],
        };
        let (ours, theirs) = (series("trackerd", 0.5), series("squid", 1.5));
        let text = table(Unit::each("request", "requests/s"), &[&ours, &theirs], &["squid", "nobody"]);
        let bars: Vec<usize> = text.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(bars, [bars[0]; 4]);
        assert!(text.contains("| trackerd | 500 (0 %) | 1.00 | 2.00 | 1000 (0 %) | 500 | 500 |"), "{text}");
        assert!(text.lines().nth(2).is_some_and(|line| line.ends_with("| 0.50 |")), "{text}");
    }
}
