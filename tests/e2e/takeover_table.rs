//! How long may one person be taken for another? Every way in which one follows another on an address, in every mode;
//! the table in docs/SECURITY.md is what this test finds. `TRACKER_BLESS=1` writes it anew.

mod scene;

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use self::scene::Scene;

/// T.
const TIMEOUT: Duration = Duration::from_secs(3);
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

    /// The hosts of the first user and of the newcomer.
    fn hosts(self) -> (usize, usize) {
        let place = Self::ALL.iter().position(|row| *row == self).unwrap_or(0) * 2;
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

#[test]
fn who_is_taken_for_whom_and_how_long_is_as_documented() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let columns = thread::scope(|scope| -> Result<Vec<Vec<String>>> {
        let mode = |mode| {
            scope.spawn(move || {
                let columns = Check::ALL.map(|check| Scene::new(mode, check).and_then(Scene::play));
                columns.into_iter().collect::<Result<Vec<_>>>()
            })
        };
        let modes = Mode::ALL.map(mode).map(|thread| thread.join().expect("no panic"));
        let columns: Vec<Vec<Vec<String>>> = modes.into_iter().collect::<Result<_>>()?;
        Ok(columns.concat())
    })?;
    let found = table(&columns);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/SECURITY.md");
    let document = std::fs::read_to_string(&path).context("docs/SECURITY.md")?;
    let (before, rest) = document.split_once(BEGIN).context("docs/SECURITY.md has no takeover table")?;
    let (documented, after) = rest.split_once(END).context("the takeover table has no end")?;
    if std::env::var_os("TRACKER_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{found}{END}{after}"))?;
        return Ok(());
    }
    ensure!(documented == found, "TRACKER_BLESS=1 puts this into docs/SECURITY.md:\n{found}");
    Ok(())
}
