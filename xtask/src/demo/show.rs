//! Narration: what is done, what came out, and whether that is what it should be.

use std::io::IsTerminal as _;

use anyhow::{Result, bail};
use lab::client::Reply;

/// More lines of one output are not shown.
const MAX_LINES: usize = 24;

/// The narrator. Colours only for a terminal.
pub(super) struct Show {
    colour: bool,
    steps: u32,
    checks: u32,
    failed: Vec<String>,
}

impl Show {
    /// A narrator on standard output.
    pub(super) fn new() -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colour, steps: 0, checks: 0, failed: Vec::new() }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The heading of the next step.
    pub(super) fn step(&mut self, title: &str) {
        self.steps += 1;
        let title = format!("{}. {title}", self.steps);
        println!("{}", self.paint("1;36", &title));
    }

    /// A sentence.
    pub(super) fn say(&self, text: &str) {
        println!("   {text}");
    }

    /// A command, typed on a host.
    pub(super) fn command(&self, host: &str, command: &str) {
        println!("   {} {}", self.paint("33", &format!("{host}$")), self.paint("1", command));
    }

    /// What it printed.
    pub(super) fn output(&self, text: &str) {
        let lines: Vec<&str> = text.trim_end().lines().collect();
        for line in lines.iter().take(MAX_LINES) {
            println!("     {}", self.paint("2", line));
        }
        if lines.len() > MAX_LINES {
            println!("     ... {} lines more", lines.len() - MAX_LINES);
        }
    }

    /// A curl call with the heads and the body of its answers.
    pub(super) fn curl(&self, host: &str, reply: &Reply) {
        self.command(host, &reply.command);
        for head in &reply.heads {
            let wanted = ["http/", "proxy-authenticate", "retry-after", "via"];
            let lines = head.lines().filter(|line| {
                let line = line.to_ascii_lowercase();
                wanted.iter().any(|word| line.starts_with(word))
            });
            self.output(&lines.collect::<Vec<_>>().join("\n"));
        }
        let text = reply.text();
        if text.len() < 200 {
            self.output(&text);
        }
        self.output(&reply.stderr);
    }

    /// Whether something is as it should be.
    pub(super) fn check(&mut self, what: &str, holds: bool) {
        self.checks += 1;
        if holds {
            println!("   {} {what}", self.paint("32", "✔"));
        } else {
            println!("   {} {what}", self.paint("1;31", "✘ NOT:"));
            self.failed.push(what.to_owned());
        }
    }

    /// An empty line between steps.
    pub(super) fn end(&self) {
        println!();
    }

    /// The result; an error if anything was not as it should be.
    pub(super) fn summary(&self) -> Result<()> {
        if self.failed.is_empty() {
            let text = format!("All {} checks of {} steps showed what they should.", self.checks, self.steps);
            println!("{}\n", self.paint("1;32", &text));
            return Ok(());
        }
        bail!("{} of {} checks failed:\n  {}", self.failed.len(), self.checks, self.failed.join("\n  "));
    }
}
