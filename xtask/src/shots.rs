//! `cargo xtask shots`: the pictures of the pages that README and docs/OPERATIONS.md show, made by Chromium on a lab where
//! something has happened. They go to docs/pictures.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use lab::Lab;
use lab::browser::Browser;
use lab::pages::{self, Page, SETTINGS, Who};

use crate::{build, setup, sh};

/// Which ones.
#[derive(Args)]
pub(crate) struct Options {
    /// Only pages whose name contains this, each of those there are, in all three ways.
    #[arg(long)]
    only: Option<String>,
    /// Where they go.
    #[arg(long, default_value = "docs/pictures")]
    into: PathBuf,
}

/// No picture is larger, in bytes: a repository keeps all of them for ever.
const MOST: u64 = 60 << 10;
/// What makes them small.
const PACKAGES: [&str; 2] = ["pngquant", "optipng"];

/// How a page is looked at: as on a desk by day and by night, and on a phone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Light,
    Dark,
    Phone,
}

/// The pictures that the documents show.
const SHOWN: [(&str, &[Look]); 7] = [
    ("login", &[Look::Light, Look::Phone]),
    ("own", &[Look::Light]),
    ("destination", &[Look::Light]),
    ("status", &[Look::Light, Look::Dark]),
    ("sessions", &[Look::Light, Look::Dark, Look::Phone]),
    ("settings", &[Look::Light]),
    ("events", &[Look::Light]),
];
/// People beside those of every lab.
const MORE: [&str; 6] = ["dora", "emil", "frida", "georg", "hanna", "ivan"];

impl Look {
    const fn name(self) -> &'static str {
        match self {
            Self::Light => "",
            Self::Dark => "-dark",
            Self::Phone => "-phone",
        }
    }

    const fn size(self) -> (u32, u32) {
        match self {
            Self::Light | Self::Dark => (1200, 800),
            Self::Phone => (360, 720),
        }
    }
}

/// Makes them.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(sh::is_root(), "this makes network namespaces: run it as root");
    setup::install(&PACKAGES)?;
    let bin = build::run(&build::Options { debug: true, release: false })?;
    let lab = busy(&bin)?;
    let dir = sh::root().join(&options.into);
    std::fs::create_dir_all(&dir)?;
    for who in [Who::Nobody, Who::User, Who::Administrator] {
        let mut browser: Option<Browser> = None;
        for page in pages::of(who) {
            for look in wanted(page, options.only.as_deref()) {
                let browser = match &mut browser {
                    Some(browser) => browser,
                    None => browser.insert(pages::browser(&lab, 0, who, "en")?),
                };
                let path = dir.join(format!("{}{}.png", page.name, look.name()));
                shoot(browser, page, look, &path).with_context(|| page.name)?;
                eprintln!("    {}", path.display());
            }
        }
    }
    Ok(())
}

/// How a page is wanted.
fn wanted(page: &Page, only: Option<&str>) -> Vec<Look> {
    match only {
        Some(part) if page.name.contains(part) => vec![Look::Light, Look::Dark, Look::Phone],
        Some(_) => Vec::new(),
        None => {
            let shown = SHOWN.iter().find(|(name, _)| *name == page.name);
            shown.map(|(_, looks)| looks.to_vec()).unwrap_or_default()
        }
    }
}

/// One picture.
fn shoot(browser: &mut Browser, page: &Page, look: Look, path: &Path) -> Result<()> {
    let (width, height) = look.size();
    browser.size(width, height)?;
    browser.dark(look == Look::Dark)?;
    browser.open(&page.url())?;
    std::fs::write(path, browser.picture()?)?;
    let mut small = Command::new("pngquant");
    small.args(["--force", "--skip-if-larger", "--strip", "--quality=60-95", "--output"]).arg(path).arg(path);
    // 98 and 99: it cannot be made smaller without being worse.
    let code = small.status()?.code();
    ensure!(matches!(code, Some(0 | 98 | 99)), "pngquant ended with {code:?}");
    sh::ask("optipng", &["-quiet", "-o4", &path.display().to_string()]).context("optipng failed")?;
    let bytes = std::fs::metadata(path)?.len();
    ensure!(bytes <= MOST, "{} has {bytes} bytes", path.display());
    Ok(())
}

/// A lab where people work, and something has happened.
fn busy(bin: &Path) -> Result<Lab> {
    let mut lab = Lab::prepare(2 + MORE.len(), bin)?;
    for user in MORE {
        lab.realm.add_user(user, &format!("{user}-pw"))?;
    }
    lab.gateway.configure(SETTINGS)?;
    lab.gateway.configure("[licences]\nmax-users = 20\n")?;
    lab.gateway.start()?;
    for (client, user) in (1..).zip(MORE) {
        lab.login(client, user)?;
        let curl = lab.curl(client);
        for size in 1..=client {
            let size = size * size * 70_000;
            curl.get(&format!("http://origin.example.test/bytes/{size}"))?;
        }
    }
    // Somebody takes another's place, somebody leaves, somebody guesses.
    lab.login(1, "bob")?;
    lab.login(7, "carol")?;
    lab.gateway.ask(&["logout", &lab.address(2)])?;
    lab.curl(2).header("Proxy-Authorization: Negotiate bm90aGluZw==").get("http://origin.example.test/")?;
    lab.gateway.ask(&["set", "proxy-auth-timeout", "20m"])?;
    Ok(lab)
}
