//! Which keys the keytab has: names, versions, a service account that several gateways share, and who else may read them.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use lab::client::Curl;
use lab::gateway::{Gateway, PROXY_PORT, bin_dir};
use lab::net::GATEWAY_V4;
use lab::raw::{self, credentials};
use lab::scratch::Scratch;
use lab::wait::until;
use lab::{Lab, PROXY_NAME};

use crate::common::{ORIGIN, SOON, is_refused_for, session};

/// The proxy's principal.
fn principal() -> String {
    format!("HTTP/{PROXY_NAME}")
}

/// The version of the key that a ticket in this cache for the proxy is encrypted with.
fn key_version(lab: &Lab, cache: &Path) -> Result<u32> {
    let token = raw::token(&lab.net.clients[0].ns, &lab.realm, cache, PROXY_NAME)?;
    let said = lab.gateway.shown(&["decode", &token])?;
    let mut tickets = said.lines().filter(|line| line.trim_start().starts_with("ticket: "));
    let (_, version) =
        tickets.next().and_then(|line| line.split_once("key version ")).context(said.clone())?;
    Ok(version.split(',').next().unwrap_or_default().parse()?)
}

/// Puts another keytab in the place of the gateway's, and waits until that has been read.
fn replace_keytab(lab: &Lab, new: &Path) -> Result<()> {
    let times_read = || lab.gateway.log().matches("the keytab is read").count();
    let before = times_read();
    std::fs::rename(new, &lab.keytab)?;
    until("the keytab to be read again", SOON, || {
        // It is looked at once a second at most, and only where somebody wants to know.
        lab.gateway.ask(&["status"]).ok()?;
        (times_read() > before).then_some(())
    })
}

/// What a client is told who submits a fresh token for the proxy of that name.
fn submit(lab: &Lab, client: usize, cache: &Path, name: &str) -> Result<u16> {
    let token = raw::token(&lab.net.clients[client].ns, &lab.realm, cache, name)?;
    let mut raw = lab.raw(client)?;
    raw.get(ORIGIN, &credentials(&token))?;
    Ok(raw.answer()?.0.code)
}

#[test]
fn every_name_and_every_version_in_the_keytab_is_accepted() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.net.add_name(GATEWAY_V4.into(), "gate.example.test")?;
    lab.realm.add_service("HTTP/gate.example.test", &lab.keytab)?;
    let by_another_name = |user| -> Result<Curl<'_>> {
        let proxy = format!("http://gate.example.test:{PROXY_PORT}");
        let curl = Curl::new(&lab.net.clients[1].ns, &lab.scratch, &lab.realm, &proxy);
        Ok(curl.tickets(&lab.tickets(user)?))
    };
    lab.login(0, "alice")?;
    assert_eq!(by_another_name("bob")?.get(ORIGIN)?.code, 200);
    assert!(session(&lab, 0)?.is_of("alice") && session(&lab, 1)?.is_of("bob"));

    let alice = lab.tickets("alice")?;
    let old = key_version(&lab, &alice)?;
    lab.realm.renew_service(&principal(), &lab.keytab)?;
    let carol = lab.tickets("carol")?;
    assert_eq!((key_version(&lab, &alice)?, key_version(&lab, &carol)?), (old, old + 1));
    lab.gateway.ctl(&["logout", "--all"])?;
    assert_eq!(lab.curl(0).tickets(&alice).get(ORIGIN)?.code, 200, "got before the key was rolled");
    assert_eq!(lab.curl(1).tickets(&carol).get(ORIGIN)?.code, 200, "got after it was");
    assert!(session(&lab, 0)?.is_of("alice") && session(&lab, 1)?.is_of("carol"));
    Ok(())
}

#[test]
fn a_ticket_for_a_key_that_is_not_in_the_keytab_is_refused_and_the_reason_told() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, "")?;
    let alice = lab.tickets("alice")?;
    let old = key_version(&lab, &alice)?;
    // An operator who exports the keys anew, of one of the two names.
    let new = lab.scratch.join("new.keytab");
    lab.realm.renew_service(&principal(), &new)?;
    replace_keytab(&lab, &new)?;
    assert_eq!(submit(&lab, 0, &alice, PROXY_NAME)?, 407);
    is_refused_for(&lab, 0, &[&principal(), &format!("kvno {old}"), "log in again"])?;

    let bob = lab.tickets("bob")?;
    assert_eq!(submit(&lab, 1, &bob, "proxy6.example.test")?, 407);
    is_refused_for(&lab, 1, &["HTTP/proxy6.example.test", "no key of the keytab opens"])?;

    // The key of another account under the right name and version, as where two accounts have one name.
    lab.realm.forge_key(&principal(), old + 1, &new)?;
    replace_keytab(&lab, &new)?;
    assert_eq!(submit(&lab, 2, &bob, PROXY_NAME)?, 407);
    is_refused_for(&lab, 2, &["not the account's", "setspn -X"])?;
    assert_eq!(lab.gateway.sessions()?, []);

    lab.realm.renew_service(&principal(), &new)?;
    replace_keytab(&lab, &new)?;
    lab.login(3, "carol")
}

#[test]
fn gateways_that_share_a_service_account_accept_the_same_tickets() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let second = lab.net.add_client()?;
    let host = &lab.net.clients[second];
    // Cabled to the origin as the first gateway is.
    let peer = lab.net.origin.pid();
    host.ns.ip(&format!(
        "link add up0 type veth peer name eth1 netns {peer}
         addr add 10.79.0.1/24 dev up0
         link set up0 up
         route add 10.78.0.2/32 via 10.79.0.2"
    ))?;
    lab.net.origin.ip("addr add 10.79.0.2/24 dev eth1\nlink set eth1 up")?;
    let scratch = Scratch::new()?;
    let mut gateway = Gateway::new(&scratch, &host.ns, &lab.realm, &lab.keytab, &bin_dir()?)?;
    gateway.configure(&format!("[proxy]\nlisten = [\"{}:{PROXY_PORT}\"]\n", Ipv4Addr::UNSPECIFIED))?;
    // Another machine knows nothing of the tokens that this one has seen.
    gateway.run_under(["env".into(), format!("KRB5RCACHEDIR={}", scratch.path().display())]);
    gateway.start()?;

    let balanced = format!("{PROXY_NAME}:{PROXY_PORT}:{}", host.v4);
    for (client, user) in [(0, "alice"), (1, "bob")] {
        lab.login(client, user)?;
        let reply = lab.curl_as(client, user)?.arg("--resolve").arg(&balanced).get(ORIGIN)?;
        assert_eq!(reply.code, 200, "{reply:?}\n{}", gateway.log());
        let there = gateway.session(&lab.address(client))?.unwrap_or_default();
        let here = session(&lab, client)?;
        assert!(here.is_of(user) && there.is_of(user) && here.id != there.id, "{here:?} {there:?}");
    }
    Ok(())
}

#[test]
fn a_keytab_that_everyone_can_read_is_warned_about_until_it_is_not() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let warnings = || Some(lab.gateway.ask(&["status"]).ok()?["warnings"].to_string());
    let set_mode = |mode| std::fs::set_permissions(&lab.keytab, std::fs::Permissions::from_mode(mode));
    assert!(!warnings().unwrap_or_default().contains("keytab"), "{:?}", warnings());
    set_mode(0o644)?;
    let warned = || warnings().filter(|said| said.contains("readable by everyone"));
    let said = until("a warning of the keytab's mode", SOON, warned)?;
    let path = lab.keytab.display().to_string();
    assert!([path.as_str(), "644", "chmod"].iter().all(|word| said.contains(word)), "{said}");
    lab.login(0, "alice")?;
    set_mode(0o600)?;
    until("the warning to go", SOON, || warnings().filter(|said| !said.contains("keytab"))).map(drop)
}
