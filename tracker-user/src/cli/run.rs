//! Carries a command out.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use hyper::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::args::{Args, Bans, Command, Explain, History, Logout, View};
use super::detach::{self, DetachError};
use super::list::{self, Column, Screen, Words, Wrong};
use super::second_factor::OfflineError;
use super::secret::SecretError;
use super::{
    app_passwords, bans, certificates, check, complete, decode, doctor, events, explain, lists,
    second_factor, show, top, user,
};
use crate::admin::client::{Client, ClientError};
use crate::admin::{query, wire};
use crate::clock::wall_now;
use crate::doctor::State;
use crate::outside;

/// sysexits.h: the command was used wrongly.
const EX_USAGE: u8 = 64;
/// sysexits.h: a service is unavailable.
const EX_UNAVAILABLE: u8 = 69;
/// sysexits.h: permission denied.
const EX_NOPERM: u8 = 77;

pub(super) enum Failure {
    Client(ClientError),
    Detach(DetachError),
    /// It could not be done in the database either.
    Offline(OfflineError),
    /// No password was given, or none that can be used.
    Secret(SecretError),
    Output(io::Error),
    /// A list cannot be made as it was asked for.
    List(Wrong),
    /// What was asked for was said; that it is bad news is told by the exit code.
    Said,
    /// The same of a configuration file.
    Usage,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<DetachError> for Failure {
    fn from(error: DetachError) -> Self {
        Self::Detach(error)
    }
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        Self::Secret(error)
    }
}

impl From<OfflineError> for Failure {
    fn from(error: OfflineError) -> Self {
        Self::Offline(error)
    }
}

impl From<Wrong> for Failure {
    fn from(error: Wrong) -> Self {
        Self::List(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Parses the command line and carries it out.
pub async fn run() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { EX_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let failure = match carry_out(&args).await {
        Ok(()) => return ExitCode::SUCCESS,
        // Whoever reads our output has seen enough.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    let (code, text) = match failure {
        Failure::Client(error) => {
            let code = match error {
                ClientError::Refused(_) => 1,
                ClientError::Wrong(_) => EX_USAGE,
                ClientError::Unreachable { .. } | ClientError::Silent { .. } => EX_UNAVAILABLE,
                ClientError::Privilege { .. } => EX_NOPERM,
            };
            (code, error.to_string())
        }
        Failure::Detach(error) => {
            let code = match &error {
                DetachError::Config(_) => EX_USAGE,
                DetachError::Observer(error) if error.is_privilege() => EX_NOPERM,
                DetachError::Observer(_) | DetachError::Nothing(_) => 1,
            };
            let remedy = if code == EX_NOPERM { " (run trackerctl as root)" } else { "" };
            (code, format!("{error}{remedy}"))
        }
        Failure::Offline(error) => {
            let code = match &error {
                OfflineError::Config(_) => EX_USAGE,
                OfflineError::Unreachable { .. } => EX_UNAVAILABLE,
                OfflineError::Privilege(_) => EX_NOPERM,
                _ => 1,
            };
            (code, error.to_string())
        }
        Failure::Secret(error) => {
            let code = match error {
                SecretError::Differ | SecretError::Given => 1,
                SecretError::Missing | SecretError::Long | SecretError::NotText => EX_USAGE,
                SecretError::Read(_) => 1,
            };
            (code, error.to_string())
        }
        Failure::List(error @ Wrong::Version(_)) => (1, error.to_string()),
        Failure::List(error) => (EX_USAGE, error.to_string()),
        Failure::Usage => return EX_USAGE.into(),
        Failure::Output(error) => (1, format!("the output cannot be written: {error}")),
        Failure::Said => return ExitCode::FAILURE,
    };
    let _ = writeln!(io::stderr(), "trackerctl: {}", outside::lines(&text));
    code.into()
}

async fn carry_out(args: &Args) -> Result<(), Failure> {
    let client = Client::new(&args.socket);
    match &args.command {
        Command::Status => {
            let value = client.get("/v1/status").await?;
            print(args, &value, |status: wire::Status| show::status(&status))
        }
        Command::Sessions { all, view } => {
            let most = if *all { usize::MAX } else { lists::SHOWN };
            let words = Words { most, ..lists::SESSION_WORDS };
            listed(args, &client, "/v1/sessions", lists::SESSIONS, view, &words).await
        }
        Command::Session { client: address } => {
            let value = client.get(&format!("/v1/sessions/{}", query::encode(&address.to_string()))).await?;
            print(args, &value, |session: wire::SessionDetail| show::session(&session))
        }
        Command::Certificate => {
            let value = client.get("/v1/certificates").await?;
            print(args, &value, |all: wire::Certificates| certificates::certificates(&all))
        }
        Command::Users(view) => {
            listed(args, &client, "/v1/users", lists::USERS, view, &lists::USER_WORDS).await
        }
        Command::Hosts(view) => {
            listed(args, &client, "/v1/hosts", lists::HOSTS, view, &lists::HOST_WORDS).await
        }
        Command::Top(wanted) => top::top(args, &client, wanted).await,
        Command::History(wanted) => {
            listed(args, &client, &history(wanted), lists::PAST, &wanted.view, &lists::PAST_WORDS).await
        }
        Command::Explain(wanted) => {
            let value = client.get(&explained(wanted)).await?;
            print(args, &value, |explained: wire::Explanation| explain::explanation(&explained))
        }
        Command::Logout(Logout { client: address, user, all }) => {
            let whose =
                wire::Logout { client: address.map(|a| a.to_string()), user: user.clone(), all: *all };
            let value = client.send_json(Method::POST, "/v1/logout", &whose).await?;
            print(args, &value, |ended: wire::LoggedOut| show::logged_out(&ended))
        }
        Command::User(wanted) => user::carry_out(args, &client, wanted).await,
        Command::SecondFactor(wanted) => second_factor::carry_out(args, &client, wanted).await,
        Command::AppPassword(wanted) => app_passwords::carry_out(args, &client, wanted).await,
        Command::Bans { what: None } => {
            let value = client.get("/v1/bans").await?;
            print(args, &value, |bans: Vec<wire::Ban>| bans::table(&bans))
        }
        Command::Bans { what: Some(Bans::Lift { of }) } => {
            let wanted = wire::LiftBans { of: of.clone() };
            let value = client.send_json(Method::POST, "/v1/bans/lift", &wanted).await?;
            print(args, &value, |lifted: wire::LiftedBans| bans::lifted(&lifted))
        }
        Command::Get { key: Some(key) } => {
            let value = client.get(&format!("/v1/settings/{}", path_segment(key)?)).await?;
            // A script wants the value and nothing else.
            let for_people = io::stdout().is_terminal();
            print(args, &value, |setting: wire::Setting| {
                let origin =
                    if for_people { format!("\n({})", show::origin(&setting)) } else { String::new() };
                format!("{}{origin}", setting.value)
            })
        }
        Command::Get { key: None } => {
            let value = client.get("/v1/settings").await?;
            print(args, &value, |settings: Vec<wire::Setting>| show::settings(&settings))
        }
        Command::Set { key, value } => {
            let value = wire::NewValue { value: value.join(" ") };
            let path = format!("/v1/settings/{}", path_segment(key)?);
            let value = client.send_json(Method::PUT, &path, &value).await?;
            print(args, &value, |setting: wire::Setting| format!("{} = {}", setting.key, setting.value))
        }
        Command::Unset { key } => {
            let path = format!("/v1/settings/{}", path_segment(key)?);
            let value = client.delete(&path).await?;
            print(args, &value, |setting: wire::Setting| {
                format!("{} = {}, {}", setting.key, setting.value, show::origin(&setting))
            })
        }
        Command::Reload => {
            let value = client.send_json(Method::POST, "/v1/reload", &serde_json::Value::Null).await?;
            print(args, &value, |reloaded: wire::Reloaded| show::reloaded(&reloaded))
        }
        Command::Detach { config, pin_dir } => {
            let pin_dir = detach::detach(config.as_deref(), pin_dir.as_deref())?;
            let value = serde_json::json!({ "detached": pin_dir });
            let text = format!("the kernel side that was pinned in {} is detached", pin_dir.display());
            print(args, &value, |_: Value| text)
        }
        Command::Doctor { config } => {
            let report = doctor::examine(&args.socket, config.as_deref()).await;
            let value = serde_json::to_value(&report).unwrap_or_default();
            print(args, &value, |_: Value| doctor::show(&report, doctor::width()))?;
            if report.worst == State::Failed { Err(Failure::Said) } else { Ok(()) }
        }
        Command::Check { file } => {
            let found = check::check(file);
            let value = serde_json::to_value(&found).unwrap_or_default();
            print(args, &value, |_: Value| found.to_string())?;
            if found.problems.is_empty() { Ok(()) } else { Err(Failure::Usage) }
        }
        Command::Events { .. } => events::events(args, &client).await,
        Command::Decode { token } => {
            let value = serde_json::to_value(decode::decode(token)?).unwrap_or_default();
            print(args, &value, |value: Value| decode::show(&value))
        }
        Command::Completions { shell } => {
            // It may panic where it cannot write, and whoever reads may have enough of it.
            Ok(io::stdout().write_all(&complete::script(*shell))?)
        }
        Command::Man => Ok(clap_mangen::Man::new(Args::command()).render(&mut io::stdout())?),
    }
}

/// A key goes into the path as it is; what cannot be one is refused here rather than misunderstood there.
fn path_segment(key: &str) -> Result<&str, ClientError> {
    let plain =
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'));
    if plain {
        Ok(key)
    } else {
        Err(ClientError::Wrong(format!("{key:?} is not a key; trackerctl get lists them")))
    }
}

fn history(wanted: &History) -> String {
    let History { client, user, at, view } = wanted;
    // A filter looks at more than it lets through.
    let limit = view.limit.filter(|_| view.filter.is_empty()).unwrap_or(lists::SHOWN);
    let mut path = format!("/v1/history?limit={limit}");
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", query::encode(&value)));
        }
    };
    add("client", client.map(|client| client.to_string()));
    add("user", user.clone());
    add("at", at.map(|at| at.to_string()));
    path
}

fn explained(wanted: &Explain) -> String {
    let Explain { client, url, host, user_agent, cookie } = wanted;
    let described = [("url", url), ("host", host), ("user-agent", user_agent), ("cookie", cookie)];
    let pairs = described
        .iter()
        .filter_map(|(name, value)| value.as_deref().map(|value| format!("{name}={}", query::encode(value))));
    let client = query::encode(&client.to_string());
    format!("/v1/explain/{client}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// A list, once or again and again.
async fn listed<T: DeserializeOwned>(
    args: &Args,
    client: &Client,
    path: &str,
    columns: &[Column<T>],
    view: &View,
    words: &Words,
) -> Result<(), Failure> {
    loop {
        let value = client.get(path).await?;
        let listed = list::list(&value, columns, view, words, Screen::stdout(args.color))?;
        let is_terminal = io::stdout().is_terminal();
        let text = if args.json {
            let text = if is_terminal && view.watch.is_none() {
                format!("{:#}", listed.json)
            } else {
                listed.json.to_string()
            };
            outside::json(&text).into_owned()
        } else {
            listed.text
        };
        let Some(seconds) = view.watch else { return Ok(write_line(&text)?) };
        if is_terminal && !args.json {
            let title = format!("every {seconds} s, {}; Ctrl-C ends it", show::moment(wall_now()));
            // The cursor to the first place, and all behind it cleared (ECMA-48).
            write_line(&format!("\x1b[H\x1b[2J{title}\n\n{text}"))?;
        } else {
            write_line(&text)?;
        }
        tokio::time::sleep(Duration::from_secs(seconds.into())).await;
    }
}

pub(super) fn print<T: DeserializeOwned>(
    args: &Args,
    value: &Value,
    show: impl FnOnce(T) -> String,
) -> Result<(), Failure> {
    let text = if args.json {
        let text = if io::stdout().is_terminal() { format!("{value:#}") } else { value.to_string() };
        outside::json(&text).into_owned()
    } else {
        let value = serde_json::from_value(value.clone()).map_err(|error| {
            ClientError::Refused(format!(
                "the daemon is of another version: {error}; --json shows what it said"
            ))
        })?;
        outside::lines(&show(value)).into_owned()
    };
    Ok(write_line(&text)?)
}

pub(super) fn write_line(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !text.is_empty() {
        writeln!(out, "{text}")?;
    }
    out.flush()
}
