//! Tokens in every wrapping and size, stolen ones, and the gateway's own proof.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use lab::kerberos::{Client, Mechanism, Way};
use lab::ntlm::bare;
use lab::origin::ECHO_PORT;
use lab::raw::{self, Head, Raw, credentials};
use lab::scratch::Process;
use lab::spnego::{self, KRB5, MS_KRB5, NTLM, decode, encode, selects};
use lab::wait::until;
use lab::{Lab, PROXY_NAME};

use crate::common::{ORIGIN, SOON, is_refused_for, session};

/// The proxy as GSSAPI names services.
const SERVICE: &str = "HTTP@proxy.example.test";
/// The largest token that the gateway looks at.
const MAX_TOKEN: usize = 64 * 1024;

/// Submits a token with a request; the answer's head.
fn submit(raw: &mut Raw, token: &[u8]) -> Result<Head> {
    raw.get(ORIGIN, &credentials(&encode(token)))?;
    Ok(raw.answer()?.0)
}

/// The gateway's token in an answer.
fn proof(head: &Head) -> Result<Vec<u8>> {
    let value = head.header("proxy-authenticate").with_context(|| format!("{head:?}"))?;
    decode(value.strip_prefix("Negotiate ").with_context(|| format!("no token: {value}"))?)
}

#[test]
fn both_sides_prove_themselves() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let client = lab.kerberos(0, "alice")?;
    for mechanism in [Mechanism::Spnego, Mechanism::Krb5] {
        let begin = || client.handshake(mechanism, Way::Mutual, SERVICE);
        let (mut first, mut second) = (begin()?, begin()?);
        let mut raw = lab.raw(0)?;
        let head = submit(&mut raw, first.first())?;
        assert_eq!(head.code, 200, "{mechanism:?}: {head:?}\n{}", lab.gateway.log());
        assert!(second.answer(&proof(&head)?).is_err(), "{mechanism:?}: the proof of another handshake");
        assert_eq!(first.answer(&proof(&head)?)?, None, "{mechanism:?}");

        let mut tunneled = begin()?;
        let mut raw = lab.raw(0)?;
        let to = format!("origin.example.test:{ECHO_PORT}");
        let head = raw.tunnel(&to, &credentials(&encode(tunneled.first())))?;
        assert_eq!((head.code, tunneled.answer(&proof(&head)?)?), (200, None), "{mechanism:?}");
    }
    assert!(session(&lab, 0)?.is_of("alice"));
    Ok(())
}

#[test]
fn kerberos_is_accepted_in_every_wrapping() -> Result<()> {
    type Wrap = fn(&[u8]) -> Vec<u8>;
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let client = lab.kerberos(0, "alice")?;
    let wrappings: [(&str, Wrap); 5] = [
        ("none", <[u8]>::to_vec),
        ("SPNEGO", |token| spnego::first(&[KRB5], Some(token))),
        ("SPNEGO by the legacy number alone", |token| spnego::first(&[MS_KRB5], Some(token))),
        ("SPNEGO by the legacy number first", |token| spnego::first(&[MS_KRB5, KRB5, NTLM], Some(token))),
        ("none, by the legacy number", spnego::by_the_legacy_number),
    ];
    for (name, wrap) in wrappings {
        let token = wrap(client.handshake(Mechanism::Krb5, Way::OneWay, SERVICE)?.first());
        let mut raw = lab.raw(0)?;
        let head = submit(&mut raw, &token)?;
        assert_eq!(head.code, 200, "{name}: {head:?}\n{}", lab.gateway.log());
        assert!(session(&lab, 0)?.is_of("alice"), "{name}");
        assert_eq!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit, 0, "{name}");
    }
    Ok(())
}

#[test]
fn kerberos_offered_second_takes_one_more_round() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let client = lab.kerberos(0, "alice")?;
    let offered: &[&[u8]] = &[NTLM, KRB5];
    let ntlm = decode(&bare(&lab.net.clients[0].ns)?)?;
    for hoped_for in [None, Some(ntlm.as_slice())] {
        // The checksum says that nobody has changed the offer on its way: first of another one, then of this.
        for (protected, is_accepted) in [(&[KRB5][..], false), (offered, true)] {
            let mut handshake = client.handshake(Mechanism::Krb5, Way::OneWay, SERVICE)?;
            let mut raw = lab.raw(0)?;
            let head = submit(&mut raw, &spnego::first(offered, hoped_for))?;
            assert!(head.code == 407 && selects(&proof(&head)?, KRB5), "{head:?}\n{}", lab.gateway.log());
            let mic = handshake.mic(&spnego::offer(protected))?;
            let head = submit(&mut raw, &spnego::next(handshake.first(), &mic))?;
            let codes: &[u16] = if is_accepted { &[200] } else { &[407, 403] };
            assert!(codes.contains(&head.code), "{head:?}\n{}", lab.gateway.log());
            assert_eq!(lab.gateway.sessions()?.len(), usize::from(is_accepted));
        }
        lab.gateway.ctl(&["logout", "--all"])?;
    }
    Ok(())
}

#[test]
fn a_client_that_only_ever_begins_is_hung_up_on() -> Result<()> {
    /// Rounds that a connection gets at most: every second one is refused, and six refusals are put up with.
    const ROUNDS: usize = 12;
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let token = spnego::first(&[NTLM, KRB5], None);
    let mut raw = lab.raw(0)?;
    let mut told = Vec::new();
    while let Ok(head) = submit(&mut raw, &token) {
        told.push(head.code);
        assert!([407, 403].contains(&head.code) && told.len() <= ROUNDS, "{told:?}: {head:?}");
    }
    assert!(told.len() > 1, "it may try again on the same connection: {told:?}");
    assert_eq!(lab.gateway.sessions()?, []);
    lab.login(0, "alice")
}

/// The size of the token that curl makes of the tickets in this cache.
fn size_of_token(lab: &Lab, cache: &Path) -> Result<usize> {
    let token = raw::token(&lab.net.clients[0].ns, &lab.realm, cache, PROXY_NAME)?;
    Ok(decode(&token)?.len())
}

#[test]
fn a_large_ticket_is_accepted_and_a_larger_one_refused_with_the_limit() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    // What the ticket of somebody who is in hundreds of a directory's groups holds, or of thousands.
    for (client, size, is_accepted) in [(0, 47 * 1024, true), (1, 66 * 1024, false)] {
        let cache = lab.realm.kinit(&lab.net.gateway, "alice", "alice-pw")?;
        let host = &lab.net.clients[client].ns;
        Client::new(&lab.scratch, host, &lab.realm, &cache)?
            .large_ticket(&format!("HTTP/{PROXY_NAME}"), size)?;
        let sent = size_of_token(&lab, &cache)?;
        assert!(sent > size && (sent <= MAX_TOKEN) == is_accepted, "{size}: {sent}");
        let reply = lab.curl(client).tickets(&cache).get(ORIGIN)?;
        assert_eq!(reply.code, if is_accepted { 200 } else { 407 }, "{reply:?}\n{}", lab.gateway.log());
    }
    assert!(session(&lab, 0)?.is_of("alice"));
    is_refused_for(&lab, 1, &["larger than 64 KiB"])?;
    assert_eq!(lab.gateway.sessions()?.len(), 1);

    // To the byte: the largest that is looked at is refused for what it is.
    for (size, why) in [(MAX_TOKEN, "no GSSAPI token"), (MAX_TOKEN + 1, "larger than 64 KiB")] {
        let mut raw = lab.raw(1)?;
        assert_eq!(submit(&mut raw, &vec![7; size])?.code, 407, "{size}");
        is_refused_for(&lab, 1, &[why])?;
        let handshake = lab.kerberos(1, "bob")?.handshake(Mechanism::Spnego, Way::Mutual, SERVICE)?;
        assert_eq!(submit(&mut raw, handshake.first())?.code, 200, "{size}: the connection stays usable");
        lab.gateway.ctl(&["logout", &lab.address(1)])?;
    }
    Ok(())
}

/// Somebody who listens on the wire.
struct Eavesdropper {
    heard: PathBuf,
    _tcpdump: Process,
}

impl Eavesdropper {
    /// On the cable between clients and gateway, to what goes to the proxy.
    fn start(lab: &Lab) -> Result<Self> {
        let (heard, said) = (lab.scratch.unused("heard"), lab.scratch.unused("tcpdump"));
        let mut command = lab.net.gateway.command("tcpdump");
        command.args(["-i", "br0", "-n", "-l", "-A", "-s", "0", "-Z", "root", "--immediate-mode"]);
        command.arg("tcp dst port 3128").stdout(std::fs::File::create(&heard)?);
        let tcpdump = lab.scratch.spawn(command.stderr(std::fs::File::create(&said)?))?;
        let listens = || std::fs::read_to_string(&said).ok()?.contains("listening on").then_some(());
        until("tcpdump to listen", SOON, listens)?;
        Ok(Self { heard, _tcpdump: tcpdump })
    }

    /// The first token that was sent.
    fn token(&self) -> Result<String> {
        until("a token on the wire", SOON, || {
            let heard = std::fs::read(&self.heard).ok()?;
            let heard = String::from_utf8_lossy(&heard);
            let (_, rest) = heard.split_once("Proxy-Authorization: Negotiate ")?;
            Some(rest.split_once('\n')?.0.trim().to_owned())
        })
    }
}

#[test]
fn a_token_heard_on_the_wire_is_worthless() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let eavesdropper = Eavesdropper::start(&lab)?;
    lab.login(0, "alice")?;
    let alice = session(&lab, 0)?;
    let stolen = decode(&eavesdropper.token()?)?;
    // From another address, and from hers: a proof is one even on a valid session.
    for client in [1, 0] {
        let mut raw = lab.raw(client)?;
        assert_eq!(submit(&mut raw, &stolen)?.code, 407, "client {client}");
        is_refused_for(&lab, client, &["replay"])?;
        assert_eq!(lab.gateway.sessions()?.len(), 1);
    }
    let after = session(&lab, 0)?;
    assert_eq!((after.id, after.authenticated), (alice.id, alice.authenticated));
    Ok(())
}

/// A ticket's service stands in the clear, and nothing protects it: clients write what they like.
#[test]
fn a_name_in_a_ticket_does_nothing_on_an_operators_terminal() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.realm.add_service("HTTP/other.example.test", &lab.scratch.join("other.keytab"))?;
    // By the gateway's own key whatever the name says, and by another.
    for (client, host, code, words) in
        [(0, PROXY_NAME, 200, "accepted"), (1, "other.example.test", 407, "(unknown-service)")]
    {
        let service = format!("HTTP@{host}");
        let handshake = lab.kerberos(client, "alice")?.handshake(Mechanism::Krb5, Way::OneWay, &service)?;
        let token = coloured(handshake.first(), host)?;
        assert_eq!(submit(&mut lab.raw(client)?, &token)?.code, code, "{host}");
        let address = lab.address(client);
        let events = until("the event", SOON, || {
            lab.gateway.shown(&["events"]).ok().filter(|events| events.contains(&address))
        })?;
        let explained = lab.gateway.shown(&["explain", &address])?;
        assert!(explained.contains(words) && explained.contains("[31m"), "{explained:?}");
        assert!(!events.contains('\x1b') && !explained.contains('\x1b'), "{events:?} {explained:?}");
    }
    Ok(())
}

/// A token whose ticket names a service with a terminal's escape sequence in the place of `host`.
fn coloured(token: &[u8], host: &str) -> Result<Vec<u8>> {
    const NAME: &[u8] = b"proxy\x1b[31mple.test";
    anyhow::ensure!(host.len() == NAME.len(), "a name of another length does not fit");
    let mut token = token.to_vec();
    let at = token.windows(NAME.len()).position(|window| window == host.as_bytes()).context("the name")?;
    token[at..at + NAME.len()].copy_from_slice(NAME);
    Ok(token)
}
