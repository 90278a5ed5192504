//! Certificates, from what operations answer to what the API says.

use super::wire;
use crate::net::certificates::{Problem, Shown, Standing};
use crate::ops::Certificates;

pub(super) fn certificates(all: Certificates) -> wire::Certificates {
    let Certificates { shown, problem } = all;
    wire::Certificates {
        certificates: shown.into_iter().map(certificate).collect(),
        last_error: problem.map(last_error),
    }
}

pub(super) fn certificate(shown: Shown) -> wire::Certificate {
    let Shown { facts, files, standing, renewal, problem } = shown;
    let names = facts.names();
    let path = |path: std::path::PathBuf| path.display().to_string();
    let (certificate_file, key_file) = files.map(|pair| (path(pair.chain), path(pair.key))).unzip();
    wire::Certificate {
        names,
        issuer: facts.issuer,
        self_signed: facts.self_signed,
        not_before: facts.not_before,
        expires: facts.not_after,
        state: match standing {
            Standing::NotYet => "not-yet-valid",
            Standing::Valid => "valid",
            Standing::Expired => "expired",
        }
        .into(),
        next_renewal: renewal,
        fingerprint: facts.fingerprint,
        key: facts.key,
        signature: facts.signature,
        serial: facts.serial,
        certificate_file,
        key_file,
        last_error: problem.map(last_error),
    }
}

fn last_error(Problem { since, text }: Problem) -> wire::CertificateProblem {
    wire::CertificateProblem { since, error: text }
}
