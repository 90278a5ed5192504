//! `doctor`, for people: gathers what the daemon and the configuration say, and shows what was found.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;

use super::args::DEFAULT_SOCKET;
use crate::admin::client::{Client, ClientError};
use crate::admin::server::SOCKET;
use crate::admin::wire;
use crate::config::{Config, ConfigError, DEFAULT_PATH, keys};
use crate::doctor::{self, Case, Check, Daemon, Report, State};

/// A daemon that does not answer for so long is as good as none.
const PATIENCE: Duration = Duration::from_secs(5);
/// The widest that is still read with pleasure.
const WIDEST: u16 = 120;
/// How wide a terminal is taken to be that does not tell.
const UNKNOWN: u16 = 80;

/// Looks at everything. `named`: the configuration file; without it, the daemon's own, or the default one.
pub(super) async fn examine(socket: &Path, named: Option<&Path>) -> Report {
    doctor::examine(&case(socket, named).await)
}

async fn case(socket: &Path, named: Option<&Path>) -> Case {
    // The file that was named says where its daemon's socket is, unless that was said, too.
    let of_file = named.filter(|_| socket == Path::new(DEFAULT_SOCKET));
    let socket =
        of_file.map_or_else(|| socket.to_owned(), |path| Config::salvaged(path).run_dir.join(SOCKET));
    let client = Client::new(&socket);
    let daemon = daemon(&client).await;
    let running = match &daemon {
        Daemon::Runs(status) => status.config.clone().map(PathBuf::from),
        Daemon::Silent(_) | Daemon::Closed(_) => None,
    };
    let path = named.map(Path::to_path_buf).or(running);
    let (path, mut config, problem) = read(path);
    if matches!(daemon, Daemon::Runs(_)) {
        lay_over(&client, &mut config).await;
    }
    Case { path, config, problem, daemon }
}

/// The file that was named must be there, the default one may be missing.
fn read(path: Option<PathBuf>) -> (Option<PathBuf>, Config, Option<ConfigError>) {
    let is_default = path.is_none();
    let path = path.unwrap_or_else(|| DEFAULT_PATH.into());
    match Config::read(&path) {
        Ok(config) => (Some(path), config, None),
        Err(error) if is_default && error.is_missing() => (None, Config::default(), None),
        Err(error) => {
            let config = Config::salvaged(&path);
            (Some(path), config, Some(error))
        }
    }
}

async fn daemon(client: &Client) -> Daemon {
    let answer = match timeout(PATIENCE, client.get("/v1/status")).await {
        Ok(answer) => answer,
        Err(_) => return Daemon::Silent(format!("trackerd does not answer within {} s", PATIENCE.as_secs())),
    };
    match answer {
        Ok(value) => match serde_json::from_value::<wire::Status>(value) {
            Ok(status) => Daemon::Runs(Box::new(status)),
            Err(error) => Daemon::Silent(format!("trackerd is of another version: {error}")),
        },
        Err(error @ ClientError::Privilege { .. }) => Daemon::Closed(error.to_string()),
        Err(error) => Daemon::Silent(error.to_string()),
    }
}

/// What was `set` on the running daemon stands over the file.
async fn lay_over(client: &Client, config: &mut Config) {
    let Ok(Ok(value)) = timeout(PATIENCE, client.get("/v1/settings")).await else { return };
    let settings: Vec<wire::Setting> = serde_json::from_value(value).unwrap_or_default();
    for setting in settings.into_iter().filter(|setting| setting.source == wire::Source::Set) {
        if let Ok(key) = keys::find(&setting.key) {
            // A value that this trackerctl does not take is the daemon's business: it is of another version, and said to be.
            let _ = key.set(config, &setting.value);
        }
    }
}

/// How wide the terminal is; `None` where the output goes elsewhere, and lines may be as long as they are.
pub(super) fn width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let width = terminal_size::terminal_size().map_or(UNKNOWN, |(terminal_size::Width(width), _)| width);
    Some(usize::from(width.min(WIDEST)))
}

/// The table: state, check, finding, and the remedy on lines of its own under it.
pub(super) fn show(report: &Report, width: Option<usize>) -> String {
    const STATE: &str = "STATE";
    const CHECK: &str = "CHECK";
    let longest = |heading: &str, name: fn(&Check) -> &'static str| {
        report.checks.iter().map(|check| name(check).len()).chain([heading.len()]).max().unwrap_or_default()
    };
    let states = longest(STATE, |check| check.state.name());
    let names = longest(CHECK, |check| check.name);
    let indent = states + names + 4;
    let room = width.map_or(usize::MAX, |width| width.saturating_sub(indent).max(20));
    let mut lines = vec![format!("{STATE:states$}  {CHECK:names$}  FINDING")];
    for Check { name, state, finding, remedy } in &report.checks {
        let mut head = format!("{:states$}  {name:names$}  ", state.name());
        for line in wrapped(finding, room) {
            lines.push(format!("{head}{line}"));
            head = " ".repeat(indent);
        }
        let mut mark = "-> ";
        for line in remedy.iter().flat_map(|remedy| wrapped(remedy, room.saturating_sub(mark.len()))) {
            lines.push(format!("{}{mark}{line}", " ".repeat(indent)));
            mark = "   ";
        }
    }
    lines.push(String::new());
    lines.push(summary(report));
    lines.join("\n")
}

/// How many of each state, the gravest first.
fn summary(report: &Report) -> String {
    let count = |state| report.checks.iter().filter(|check| check.state == state).count();
    let plural = |count| if count == 1 { "" } else { "s" };
    let warnings = count(State::Warning);
    format!(
        "{} failed, {warnings} warning{}, {} ok, {} skipped",
        count(State::Failed),
        plural(warnings),
        count(State::Ok),
        count(State::Skipped)
    )
}

/// The text in lines of at most `room` characters, where its words allow that.
fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut left = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        match lines.last_mut() {
            Some(line) if length < left => {
                line.push(' ');
                line.push_str(word);
                left -= length + 1;
            }
            _ => {
                lines.push(word.to_owned());
                left = room.saturating_sub(length);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let check = |name, state, finding: &str, remedy: Option<&str>| Check {
            name,
            state,
            finding: finding.into(),
            remedy: remedy.map(str::to_owned),
        };
        Report {
            worst: State::Failed,
            checks: vec![
                check("keytab", State::Ok, "there", None),
                check(
                    "service-key",
                    State::Failed,
                    "the key is an old one of the account",
                    Some("export it anew, now"),
                ),
                check("clock", State::Warning, "late", Some("set it")),
            ],
        }
    }

    #[test]
    fn the_table_has_the_remedy_under_the_finding() {
        let expected = "\
STATE    CHECK        FINDING
ok       keytab       there
failed   service-key  the key is an old one of the account
                      -> export it anew, now
warning  clock        late
                      -> set it

1 failed, 1 warning, 1 ok, 0 skipped";
        assert_eq!(show(&report(), None), expected);
    }

    #[test]
    fn it_keeps_to_the_width() {
        let shown = show(&report(), Some(43));
        assert!(shown.lines().all(|line| line.chars().count() <= 43), "{shown}");
        let text = "
failed   service-key  the key is an old one
                      of the account
                      -> export it anew,
                         now
";
        assert!(shown.contains(text), "{shown}");
    }

    #[test]
    fn wrapping_loses_nothing() {
        for room in 1..30 {
            let text = "a word, averylongwordindeed and more";
            assert_eq!(wrapped(text, room).join(" "), text, "{room}");
        }
    }
}
