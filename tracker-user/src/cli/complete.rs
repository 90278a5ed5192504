//! What a shell offers at the Tab key: keys of the configuration and their values, and whom the running daemon knows.
//!
//! The shell asks the program itself each time, so that it is offered what there is now. Where the daemon does not answer at once,
//! it is offered nothing.

use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory as _;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{Generator as _, Shell};
use serde_json::Value;

use super::args::{Args, DEFAULT_SOCKET};
use crate::admin::client::Client;
use crate::config;

/// The variable by which the shell asks.
const VARIABLE: &str = "COMPLETE";
/// Nobody waits longer at the Tab key.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many are offered: more nobody reads.
const MOST: usize = 1_000;

/// Answers the shell where it asks, and ends the program then. Called first of all.
pub fn complete() {
    CompleteEnv::with_factory(Args::command).var(VARIABLE).bin("trackerctl").complete();
}

/// What a shell has to read once, to ask from then on.
pub(super) fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let name = shell.to_string();
    let written = match Shells::builtins().completer(&name) {
        Some(asks) => {
            asks.write_registration(VARIABLE, "trackerctl", "trackerctl", "trackerctl", &mut script).is_ok()
        }
        None => false,
    };
    if !written {
        script.clear();
        shell.generate(&Args::command(), &mut script);
    }
    script
}

/// Every key of the configuration.
pub(super) fn keys() -> Vec<CompletionCandidate> {
    candidates(config::keys::all())
}

/// The keys that `set` changes.
pub(super) fn live_keys() -> Vec<CompletionCandidate> {
    candidates(config::keys::all().iter().filter(|key| key.is_live()))
}

fn candidates<'a>(keys: impl IntoIterator<Item = &'a config::Key>) -> Vec<CompletionCandidate> {
    let candidate = |key: &config::Key| CompletionCandidate::new(key.name()).help(Some(key.help().into()));
    keys.into_iter().map(candidate).collect()
}

/// The values of the key that stands before on the command line: its words, else the one that it has now.
pub(super) fn values() -> Vec<CompletionCandidate> {
    let words: Vec<OsString> = std::env::args_os().collect();
    let after = words.iter().position(|word| word == "set").and_then(|at| words.get(at + 1));
    let Some(key) = after.and_then(|name| config::keys::find(name.to_str()?).ok()) else { return Vec::new() };
    let offered = key.words();
    let offered = if offered.is_empty() { vec![key.get(&config::Config::default())] } else { offered };
    let wants = key.wants();
    offered.into_iter().map(|word| CompletionCandidate::new(word).help(Some(wants.clone().into()))).collect()
}

/// The addresses of clients that are logged in.
pub(super) fn clients() -> Vec<CompletionCandidate> {
    asked("/v1/sessions", |session| Some((text(session, "client")?, name(session))))
}

/// The users who are logged in.
pub(super) fn users() -> Vec<CompletionCandidate> {
    asked("/v1/sessions", |session| Some((name(session)?, text(session, "client"))))
}

/// The gateway's own users.
pub(super) fn local_users() -> Vec<CompletionCandidate> {
    asked("/v1/local-users", |user| Some((text(user, "name")?, None)))
}

/// Users who have set up a second factor.
pub(super) fn second_factors() -> Vec<CompletionCandidate> {
    asked("/v1/second-factor", |of| Some((name(of)?, None)))
}

/// Whom or what bans name.
pub(super) fn banned() -> Vec<CompletionCandidate> {
    let mut all = asked("/v1/bans", |ban| Some((text(ban, "client")?, None)));
    all.extend(asked("/v1/bans", |ban| Some((name(ban)?, None))));
    all
}

fn text(value: &Value, field: &str) -> Option<String> {
    value.get(field).and_then(Value::as_str).map(str::to_owned)
}

fn name(value: &Value) -> Option<String> {
    let (user, domain) = (text(value, "user")?, text(value, "domain").unwrap_or_default());
    Some(super::show::name(&user, &domain))
}

/// What the daemon says, each once.
fn asked(path: &str, of: impl Fn(&Value) -> Option<(String, Option<String>)>) -> Vec<CompletionCandidate> {
    let client = Client::new(&socket());
    let Some(Value::Array(all)) = now(async { client.get(path).await.ok() }) else { return Vec::new() };
    let mut found: Vec<(String, Option<String>)> = all.iter().filter_map(of).take(MOST).collect();
    found.sort();
    found.dedup_by(|a, b| a.0 == b.0);
    found.into_iter().map(|(word, help)| CompletionCandidate::new(word).help(help.map(Into::into))).collect()
}

/// The socket that the command line or the environment names.
fn socket() -> PathBuf {
    let words: Vec<OsString> = std::env::args_os().collect();
    let named = words.iter().position(|word| word == "--socket").and_then(|at| words.get(at + 1).cloned());
    let named = named.or_else(|| std::env::var_os("TRACKER_SOCKET"));
    named.map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from)
}

fn now<T>(work: impl Future<Output = Option<T>>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.ok().flatten() })
}
