//! Running other programs, and saying what is being done.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::wait::Stopwatch;

/// How often a long step says that it is still at it.
const TICK: Duration = Duration::from_secs(15);

/// The top of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Where cargo puts what it builds: below it lies this very program.
pub(crate) fn target_dir() -> PathBuf {
    // `<target>/<profile>/xtask`, wherever CARGO_TARGET_DIR or a configuration has put it.
    let profile = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_path_buf));
    let is_profile = |dir: &PathBuf| dir.join(".fingerprint").is_dir();
    let target = profile.filter(is_profile).and_then(|dir| dir.parent().map(Path::to_path_buf));
    target.unwrap_or_else(|| root().join("target"))
}

/// The cargo that runs us, working on this repository.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// True if this process is root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs a step to its end. Its output goes straight to the terminal.
pub(crate) fn step(what: &str, command: &mut Command) -> Result<()> {
    eprintln!("==> {what}");
    let watch = Stopwatch::start();
    let status = command.status().with_context(|| format!("cannot start {}", words(command)))?;
    if !status.success() {
        bail!("{what}: {} ended with {status}", words(command));
    }
    eprintln!("    done in {} s", watch.elapsed().as_secs());
    Ok(())
}

/// Runs a long step to its end, keeping its output back unless it fails, and saying every few seconds that it goes on.
pub(crate) fn quiet_step(what: &str, command: &mut Command) -> Result<()> {
    eprintln!("==> {what}");
    let watch = Stopwatch::start();
    let (done, waiting) = channel::<()>();
    let label = what.to_owned();
    let ticker = std::thread::spawn(move || {
        while waiting.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
            eprintln!("    still at it after {} s: {label}", watch.elapsed().as_secs());
        }
    });
    let output = command.stdin(Stdio::null()).output();
    drop(done);
    let _ = ticker.join();
    let output = output.with_context(|| format!("cannot start {}", words(command)))?;
    if !output.status.success() {
        eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{what}: {} ended with {}", words(command), output.status);
    }
    eprintln!("    done in {} s", watch.elapsed().as_secs());
    Ok(())
}

/// What a program prints, or nothing if it is missing or fails.
pub(crate) fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).current_dir(root()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as a person would type it.
pub(crate) fn words(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
