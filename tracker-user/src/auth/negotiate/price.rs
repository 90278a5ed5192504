//! What verifying a token costs: GSSAPI called in a bare loop, and the whole of the verifier, on one core and on all, in
//! turns. A measurement, with a realm of its own; it asserts nothing of time:
//! `cargo test --release -p tracker-user negotiate::price -- --ignored --nocapture`

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt as _;
use libgssapi::context::{ClientCtx, CtxFlags};
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;

use super::*;
use crate::auth::credential::{Context, Keytab, Step};
use crate::clock::boot_now;

const KEYTAB: &str = "TRACKER_PRICE_KEYTAB";
/// Tokens in each round of each way; medians of so many rounds.
const TOKENS: usize = 4_000;
const ROUNDS: usize = 7;
/// Logins that are under way at a time.
const AT_ONCE: usize = 16;

#[test]
#[ignore = "a measurement: takes some seconds, and wants an idle machine and a KDC's programs"]
fn price_of_a_token() {
    if std::env::var_os(KEYTAB).is_some() {
        return measure();
    }
    let dir = tempfile::tempdir().unwrap();
    let realm = Realm::start(dir.path());
    // GSSAPI reads its environment whenever it likes, so that it must be right from the start.
    let mut again = realm.command(std::env::current_exe().unwrap().to_str().unwrap());
    again.args(["price_of_a_token", "--ignored", "--nocapture", "--test-threads=1"]);
    assert!(again.env(KEYTAB, dir.path().join("keytab")).status().unwrap().success());
}

fn measure() {
    let keytab = std::env::var_os(KEYTAB).unwrap();
    let options = Options { keytab: Some(keytab.into()), ..Options::default() };
    let cores = thread::available_parallelism().unwrap().get();
    let all: Vec<usize> = (0..cores).collect();
    let bare = Keytab::load(options.keytab.as_deref()).unwrap();
    let mut figures = std::collections::BTreeMap::<String, Vec<(f64, f64)>>::new();
    for _ in 0..ROUNDS {
        for (cores, name) in [(&all[..1], "one core"), (&all[..], "all cores")] {
            for with_name in [false, true] {
                let tokens = tokens(TOKENS);
                pin(cores);
                let took = clocked(|| bare_loop(&bare, &tokens, cores.len(), with_name));
                let named = if with_name { " that asks for the name" } else { "" };
                figures.entry(format!("{name}, bare loop{named}")).or_default().push(took);
                pin(&all);
            }
            let tokens = tokens(TOKENS);
            pin(cores);
            let verifier = Verifier::start(options.clone(), Counters::hidden().unwrap()).unwrap();
            let took = clocked(|| verify_all(&verifier, tokens));
            figures.entry(format!("{name}, verifier")).or_default().push(took);
            pin(&all);
        }
    }
    for (name, mut rounds) in figures {
        rounds.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (rate, cpu) = rounds[ROUNDS / 2];
        println!("{name:44} {rate:8.0} tokens/s {cpu:8.1} µs of CPU a token");
    }
}

/// So many first tokens of a client that all differ.
fn tokens(count: usize) -> Vec<Vec<u8>> {
    let token = |_| {
        let name = Name::new(b"HTTP@proxy.example.test", Some(GSS_NT_HOSTBASED_SERVICE)).unwrap();
        let mut context = ClientCtx::new(None, name, CtxFlags::GSS_C_MUTUAL_FLAG, Some(GSS_MECH_SPNEGO));
        context.step(None, None).unwrap().unwrap().to_vec()
    };
    (0..count).map(token).collect()
}

fn bare_loop(keytab: &Keytab, tokens: &[Vec<u8>], threads: usize, with_name: bool) {
    thread::scope(|scope| {
        for part in tokens.chunks(tokens.len().div_ceil(threads)) {
            scope.spawn(move || {
                let credential = keytab.credential().unwrap();
                for token in part {
                    if with_name {
                        assert!(matches!(Context::new().accept(&credential, token, None), Ok(Step::Done(_))));
                    } else {
                        Context::new().accept_only(&credential, token).unwrap();
                    }
                }
            });
        }
    });
}

fn verify_all(verifier: &Verifier, tokens: Vec<Vec<u8>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tokens = std::cell::RefCell::new(tokens.into_iter());
        let one_after_another = || async {
            loop {
                let token = tokens.borrow_mut().next();
                let Some(token) = token else { break };
                let outcome = verifier.verify(Offer::first(token)).await;
                assert!(matches!(outcome, Ok(Outcome::Proved { .. })), "{outcome:?}");
            }
        };
        let mut workers: futures_util::stream::FuturesUnordered<_> =
            (0..AT_ONCE).map(|_| one_after_another()).collect();
        while workers.next().await.is_some() {}
    });
}

/// Tokens a second, and microseconds of CPU for each.
fn clocked(work: impl FnOnce()) -> (f64, f64) {
    let (began, used) = (boot_now(), cpu_time());
    work();
    let (took, used) = (boot_now().since(began), cpu_time() - used);
    (TOKENS as f64 / took.as_secs_f64(), used.as_secs_f64() * 1e6 / TOKENS as f64)
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let micros =
        [usage.user_time(), usage.system_time()].map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
    Duration::from_micros(micros.iter().sum::<i64>() as u64)
}

/// Threads that are started from now on run on these cores.
fn pin(cores: &[usize]) {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core).unwrap());
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
}

/// A realm with a user, who has a ticket, and a service.
struct Realm {
    dir: PathBuf,
    kdc: Option<Child>,
}

impl Realm {
    fn start(dir: &Path) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let at = dir.display();
        let krb5 = format!(
            "[libdefaults]\n default_realm = R.TEST\n dns_canonicalize_hostname = false\n rdns = false\n \
             dns_lookup_kdc = false\n permitted_enctypes = aes256-cts-hmac-sha1-96\n\
             [realms]\n R.TEST = {{\n  kdc = 127.0.0.1:{port}\n }}\n[domain_realm]\n example.test = R.TEST\n .example.test = R.TEST\n"
        );
        let kdc = format!(
            "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n R.TEST = {{\n  \
             database_name = {at}/principal\n  key_stash_file = {at}/stash\n }}\n[logging]\n kdc = FILE:{at}/log\n"
        );
        std::fs::write(dir.join("krb5.conf"), krb5).unwrap();
        std::fs::write(dir.join("kdc.conf"), kdc).unwrap();
        let mut realm = Self { dir: dir.to_owned(), kdc: None };
        realm.run("kdb5_util create -s -P throw-away -r R.TEST");
        realm.run("kadmin.local -r R.TEST addprinc -randkey HTTP/proxy.example.test");
        realm.run(&format!("kadmin.local -r R.TEST ktadd -k {at}/keytab HTTP/proxy.example.test"));
        realm.run("kadmin.local -r R.TEST addprinc -randkey alice");
        realm.run(&format!("kadmin.local -r R.TEST ktadd -k {at}/alice alice"));
        realm.kdc = Some(
            realm.command("krb5kdc").args(["-n", "-r", "R.TEST"]).stdout(Stdio::null()).spawn().unwrap(),
        );
        for _ in 0..100 {
            if realm
                .command("kinit")
                .args(["-k", "-t", &format!("{at}/alice"), "alice"])
                .status()
                .unwrap()
                .success()
            {
                return realm;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("no ticket can be had");
    }

    fn run(&self, line: &str) {
        let mut words = line.split(' ');
        let mut command = self.command(words.next().unwrap());
        let done = command.args(words).stdout(Stdio::null()).status().unwrap();
        assert!(done.success(), "{line}");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, file) in
            [("KRB5_CONFIG", "krb5.conf"), ("KRB5_KDC_PROFILE", "kdc.conf"), ("KRB5CCNAME", "tickets")]
        {
            command.env(name, self.dir.join(file));
        }
        command.env("KRB5RCACHEDIR", &self.dir).env_remove("KRB5_KTNAME");
        command
    }
}

impl Drop for Realm {
    fn drop(&mut self) {
        if let Some(kdc) = &mut self.kdc {
            let _ = kdc.kill();
            let _ = kdc.wait();
        }
    }
}
