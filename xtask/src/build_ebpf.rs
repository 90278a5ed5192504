//! Builds the eBPF object: `<target>/bpf/tracker-ebpf.o`.
//!
//! The BPF target is not shipped with rustup's compilers. Two things are accepted: a compiler that has the target's
//! `core` already (Debian's `rustc-web` with `libstd-rust-web-dev-bpf`), or a nightly with the component `rust-src`,
//! which builds `core` itself. The linker is `bpf-linker`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

const TARGET: &str = "bpfel-unknown-none";
/// aya's crates use an unstable feature (BPF assembly); ours does not. Naming them keeps us on stable Rust.
const BOOTSTRAP: &str = "aya_ebpf,aya_ebpf_bindings,aya_ebpf_macros";

/// What compiles for BPF on this machine.
enum Compiler {
    /// Has the target's `core`.
    Ready(PathBuf),
    /// A rustup toolchain with the sources of `core`.
    Source(String),
}

/// Builds the object unless it is fresh, and returns its path. Quiet unless something is to do or goes wrong.
///
/// # Errors
/// With the remedy, when a tool is missing; with the compiler's own words, when the program does not compile.
pub(crate) fn build_ebpf(target_dir: &Path) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let build_dir = target_dir.join("bpf").join("build");
    let compiler = compiler().context("no compiler for the eBPF programs: run `cargo xtask setup`")?;
    let linker = linker().context("bpf-linker is missing: run `cargo xtask setup`")?;

    let mut cargo = Command::new("cargo");
    forget_outer_cargo(&mut cargo);
    match &compiler {
        Compiler::Ready(rustc) => {
            cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", BOOTSTRAP);
        }
        Compiler::Source(toolchain) => {
            cargo.env("RUSTUP_TOOLCHAIN", toolchain).arg("-Zbuild-std=core");
        }
    }
    let status = cargo
        .current_dir(root)
        .args(["build", "--quiet", "--release", "--package", "tracker-ebpf", "--bin", "tracker-ebpf"])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&build_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&linker))
        // The BPF linker does its own link-time optimisation, on bitcode that must not have been through another.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the eBPF programs do not compile: see above");
    }
    publish(&build_dir.join(TARGET).join("release").join("tracker-ebpf"), target_dir)
}

/// The compiler's flags, in cargo's encoding.
fn flags(linker: &Path) -> OsString {
    let mut flags = OsString::from(format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH));
    flags.push("\u{1f}-Cdebuginfo=2\u{1f}-Clink-arg=--btf\u{1f}-Clinker=");
    flags.push(linker);
    flags
}

/// Copies the object to where the daemon's build script looks, only if it changed: nothing is rebuilt in vain.
fn publish(built: &Path, target_dir: &Path) -> Result<PathBuf> {
    let object = target_dir.join("bpf").join("tracker-ebpf.o");
    let new = std::fs::read(built).with_context(|| format!("cannot read {}", built.display()))?;
    if std::fs::read(&object).ok().as_ref() != Some(&new) {
        std::fs::write(&object, new).with_context(|| format!("cannot write {}", object.display()))?;
    }
    Ok(object)
}

/// A cargo inside a cargo would inherit flags, toolchain and jobserver that are meant for the outer one.
fn forget_outer_cargo(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        // What tells it how to reach its registries stays.
        let kept = ["CARGO_HOME", "CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTR"]
            .iter()
            .any(|prefix| text.starts_with(prefix));
        let outer = text.starts_with("CARGO")
            || text.starts_with("RUSTC")
            || matches!(text.as_ref(), "RUSTFLAGS" | "RUSTDOCFLAGS" | "RUSTUP_TOOLCHAIN" | "MAKEFLAGS");
        if outer && !kept {
            command.env_remove(&name);
        }
    }
}

fn compiler() -> Option<Compiler> {
    let ready = ["/usr/bin/rustc", "rustc"].map(PathBuf::from).into_iter().find(|rustc| has_core(rustc));
    ready
        .map(Compiler::Ready)
        .or_else(|| has_sources("nightly").then(|| Compiler::Source("nightly".to_owned())))
}

/// Whether the compiler ships `core` for the target.
fn has_core(rustc: &Path) -> bool {
    let Some(sysroot) = output(Command::new(rustc).args(["--print", "sysroot"])) else { return false };
    let libraries = Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("lib");
    std::fs::read_dir(libraries).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with("libcore-") && name.ends_with(".rlib")
        })
    })
}

/// Whether the rustup toolchain has the component `rust-src`.
fn has_sources(toolchain: &str) -> bool {
    output(Command::new("rustc").arg(format!("+{toolchain}")).args(["--print", "sysroot"])).is_some_and(
        |sysroot| Path::new(&sysroot).join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file(),
    )
}

/// `bpf-linker` on the path, or where cargo installs it.
fn linker() -> Option<PathBuf> {
    let installed = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .map(|cargo| cargo.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(installed)
        .map(|directory| directory.join("bpf-linker"))
        .find(|linker| linker.is_file())
}

/// What a command prints, if it can be run and succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(std::process::Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
