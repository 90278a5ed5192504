//! Certificates for people.

use super::show::{moment, plain, text, until};
use crate::admin::wire;

/// Everything about each of them.
pub(super) fn certificates(all: &wire::Certificates) -> String {
    let mut parts: Vec<String> = all.certificates.iter().map(one).collect();
    if parts.is_empty() {
        parts.push("nothing listens under TLS: there is no certificate (tls.proxy-listen)".into());
    }
    parts.extend(
        all.last_error
            .as_ref()
            .map(|problem| format!("LAST ERROR, since {}: {}", moment(problem.since), problem.error)),
    );
    parts.join("\n\n")
}

/// The same in a line, for the status.
pub(super) fn in_short(certificate: &wire::Certificate) -> String {
    let wire::Certificate { names, self_signed, fingerprint, .. } = certificate;
    let issuer = if *self_signed { ", self-signed" } else { "" };
    let trouble = if certificate.last_error.is_some() { "; FAILING" } else { "" };
    format!("{}{issuer}, {}, SHA-256 {fingerprint}{trouble}", short(names), expiry(certificate))
}

fn one(certificate: &wire::Certificate) -> String {
    let issuer = match certificate.self_signed {
        true => format!("{} (self-signed)", certificate.issuer),
        false => certificate.issuer.clone(),
    };
    let renewal = match (certificate.next_renewal, &certificate.certificate_file) {
        (Some(at), _) => format!("{}, by the gateway itself", moment(at)),
        (None, Some(file)) => format!("when {file} changes"),
        (None, None) => "-".into(),
    };
    let files = match (&certificate.certificate_file, &certificate.key_file) {
        (Some(chain), Some(key)) => format!("{chain}, key {key}"),
        _ => "none: made by the gateway itself".into(),
    };
    let mut table = plain();
    for (name, value) in [
        ("names", certificate.names.join(", ")),
        ("issuer", issuer),
        ("valid from", moment(certificate.not_before)),
        ("expires", expiry(certificate)),
        ("next renewal", renewal),
        ("fingerprint", certificate.fingerprint.clone()),
        ("key", certificate.key.clone()),
        ("signature", certificate.signature.clone()),
        ("serial", certificate.serial.clone()),
        ("files", files),
        (
            "last error",
            certificate.last_error.as_ref().map_or_else(
                || "none".into(),
                |problem| format!("since {}: {}", moment(problem.since), problem.error),
            ),
        ),
    ] {
        table.add_row([name.to_owned(), value]);
    }
    text(&table)
}

fn expiry(certificate: &wire::Certificate) -> String {
    match certificate.state.as_str() {
        "expired" => format!("EXPIRED on {}", moment(certificate.expires)),
        "not-yet-valid" => format!("NOT VALID before {}", moment(certificate.not_before)),
        _ => format!("{} ({})", moment(certificate.expires), until(certificate.expires)),
    }
}

/// The first names.
fn short(names: &[String]) -> String {
    let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(" ");
    if names.len() > 3 { format!("{shown} and {} more", names.len() - 3) } else { shown }
}
