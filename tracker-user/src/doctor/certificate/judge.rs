//! Names, dates and strength of certificates. Nobody is asked here.

use std::net::IpAddr;

use jiff::Timestamp;

use super::super::listed;
use super::{Chain, Check, NAME};
use crate::net::certificates::CertificateFacts;

const DAY: i64 = 24 * 3600;
/// From here on it should be renewed.
const SOON: i64 = 30;
/// From here on it has to be.
const NOW: i64 = 7;
/// Shorter keys of RSA are refused by clients.
const RSA_BITS: u32 = 2048;

/// When it begins and ends, and those between it and the root.
pub(super) fn dates(chain: &Chain, now: Timestamp) -> Vec<Check> {
    let mut found = Vec::new();
    let Some(own) = chain.own() else { return found };
    let origin = &chain.origin;
    let remedy = match chain.is_configured {
        true => "have it renewed, and put it in the place of the old one: trackerd takes it up by itself",
        false => "trackerd renews it by itself before it ends, if it can write to state-dir: see the log",
    };
    let (left, whole) =
        (own.not_after.as_second() - now.as_second(), own.not_after.as_second() - own.not_before.as_second());
    let end = own.not_after;
    if now < own.not_before {
        let finding = format!("{origin} is not valid before {}: clients refuse it", own.not_before);
        found.push(Check::failed(
            NAME,
            finding,
            "look at this host's clock; if it is right, have the certificate issued again",
        ));
    } else if left < 0 {
        let finding = format!("{origin} expired {} ago, on {end}: clients refuse it", days(-left));
        found.push(Check::failed(NAME, finding, remedy));
    } else if left < (SOON * DAY).min(whole / 3) {
        let urgent = if left < NOW * DAY { "; after that no client connects" } else { "" };
        found.push(Check::warning(
            NAME,
            format!("{origin} expires in {}, on {end}{urgent}", days(left)),
            remedy,
        ));
    } else {
        found.push(Check::ok(
            NAME,
            format!(
                "{origin} is for {}, issued by {}, valid for {} more, until {end}; {}; SHA-256 {}",
                shown_names(own),
                own.issuer,
                days(left),
                own.key,
                own.fingerprint
            ),
        ));
    }
    let between = chain.facts.iter().enumerate().skip(1).filter(|(_, facts)| facts.not_after < now);
    found.extend(between.map(|(index, facts)| {
        Check::failed(
            NAME,
            format!("certificate {} in {origin}, an intermediate, expired on {}", index + 1, facts.not_after),
            "put the issuer's present certificate in its place; the issuer has it for download",
        )
    }));
    found
}

fn days(seconds: i64) -> String {
    match seconds / DAY {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn shown_names(facts: &CertificateFacts) -> String {
    const MOST: usize = 6;
    let mut names = facts.names();
    let more = names.len().saturating_sub(MOST);
    names.truncate(MOST);
    let listed = listed(&names);
    if more == 0 { listed } else { format!("{listed} (and {more} more)") }
}

/// Whether the names that clients use are in one of the certificates.
pub(super) fn names(expected: &[String], chains: &[Chain]) -> Vec<Check> {
    let all: Vec<&CertificateFacts> = chains.iter().filter_map(Chain::own).collect();
    let mut found = Vec::new();
    for chain in chains {
        let Some(own) = chain.own() else { continue };
        if own.dns_names.is_empty() && own.addresses.is_empty() {
            found.push(Check::failed(
                NAME,
                format!(
                    "{} has no name in it that clients look at (subjectAltName): they refuse it",
                    chain.origin
                ),
                "have it issued with the gateway's names as subjectAltName; a common name does not count",
            ));
        }
    }
    if all.is_empty() || !found.is_empty() {
        return found;
    }
    if expected.is_empty() {
        found.push(Check::skipped(
            NAME,
            "what clients call the gateway is not known (no HTTP/NAME in the keytab, no kerberos.conditions.spns, no \
             portal.host): whether the certificate is for it is not judged",
        ));
        return found;
    }
    let (covered, missing): (Vec<String>, Vec<String>) =
        expected.iter().cloned().partition(|name| all.iter().any(|facts| is_for(facts, name)));
    if missing.is_empty() {
        found.push(Check::ok(NAME, format!("it is for the names that clients use: {}", listed(&covered))));
        return found;
    }
    let finding = format!(
        "clients call the gateway {} (by the keytab, kerberos.conditions.spns and portal.host), and no certificate is for \
         that: whoever uses {} under TLS is refused by their own browser",
        listed(&missing),
        if missing.len() == 1 { "it" } else { "one of them" }
    );
    let remedy = format!(
        "have the certificate issued with {} as subjectAltName too, or name a second one in tls.certificate",
        listed(&missing)
    );
    found.push(match covered.is_empty() {
        true => Check::failed(NAME, finding, remedy),
        false => Check::warning(NAME, finding, remedy),
    });
    found
}

/// Where nothing else is said, people are led to the web pages by the host's own name: whether a certificate is for that.
pub(super) fn pages(host: &str, port: u16, chains: &[Chain]) -> Option<Check> {
    let mut all = chains.iter().filter_map(Chain::own).peekable();
    all.peek()?;
    let is_covered = all.any(|facts| is_for(facts, host));
    let finding = format!(
        "portal.host is empty, so people are led to https://{host}:{port}/ to log in, and no certificate is for that name"
    );
    let remedy = "set portal.host to a name that clients resolve and a certificate is for";
    (!is_covered).then(|| Check::warning(NAME, finding, remedy))
}

fn is_for(facts: &CertificateFacts, name: &str) -> bool {
    match name.parse::<IpAddr>() {
        Ok(address) => facts.is_for_address(address),
        Err(_) => facts.is_for(name),
    }
}

/// Keys and signatures that clients refuse today.
pub(super) fn strength(chain: &Chain) -> Vec<Check> {
    let mut found = Vec::new();
    for (index, facts) in chain.facts.iter().enumerate() {
        let which = match index {
            0 => chain.origin.clone(),
            index => format!("certificate {} in {}", index + 1, chain.origin),
        };
        let bits = facts.key.strip_prefix("RSA ").and_then(|bits| bits.parse::<u32>().ok());
        if bits.is_some_and(|bits| bits < RSA_BITS) || facts.key == "DSA" {
            found.push(Check::failed(
                NAME,
                format!("{which} has a weak key ({}): clients refuse it", facts.key),
                "have it issued for a new key: ECDSA P-256, or RSA of at least 2048 bits",
            ));
        }
        // What signs itself is not believed for its signature.
        if !facts.self_signed && is_weak(&facts.signature) {
            found.push(Check::failed(
                NAME,
                format!("{which} has a weak signature ({}): clients refuse it", facts.signature),
                "have it issued again, signed with SHA-256",
            ));
        }
    }
    found
}

/// Whether a signature's hash function is one that can be forged. `signature`: its name, or its number where it has none here.
fn is_weak(signature: &str) -> bool {
    // ecdsa-with-SHA1 (RFC 3279, section 2.2.3).
    const NUMBERS: [&str; 1] = ["1.2.840.10045.4.1"];
    let signature = signature.to_ascii_lowercase();
    ["sha1", "md5", "md2"].iter().any(|weak| signature.contains(weak))
        || NUMBERS.contains(&signature.as_str())
}
