//! The certificates that clients are shown.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use super::access::Viewing;
use super::notice::refused;
use super::show::moment;
use crate::net::certificates::{Problem, Shown, Standing};
use crate::portal::page::{Page, answer};
use crate::portal::site::Site;

#[derive(Template)]
#[template(path = "admin/certificates.html")]
struct Certificates {
    page: Page,
    problem: Option<Wrong>,
    all: Vec<Row>,
}

/// What went wrong, and since when.
struct Wrong {
    since: String,
    text: String,
}

impl From<&Problem> for Wrong {
    fn from(problem: &Problem) -> Self {
        Self { since: moment(problem.since), text: problem.text.clone() }
    }
}

struct Row {
    names: Vec<String>,
    issuer: String,
    self_signed: bool,
    standing: &'static str,
    is_good: bool,
    from: String,
    until: String,
    renewal: Option<String>,
    files: Option<(String, String)>,
    fingerprint: String,
    key: String,
    signature: String,
    serial: String,
    problem: Option<Wrong>,
}

impl Row {
    fn new(shown: &Shown) -> Self {
        let Shown { facts, files, standing, renewal, problem } = shown;
        Self {
            names: facts.names(),
            issuer: facts.issuer.clone(),
            self_signed: facts.self_signed,
            standing: match standing {
                Standing::NotYet => "not valid yet",
                Standing::Valid => "valid",
                Standing::Expired => "expired",
            },
            is_good: matches!(standing, Standing::Valid),
            from: moment(facts.not_before),
            until: moment(facts.not_after),
            renewal: renewal.map(moment),
            files: files
                .as_ref()
                .map(|pair| (pair.chain.display().to_string(), pair.key.display().to_string())),
            fingerprint: facts.fingerprint.clone(),
            key: facts.key.clone(),
            signature: facts.signature.clone(),
            serial: facts.serial.clone(),
            problem: problem.as_ref().map(Wrong::from),
        }
    }
}

pub(super) async fn list(State(site): State<Site>, Viewing(visit): Viewing) -> Response {
    match site.parts().ops.certificates().await {
        Ok(certificates) => {
            let all = certificates.shown.iter().map(Row::new).collect();
            let problem = certificates.problem.as_ref().map(Wrong::from);
            answer(&visit, StatusCode::OK, &Certificates { page: visit.page(), problem, all })
        }
        Err(error) => refused(&visit, &error, "/status"),
    }
}
