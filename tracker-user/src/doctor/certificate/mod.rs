//! The certificates of listeners under TLS: those in the files, and those that clients are shown.

mod judge;
mod shown;
mod trust;

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use self::shown::Unseen;
use self::trust::Roots;
use super::account::Known;
use super::{Case, Check, is_root, listed};
use crate::clock::wall_now;
use crate::config::{ChannelBindings, Config, Tls};
use crate::net::certificates::{self, CertificateFacts, Finding};

const NAME: &str = "certificate";
const BINDINGS: &str = "channel-bindings";

/// A certificate with the chain that is shown with it, its own first.
struct Chain {
    /// Where it was found, for whoever reads the finding.
    origin: String,
    /// Whether an operator has to renew it: it is in files of theirs.
    is_configured: bool,
    ders: Vec<CertificateDer<'static>>,
    facts: Vec<CertificateFacts>,
}

impl Chain {
    fn new(
        origin: String,
        is_configured: bool,
        ders: Vec<CertificateDer<'static>>,
    ) -> Result<Self, certificates::CertificateError> {
        let facts = certificates::describe(&ders, Path::new(&origin))?;
        Ok(Self { origin, is_configured, ders, facts })
    }

    /// The one of the server.
    fn own(&self) -> Option<&CertificateFacts> {
        self.facts.first()
    }
}

/// `hosts`: the names by which clients ask for tickets.
pub(super) fn checks(case: &Case, hosts: &[String], account: Option<&Known>) -> Vec<Check> {
    let config = &case.config;
    let listeners: Vec<_> =
        config.listeners().into_iter().filter(|listen| listen.is_tls && listen.is_in_effect()).collect();
    let pairs = pairs(&config.tls);
    if listeners.is_empty() && pairs.is_empty() {
        return vec![Check::skipped(NAME, "nothing listens under TLS, and no certificate is configured")];
    }
    let mut found = Vec::new();
    let mut chains = Vec::new();
    for (chain, key) in &pairs {
        match read(chain, key) {
            Ok(read) => {
                found.extend(read.warnings);
                chains.push(read.chain);
            }
            Err(check) => found.push(check),
        }
        found.extend(account.and_then(|known| withheld(key, known)));
    }
    let names = names(config, hosts);
    let mut others = Vec::new();
    if case.daemon.status().is_some() {
        for listen in &listeners {
            let seen = ask(config, listen.address, names.first().map(String::as_str));
            let place = format!("{} ({})", listen.address, listen.key);
            let (check, other) = compare(&place, seen, &chains, pairs.is_empty());
            found.push(check);
            others.extend(other);
        }
    }
    // Where there are no files to be judged, what is shown is.
    if chains.is_empty() {
        for other in others {
            if !chains.iter().any(|known: &Chain| known.ders == other.ders) {
                chains.push(other);
            }
        }
    }
    let (now, roots) = (wall_now(), Roots::of_this_system());
    for chain in &chains {
        found.extend(judge::dates(chain, now));
        found.extend(judge::strength(chain));
        found.push(trust::check(chain, &roots, now));
    }
    found.extend(judge::names(&names, &chains));
    if let (Some(pages), None) = (config.portal.https, &config.portal.host) {
        let host = own_name().filter(|host| !names.contains(host));
        found.extend(host.and_then(|host| judge::pages(&host, pages.port(), &chains)));
    }
    found.extend(bindings(config, &chains));
    found
}

/// The files that are configured: each certificate with its key.
fn pairs(tls: &Tls) -> Vec<(PathBuf, PathBuf)> {
    tls.certificate.iter().cloned().zip(tls.key.iter().cloned()).collect()
}

/// What was read from files.
struct Read {
    chain: Chain,
    warnings: Vec<Check>,
}

fn read(chain: &Path, key: &Path) -> Result<Read, Check> {
    let wrong = |error: certificates::CertificateError| {
        let finding = format!("{} {}", error.path.display(), error.finding);
        match error.finding {
            Finding::Forbidden(_) if !is_root() => {
                Check::skipped(NAME, format!("{finding}; run trackerctl as root, or as the gateway's user"))
            }
            _ => Check::failed(NAME, finding, error.remedy()),
        }
    };
    let loaded = certificates::load(chain, key).map_err(wrong)?;
    let warning = |warning: &String| {
        Check::warning(NAME, warning.clone(), "as it says; trackerd reads the files again when they change")
    };
    let warnings = loaded.warnings().iter().map(warning).collect();
    let origin = chain.display().to_string();
    Ok(Read { chain: Chain::new(origin, true, loaded.chain().to_vec()).map_err(wrong)?, warnings })
}

/// Whether the gateway's own user may read the key, whoever asks here.
fn withheld(key: &Path, known: &Known) -> Option<Check> {
    let meta = std::fs::metadata(key).ok()?;
    let account = &known.account;
    let may_read = match account.uid {
        0 => true,
        uid if uid == meta.uid() => meta.mode() & 0o400 != 0,
        _ if account.groups.contains(&meta.gid()) => meta.mode() & 0o040 != 0,
        _ => meta.mode() & 0o004 != 0,
    };
    let finding = format!(
        "the key {} cannot be read by user {}, {} (owner {}, group {}, mode {:04o})",
        key.display(),
        account.uid,
        known.how,
        meta.uid(),
        meta.gid(),
        meta.mode() & 0o7777
    );
    let remedy = format!("chown {0} {1}; chmod 0600 {1}", account.uid, key.display());
    (!may_read).then(|| Check::failed(NAME, finding, remedy))
}

/// What clients call the gateway: by what they ask the KDC for, and as the portal is named.
fn names(config: &Config, hosts: &[String]) -> Vec<String> {
    let mut names: Vec<String> = hosts.to_vec();
    for name in config.kerberos.conditions.spns.iter().chain(&config.portal.host) {
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            names.push(name.clone());
        }
    }
    if names.is_empty() {
        names.extend(own_name().filter(|name| name.contains('.')));
    }
    names
}

pub(super) fn own_name() -> Option<String> {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok())
}

/// What a listener shows to whoever asks for this name.
fn ask(config: &Config, address: SocketAddr, name: Option<&str>) -> Result<Chain, Unseen> {
    let (address, name) = (shown::reachable(address), name.map(str::to_owned));
    if config.proxy.proxy_protocol.iter().any(|network| network.contains(&address.ip().to_canonical())) {
        return Err(Unseen::Balanced);
    }
    let ders = super::within(shown::PATIENCE * 2, move || shown::chain(address, name.as_deref()));
    let ders = ders.unwrap_or_else(|| Err(Unseen::No("it takes too long".into())))?;
    Chain::new(format!("what {address} shows"), false, ders).map_err(|error| Unseen::No(error.to_string()))
}

/// Whether a listener shows what is in the files; and what it shows, where that is something else.
fn compare(
    place: &str,
    seen: Result<Chain, Unseen>,
    files: &[Chain],
    is_own: bool,
) -> (Check, Option<Chain>) {
    let seen = match seen {
        Ok(seen) => seen,
        Err(Unseen::Balanced) => {
            let why = "only a balancer may connect to it from here (proxy.proxy-protocol): what it shows is not looked at";
            return (Check::skipped(NAME, format!("{place}: {why}")), None);
        }
        Err(Unseen::No(why)) => {
            let remedy = "see trackerd's log; trackerctl status tells whether it has a certificate to show";
            return (
                Check::failed(NAME, format!("{place} cannot be connected to under TLS: {why}"), remedy),
                None,
            );
        }
    };
    let Some(own) = seen.own() else {
        return (Check::failed(NAME, format!("{place} shows no certificate"), "restart trackerd"), None);
    };
    let described = format!("SHA-256 {}", own.fingerprint);
    if files.iter().any(|file| file.ders.first() == seen.ders.first()) {
        let is_whole = files.iter().any(|file| file.ders == seen.ders);
        let chain = if is_whole { "" } else { ", with another chain: trackerctl reload" };
        return (
            Check::ok(NAME, format!("{place} shows what is in the files{chain} ({described})")),
            Some(seen),
        );
    }
    let check = if is_own {
        Check::ok(NAME, format!("{place} shows the gateway's own certificate ({described})"))
    } else {
        Check::failed(
            NAME,
            format!("{place} shows another certificate than the one in the files ({described})"),
            "trackerctl reload; if that changes nothing, trackerd could not take the files: trackerctl certificate and \
             the log say why, and what it had before is shown until then",
        )
    };
    (check, Some(seen))
}

/// Whether tokens can be bound as much as is required.
fn bindings(config: &Config, chains: &[Chain]) -> Vec<Check> {
    if config.kerberos.channel_bindings != ChannelBindings::Require {
        return Vec::new();
    }
    let mut found = Vec::new();
    // Signatures without a hash function of their own (RFC 5929, section 4.1).
    let is_unnamed = |signature: &str| {
        let signature = signature.to_ascii_lowercase();
        ["ed25519", "ed448"].iter().any(|name| signature.contains(name))
    };
    let unnamed = chains.iter().filter(|chain| chain.own().is_some_and(|own| is_unnamed(&own.signature)));
    found.extend(unnamed.map(|chain| {
        Check::failed(
            BINDINGS,
            format!(
                "kerberos.channel-bindings = \"require\", and none is defined for the signature of {}: nobody can log in",
                chain.origin
            ),
            "use a certificate that is signed with RSA or ECDSA, or kerberos.channel-bindings = \"accept\"",
        )
    }));
    let open: Vec<String> =
        config.proxy.listen.iter().filter(|at| !at.ip().is_loopback()).map(ToString::to_string).collect();
    if !open.is_empty() {
        found.push(Check::warning(
            BINDINGS,
            format!(
                "kerberos.channel-bindings = \"require\" says nothing of {}, which is not under TLS: every good ticket is \
                 accepted there",
                listed(&open)
            ),
            "let proxy.listen be a loopback address, or keep clients from it by a packet filter",
        ));
    }
    found
}

#[cfg(test)]
mod tests;
