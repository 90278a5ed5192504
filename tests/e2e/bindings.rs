//! Channel bindings: tokens that are made for one certificate, on connections by it and by others.

use anyhow::Result;
use lab::Lab;
use lab::certificates::{Authority, ED25519, Wish, self_signed};
use lab::kerberos::{Client, Mechanism, Way};
use lab::raw::credentials;
use lab::secure::settings;
use lab::spnego::encode;

use crate::common::{ORIGIN, is_for_people, is_refused_for};

/// The proxy as GSSAPI names services.
const SERVICE: &str = "HTTP@proxy.example.test";
/// A channel that is nobody's.
const ELSEWHERE: &[u8] = b"tls-server-end-point:elsewhere";

/// A lab whose proxy is under TLS, too; and the authority that clients trust.
fn start() -> Result<(Lab, Authority, Vec<u8>)> {
    let mut lab = Lab::prepare(2, &lab::gateway::bin_dir()?)?;
    let root = Authority::root(&lab.scratch, "root")?;
    let certificate = root.issue(Wish::names("DNS:proxy.example.test"))?;
    lab.gateway.configure(&settings(&certificate))?;
    lab.gateway.start()?;
    let end_point = certificate.end_point()?;
    Ok((lab, root, end_point))
}

/// The status of a request under TLS with a fresh token that is made for this channel; nobody is logged in after it.
fn status(lab: &Lab, root: &Authority, client: &Client<'_>, channel: Option<&[u8]>) -> Result<u16> {
    let token = match channel {
        Some(channel) => client.bound_handshake(SERVICE, channel)?,
        None => client.handshake(Mechanism::Spnego, Way::Mutual, SERVICE)?,
    };
    let field = credentials(&encode(token.first()));
    let curl = lab.curl_by_tls(0, root.certificate()).arg("--proxy-header").arg(field.trim_end());
    let reply = curl.get(ORIGIN)?;
    if reply.code == 200 {
        lab.gateway.ask(&["logout", &lab.address(0)])?;
    }
    Ok(reply.code)
}

#[test]
fn tokens_are_good_for_the_certificate_that_they_were_made_for() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, root, here) = start()?;
    let client = lab.kerberos(0, "alice")?;
    // accept is the default.
    for (policy, none, wrong, right) in
        [("", 200, 407, 200), ("off", 200, 200, 200), ("require", 407, 407, 200), ("accept", 200, 407, 200)]
    {
        if !policy.is_empty() {
            lab.gateway.ask(&["set", "kerberos.channel-bindings", policy])?;
        }
        for (channel, expected) in [(None, none), (Some(ELSEWHERE), wrong), (Some(&here[..]), right)] {
            let found = status(&lab, &root, &client, channel)?;
            assert_eq!(found, expected, "{policy}: {channel:?}\n{}", lab.gateway.log());
        }
        let explained = lab.gateway.shown(&["explain", &lab.address(0)])?;
        let newest = explained.split("the last decisions").nth(1).unwrap_or_default();
        let newest = newest.lines().find(|line| line.contains("flags")).unwrap_or_default();
        assert_eq!(newest.contains("channel-bound"), policy != "off", "{policy}: {explained}");
        // Without TLS there is nothing to be bound to, whatever is required.
        lab.login(1, "bob")?;
        lab.gateway.ask(&["logout", &lab.address(1)])?;
    }
    is_refused_for(&lab, 0, &["incorrect channel bindings", "another certificate"])?;
    is_refused_for(&lab, 0, &["kerberos.channel-bindings", "require"])?;
    let metrics = lab.gateway.metrics()?;
    for (cause, count) in [("channel-binding", 3), ("no-channel-binding", 1)] {
        let line = format!("tracker_negotiate_refused_total{{cause=\"{cause}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    Ok(())
}

#[test]
fn a_certificate_without_a_binding_logs_nobody_in_where_one_is_required() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(2, &lab::gateway::bin_dir()?)?;
    // It is the signature that counts, so it has to sign itself.
    let own = Wish { key: ED25519, ..Wish::names("DNS:proxy.example.test") };
    let own = self_signed(&lab.scratch, own)?;
    lab.gateway.configure(&settings(&own))?;
    lab.gateway.configure("[kerberos]\nchannel-bindings = \"require\"\n")?;
    lab.gateway.start()?;
    let curl = lab.curl_by_tls(0, &own.chain).tickets(&lab.tickets("alice")?);
    let reply = curl.get(ORIGIN)?;
    assert_eq!(reply.code, 503, "{reply:?}");
    is_refused_for(&lab, 0, &["kerberos.channel-bindings", "Ed25519"])?;
    is_for_people(&lab, &reply.text())?;
    lab.login(1, "bob")?;
    lab.gateway.ask(&["set", "kerberos.channel-bindings", "accept"])?;
    assert_eq!(curl.get(ORIGIN)?.code, 200);
    Ok(())
}

#[test]
fn who_would_have_bound_a_token_is_believed() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, root, here) = start()?;
    let common = std::fs::read_to_string(lab.realm.krb5_conf())?;
    let aware =
        common.replacen("[libdefaults]\n", "[libdefaults]\n client_aware_channel_bindings = true\n", 1);
    assert_ne!(aware, common);
    let aware = lab.scratch.write("aware.conf", &aware)?;
    let client = lab.kerberos(0, "alice")?.configured_by(&aware);
    assert_eq!(status(&lab, &root, &client, Some(&here))?, 200, "{}", lab.gateway.log());
    assert_eq!(status(&lab, &root, &client, None)?, 407, "{}", lab.gateway.log());
    is_refused_for(&lab, 0, &["incorrect channel bindings"])?;
    lab.gateway.ask(&["set", "kerberos.channel-bindings", "off"])?;
    assert_eq!(status(&lab, &root, &client, None)?, 200, "{}", lab.gateway.log());
    Ok(())
}
