//! The command line.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, PathCompleter};
use jiff::Timestamp;

use super::complete;
use super::when;
use crate::links;
use crate::types::{ClientAddr, Role};

/// Where the daemon listens unless it was told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/tracker/admin.sock";

/// Look at, explain and tune the tracker, and end sessions.
#[derive(Debug, Parser)]
#[command(name = "trackerctl", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 refused, not found or a check failed, 64 wrong usage, 69 daemon not reachable, 77 missing \
                        privilege."
)]
pub struct Args {
    /// The daemon's admin socket.
    #[arg(long, global = true, value_name = "PATH", env = "TRACKER_SOCKET", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Print one JSON document instead of a table.
    #[arg(long, global = true)]
    pub json: bool,
    /// Whether tables are in colour; NO_COLOR means never, too.
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub color: When,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// When something is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Where the output is a terminal.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// Which rows and columns of a list, and in which order.
#[derive(Clone, Debug, Default, ClapArgs)]
#[command(next_help_heading = "Rows and columns")]
pub struct View {
    /// Only rows with this text in one of their columns, in any case; or by one column: user=alice, state!=stale,
    /// client~192.0.2., received>10MiB, duration>8h. Several must all hold.
    #[arg(long, short, value_name = "TEXT", allow_hyphen_values = true)]
    pub filter: Vec<String>,
    /// By this column; with a minus before it, the other way round. Several, separated by commas: the first counts most.
    #[arg(long, short, value_name = "COLUMN", value_delimiter = ',', allow_hyphen_values = true)]
    pub sort: Vec<String>,
    /// These columns alone, separated by commas, also those that are not shown otherwise. A column that does not exist is told
    /// with those that do.
    #[arg(long, short, value_name = "COLUMNS", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// At most so many rows.
    #[arg(long, short = 'n', value_name = "NUMBER")]
    pub limit: Option<usize>,
    /// Again and again, every so many seconds, until Ctrl-C.
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub watch: Option<u32>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What runs, which observer, counts, licences, warnings.
    Status,
    /// Who is logged in from where, the newest first.
    Sessions {
        /// All of them, not only the newest 1000.
        #[arg(long, conflicts_with = "limit")]
        all: bool,
        /// Which of them, and how.
        #[command(flatten)]
        view: View,
    },
    /// One session, with its connections and its history.
    Session {
        /// The client address.
        #[arg(value_parser = links::parse, add = ArgValueCandidates::new(complete::clients))]
        client: ClientAddr,
    },
    /// Who is logged in, by user.
    Users(View),
    /// The client addresses, with rates, totals and inactivity.
    Hosts(View),
    /// What moves now: counts, and the busiest hosts, again and again; q ends it. Where the output is no terminal, once.
    Top(Top),
    /// Who had which address when, the newest first.
    History(History),
    /// What a request of this client without credentials would get now, and why, rule by rule; the last decisions about
    /// its real requests; and how a request fares that is described here.
    Explain(Explain),
    /// End sessions: their connections are closed at once.
    Logout(Logout),
    /// The gateway's own users: who they are, and what becomes of them. Whoever is disabled or removed, or has another
    /// password, is logged out at once.
    #[command(subcommand)]
    User(User),
    /// The second factor of users: what they have set up, taking that away, another key for what is kept of it.
    #[command(subcommand)]
    SecondFactor(SecondFactor),
    /// Application passwords: programs' own secrets, which users with a second factor make in the portal.
    #[command(subcommand)]
    AppPassword(AppPassword),
    /// Who may not send passwords for a while, because too many were wrong.
    Bans {
        /// What to do about it.
        #[command(subcommand)]
        what: Option<Bans>,
    },
    /// Show a setting, or all of them.
    Get {
        /// The key, as in the configuration file: proxy-auth-timeout, or timeouts.proxy-auth-timeout.
        #[arg(add = ArgValueCandidates::new(complete::keys))]
        key: Option<String>,
    },
    /// Change a setting, at once and for good.
    Set {
        /// The key.
        #[arg(add = ArgValueCandidates::new(complete::live_keys))]
        key: String,
        /// The value; a bare number is minutes where a time is meant. Lists: separated by commas.
        #[arg(required = true, num_args = 1.., allow_hyphen_values = true, add = ArgValueCandidates::new(complete::values))]
        value: Vec<String>,
    },
    /// Take back what set has changed: the configuration file's word counts again, or the default.
    Unset {
        /// The key.
        #[arg(add = ArgValueCandidates::new(complete::live_keys))]
        key: String,
    },
    /// Say what is wrong with a configuration file, all of it at once; nothing is changed. Exit code 64 if something is. Needs
    /// no daemon.
    Check {
        /// The file.
        #[arg(default_value = crate::config::DEFAULT_PATH, add = ArgValueCompleter::new(PathCompleter::file()))]
        file: PathBuf,
    },
    /// Read the configuration file and the certificates again, and forget which passwords were right or wrong a moment ago.
    Reload,
    /// The audit trail: logins, refusals, timeouts, kick-outs, logouts, settings.
    Events {
        /// Go on showing events as they happen.
        #[arg(long, short)]
        follow: bool,
        /// Reach back to this moment: RFC 3339, "2026-07-31 12:00" in local time, or how long ago (10m, 8h, 3d).
        #[arg(long, value_name = "TIME", value_parser = when::parse)]
        since: Option<Timestamp>,
        /// Only events of this kind: login, refused, stale, renewed, ended, setting, user, banned, lifted, second-factor,
        /// second-factor-refused (codes that were wrong) …; several, separated by commas.
        #[arg(long, visible_alias = "event", value_name = "KIND", value_delimiter = ',')]
        kind: Vec<String>,
        /// Only of this client address.
        #[arg(long, value_name = "ADDRESS", value_parser = links::parse, add = ArgValueCandidates::new(complete::clients))]
        client: Option<ClientAddr>,
        /// Only of this user: user, user@REALM or DOMAIN\\user, in any case.
        #[arg(long, add = ArgValueCandidates::new(complete::users))]
        user: Option<String>,
        /// Only events with this text in them, in any case; several must all be there.
        #[arg(long, value_name = "TEXT")]
        filter: Vec<String>,
        /// At most so many, the newest; followed, so many of those that were there before.
        #[arg(long, short = 'n', value_name = "NUMBER")]
        limit: Option<usize>,
    },
    /// Show the certificates of the listeners under TLS: names, issuer, expiry, next renewal, last error.
    Certificate,
    /// Detach the kernel side that a daemon has left behind, and remove its records. For good: the daemon itself never
    /// does so, that nothing is lost while it is down. Stop it first.
    Detach {
        /// The configuration file that says where it is pinned; without it, /etc/tracker/tracker.toml where it exists.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Where it is pinned, whatever a configuration file says.
        #[arg(long, value_name = "DIR", conflicts_with = "config")]
        pin_dir: Option<PathBuf>,
    },
    /// Look at everything that a login depends on: keytab, KDC, clock, names, kernel side, ports, store. Each with its state,
    /// what was found, and what helps. Works without the daemon, too. Exit code 1 if something failed.
    Doctor {
        /// The configuration file; without it, the running daemon's, else /etc/tracker/tracker.toml where it exists.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Say what a Negotiate token is: Kerberos, SPNEGO, NTLM, for which service, under which key. Needs no daemon.
    Decode {
        /// The token in base64, or the whole header field; - reads it from standard input.
        #[arg(required = true, num_args = 1..)]
        token: Vec<String>,
    },
    /// Print the completions for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Print the manual page.
    Man,
}

/// What to do about application passwords.
#[derive(Debug, Subcommand)]
pub enum AppPassword {
    /// Which there are, when and from where they were last used; never their secrets, which nobody knows.
    List {
        /// Only of this user: user, user@REALM or DOMAIN\user, in any case; the bare name means everybody who is called so.
        #[arg(add = ArgValueCandidates::new(complete::users))]
        user: Option<String>,
    },
    /// Take one away, or all of a user's: nobody is accepted by it from then on, and the sessions that stand by one end. Exit code
    /// 1 if there is none.
    Revoke {
        /// Whose.
        #[arg(add = ArgValueCandidates::new(complete::users))]
        user: String,
        /// Which, as list shows it; without it, all of them.
        id: Option<String>,
    },
}

/// What to do about bans.
#[derive(Debug, Subcommand)]
pub enum Bans {
    /// Lift every ban that names this address or this user, before its time. Exit code 1 if there is none.
    Lift {
        /// The address, or the user: user, user@REALM or DOMAIN\user, in any case; the bare name means everybody who is called so.
        #[arg(value_name = "ADDRESS|USER", add = ArgValueCandidates::new(complete::banned))]
        of: String,
    },
}

/// Whose request, and which: without a description, real ones are explained.
#[derive(Debug, ClapArgs)]
pub struct Explain {
    /// The client address.
    #[arg(value_parser = links::parse, add = ArgValueCandidates::new(complete::clients))]
    pub client: ClientAddr,
    /// Where the request would go: a URL, or host:port for a CONNECT.
    #[arg(long)]
    pub url: Option<String>,
    /// The name by which the client would reach this host, as in kerberos.conditions.spns.
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Its User-Agent field; without it the request has none.
    #[arg(long, value_name = "TEXT")]
    pub user_agent: Option<String>,
    /// Its Cookie field: name=value.
    #[arg(long, value_name = "TEXT")]
    pub cookie: Option<String>,
}

/// Whose past.
#[derive(Debug, ClapArgs)]
pub struct History {
    /// Only on this client address.
    #[arg(long, value_name = "ADDRESS", value_parser = links::parse, add = ArgValueCandidates::new(complete::clients))]
    pub client: Option<ClientAddr>,
    /// Only this user: user, user@REALM or DOMAIN\user, in any case; the bare name means everybody who is called so.
    #[arg(long, add = ArgValueCandidates::new(complete::users))]
    pub user: Option<String>,
    /// Only who had an address at this moment: RFC 3339, "2026-07-31 12:00" in local time, or how long ago (10m, 8h, 3d).
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    pub at: Option<Timestamp>,
    /// Which of them, and how.
    #[command(flatten)]
    pub view: View,
}

/// What moves now.
#[derive(Debug, ClapArgs)]
pub struct Top {
    /// Every so many seconds.
    #[arg(long, short, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub delay: u32,
    /// Only rows with this text in one of their columns, or by one column, as in hosts.
    #[arg(long, short, value_name = "TEXT", allow_hyphen_values = true)]
    pub filter: Vec<String>,
    /// By this column; with a minus before it, the other way round.
    #[arg(long, short, value_name = "COLUMN", value_delimiter = ',', allow_hyphen_values = true)]
    pub sort: Vec<String>,
}

/// Whose sessions.
#[derive(Debug, ClapArgs)]
#[group(required = true, multiple = false)]
pub struct Logout {
    /// The session of this client address.
    #[arg(value_parser = links::parse, add = ArgValueCandidates::new(complete::clients))]
    pub client: Option<ClientAddr>,
    /// All sessions of this user: user, user@REALM or DOMAIN\user, in any case; the bare name means everybody who is called so.
    #[arg(long, add = ArgValueCandidates::new(complete::users))]
    pub user: Option<String>,
    /// All sessions.
    #[arg(long)]
    pub all: bool,
}

/// What becomes of the gateway's own users. A password is asked for on the terminal, twice and without being shown; where
/// standard input is no terminal, its first line is the password.
#[derive(Debug, Subcommand)]
pub enum User {
    /// Add a user; the password is asked for, or read from standard input.
    Add {
        /// The name, without a domain.
        name: String,
        /// The user may administer the gateway.
        #[arg(long, conflicts_with = "viewer")]
        administrator: bool,
        /// The user may look at what administrators see, and change nothing.
        #[arg(long)]
        viewer: bool,
    },
    /// Give a user another password, which is asked for, or read from standard input.
    Password {
        /// The name.
        #[arg(add = ArgValueCandidates::new(complete::local_users))]
        name: String,
    },
    /// Say what a user may do to the gateway; the user's sessions go on.
    Role {
        /// The name.
        name: String,
        /// What the user may do: use the gateway, look at what administrators see, or everything.
        #[arg(value_parser = PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|word| word.parse::<Role>()))]
        role: Role,
    },
    /// Let nobody in by this name any more.
    Disable {
        /// The name.
        #[arg(add = ArgValueCandidates::new(complete::local_users))]
        name: String,
    },
    /// Take that back.
    Enable {
        /// The name.
        #[arg(add = ArgValueCandidates::new(complete::local_users))]
        name: String,
    },
    /// Remove a user.
    Remove {
        /// The name.
        #[arg(add = ArgValueCandidates::new(complete::local_users))]
        name: String,
    },
    /// All of them.
    List,
}

/// The second factor of users.
#[derive(Debug, Subcommand)]
pub enum SecondFactor {
    /// What a user has set up; without a user, everybody who has set something up.
    Show {
        /// The user: user, user@REALM or DOMAIN\user, in any case; the bare name means everybody who is called so.
        #[arg(add = ArgValueCandidates::new(complete::second_factors))]
        user: Option<String>,
    },
    /// Take away all that a user has set up: authenticator, passkeys, recovery address and codes, remembered browsers and
    /// application passwords. Where one is required, the user sets it up anew at the next login. With trackerd down it is done in
    /// its database, by root.
    Reset {
        /// The user: user, user@REALM or DOMAIN\user, in any case; a name that several have needs its domain, which of the
        /// gateway's own users is local.
        #[arg(add = ArgValueCandidates::new(complete::second_factors))]
        user: String,
        /// Do it in the database, without asking trackerd, which must not run.
        #[arg(long)]
        offline: bool,
        /// The configuration file that says where the database is; without it, /etc/tracker/tracker.toml where it exists.
        #[arg(long, value_name = "FILE", add = ArgValueCompleter::new(PathCompleter::file()))]
        config: Option<PathBuf>,
    },
    /// Seal all that is kept of second factors under a new key, and forget the one before.
    RotateKey,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn no_option_is_in_anothers_way() {
        Args::command().debug_assert();
    }
}
