//! How long may one person be taken for another? Every way in which one follows another on an address, in every mode;
//! the table in docs/SECURITY.md is what this test finds. `TRACKER_BLESS=1` writes it anew.

mod scene;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::gateway::PROXY_TLS;

use self::scene::Scene;

/// T.
const TIMEOUT: Duration = Duration::from_secs(3);
/// What is found of a daemon that a busy machine had not started again within the timeout: nothing.
const BACK_TOO_LATE: &str = "back too late";
const BEGIN: &str = "<!-- takeover table -->\n";
const END: &str = "<!-- end -->";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Session,
    Traffic,
    Absolute,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Session, Self::Traffic, Self::Absolute];

    const fn word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Traffic => "traffic",
            Self::Absolute => "absolute",
        }
    }
}

/// What the gateway does besides waiting for the timeout: nothing, or one of the two things that it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    Nothing,
    Reopening,
    Device,
}

impl Check {
    const ALL: [Self; 3] = [Self::Nothing, Self::Reopening, Self::Device];

    const fn word(self) -> &'static str {
        match self {
            Self::Nothing => "as the vendors",
            Self::Reopening => "on-reopen",
            Self::Device => "default",
        }
    }

    const fn settings(self) -> &'static str {
        match self {
            Self::Nothing => "device-change = \"ignore\"\n",
            Self::Reopening => "device-change = \"ignore\"\nrevalidate = \"on-reopen\"\n",
            Self::Device => "",
        }
    }

    /// Whether it must catch the newcomer at the first request.
    const fn catches(self, row: Row) -> bool {
        match self {
            Self::Nothing => matches!(
                row,
                Row::Late
                    | Row::OtherLink
                    | Row::Backup
                    | Row::OtherUserVolunteers
                    | Row::SharedListed
                    | Row::ListedMeanwhile
                    | Row::UnlistedMeanwhile
            ),
            Self::Reopening => !matches!(row, Row::PowerLoss | Row::SharedUnlisted),
            Self::Device => !matches!(row, Row::OtherUser | Row::SharedUnlisted),
        }
    }
}

/// What is between the clients and the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Plain,
    Tls,
}

impl Wire {
    /// The rows that are played.
    const fn rows(self) -> &'static [Row] {
        match self {
            Self::Plain => &Row::ALL,
            Self::Tls => &Row::MAIN,
        }
    }

    const fn settings(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Tls => PROXY_TLS,
        }
    }
}

/// How one person follows another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Fin,
    Silent,
    Reset,
    ResetAtLogin,
    Strangers,
    Late,
    PowerLoss,
    Dhcp,
    Arp,
    OtherLink,
    Down,
    Backup,
    OtherUser,
    OtherUserVolunteers,
    SharedListed,
    ListedMeanwhile,
    UnlistedMeanwhile,
    SharedUnlisted,
}

impl Row {
    const ALL: [Self; 18] = [
        Self::Fin,
        Self::Silent,
        Self::Reset,
        Self::ResetAtLogin,
        Self::Strangers,
        Self::Late,
        Self::PowerLoss,
        Self::Dhcp,
        Self::Arp,
        Self::OtherLink,
        Self::Down,
        Self::Backup,
        Self::OtherUser,
        Self::OtherUserVolunteers,
        Self::SharedListed,
        Self::ListedMeanwhile,
        Self::UnlistedMeanwhile,
        Self::SharedUnlisted,
    ];

    /// Those that are played over TLS, too: in the others TLS has no part.
    const MAIN: [Self; 9] = [
        Self::Fin,
        Self::Silent,
        Self::Reset,
        Self::Late,
        Self::PowerLoss,
        Self::Down,
        Self::OtherUser,
        Self::OtherUserVolunteers,
        Self::SharedListed,
    ];

    const fn words(self) -> &'static str {
        match self {
            Self::Fin => "connections closed (FIN), then another host",
            Self::Silent => "client left by FIN, the other end silent, then another host",
            Self::Reset => "connections reset (RST), then another host",
            Self::ResetAtLogin => "connection reset right behind the login, then another host",
            Self::Strangers => {
                "strangers have taken all records that they may, connections closed, then another host"
            }
            Self::Late => "connections closed, another host more than T later",
            Self::PowerLoss => "power loss (no FIN), then another host",
            Self::Dhcp => "address given back and leased to another host (DHCP)",
            Self::Arp => {
                "connections closed, another host that says by ARP that more addresses are at the first"
            }
            Self::OtherLink => "link-local IPv6 address, then the same address on another link",
            Self::Backup => "logged out, then a backup of `state-dir` from before put back",
            Self::Down => "trackerd killed, another host, trackerd back",
            Self::OtherUser => "same host, next user without credentials",
            Self::OtherUserVolunteers => "same host, next user sends their own ticket",
            Self::SharedListed => "terminal server in `shared-hosts`",
            Self::ListedMeanwhile => "terminal server listed while the first user is connected",
            Self::UnlistedMeanwhile => "terminal server taken off the list while the first user is connected",
            Self::SharedUnlisted => "terminal server not listed, first user still connected",
        }
    }

    /// The hosts of the first user and of the newcomer, where these rows are played.
    fn hosts(self, rows: &[Self]) -> (usize, usize) {
        let place = rows.iter().position(|row| *row == self).unwrap_or(0) * 2;
        let same_host = matches!(self, Self::Backup | Self::OtherUser | Self::OtherUserVolunteers)
            || self.is_terminal_server();
        (place, if same_host { place } else { place + 1 })
    }

    /// Whether both sit at one terminal server.
    const fn is_terminal_server(self) -> bool {
        matches!(
            self,
            Self::SharedListed | Self::ListedMeanwhile | Self::UnlistedMeanwhile | Self::SharedUnlisted
        )
    }

    /// Whether it is chance that the login counts: the gateway may read it when its connection is gone already.
    const fn may_not_count(self) -> bool {
        matches!(self, Self::ResetAtLogin)
    }

    /// Whether the first user's connections are closed before the newcomer comes.
    const fn leaves(self) -> bool {
        !matches!(self, Self::PowerLoss | Self::Down | Self::Backup) && !self.is_terminal_server()
    }

    /// Whether it happens while the daemon is down.
    const fn while_down(self) -> bool {
        matches!(self, Self::Down | Self::Backup)
    }
}

/// The table as Markdown.
fn table(columns: &[Vec<String>]) -> String {
    let heads = Mode::ALL.iter().flat_map(|mode| Check::ALL.map(|check| (mode.word(), check.word())));
    let heads: Vec<String> = heads.map(|(mode, check)| format!("{mode}, {check}")).collect();
    let mut text = format!("| | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(heads.len()));
    for (number, row) in Row::ALL.iter().enumerate() {
        let cells: Vec<&str> = columns.iter().map(|column| column[number].as_str()).collect();
        text += &format!("| {} | {} |\n", row.words(), cells.join(" | "));
    }
    text
}

/// Where it is documented, and the text there.
fn document() -> Result<(PathBuf, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SECURITY.md");
    let document = std::fs::read_to_string(&path).context("docs/SECURITY.md")?;
    Ok((path, document))
}

/// What comes before the table, the table, and what comes after it.
fn parts(document: &str) -> Result<(&str, &str, &str)> {
    let (before, rest) = document.split_once(BEGIN).context("docs/SECURITY.md has no takeover table")?;
    let (table, after) = rest.split_once(END).context("the takeover table has no end")?;
    Ok((before, table, after))
}

/// The cell of a documented table.
fn cell(table: &str, row: Row, mode: Mode, check: Check) -> Option<&str> {
    let column = Mode::ALL.iter().position(|one| *one == mode)? * Check::ALL.len()
        + Check::ALL.iter().position(|one| *one == check)?;
    let line = table.lines().find_map(|line| line.strip_prefix(&format!("| {} | ", row.words())))?;
    line.trim_end_matches(" |").split(" | ").nth(column)
}

/// The main rows as the vendors play them, and in mode traffic, which TLS could change most, with what the gateway adds.
#[test]
fn over_tls_it_is_the_same() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (_, document) = document()?;
    let (_, documented, _) = parts(&document)?;
    let play = |mode: Mode, check: Check| -> Result<()> {
        let column = Scene::new(mode, check, Wire::Tls).and_then(Scene::play)?;
        for (row, found) in Row::MAIN.into_iter().zip(column) {
            let plain = cell(documented, row, mode, check);
            let is_same = plain == Some(&found) || found == BACK_TOO_LATE;
            ensure!(is_same, "{row:?}, {mode:?}, {check:?}: {found:?}, plain {plain:?}");
        }
        Ok(())
    };
    thread::scope(|scope| {
        let modes = Mode::ALL.map(|mode| {
            scope.spawn(move || {
                play(mode, Check::Nothing)?;
                if mode == Mode::Traffic { play(mode, Check::Device) } else { Ok(()) }
            })
        });
        modes.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

#[test]
fn who_is_taken_for_whom_and_how_long_is_as_documented() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let columns = thread::scope(|scope| -> Result<Vec<Vec<String>>> {
        let mode = |mode| {
            scope.spawn(move || {
                let columns =
                    Check::ALL.map(|check| Scene::new(mode, check, Wire::Plain).and_then(Scene::play));
                columns.into_iter().collect::<Result<Vec<_>>>()
            })
        };
        let modes = Mode::ALL.map(mode).map(|thread| thread.join().expect("no panic"));
        let columns: Vec<Vec<Vec<String>>> = modes.into_iter().collect::<Result<_>>()?;
        Ok(columns.concat())
    })?;
    let found = table(&columns);
    let (path, document) = document()?;
    let (before, documented, after) = parts(&document)?;
    if std::env::var_os("TRACKER_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{found}{END}{after}"))?;
        return Ok(());
    }
    ensure!(documented == found, "TRACKER_BLESS=1 puts this into docs/SECURITY.md:\n{found}");
    Ok(())
}
