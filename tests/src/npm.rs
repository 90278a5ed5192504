//! What the pages are checked with that Debian does not have: axe-core for accessibility, html-validate for their HTML. Which
//! versions, with the digest of each package, stands in `tests/npm`; they are installed below the target directory when
//! they are first needed, and nothing is downloaded after that.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context as _, Result};

use crate::ns::finish;

/// The directory they are installed in, in the one that everything is built in.
const INSTALLED: &str = "page-checks";
/// Which ones, with their digests.
const LOCK: &str = include_str!("../npm/package-lock.json");
/// What goes there with them.
const FILES: [(&str, &str); 2] =
    [("package.json", include_str!("../npm/package.json")), ("check.mjs", include_str!("../npm/check.mjs"))];

/// The tools, installed.
#[derive(Clone, Debug)]
pub struct Tools(PathBuf);

impl Tools {
    /// Finds them, or installs them by npm.
    ///
    /// # Errors
    /// Where there is no npm, or its registry cannot be reached.
    pub fn find() -> Result<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        // Whoever panicked left nothing half done: see below.
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let exe = std::env::current_exe()?;
        // `<target>/<profile>/deps/e2e` or `<target>/<profile>/xtask`.
        let profile = exe.parent().context("a program lies in a directory")?;
        let profile = if profile.ends_with("deps") { profile.parent().unwrap_or(profile) } else { profile };
        let dir = profile.parent().context("no target directory")?.join(INSTALLED);
        if std::fs::read_to_string(dir.join("package-lock.json")).is_ok_and(|lock| lock == LOCK) {
            // The script costs no download.
            write(&dir)?;
            return Ok(Self(dir));
        }
        // Renamed when it is complete: what is there under its name can be used.
        let aside = dir.with_extension(format!("{}.new", std::process::id()));
        std::fs::create_dir_all(&aside)?;
        write(&aside)?;
        std::fs::write(aside.join("package-lock.json"), LOCK)?;
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(&aside);
        finish(&mut npm, &[]).context("axe-core and html-validate cannot be installed by npm")?;
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::rename(&aside, &dir).with_context(|| dir.display().to_string())?;
        Ok(Self(dir))
    }

    /// The script that finds what keeps people from using a page.
    ///
    /// # Errors
    /// When somebody has removed it.
    pub fn axe(&self) -> Result<String> {
        let path = self.0.join("node_modules/axe-core/axe.min.js");
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// What is wrong with the HTML in these files, a line each.
    ///
    /// # Errors
    /// When html-validate fails.
    pub fn validate(&self, files: &[PathBuf]) -> Result<Vec<String>> {
        let said = finish(Command::new("node").arg(self.0.join("check.mjs")).args(files), &[])?;
        Ok(said.lines().map(str::to_owned).collect())
    }
}

fn write(dir: &Path) -> Result<()> {
    for (name, content) in FILES {
        std::fs::write(dir.join(name), content)?;
    }
    Ok(())
}

/// The tools; where they cannot be had, `None`, and it is said why. Where `TRACKER_REQUIRE_PRIVILEGED` is set, that fails.
///
/// # Panics
/// Where they are required and missing.
#[must_use]
pub fn tools() -> Option<Tools> {
    match Tools::find() {
        Ok(tools) => Some(tools),
        Err(missing) if std::env::var_os("TRACKER_REQUIRE_PRIVILEGED").is_some() => panic!("{missing:#}"),
        Err(missing) => {
            println!("skipped: {missing:#}");
            None
        }
    }
}
