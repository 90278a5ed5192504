//! The gateway's own users, as an operator has to do with them: `trackerctl user`, by a terminal and by standard input.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::gateway::Gateway;
use lab::wait::until;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::{SOON, logged};

const GOOD: &str = "korrekt Pferd Batterie";
const OTHER: &str = "noch ein gutes Wort";

/// `trackerctl --json user …` with this on standard input.
fn user(gateway: &Gateway, arguments: &[&str], input: &str) -> Result<Output> {
    let mut command = gateway.trackerctl();
    command.args(["--json", "user"]).args(arguments);
    fed(&mut command, input)
}

fn fed(command: &mut Command, input: &str) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // Whoever refuses does not read.
    let _ = child.stdin.take().context("a pipe")?.write_all(input.as_bytes());
    Ok(child.wait_with_output()?)
}

fn exit(output: &Output) -> Option<i32> {
    output.status.code()
}

fn json(output: &Output) -> Result<Value> {
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The local users by name.
fn names(gateway: &Gateway) -> Result<Vec<String>> {
    let listed = gateway.ask(&["user", "list"])?;
    let users = listed.as_array().context("a list")?.iter();
    Ok(users.map(|user| user["name"].as_str().unwrap_or_default().to_owned()).collect())
}

/// What any file in the state directory, and the log, has of this text.
fn is_written_down(lab: &Lab, text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(lab.scratch.join("state"))?.flatten() {
        let content = fs::read(entry.path())?;
        if content.windows(text.len()).any(|part| part == text.as_bytes()) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    if lab.gateway.log().contains(text) {
        found.push("the log".into());
    }
    Ok(found)
}

#[test]
fn users_are_added_changed_and_removed_with_passwords_from_standard_input() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let gateway = &lab.gateway;
    let added =
        user(gateway, &["add", "Bob", "--administrator"], &format!("{GOOD}\nwhat follows is not read"))?;
    assert_eq!(exit(&added), Some(0), "{added:?}");
    let added = json(&added)?;
    assert_eq!(added["user"]["name"], "Bob", "{added}");
    assert!(added["user"]["administrator"] == true && added["user"]["must_change"] == false, "{added}");
    assert_eq!(added["ended"], serde_json::json!([]));
    for key in ["name", "disabled", "must_change", "administrator", "created", "changed", "last_login"] {
        assert!(added["user"].get(key).is_some(), "{key}: {added}");
    }
    assert_eq!(exit(&user(gateway, &["add", "älva"], GOOD)?), Some(0), "without a line's end");
    assert_eq!(names(gateway)?, ["admin", "Bob", "älva"]);
    assert_eq!(exit(&user(gateway, &["password", "BOB"], &format!("{OTHER}\r\n"))?), Some(0));
    for (command, disabled) in [("disable", true), ("disable", true), ("enable", false), ("enable", false)] {
        let changed = user(gateway, &[command, "bob"], "")?;
        assert_eq!(
            (exit(&changed), json(&changed)?["user"]["disabled"].as_bool()),
            (Some(0), Some(disabled))
        );
    }
    let removed = user(gateway, &["remove", "älva"], "")?;
    assert!(exit(&removed) == Some(0) && json(&removed)?["user"].is_null(), "{removed:?}");
    assert_eq!(names(gateway)?, ["admin", "Bob"]);

    let shown = gateway.shown(&["user", "list"])?;
    assert!(shown.contains("USER") && shown.contains("must change the password"), "{shown}");
    assert_eq!(gateway.shown(&["user", "disable", "bob"])?.trim(), "Bob is disabled");
    let status = gateway.ask(&["status"])?;
    assert_eq!(status["local_users"]["count"], 2, "{status}");

    // Who did what, and no password anywhere.
    let events = gateway.ask(&["events"])?;
    let told: Vec<_> =
        events.as_array().context("a list")?.iter().filter(|event| event["event"] == "user").collect();
    let words: Vec<_> = told.iter().map(|event| (event["user"].as_str(), event["reason"].as_str())).collect();
    let line = |user, how| (Some(user), Some(how));
    assert_eq!(
        words,
        [
            line("admin", "added"),
            line("Bob", "added"),
            line("älva", "added"),
            line("Bob", "password"),
            line("Bob", "disabled"),
            line("Bob", "enabled"),
            line("älva", "removed"),
            line("Bob", "disabled"),
        ]
    );
    assert!(told[0]["actor"]["via"] == "start" && told[1]["actor"]["user"] == "root", "{told:?}");
    assert!(told.iter().all(|event| event["domain"] == "local"), "{told:?}");
    for secret in [GOOD, OTHER] {
        assert_eq!(is_written_down(&lab, secret)?, [""; 0]);
        assert!(!events.to_string().contains(secret));
    }
    assert!(is_written_down(&lab, "$argon2id$v=19$m=19456,t=2,p=1$")?.contains(&"tracker.redb".to_owned()));
    Ok(())
}

#[test]
fn roles_are_given_and_taken_and_outlive_the_daemon() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let role = |lab: &Lab, name: &str| -> Result<(Value, Value)> {
        let listed = lab.gateway.ask(&["user", "list"])?;
        let users = listed.as_array().context("a list")?;
        let found = users.iter().find(|user| user["name"] == name).context("the user")?;
        Ok((found["role"].clone(), found["administrator"].clone()))
    };
    assert_eq!(role(&lab, "admin")?, ("administrator".into(), true.into()));
    assert_eq!(exit(&user(&lab.gateway, &["add", "vera", "--viewer"], GOOD)?), Some(0));
    assert_eq!(role(&lab, "vera")?, ("viewer".into(), false.into()));
    let both = user(&lab.gateway, &["add", "x", "--viewer", "--administrator"], GOOD)?;
    assert_eq!(exit(&both), Some(64), "{both:?}");
    for (wanted, administers) in [("administrator", true), ("user", false), ("viewer", false)] {
        let changed = user(&lab.gateway, &["role", "VERA", wanted], "")?;
        let changed = json(&changed)?;
        assert!(
            changed["user"]["role"] == wanted && changed["user"]["administrator"] == administers,
            "{changed}"
        );
    }
    assert_eq!(exit(&user(&lab.gateway, &["role", "vera", "root"], "")?), Some(64));
    assert_eq!(exit(&user(&lab.gateway, &["role", "nobody", "viewer"], "")?), Some(1));
    // On the host the last administrator can be taken away, with a word about it.
    let last = json(&user(&lab.gateway, &["role", "admin", "user"], "")?)?;
    assert!(
        last["warning"].as_str().is_some_and(|said| said.contains("user role NAME administrator")),
        "{last}"
    );
    lab.gateway.kill();
    lab.gateway.start()?;
    assert_eq!(role(&lab, "vera")?, ("viewer".into(), false.into()));
    assert_eq!(role(&lab, "admin")?, ("user".into(), false.into()));
    let events = lab.gateway.ask(&["events", "--since", "1h"])?;
    let told = events.as_array().context("a list")?.iter().filter(|event| event["reason"] == "role");
    let told: Vec<_> = told.map(|event| (event["before"].as_str(), event["role"].as_str())).collect();
    let line = |before, role| (Some(before), Some(role));
    assert_eq!(
        told,
        [
            line("viewer", "administrator"),
            line("administrator", "user"),
            line("user", "viewer"),
            line("administrator", "user"),
        ]
    );
    let shown = lab.gateway.shown(&["events", "--since", "1h"])?;
    assert!(shown.contains("as viewer  (was user)  ordered by root"), "{shown}");
    Ok(())
}

#[test]
fn what_is_refused_has_its_exit_code_and_its_reason() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    assert_eq!(exit(&user(&lab.gateway, &["add", "bob"], GOOD)?), Some(0));
    let longest = "ä".repeat(129);
    for (arguments, input, code, says) in [
        (&["add", "bob"][..], GOOD, 1, "bob already"),
        (&["add", "BOB"], GOOD, 1, "already"),
        (&["add", "alice"], "short", 1, "fewer than 8 characters"),
        (&["add", "alice"], &longest, 1, "more than 128 characters"),
        (&["add", "Bartholomew"], "bartholomew", 1, "the user's name"),
        (&["add", "alice"], "Password123", 1, "tried first"),
        (&["add", "alice"], "", 64, "no password"),
        (&["add", "alice@local"], GOOD, 64, "without a domain"),
        (&["add", "pc-17$"], GOOD, 64, "ends in $"),
        (&["add", "a b"], GOOD, 64, "a b"),
        (&["password", "alice"], GOOD, 1, "no local user alice"),
        (&["disable", "alice"], "", 1, "no local user alice"),
        (&["remove", "alice"], "", 1, "no local user alice"),
        // There is no way to give one on the command line.
        (&["add", "alice", GOOD], "", 64, ""),
        (&["password", "bob", "--password", GOOD], "", 64, ""),
        (&["add"], GOOD, 64, ""),
        (&[], "", 64, ""),
    ] {
        let refused = user(&lab.gateway, arguments, input)?;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(exit(&refused), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says) && refused.stdout.is_empty(), "{arguments:?}: {refused:?}");
    }
    assert_eq!(names(&lab.gateway)?, ["admin", "bob"]);
    lab.gateway.stop()?;
    let away = user(&lab.gateway, &["add", "alice"], GOOD)?;
    assert_eq!(exit(&away), Some(69), "{away:?}");
    Ok(())
}

/// A program on a terminal of its own (`script`), whose every character is seen.
struct Terminal {
    child: std::process::Child,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn run(gateway: &Gateway, line: &str) -> Result<Self> {
        let ctl = gateway.trackerctl();
        let mut words = ctl.get_args().map(|word| word.to_string_lossy().into_owned());
        let program = ctl.get_program().to_string_lossy().into_owned();
        let prefix = std::iter::once(program).chain(words.by_ref()).collect::<Vec<_>>().join(" ");
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-f", "-c", &line.replace("trackerctl", &prefix), "/dev/null"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (mut output, seen) = (child.stdout.take().context("a pipe")?, Arc::default());
        let shared: Arc<Mutex<Vec<u8>>> = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut part = [0; 512];
            while let Ok(count @ 1..) = output.read(&mut part) {
                shared.lock().unwrap().extend_from_slice(&part[..count]);
            }
        });
        Ok(Self { child, seen })
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits for these words, so many times.
    fn shows(&self, words: &str, times: usize) -> Result<()> {
        until(&format!("{words:?} on the terminal"), SOON, || {
            (self.seen().matches(words).count() >= times).then_some(())
        })
        .with_context(|| self.seen())
    }

    fn types(&mut self, text: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("a pipe")?;
        input.write_all(text.as_bytes())?;
        Ok(input.flush()?)
    }

    /// Its exit code, and all that was seen.
    fn ends(mut self) -> Result<(Option<i32>, String)> {
        let status = until("the program to end", SOON, || self.child.try_wait().ok().flatten())
            .with_context(|| self.seen())?;
        Ok((status.code(), self.seen()))
    }
}

#[test]
fn a_password_is_asked_for_twice_on_the_terminal_and_never_shown() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let mut terminal = Terminal::run(&lab.gateway, "trackerctl user add bob")?;
    terminal.shows("New password for bob: ", 1)?;
    terminal.types(&format!("{GOOD}\n"))?;
    terminal.shows("The same again: ", 1)?;
    // Neither in the list of processes while it is asked for.
    let processes = String::from_utf8(Command::new("ps").args(["-ww", "-eo", "args"]).output()?.stdout)?;
    assert!(processes.contains("user add bob") && !processes.contains(GOOD));
    terminal.types(&format!("{GOOD}\n"))?;
    let (code, seen) = terminal.ends()?;
    assert!(code == Some(0) && seen.contains("bob was added") && !seen.contains(GOOD), "{code:?}: {seen}");
    assert_eq!(names(&lab.gateway)?, ["admin", "bob"]);

    for (first, second, says) in
        [(GOOD, OTHER, "are not the same; nothing was changed"), ("", "", "no password was typed")]
    {
        let mut terminal = Terminal::run(&lab.gateway, "trackerctl user password bob")?;
        terminal.shows("New password for bob: ", 1)?;
        terminal.types(&format!("{first}\n{second}\n"))?;
        let (code, seen) = terminal.ends()?;
        assert!(code == Some(1) && seen.contains(says) && !seen.contains(OTHER), "{code:?}: {seen}");
    }
    Ok(())
}

#[test]
fn who_gives_up_leaves_the_terminal_as_it_was() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    // The shell goes on after it, and asks the terminal.
    let line = "sh -c \"trap : INT; trackerctl user add bob; echo ended with \\$?; stty -a\"";
    let mut terminal = Terminal::run(&lab.gateway, line)?;
    terminal.shows("New password for bob: ", 1)?;
    terminal.types("half a pass\u{3}")?;
    let (_, seen) = terminal.ends()?;
    assert!(seen.contains("ended with 130") && !seen.contains("half a pass"), "{seen}");
    assert!(seen.split_whitespace().any(|word| word == "echo"), "what is typed is shown again: {seen}");
    assert_eq!(names(&lab.gateway)?, ["admin"]);
    Ok(())
}

#[test]
fn what_was_answered_is_there_after_a_crash() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let state = |lab: &Lab| -> Result<Vec<(String, bool)>> {
        let listed = lab.gateway.ask(&["user", "list"])?;
        let users = listed.as_array().context("a list")?.iter();
        Ok(users.map(|user| (user["name"].to_string(), user["disabled"] == true)).collect())
    };
    for (arguments, input) in [
        (&["add", "bob"][..], GOOD),
        (&["add", "alice"], GOOD),
        (&["disable", "bob"], ""),
        (&["password", "alice"], OTHER),
        (&["remove", "alice"], ""),
    ] {
        assert_eq!(exit(&user(&lab.gateway, arguments, input)?), Some(0), "{arguments:?}");
        let before = state(&lab)?;
        lab.gateway.signal(Signal::SIGKILL)?;
        lab.gateway.kill();
        lab.gateway.start()?;
        assert_eq!(state(&lab)?, before, "{arguments:?}");
    }
    let events = lab.gateway.ask(&["events", "--since", "1h"])?;
    let told = events.as_array().context("a list")?.iter().filter(|event| event["event"] == "user").count();
    assert_eq!(told, 6, "each of them is told, on disk");
    Ok(())
}

/// The word behind `password` in the line that tells of the administrator.
fn printed(log: &str) -> Vec<String> {
    let told = log.lines().filter_map(|line| line.split_once("user admin, password "));
    told.map(|(_, rest)| rest.split(';').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_administrator_is_made_at_the_first_start_and_its_password_told_once() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(1, &lab::gateway::bin_dir()?)?;
    let file = lab.scratch.join("state").join("administrator-password");
    lab.gateway.configure("")?;
    assert_eq!(lab.gateway.check_config()?.0, Some(0));
    assert!(!file.exists(), "whoever only checks the configuration makes nobody");
    lab.gateway.start()?;
    let first = fs::read_to_string(&file)?.trim().to_owned();
    assert_eq!(fs::metadata(&file)?.permissions().mode() & 0o7777, 0o600);
    // Five bits a letter.
    assert!(first.chars().filter(char::is_ascii_alphanumeric).count() * 5 >= 96, "{first}");
    logged(&lab, &["user admin, password "])?;
    assert_eq!(printed(&lab.gateway.log()), [first.as_str()]);
    assert_eq!(is_written_down(&lab, &first)?, ["administrator-password", "the log"]);
    let warned = |lab: &Lab| -> Result<bool> {
        let status = lab.gateway.ask(&["status"])?["warnings"].to_string();
        let doctor = lab.gateway.ctl(&["doctor"])?.stdout;
        let warned = status.contains("trackerctl user password admin");
        assert_eq!(doctor.contains("trackerctl user password admin"), warned, "{status}\n{doctor}");
        Ok(warned)
    };
    assert!(warned(&lab)?);
    lab.gateway.restart()?;
    assert_eq!(printed(&lab.gateway.log()).len(), 1, "once");
    assert!(file.exists() && warned(&lab)?);

    assert_eq!(exit(&user(&lab.gateway, &["password", "admin"], GOOD)?), Some(0));
    assert!(!file.exists() && !warned(&lab)?);
    assert_eq!(exit(&user(&lab.gateway, &["remove", "admin"], "")?), Some(0));
    lab.gateway.restart()?;
    assert_eq!(names(&lab.gateway)?, [""; 0], "whoever was removed does not come back");
    assert!(!file.exists() && printed(&lab.gateway.log()).len() == 1);
    Ok(())
}
