//! `trackerctl top`: what moves now.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use serde_json::{Value, json};

use super::args::{Args, Top, View};
use super::list::{self, Colour, Listed, Screen, Words};
use super::lists;
use super::run::{Failure, print, write_line};
use super::show::{age, moment};
use crate::admin::client::Client;
use crate::admin::wire;
use crate::clock::wall_now;
use crate::outside;

/// How often it is looked whether a key was pressed.
const KEYS_EVERY: Duration = Duration::from_millis(100);
/// Lines above the hosts, and below them.
const AROUND: usize = 7;

/// Shows what moves, until q is pressed; where nobody looks on, once.
pub(super) async fn top(args: &Args, client: &Client, wanted: &Top) -> Result<(), Failure> {
    let is_terminal = io::stdout().is_terminal() && !args.json;
    if !is_terminal {
        let (status, hosts) = (client.get("/v1/status").await?, client.get("/v1/hosts").await?);
        let shown = screen(args, wanted, &status, &hosts, None)?;
        let both = json!({ "status": status, "hosts": shown.json });
        return print(args, &both, |_: Value| shown.text);
    }
    let terminal = Terminal::take();
    loop {
        let (status, hosts) = (client.get("/v1/status").await?, client.get("/v1/hosts").await?);
        let height = terminal_size::terminal_size().map(|(_, height)| usize::from(height.0));
        let shown = screen(args, wanted, &status, &hosts, height)?;
        // The cursor to the first place, and all behind it cleared (ECMA-48).
        write_line(&format!("\x1b[H\x1b[2J{}", shown.text))?;
        for _ in 0..(u64::from(wanted.delay) * 10) {
            tokio::time::sleep(KEYS_EVERY).await;
            if terminal.quits() {
                return Ok(());
            }
        }
    }
}

fn screen(
    args: &Args,
    wanted: &Top,
    status: &Value,
    hosts: &Value,
    height: Option<usize>,
) -> Result<Listed, Failure> {
    let screen = Screen::stdout(args.color);
    let view = View {
        filter: wanted.filter.clone(),
        sort: wanted.sort.clone(),
        limit: Some(height.map_or(lists::SHOWN, |height| height.saturating_sub(AROUND).max(1))),
        ..View::default()
    };
    let words = Words { more: "a higher terminal or --filter shows them", ..lists::HOST_WORDS };
    let Listed { text, json } = list::list(hosts, lists::HOSTS, &view, &words, screen)?;
    let said = serde_json::from_value::<wire::Status>(status.clone())
        .map_err(|error| list::Wrong::Version(error.to_string()))?;
    let licences = match said.licences.max {
        Some(max) => format!("{} of {max}", said.licences.used),
        None => said.licences.used.to_string(),
    };
    let mut head = format!(
        "{}  up {}  observer {}\nsessions {} active, {} stale  users {}  licences {licences}  connections {}  bans {}\n",
        moment(wall_now()),
        age(Some(said.started)),
        said.observer.mode,
        said.sessions.active,
        said.sessions.stale,
        said.users,
        said.connections,
        said.bans,
    );
    if let Some(first) = said.warnings.first() {
        let more = said.warnings.len() - 1;
        let more = if more == 0 { String::new() } else { format!(" (and {more} more: trackerctl status)") };
        let warning =
            outside::shown(first, screen.width.unwrap_or(outside::SENTENCE).saturating_sub(30).max(40));
        head.push_str(&screen.paint.paint(&format!("WARNING: {warning}{more}"), Some(Colour::Red)));
        head.push('\n');
    }
    Ok(Listed { text: format!("{head}\n{text}"), json })
}

/// The terminal while it is ours: keys are heard at once, and are not shown. Given back when it is dropped.
struct Terminal(Option<Termios>);

impl Terminal {
    fn take() -> Self {
        let Ok(before) = tcgetattr(io::stdin()) else { return Self(None) };
        let mut ours = before.clone();
        ours.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        if tcsetattr(io::stdin(), SetArg::TCSANOW, &ours).is_err() {
            return Self(None);
        }
        // A screen of its own, so that what stood there comes back (xterm).
        let _ = io::stdout().write_all(b"\x1b[?1049h");
        Self(Some(before))
    }

    /// Whether q, Escape or Ctrl-C was pressed.
    fn quits(&self) -> bool {
        if self.0.is_none() {
            return false;
        }
        let stdin = io::stdin();
        let mut quits = false;
        loop {
            let mut waits = [PollFd::new(std::os::fd::AsFd::as_fd(&stdin), PollFlags::POLLIN)];
            if !poll(&mut waits, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
                return quits;
            }
            let mut key = [0; 16];
            match nix::unistd::read(&stdin, &mut key) {
                Ok(0) | Err(_) => return true,
                Ok(count) => {
                    quits |= key.iter().take(count).any(|key| matches!(key, b'q' | b'Q' | 3 | 4));
                    quits |= key.get(..count) == Some(b"\x1b");
                }
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = io::stdout().write_all(b"\x1b[?1049l");
            let _ = io::stdout().flush();
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}
