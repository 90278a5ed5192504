//! One door for credentials of every method.

use std::sync::Arc;

use super::cause::Cause;
use super::credentials::{Credentials, Malformed};
use super::kerberos::TicketVerifier;
use super::kerberos::negotiate::{Attempt, Progress};
use super::outcome::{Failure, Handshake, Outcome, Proved};
use crate::clock::BootTime;
use crate::types::{Factors, Method};

/// What matters about credentials besides themselves.
#[derive(Debug)]
pub struct Context {
    /// What earlier credentials of the same handshake left.
    pub handshake: Option<Handshake>,
    /// The TLS connection that they came on, as channel bindings name it (RFC 5929): what was made for another one is
    /// refused. `None` where there is no TLS.
    pub channel_binding: Option<Arc<[u8]>>,
    /// When they had been read. What the client did from then on, it did after the proof, however long verifying takes.
    pub arrival: BootTime,
}

/// Verifies credentials.
#[derive(Debug)]
pub struct Verifier {
    tickets: TicketVerifier,
}

impl Verifier {
    /// Verifies Kerberos tickets with `tickets`; there is no other method yet.
    #[must_use]
    pub const fn new(tickets: TicketVerifier) -> Self {
        Self { tickets }
    }

    /// The part that verifies Kerberos tickets: what keeps it from that, and what it goes by.
    #[must_use]
    pub const fn tickets(&self) -> &TicketVerifier {
        &self.tickets
    }

    /// Whose credentials these are.
    pub async fn verify(&self, credentials: Credentials, context: Context) -> Outcome {
        let Context { handshake, channel_binding, arrival } = context;
        let token = match credentials {
            Credentials::Negotiate(token) => token,
            other => return Outcome::Failed(self.reject(&other)),
        };
        match self.tickets.verify(Attempt { handshake, token, channel_binding }).await {
            Ok(Progress::Proved { identity, answer, details }) => Outcome::Proved(Proved {
                identity,
                method: Method::Kerberos,
                factors: Factors::NONE,
                at: arrival,
                mutual: answer,
                ticket: Some(details),
            }),
            Ok(Progress::Continue { handshake, answer }) => Outcome::Continue { handshake, answer },
            Err(failure) => Outcome::Failed(failure),
        }
    }

    /// Credentials that nothing can be made of, or of a scheme that is not offered.
    fn reject(&self, credentials: &Credentials) -> Failure {
        let (cause, why) = match credentials {
            Credentials::Malformed(Malformed::Negotiate(bad)) => {
                (Cause::Kerberos(bad.into()), bad.to_string())
            }
            other => {
                let name = other.scheme_name();
                // What a browser without a ticket falls back to.
                let is_ntlm = name.eq_ignore_ascii_case("NTLM");
                let cause =
                    if is_ntlm { Cause::Kerberos(super::kerberos::Cause::Ntlm) } else { Cause::Scheme };
                (cause, format!("the scheme {name:?} was used, which is not offered"))
            }
        };
        self.tickets.counters().refused(cause);
        Failure::rejected(cause, format!("{why}: {}", cause.remedy()))
    }
}
