//! `cargo xtask setup`: everything that building, testing and the demo need, installed once; quick when nothing is missing.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::sh;

/// One package a line; see the file.
const PACKAGES: &str = include_str!("../packages.txt");
/// The linker of the kernel side; its LLVM must not be older than the one of `rustc-web`.
const BPF_LINKER: &str = "0.13.0";
/// Where Debian keeps that LLVM.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
/// Asked by Debian's packages before they start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// Makes genuine NTLM tokens for the tests. Not installed: it would change GSSAPI for every program on this machine.
const NTLM: &str = "gss-ntlmssp";
/// Services that come with packages and that nobody asked for.
const SERVICES: [(&str, &str); 9] = [
    ("krb5-kdc", "krb5-kdc.service"),
    ("krb5-admin-server", "krb5-admin-server.service"),
    ("prometheus", "prometheus.service"),
    ("prometheus-node-exporter", "prometheus-node-exporter.service"),
    ("squid-openssl", "squid.service"),
    ("haproxy", "haproxy.service"),
    ("tinyproxy", "tinyproxy.service"),
    ("nginx-light", "nginx.service"),
    ("apache2", "apache2.service"),
];

/// Installs what is missing.
pub(crate) fn run() -> Result<()> {
    let mut did = install(&wanted().collect::<Vec<_>>())?;
    did |= unpack(NTLM)?;
    did |= components()?;
    did |= bpf_linker()?;
    did |= bpffs()?;
    eprintln!("setup: {}", if did { "done" } else { "nothing to do" });
    Ok(())
}

/// The names in the list.
fn wanted() -> impl Iterator<Item = &'static str> {
    PACKAGES.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Those of `wanted` that `dpkg-query` does not report as installed.
fn missing<'a>(wanted: &[&'a str], installed: &str) -> Vec<&'a str> {
    let installed: HashSet<&str> =
        installed.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    wanted.iter().copied().filter(|name| !installed.contains(name)).collect()
}

/// Installs Debian packages, those that are missing. True if there were any.
pub(crate) fn install(wanted: &[&str]) -> Result<bool> {
    let by_hand = || wanted.join(" ");
    // It fails if it does not know one of the names, and still reports the others.
    let query = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\\n"])
        .args(wanted)
        .output();
    let Ok(query) = query else {
        bail!("this is no Debian; install by hand what Debian calls: {}", by_hand());
    };
    let missing = missing(wanted, &String::from_utf8_lossy(&query.stdout));
    if missing.is_empty() {
        return Ok(false);
    }
    if !sh::is_root() {
        bail!(
            "needs root to install; run: sudo apt-get install --no-install-recommends {}",
            missing.join(" ")
        );
    }
    let _quiet = NoServices::new()?;
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(&missing);
    let unknown = missing.iter().any(|name| sh::ask("apt-cache", &["show", name]).is_none());
    if unknown {
        sh::quiet_step("reading the package lists", &mut apt(&["update"]))?;
    }
    let what = format!("installing {}", missing.join(" "));
    if let Err(first) = sh::quiet_step(&what, &mut apt(&install)) {
        if unknown {
            return Err(first);
        }
        // The lists were there, but old: packages move on.
        sh::quiet_step("reading the package lists again", &mut apt(&["update"]))?;
        sh::quiet_step(&what, &mut apt(&install))?;
    }
    if Path::new("/run/systemd/system").exists() {
        for (_, service) in SERVICES.iter().filter(|(package, _)| missing.contains(package)) {
            // It is not running; keep it from starting with the machine.
            let _ = sh::ask("systemctl", &["disable", service]);
        }
    }
    Ok(true)
}

/// `apt-get` that asks nothing.
fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
    command
}

/// Unpacks a Debian package into the target directory without installing it, under its name. True if it was not there.
fn unpack(package: &str) -> Result<bool> {
    let dir = sh::target_dir().join(package);
    if dir.is_dir() {
        return Ok(false);
    }
    // Renamed when it is complete: what is there under its name can be used.
    let aside = sh::target_dir().join(format!("{package}.new"));
    let _ = std::fs::remove_dir_all(&aside);
    std::fs::create_dir_all(&aside).with_context(|| aside.display().to_string())?;
    let what = format!("downloading {package}");
    let download = || sh::quiet_step(&what, apt(&["download", package]).current_dir(&aside));
    if let Err(first) = download() {
        if !sh::is_root() {
            return Err(first);
        }
        sh::quiet_step("reading the package lists", &mut apt(&["update"]))?;
        download()?;
    }
    let files = std::fs::read_dir(&aside)?.flatten().map(|entry| entry.path());
    let archive = files.filter(|path| path.extension().is_some_and(|end| end == "deb")).max();
    let mut command = Command::new("dpkg");
    command.arg("--extract").arg(archive.context("apt-get downloaded nothing")?).arg(&aside);
    sh::quiet_step(&format!("unpacking {package}"), &mut command)?;
    std::fs::rename(&aside, &dir).with_context(|| dir.display().to_string())?;
    Ok(true)
}

/// Keeps freshly installed packages from starting their services, as long as it lives.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn new() -> Result<Self> {
        let ours = !Path::new(POLICY).exists();
        if ours {
            std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").context(POLICY)?;
            std::fs::set_permissions(POLICY, PermissionsExt::from_mode(0o755)).context(POLICY)?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

/// Makes sure of `cargo fmt` and `cargo clippy`.
fn components() -> Result<bool> {
    let mut did = false;
    for (name, tool) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if sh::cargo().args([tool, "--version"]).output().is_ok_and(|output| output.status.success()) {
            continue;
        }
        let mut command = Command::new("rustup");
        sh::quiet_step(
            &format!("adding the Rust component {name}"),
            command.current_dir(sh::root()).args(["component", "add", name]),
        )
        .with_context(|| format!("install {name} for your Rust by hand"))?;
        did = true;
    }
    Ok(did)
}

/// Where cargo installs programs; it need not be on the path.
fn cargo_bin() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let user = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    home.unwrap_or_else(|| user.join(".cargo")).join("bin")
}

/// The search path with cargo's own directory, for programs that `setup` installs.
pub(crate) fn path() -> OsString {
    let old = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&old).chain([cargo_bin()]);
    std::env::join_paths(dirs).unwrap_or_else(|_| old.clone())
}

/// Builds bpf-linker against Debian's LLVM.
fn bpf_linker() -> Result<bool> {
    let version = Command::new("bpf-linker").env("PATH", path()).arg("--version").output();
    let fits = version.is_ok_and(|output| is_linker(&String::from_utf8_lossy(&output.stdout)));
    if fits {
        return Ok(false);
    }
    let mut command = sh::cargo();
    command.env("LLVM_PREFIX", LLVM_PREFIX).args(["install", "bpf-linker", "--version", BPF_LINKER]);
    command.args(["--no-default-features", "--features", "llvm-22", "--locked", "--force"]);
    sh::quiet_step("building bpf-linker (about a minute and a half)", &mut command)?;
    Ok(true)
}

/// Whether `bpf-linker --version` reports the version we want, up to its last number.
fn is_linker(said: &str) -> bool {
    let series = BPF_LINKER.rsplit_once('.').map_or(BPF_LINKER, |(series, _)| series);
    said.split_whitespace().any(|word| word.starts_with(&format!("{series}.")))
}

/// Mounts the file system that keeps the kernel side while the daemon is down.
fn bpffs() -> Result<bool> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted = |kind: &str| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
    if !mounted("cgroup2") {
        eprintln!("setup: no cgroup v2 is mounted here; the gateway will watch its own connections only");
    }
    if mounted("bpf") {
        return Ok(false);
    }
    if !sh::is_root() {
        eprintln!("setup: /sys/fs/bpf is not mounted; as root: mount -t bpf bpf /sys/fs/bpf");
        return Ok(false);
    }
    let mut mount = Command::new("mount");
    if let Err(error) =
        sh::quiet_step("mounting /sys/fs/bpf", mount.args(["-t", "bpf", "bpf", "/sys/fs/bpf"]))
    {
        eprintln!("setup: {error:#}; the gateway will watch its own connections only");
        return Ok(false);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_installed_is_not_missing() {
        let names: Vec<&str> = wanted().collect();
        let all: String = wanted().map(|name| format!("{name} installed\n")).collect();
        assert!(missing(&names, &all).is_empty());
        let without = all.replace("curl installed", "curl config-files");
        assert_eq!(missing(&names, &without), ["curl"]);
        assert!(missing(&names, "").contains(&"krb5-kdc"));
    }

    #[test]
    fn the_linker_is_known_by_its_series() {
        assert!(is_linker("bpf-linker 0.13.0\n"));
        assert!(is_linker("bpf-linker 0.13.7"));
        assert!(!is_linker("bpf-linker 0.9.14"));
        assert!(!is_linker(""));
    }
}
