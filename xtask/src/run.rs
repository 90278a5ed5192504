//! `cargo xtask run`: the gateway on this machine.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{build, sh};

/// How to start it.
#[derive(Args)]
pub(crate) struct Options {
    /// Use this configuration instead of the embedded defaults.
    #[arg(long)]
    config: Option<PathBuf>,
    /// More arguments for trackerd.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Builds, then becomes `trackerd`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let bin = build::run(&build::Options::default())?;
    let config = match &options.config {
        Some(path) => path.canonicalize().with_context(|| path.display().to_string())?,
        None => embedded()?,
    };
    let mut trackerd = Command::new(bin.join("trackerd"));
    trackerd.arg("--config").arg(&config).args(&options.arguments);
    eprintln!("\nstarting {}", sh::words(&trackerd));
    if options.config.is_none() {
        let socket = own_dir().join("run").join("admin.sock");
        let ctl = format!("{} --socket {}", bin.join("trackerctl").display(), socket.display());
        eprintln!("try, in another terminal:");
        eprintln!("    curl -v -x http://127.0.0.1:3128 http://example.com/    (asks for Kerberos: 407)");
        eprintln!("    {ctl} status");
        eprintln!("    {ctl} sessions");
        eprintln!("    {ctl} set proxy-auth-timeout 5m");
        eprintln!("    curl http://127.0.0.1:9477/metrics");
        eprintln!("It reads KRB5_KTNAME or [kerberos] keytab; `cargo xtask demo` brings a realm of its own.");
        eprintln!("{} is reread when it is saved. Ctrl-C ends the gateway.\n", config.display());
    }
    let error = trackerd.exec();
    bail!("cannot start {}: {error}", sh::words(&trackerd));
}

/// Where a gateway started without a configuration keeps its things.
fn own_dir() -> PathBuf {
    sh::target_dir().join("run")
}

/// Writes the few settings that differ from the defaults of an installed gateway; kept if it is there already.
fn embedded() -> Result<PathBuf> {
    let dir = own_dir();
    for part in ["state", "run"] {
        std::fs::create_dir_all(dir.join(part)).with_context(|| dir.display().to_string())?;
    }
    let path = dir.join("tracker.toml");
    if !path.exists() {
        std::fs::write(&path, settings(&dir.display().to_string()))?;
    }
    Ok(path)
}

/// The settings themselves.
fn settings(dir: &str) -> String {
    format!(
        "# Made by `cargo xtask run`; change it while the gateway runs. All keys: docs/CONFIGURATION.md
state-dir = \"{dir}/state\"
run-dir = \"{dir}/run\"

[proxy]
listen = [\"127.0.0.1:3128\"]

[observer]
pin-dir = \"/sys/fs/bpf/tracker-run\"
"
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_embedded_settings_stay_on_this_machine() {
        let text = super::settings("/tmp/x");
        assert!(text.contains("listen = [\"127.0.0.1:3128\"]"));
        assert!(text.contains("run-dir = \"/tmp/x/run\""));
    }
}
