//! What `trackerctl doctor` says of certificates, good and bad, with a real daemon that shows them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::certificates::{Authority, Certificate, ED25519, Wish, self_signed};
use lab::secure::settings;
use serde_json::Value;

/// What the lab's clients call the proxy, by its keytab.
const NAMES: &str = "DNS:proxy.example.test,DNS:proxy6.example.test";

/// What was found about certificates.
struct Found(Value);

impl Found {
    /// Insists on one in this state with these words, and on a remedy where it is not well.
    fn has(&self, name: &str, state: &str, words: &str) -> Result<()> {
        let mut all = self.0["checks"].as_array().context("no checks")?.iter();
        let fits = |check: &&Value| {
            check["name"] == name
                && check["state"] == state
                && check["finding"].as_str().is_some_and(|finding| finding.contains(words))
        };
        let found =
            all.find(fits).with_context(|| format!("no {name} is {state} with {words:?}: {:#}", self.0))?;
        let is_well = ["ok", "skipped"].contains(&state);
        ensure!(is_well == found["remedy"].is_null(), "a remedy is missing, or one too many: {found}");
        Ok(())
    }

    /// Insists that every one is well.
    fn is_well(&self, name: &str) -> Result<()> {
        let all = self.0["checks"].as_array().context("no checks")?;
        let bad: Vec<_> =
            all.iter().filter(|check| check["name"] == name && check["state"] != "ok").collect();
        ensure!(bad.is_empty(), "{bad:#?}");
        Ok(())
    }
}

/// Asks for a diagnosis on a host that trusts this file's roots.
fn examine(lab: &Lab, roots: &Path) -> Result<Found> {
    let mut trackerctl = lab.gateway.trackerctl();
    trackerctl.env("SSL_CERT_FILE", roots).args(["--json", "doctor", "--config"]).arg(lab.gateway.config());
    let output = trackerctl.output()?;
    Ok(Found(serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?))
}

/// A lab that is not started, with a root that its hosts trust.
fn prepare() -> Result<(Lab, Authority)> {
    let lab = Lab::prepare(1, &lab::gateway::bin_dir()?)?;
    let root = Authority::root(&lab.scratch, "our-root")?;
    Ok((lab, root))
}

#[test]
fn a_good_certificate_is_well_and_each_mistake_has_its_finding() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, root) = prepare()?;
    let below = root.intermediate("our-intermediate")?;
    let good = below.issue(Wish::names(NAMES))?;
    let fingerprint = good.fingerprint()?;
    lab.gateway.configure(&settings(&good))?;

    // Before the daemon runs the files are looked at all the same.
    let found = examine(&lab, root.certificate())?;
    found.is_well("certificate")?;
    found.has("certificate", "ok", "valid for 89 days more")?;
    lab.gateway.start()?;
    let found = examine(&lab, root.certificate())?;
    found.is_well("certificate")?;
    found.has("certificate", "ok", "(tls.proxy-listen) shows what is in the files")?;
    found.has("certificate", "ok", "leads to a root that this system trusts")?;
    found.has(
        "certificate",
        "ok",
        "for the names that clients use: proxy.example.test and proxy6.example.test",
    )?;
    let shown = found.0.to_string().replace(':', "").to_lowercase();
    ensure!(shown.contains(&fingerprint), "{fingerprint} is not in {shown}");

    lab.gateway.stop()?;
    let expired = Wish { made: "-40d", days: 30, ..Wish::names(NAMES) };
    let future = Wish { made: "+20d", ..Wish::names(NAMES) };
    // Half a day off, so that the second in which it is made does not count.
    let soon = Wish { made: "-1932h", ..Wish::names(NAMES) };
    let last = Wish { made: "-86d", ..Wish::names(NAMES) };
    let other = Wish::names("DNS:www.example.test");
    let half = Wish::names("DNS:proxy.example.test");
    for (wish, state, words) in [
        (expired, "failed", "expired 10 days ago"),
        (future, "failed", "is not valid before"),
        (soon, "warning", "expires in 9 days"),
        (last, "warning", "after that no client connects"),
        (other, "failed", "call the gateway proxy.example.test and proxy6.example.test"),
        (half, "warning", "call the gateway proxy6.example.test"),
        (Wish::names(""), "failed", "no name in it that clients look at"),
        (Wish { hash: "sha1", ..Wish::names(NAMES) }, "failed", "weak signature"),
    ] {
        lab.gateway.configure(&below.issue(wish)?.settings())?;
        examine(&lab, root.certificate())?.has("certificate", state, words)?;
    }
    Ok(())
}

#[test]
fn chains_that_clients_do_not_trust_are_told_apart() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, root) = prepare()?;
    let below = root.intermediate("our-intermediate")?;
    let strange = Authority::root(&lab.scratch, "a-strange-root")?;
    lab.gateway.configure(&settings(&below.issue(Wish::names(NAMES))?))?;
    for (certificate, state, words) in [
        (below.issue(Wish::names(NAMES))?, "ok", "leads to a root that this system trusts"),
        (
            below.issue_alone(Wish::names(NAMES))?,
            "warning",
            "an intermediate is missing, or it is a root of your own",
        ),
        (
            strange.intermediate("below-it")?.issue(Wish::names(NAMES))?,
            "warning",
            "leads to CN=a-strange-root, a root that this system does not trust",
        ),
        (self_signed(&lab.scratch, Wish::names(NAMES))?, "warning", "self-signed"),
    ] {
        lab.gateway.configure(&certificate.settings())?;
        examine(&lab, root.certificate())?.has("certificate", state, words)?;
    }
    Ok(())
}

#[test]
fn files_that_do_not_fit_or_are_open_to_others_are_told_of() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, root) = prepare()?;
    let (one, another) = (root.issue(Wish::names(NAMES))?, root.issue(Wish::names(NAMES))?);
    let mixed = Certificate { chain: one.chain.clone(), key: another.key.clone() };
    lab.gateway.configure(&settings(&mixed))?;
    examine(&lab, root.certificate())?.has("certificate", "failed", "not the one of the certificate in")?;
    // Nor does the daemon start with them.
    ensure!(lab.gateway.start().is_err(), "{}", lab.gateway.log());
    lab.gateway.kill();
    lab.gateway.configure(&one.settings())?;
    std::fs::set_permissions(&one.key, std::fs::Permissions::from_mode(0o644))?;
    examine(&lab, root.certificate())?.has("certificate", "warning", "can be read or written by others")?;
    std::fs::remove_file(&one.key)?;
    examine(&lab, root.certificate())?.has("certificate", "failed", "does not exist")
}

#[test]
fn a_listener_that_shows_something_else_than_the_files_is_found_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, root) = prepare()?;
    let (old, new) = (root.issue(Wish::names(NAMES))?, root.issue(Wish::names(NAMES))?);
    lab.gateway.configure(&settings(&old))?;
    lab.gateway.start()?;
    examine(&lab, root.certificate())?.has("certificate", "ok", "shows what is in the files")?;
    // As if the daemon had not seen what was written there.
    let path = |path: &Path| path.display().to_string();
    let (chain, key) = ((path(&old.chain), path(&new.chain)), (path(&old.key), path(&new.key)));
    let settings = std::fs::read_to_string(lab.gateway.config())?;
    let settings = settings.replace(&chain.0, &chain.1).replace(&key.0, &key.1);
    let aside = lab.scratch.write("aside.toml", &settings)?;
    let mut trackerctl = lab.gateway.trackerctl();
    trackerctl.env("SSL_CERT_FILE", root.certificate()).args(["--json", "doctor", "--config"]).arg(aside);
    let output = trackerctl.output()?;
    let found = Found(serde_json::from_slice(&output.stdout).with_context(|| format!("{output:?}"))?);
    found.has("certificate", "failed", "shows another certificate than the one in the files")
}

#[test]
fn the_gateways_own_certificate_is_judged_as_it_is_shown() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(1, &lab::gateway::bin_dir()?)?;
    lab.gateway.configure("[tls]\nproxy-listen = [\"0.0.0.0:3130\"]\n")?;
    lab.gateway.start()?;
    let root = Authority::root(&lab.scratch, "our-root")?;
    let found = examine(&lab, root.certificate())?;
    found.has("certificate", "ok", "shows the gateway's own certificate")?;
    found.has("certificate", "warning", "is self-signed: no client trusts it by itself")
}

#[test]
fn required_bindings_that_cannot_be_had_are_told_of() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, root) = prepare()?;
    let own = self_signed(&lab.scratch, Wish { key: ED25519, ..Wish::names(NAMES) })?;
    lab.gateway.configure(&settings(&own))?;
    lab.gateway.configure("[kerberos]\nchannel-bindings = \"require\"\n")?;
    let found = examine(&lab, root.certificate())?;
    found.has("channel-bindings", "failed", "nobody can log in")?;
    found.has("channel-bindings", "warning", "which is not under TLS")
}
