//! `cargo xtask demo`: the whole thing at work on this machine, with a realm and client hosts of its own, told step by
//! step with real output. `--once` ends it, with exit code 0 only if every step showed what it should.

mod show;
mod steps;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use lab::Lab;
use lab::gateway::PROXY_TLS;
use lab::wait::Stopwatch;
use nix::sys::signal::{SigSet, Signal};

use crate::{build, sh};
use show::Show;

/// Timeouts short enough to watch.
const SETTINGS: &str =
    "[timeouts]\nproxy-auth-timeout = \"10s\"\nproxy-re-authentication-mode = \"session\"\n";

/// How to show it.
#[derive(Args)]
pub(crate) struct Options {
    /// End after the last step instead of staying up to be tried.
    #[arg(long)]
    once: bool,
}

/// Shows everything.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(sh::is_root(), "the demo makes network namespaces: run it as root");
    let bin = build::run(&build::Options::default())?;
    let interrupted = catch_ctrl_c()?;
    let watch = Stopwatch::start();
    eprintln!("==> making a realm, two client hosts, an origin, and starting trackerd");
    let mut lab = Lab::prepare(2, &bin)?;
    lab.gateway.configure(SETTINGS)?;
    lab.gateway.configure(PROXY_TLS)?;
    lab.gateway.start().context("the gateway does not start")?;
    eprintln!("    done in {:.1} s\n", watch.elapsed().as_secs_f64());

    let mut show = Show::new();
    for step in steps::ALL {
        if interrupted.load(Ordering::SeqCst) {
            bail!("interrupted");
        }
        if let Err(error) = step(&mut lab, &mut show) {
            eprintln!("{}", lab.gateway.log());
            return Err(error.context("a step of the demo did not come to its end; the log is above"));
        }
    }
    show.summary()?;
    if !options.once {
        stay(&lab, &bin.join("trackerctl").display().to_string(), &interrupted);
    }
    Ok(())
}

/// Takes Ctrl-C and SIGTERM away from the default handling, so that everything is taken down in order.
fn catch_ctrl_c() -> Result<Arc<AtomicBool>> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // Before any other thread starts: they inherit it. Child processes do not.
    signals.thread_block()?;
    let seen = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&seen);
    std::thread::spawn(move || {
        let _ = signals.wait();
        flag.store(true, Ordering::SeqCst);
    });
    Ok(seen)
}

/// Prints what can be tried, and waits for the end.
fn stay(lab: &Lab, trackerctl: &str, interrupted: &AtomicBool) {
    let config = lab.realm.krb5_conf();
    let ctl = format!("{trackerctl} --socket {}", lab.gateway.socket().display());
    println!("It stays up. Try, as root in another terminal:\n");
    println!("    export KRB5_CONFIG={}", config.display());
    for (client, user) in [(0, "alice"), (1, "bob")] {
        let (Some(host), Ok(tickets)) = (lab.net.clients.get(client), lab.tickets(user)) else { continue };
        println!(
            "    KRB5CCNAME={} {} curl -x {} --proxy-negotiate -U : http://origin.example.test/    # {user}",
            tickets.display(),
            host.ns.prefix(),
            lab::gateway::Gateway::proxy_url()
        );
    }
    for words in
        ["sessions", "hosts", "events --follow", "set proxy-auth-timeout 10m", "logout --all", "status"]
    {
        println!("    {ctl} {words}");
    }
    let metrics = format!("http://127.0.0.1:{}/metrics", lab::gateway::METRICS_PORT);
    println!("    {} curl {metrics}", lab.net.gateway.prefix());
    println!("    tail -f {}", lab.gateway.log_file().display());
    println!("    editor {}    # reread when saved", lab.gateway.config().display());
    println!("\nCtrl-C ends it and removes everything.");
    while !interrupted.load(Ordering::SeqCst) {
        lab::wait::silence(Duration::from_millis(100));
    }
    println!("\nending");
}
