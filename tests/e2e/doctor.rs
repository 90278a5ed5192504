//! `trackerctl doctor` with a real KDC, a real name server and a real daemon: what is well, and each thing that can be wrong.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use lab::net::{GATEWAY_V4, has_kernel_side};
use lab::realm::NO_TICKETS;
use lab::scratch::Process;
use lab::wait::until;
use lab::{Lab, PROXY_NAME};
use serde_json::Value;

use crate::common::SOON;

const PROXY: &str = "HTTP/proxy.example.test";
const PROXY6: &str = "HTTP/proxy6.example.test";
/// Nobody answers there, and nothing says so.
const BLACKHOLE: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 99);

/// What the doctor said.
#[derive(Debug)]
struct Said {
    exit: i32,
    report: Value,
}

impl Said {
    /// The findings of one kind and state.
    fn findings(&self, name: &str, state: &str) -> Vec<String> {
        let checks = self.report["checks"].as_array().into_iter().flatten();
        checks
            .filter(|check| check["name"] == name && check["state"] == state)
            .map(|check| check["finding"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Insists that one of that kind is so, and says these words.
    fn has(&self, name: &str, state: &str, words: &str) -> Result<()> {
        let found = self.findings(name, state);
        anyhow::ensure!(
            found.iter().any(|finding| finding.contains(words)),
            "no {name} is {state} with {words:?} in {:#}",
            self.report
        );
        Ok(())
    }

    /// The kinds of the checks in this state.
    fn names(&self, state: &str) -> Vec<String> {
        let checks = self.report["checks"].as_array().into_iter().flatten();
        let mut names: Vec<String> = checks
            .filter(|check| check["state"] == state)
            .map(|check| check["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        names.dedup();
        names
    }
}

/// Runs it, and insists that everything that is not well has a remedy, and that the exit code goes by the worst.
fn examine(lab: &Lab) -> Result<Said> {
    examine_with(Path::new(NO_TICKETS), lab)
}

/// The same, run by somebody with the tickets in this file.
fn examine_with(tickets: &Path, lab: &Lab) -> Result<Said> {
    let mut trackerctl = lab.gateway.trackerctl();
    trackerctl.env("KRB5CCNAME", tickets);
    said(trackerctl, lab)
}

fn said(mut trackerctl: Command, lab: &Lab) -> Result<Said> {
    let output = trackerctl.args(["--json", "doctor", "--config"]).arg(lab.gateway.config()).output()?;
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?;
    let said = Said { exit: output.status.code().unwrap_or(-1), report };
    for check in said.report["checks"].as_array().context("no checks")? {
        let is_well = check["state"] == "ok" || check["state"] == "skipped";
        assert_eq!(check["remedy"].is_null(), is_well, "{check}");
    }
    assert_eq!(said.exit, i32::from(said.report["worst"] == "failed"), "{said:?}");
    Ok(said)
}

#[test]
fn doctor_finds_a_healthy_gateway_healthy() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let said = examine(&lab)?;
    assert_eq!(said.exit, 0, "{said:?}");
    for (name, words) in [
        ("configuration", "is good"),
        ("daemon", "runs, process"),
        ("keytab", "proxy.keytab can be read; 4 keys"),
        ("keytab", "HTTP/proxy.example.test@EXAMPLE.TEST, version 2: aes256-cts-hmac-sha1-96 and aes128"),
        ("kdc", "EXAMPLE.TEST: a KDC answers at 10.77.0.1:88 by UDP (from krb5.conf)"),
        ("service-key", "HTTP/proxy.example.test@EXAMPLE.TEST: the KDC's key is version 2, aes256"),
        ("service-key", "HTTP/proxy6.example.test@EXAMPLE.TEST: the KDC's key is version 2"),
        ("clock", "agree within a second"),
        (
            "passwords",
            "EXAMPLE.TEST: a KDC that accepts a password proves itself by the key of HTTP/proxy.example.test@",
        ),
        ("name", "proxy.example.test is 10.77.0.1, this host, by /etc/hosts"),
        ("name", "proxy6.example.test is fd77::1, this host"),
        ("port", "0.0.0.0:3128 (proxy.listen) is trackerd's"),
        ("port", "[fd77::1]:3128 (proxy.listen) is trackerd's"),
        ("port", "127.0.0.1:9477 (metrics.listen) is trackerd's"),
        ("store", "tracker.redb has"),
    ] {
        said.has(name, "ok", words)?;
    }
    if has_kernel_side() {
        said.has("ebpf", "ok", "the daemon observes in the kernel")?;
        said.has("cgroup", "ok", "attached to")?;
    }
    // There is no name server in the lab; whether somebody keeps the clock is this machine's affair. The administrator has
    // the password of the first start, and the pages the certificate of the first start.
    said.has("local-users", "warning", "the password of the first start")?;
    said.has("certificate", "warning", "self-signed")?;
    let expected = ["dns", "time-service", "local-users", "certificate"];
    let warned = said.names("warning");
    assert!(warned.iter().all(|name| expected.contains(&name.as_str())), "{warned:?}");

    let output = lab.gateway.trackerctl().arg("doctor").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.starts_with("STATE"), "{output:?}");
    let config = lab.gateway.config();
    assert!(
        text.contains(&format!("{} is good", config.display())),
        "the daemon says which file it reads:\n{text}"
    );
    Ok(())
}

#[test]
fn doctor_tells_a_key_that_was_rolled() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.realm.roll_service(PROXY)?;
    let newer = "the KDC's key is version 3, aes256-cts-hmac-sha1-96; the newest in the keytab is version 2";
    let rolled = examine(&lab)?;
    rolled.has("service-key", "failed", newer)?;
    rolled.has("service-key", "ok", PROXY6)?;
    rolled.has("clock", "ok", "agree within a second")?;
    assert_eq!(rolled.exit, 1);

    // With preauthentication the KDC sends no ticket to who has the wrong key: another principal of the keytab asks for it.
    for principal in [PROXY, PROXY6] {
        lab.realm.require_preauthentication(principal)?;
    }
    examine(&lab)?.has("service-key", "failed", newer)?;
    lab.realm.roll_service(PROXY6)?;
    let refused = examine(&lab)?;
    for principal in [PROXY, PROXY6] {
        let words = format!("{principal}@EXAMPLE.TEST: the KDC refuses the keytab's key (version 2)");
        refused.has("service-key", "failed", &words)?;
    }

    for principal in [PROXY, PROXY6] {
        lab.realm.renew_service(principal, &lab.keytab)?;
    }
    let mended = examine(&lab)?;
    assert_eq!(mended.exit, 0, "{mended:?}");
    mended.has("service-key", "ok", "version 4")
}

#[test]
fn doctor_tells_a_service_that_the_kdc_does_not_know() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.realm.remove_service(PROXY)?;
    let missing = examine(&lab)?;
    assert_eq!(missing.exit, 1);
    let words = format!("{PROXY}@EXAMPLE.TEST: the KDC has no such service (asked by {PROXY6}@EXAMPLE.TEST)");
    missing.has("service-key", "failed", &words)?;
    // Then nobody is left to ask.
    lab.realm.remove_service(PROXY6)?;
    examine(&lab)?.has("service-key", "warning", "the KDC lets nobody log in by this name")?;
    // Except whoever runs it: their ticket is used, and their cache left as it is.
    let cache = lab.tickets("alice")?;
    let before = fs::read(&cache)?;
    let asked = examine_with(&cache, &lab)?;
    let words = format!("{PROXY}@EXAMPLE.TEST: the KDC has no such service (asked by alice@EXAMPLE.TEST)");
    asked.has("service-key", "failed", &words)?;
    anyhow::ensure!(fs::read(&cache)? == before, "the doctor wrote into the cache");
    Ok(())
}

#[test]
fn doctor_asks_as_another_principal_where_services_cannot_log_in() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    lab.realm.add_service("host/gate.example.test", &lab.keytab)?;
    for principal in [PROXY, PROXY6] {
        lab.realm.expire_password(principal)?;
    }
    // A name that clients use, without a key in the keytab.
    lab.realm.add_service("HTTP/web.example.test", &lab.scratch.join("other.keytab"))?;
    lab.gateway
        .configure("[kerberos.conditions]\nspns = [\"proxy.example.test\", \"web.example.test\"]\n")?;
    let said = examine(&lab)?;
    for principal in [PROXY, PROXY6] {
        said.has("service-key", "ok", &format!("{principal}@EXAMPLE.TEST: the KDC's key is version 2"))?;
    }
    said.has("service-key", "failed", "HTTP/web.example.test@EXAMPLE.TEST: the KDC's key is version 2")?;
    said.has("name", "failed", "web.example.test cannot be resolved")?;
    assert_eq!(said.exit, 1);
    Ok(())
}

#[test]
fn doctor_does_not_wait_for_a_dead_kdc() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    lab.realm.stop_kdc();
    let stopped = examine(&lab)?;
    assert_eq!(stopped.exit, 1);
    stopped.has(
        "kdc",
        "failed",
        "EXAMPLE.TEST: no KDC answers; tried 10.77.0.1:88 by TCP and UDP (from krb5.conf)",
    )?;
    stopped.has("service-key", "skipped", "the KDC could not be asked")?;
    stopped.has("clock", "skipped", "no KDC has told its time")?;
    stopped.has("daemon", "ok", "runs")?;

    // Packets vanish: the library would go on trying.
    lab.realm.look_for_kdc_at(BLACKHOLE)?;
    let silent = examine(&lab)?;
    silent.has("kdc", "failed", "EXAMPLE.TEST: no KDC answers within 6 s; tried 10.78.0.99:88 by")?;

    // A name instead of the address, which has none.
    let config = fs::read_to_string(lab.realm.krb5_conf())?;
    fs::write(lab.realm.krb5_conf(), config.replace(&BLACKHOLE.to_string(), "kdc9.example.test"))?;
    let nameless = examine(&lab)?;
    nameless.has("kdc", "failed", "the KDC's name cannot be resolved: kdc9.example.test (from krb5.conf)")?;

    let config = fs::read_to_string(lab.realm.krb5_conf())?;
    fs::write(lab.realm.krb5_conf(), config.replace(" EXAMPLE.TEST = {", " OTHER.TEST = {"))?;
    examine(&lab)?.has("kdc", "failed", "no KDC is known for this realm; krb5.conf names none")
}

#[test]
fn doctor_tells_how_far_the_clocks_are_apart() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let at = |offset: &str| -> Result<Said> {
        let mut faked = lab.gateway.trackerctl();
        faked.envs(lab::clock::off_by(offset)?);
        said(faked, &lab)
    };
    let late = at("-605s")?;
    assert_eq!(late.exit, 1);
    late.has("clock", "failed", "the KDC's clock is 10 min ")?;
    late.has("clock", "failed", " ahead of this host's: beyond five minutes tickets are refused")?;
    let early = at("+120s")?;
    early.has("clock", "warning", " behind this host's; from five minutes on")?;
    assert_eq!(early.exit, 0, "{early:?}");
    Ok(())
}

#[test]
fn doctor_helps_where_the_daemon_does_not_start() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    lab.gateway.stop()?;
    let stopped = examine(&lab)?;
    assert_eq!(stopped.exit, 1);
    stopped.has("daemon", "failed", "trackerd cannot be reached")?;
    stopped.has("port", "ok", "0.0.0.0:3128 (proxy.listen) is free")?;
    stopped.has("service-key", "ok", PROXY)?;
    if has_kernel_side() {
        stopped.has("ebpf", "ok", "the kernel takes the programs; what an earlier run has pinned")?;
    }

    let _taken = lab.net.gateway.listen(SocketAddr::from((GATEWAY_V4, lab::gateway::PROXY_PORT)))?;
    let ours = format!("0.0.0.0:3128 (proxy.listen) is held by {}", comm()?);
    examine(&lab)?.has("port", "failed", &ours)?;

    fs::remove_file(&lab.keytab)?;
    let without = examine(&lab)?;
    without.has("keytab", "failed", "proxy.keytab does not exist")?;
    without.has("kdc", "skipped", "without a keytab")?;

    lab.gateway.write("no-such-key = 1\n[proxy]\nlisten = [\"10.77.0.77:3128\"]\n")?;
    let bad = examine(&lab)?;
    bad.has("configuration", "failed", "tracker.toml:1: no-such-key:")?;
    bad.has("port", "failed", "10.77.0.77:3128 (proxy.listen) cannot be listened on: no interface")
}

/// What the kernel calls this process.
fn comm() -> Result<String> {
    Ok(fs::read_to_string("/proc/self/comm")?.trim_end().to_owned())
}

/// A name server on the gateway, with these records.
fn name_server(lab: &Lab, records: &[&str]) -> Result<Process> {
    let log = fs::File::create(lab.scratch.join("dns.log"))?;
    let mut command = lab.net.gateway.command("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root"]);
    command.args(["--log-facility=-", "--no-hosts", "--no-resolv", "--listen-address=127.0.0.1"]);
    command.args(["--bind-interfaces", "--local=/test/", "--host-record=ready.example.test,192.0.2.1"]);
    command.args(records);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let server = lab.scratch.spawn(&mut command).context("is dnsmasq-base installed?")?;
    let ready = ["getent", "hosts", "ready.example.test"];
    until("the name server to answer", SOON, || lab.net.gateway.run(&ready).ok())?;
    Ok(server)
}

#[test]
fn doctor_tells_an_alias_from_an_address() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let gate = format!("--host-record=gate.example.test,{GATEWAY_V4}");
    let alias = format!("--cname={PROXY_NAME},gate.example.test");
    let mut server = name_server(&lab, &[&gate, &alias])?;
    let aliased = examine(&lab)?;
    assert_eq!(aliased.exit, 1, "{aliased:#?}");
    aliased.has("name", "failed", "proxy.example.test is an alias (CNAME) of gate.example.test")?;
    aliased.has("name", "warning", "proxy6.example.test is fd77::1 on this host only")?;
    assert!(aliased.findings("dns", "warning").is_empty(), "{aliased:?}");
    server.kill();

    let records = [
        format!("--host-record={PROXY_NAME},{GATEWAY_V4}"),
        "--host-record=proxy6.example.test,fd77::1".into(),
    ];
    let mut server = name_server(&lab, &records.each_ref().map(String::as_str))?;
    let plain = examine(&lab)?;
    assert_eq!(plain.exit, 0, "{plain:?}");
    let words = "10.77.0.1, this host, by address records in DNS, and in /etc/hosts, and leads back";
    plain.has("name", "ok", words)?;
    plain.has("name", "ok", "proxy6.example.test is fd77::1, this host, by address records in DNS")?;
    server.kill();

    let elsewhere = format!("--address=/{PROXY_NAME}/192.0.2.7");
    let back = "--ptr-record=7.2.0.192.in-addr.arpa,old.example.test";
    let _server = name_server(&lab, &[&elsewhere, back])?;
    let moved = examine(&lab)?;
    moved.has("name", "warning", "proxy.example.test is 192.0.2.7, which is not this host")?;
    moved.has("name", "warning", "192.0.2.7, which leads back to old.example.test")
}

/// What is right for the account that trackerd runs as is right, whoever asks.
#[test]
fn the_keytab_is_judged_for_the_account_that_trackerd_runs_as() -> Result<()> {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    /// An account without a name, and its group.
    const ACCOUNT: (u32, u32) = (64_998, 64_999);
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(1, &lab::gateway::bin_dir()?)?;
    lab.gateway.configure("[observer]\nmode = \"proxy\"\n")?;
    let (uid, gid) = ACCOUNT;
    for part in ["", "state", "run"] {
        chown(lab.scratch.join(part), Some(uid), Some(gid))?;
    }
    let keytab = lab.keytab.clone();
    let own = |owner: u32, group: u32, mode: u32| {
        chown(&keytab, Some(owner), Some(group))?;
        std::fs::set_permissions(&keytab, std::fs::Permissions::from_mode(mode))
    };
    own(0, gid, 0o640)?;
    let used = lab.scratch.join("used-tokens");
    std::fs::create_dir(&used)?;
    chown(&used, Some(uid), Some(gid))?;
    lab.gateway.run_under([
        "env".to_owned(),
        format!("KRB5RCACHEDIR={}", used.display()),
        "setpriv".into(),
        format!("--reuid={uid}"),
        format!("--regid={gid}"),
        "--clear-groups".into(),
    ]);
    lab.gateway.start()?;
    lab.login(0, "alice")?;
    for (owner, group, mode) in [(0, gid, 0o640), (uid, gid, 0o600)] {
        own(owner, group, mode)?;
        let said = examine(&lab)?;
        assert_eq!(said.findings("keytab", "warning"), [""; 0], "{owner}:{group} {mode:o}: {said:?}");
        assert_eq!(said.findings("keytab", "failed"), [""; 0], "{said:?}");
        said.has("replay-cache", "ok", "used-tokens")?;
        let warned = lab.gateway.ask(&["status"])?["warnings"].to_string();
        assert!(!warned.contains("keytab"), "{warned}");
    }
    // What is wrong for that account is wrong, and the remedy is one that leaves it its keytab.
    for (owner, group, mode, finding, remedy) in [
        (0, gid, 0o644, "readable by everyone", "chmod 640 "),
        (0, 0, 0o600, "cannot be read by the gateway's user, 64998", "chgrp 64999 "),
        (1, gid, 0o600, "another user than the gateway's", "chown 64998 "),
    ] {
        own(owner, group, mode)?;
        let said = examine(&lab)?;
        let found = said.report["checks"].as_array().into_iter().flatten().find(|check| {
            check["name"] == "keytab" && check["finding"].as_str().unwrap_or_default().contains(finding)
        });
        let told =
            found.with_context(|| format!("{finding}: {said:?}"))?["remedy"].as_str().unwrap_or_default();
        assert!(told.contains(remedy), "{finding}: {told}");
    }
    // Without the daemon the state directory says whose it is.
    own(0, gid, 0o640)?;
    lab.gateway.stop()?;
    let said = examine(&lab)?;
    assert_eq!(said.findings("keytab", "warning"), [""; 0], "{said:?}");
    assert_eq!(said.findings("keytab", "failed"), [""; 0], "{said:?}");
    Ok(())
}
