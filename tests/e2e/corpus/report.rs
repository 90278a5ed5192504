//! Counts, and what is wrong beyond what is meant or known.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, bail};

use super::judge::{Case, Fate, Wrong, judge};
use super::messages::Verdict;
use super::plan::{Board, Way};
use super::rules::{ACCEPTED, KNOWN, Rule};

/// So many findings are shown.
const SHOWN: usize = 60;

#[derive(Debug, Default)]
struct Row {
    messages: usize,
    delivered: usize,
    mended: usize,
    refused: usize,
    closed: usize,
    accepted: usize,
    known: usize,
    wrong: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// By corpus, and whether it holds answers.
    rows: BTreeMap<(String, bool), Row>,
    /// By rule: the messages that it fits.
    rules: BTreeMap<&'static str, usize>,
    findings: Vec<String>,
}

impl Report {
    /// Judges everything.
    pub(super) fn of(board: &Board) -> Self {
        let mut report = Self::default();
        let count = board.messages.len();
        for message in 0..count {
            // The exchanges of one message lie as far from each other as there are messages.
            let mut cases: Vec<Case<'_>> =
                (0..Way::ALL.len()).map(|way| judge(board, way * count + message)).collect();
            let is_delivered = |case: &Case<'_>| case.fate == Fate::Delivered;
            if cases.iter().any(is_delivered) && !cases.iter().all(is_delivered) {
                let fates: Vec<_> = cases.iter().map(|case| case.fate).collect();
                cases[0].wrong.push(Wrong::Unsteady(format!("{fates:?}")));
            }
            report.add(board, &cases);
        }
        report
    }

    fn add(&mut self, board: &Board, cases: &[Case<'_>]) {
        let first = &cases[0];
        let row = self.rows.entry((first.message.corpus.clone(), first.message.is_answer)).or_default();
        row.messages += 1;
        match first.fate {
            Fate::Delivered if first.fault.is_none() => row.delivered += 1,
            Fate::Delivered => row.mended += 1,
            Fate::Refused(_) => row.refused += 1,
            Fate::Closed => row.closed += 1,
        }
        let mut fitting: Vec<(&'static str, bool)> = Vec::new();
        let mut wrong = Vec::new();
        for case in cases {
            for what in &case.wrong {
                let fits = |rule: &&Rule| (rule.fits)(case, what);
                if let Some(rule) = ACCEPTED.iter().find(fits) {
                    fitting.push((rule.name, true));
                } else if let Some(rule) = KNOWN.iter().find(fits) {
                    fitting.push((rule.name, false));
                } else {
                    let way = board.exchanges[case.number].way;
                    wrong.push(finding(case, what, way));
                }
            }
        }
        fitting.sort_unstable();
        fitting.dedup();
        row.accepted += usize::from(fitting.iter().any(|fit| fit.1));
        row.known += usize::from(fitting.iter().any(|fit| !fit.1));
        row.wrong += usize::from(!wrong.is_empty());
        for (name, _) in fitting {
            *self.rules.entry(name).or_default() += 1;
        }
        self.findings.append(&mut wrong);
    }

    /// Fails with what is wrong, and with rules that fit nothing.
    pub(super) fn check(&self) -> Result<()> {
        if !self.findings.is_empty() {
            let shown: Vec<_> = self.findings.iter().take(SHOWN).map(String::as_str).collect();
            bail!("{} findings:\n{}", self.findings.len(), shown.join("\n"));
        }
        let stale = ACCEPTED.iter().chain(KNOWN).filter(|rule| !self.rules.contains_key(rule.name));
        let stale: Vec<_> = stale.map(|rule| rule.name).collect();
        if !stale.is_empty() {
            bail!("these rules fit nothing any more; if a fault was mended, remove its rule: {stale:?}");
        }
        Ok(())
    }
}

fn finding(case: &Case<'_>, what: &Wrong, way: Way) -> String {
    let what = match what {
        Wrong::Desync(how) => format!("DESYNC {how}"),
        other => format!("{other:?}"),
    };
    let verdict = match case.message.verdict {
        Verdict::Any => "",
        Verdict::Valid => "valid, ",
        Verdict::Invalid => "invalid, ",
    };
    let shown = |bytes: &[u8]| bytes[..bytes.len().min(600)].escape_ascii().to_string();
    format!(
        "{} {} ({way:?}; {verdict}{:?}, fault {:?}, mends {:?}): {what}\n  sent  {}\n  heard {}",
        case.message.corpus,
        case.message.id,
        case.fate,
        case.fault,
        case.mends,
        shown(&case.sent),
        shown(case.heard),
    )
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| corpus | messages | delivered | mended | refused | closed | meant to differ | known faults | wrong |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for ((corpus, is_answer), row) in &self.rows {
            let kind = if *is_answer { "answers" } else { "requests" };
            writeln!(
                f,
                "| {corpus}, {kind} | {} | {} | {} | {} | {} | {} | {} | {} |",
                row.messages,
                row.delivered,
                row.mended,
                row.refused,
                row.closed,
                row.accepted,
                row.known,
                row.wrong
            )?;
        }
        for (title, rules) in [("Meant to differ", ACCEPTED), ("Known faults", KNOWN)] {
            writeln!(f, "\n{title}:")?;
            for rule in rules {
                let count = self.rules.get(rule.name).copied().unwrap_or(0);
                writeln!(f, "- {count} messages: {} ({})", rule.name, rule.why)?;
            }
        }
        Ok(())
    }
}
