//! One door for credentials of every method.

use std::sync::Arc;

use super::cause::Cause;
use super::channel::Channel;
use super::credentials::{Credentials, Malformed};
use super::factors::SecondFactors;
use super::kerberos::TicketVerifier;
use super::kerberos::negotiate::{Attempt, Progress};
use super::offer::Schemes;
use super::outcome::{Failure, Handshake, Outcome, Proved, Rejection};
use super::password;
use super::password::{Passwords, Place};
use crate::clock::BootTime;
use crate::types::{ClientAddr, Factors, Method};

/// What matters about credentials besides themselves.
#[derive(Debug)]
pub struct Context {
    /// Who sent them.
    pub client: ClientAddr,
    /// The schemes that they may be of: others are refused unseen.
    pub accepts: Schemes,
    /// What earlier credentials of the same handshake left.
    pub handshake: Option<Handshake>,
    /// What they came through: what was made for another channel is refused.
    pub channel: Channel,
    /// When they had been read. What the client did from then on, it did after the proof, however long verifying takes.
    pub arrival: BootTime,
}

/// Verifies credentials.
#[derive(Debug)]
pub struct Verifier {
    tickets: TicketVerifier,
    passwords: Option<Passwords>,
    factors: Option<Arc<SecondFactors>>,
}

impl Verifier {
    /// Verifies Kerberos tickets with `tickets`, and nothing else.
    #[must_use]
    pub const fn new(tickets: TicketVerifier) -> Self {
        Self { tickets, passwords: None, factors: None }
    }

    /// Names with passwords, too.
    #[must_use]
    pub fn with_passwords(self, passwords: Passwords) -> Self {
        Self { passwords: Some(passwords), ..self }
    }

    /// Further factors, too.
    #[must_use]
    pub fn with_factors(self, factors: Arc<SecondFactors>) -> Self {
        Self { factors: Some(factors), ..self }
    }

    /// The part that verifies Kerberos tickets: what keeps it from that, and what it goes by.
    #[must_use]
    pub const fn tickets(&self) -> &TicketVerifier {
        &self.tickets
    }

    /// The part that verifies names with passwords, if there is one.
    #[must_use]
    pub const fn passwords(&self) -> Option<&Passwords> {
        self.passwords.as_ref()
    }

    /// What credentials prove that were found to be right a moment ago, from this client. Nobody is asked, and nothing waits. Not
    /// for those of Negotiate: they are good once.
    #[must_use]
    pub fn recall(&self, credentials: &Credentials, client: ClientAddr, arrival: BootTime) -> Option<Proved> {
        let Credentials::Basic { user, password } = credentials else { return None };
        self.passwords()?.recall(user, password, client, arrival)
    }

    /// Whether what proves somebody at the proxy is enough there. Ask it of all that [`Self::recall`] and [`Self::verify`] return,
    /// before anything is done in the user's name: where a second factor is set up, the account's own password is not, since
    /// whoever has got it could go without the factor. It is no try, and nobody is banned for it.
    ///
    /// # Errors
    /// Where it is not enough: what the client is told. [`Self::tell_insufficient`] tells the operator.
    pub fn suffices(&self, proved: &Proved) -> Result<(), Rejection> {
        let is_enough = |factors: &Arc<SecondFactors>| factors.password_is_enough(&proved.identity);
        if proved.method != Method::Password || self.factors.as_ref().is_none_or(is_enough) {
            return Ok(());
        }
        let cause = Cause::Password(password::Cause::SecondFactor);
        let why = format!("the account's own password was sent: {}", cause.remedy());
        Err(Rejection { cause, why, answer: None })
    }

    /// Puts it into the audit trail, once an hour for a user at an address.
    pub fn tell_insufficient(&self, proved: &Proved, client: ClientAddr) {
        if let Some(factors) = &self.factors {
            factors.refuse_password(&proved.identity, client, proved.at);
        }
    }

    /// Whose credentials these are.
    pub async fn verify(&self, credentials: Credentials, context: Context) -> Outcome {
        let Context { client, accepts, handshake, channel, arrival } = context;
        if !credentials.scheme().is_some_and(|scheme| accepts.has(scheme)) {
            return Outcome::Failed(Failure::Rejected(self.refuse(&credentials)));
        }
        match (credentials, &self.passwords) {
            (Credentials::Negotiate(token), _) => {
                self.accept(Attempt { handshake, token, channel }, arrival).await
            }
            (Credentials::Basic { user, password }, Some(passwords)) => {
                match passwords.verify(&user, password, Place::Proxy, client, arrival).await {
                    Ok(proved) => Outcome::Proved(proved),
                    Err(failure) => Outcome::Failed(failure),
                }
            }
            (Credentials::Malformed(Malformed::Basic(bad)), Some(passwords)) => {
                Outcome::Failed(passwords.refuse(&bad))
            }
            (other, _) => Outcome::Failed(Failure::Rejected(self.refuse(&other))),
        }
    }

    /// Who a ticket is of.
    async fn accept(&self, attempt: Attempt, arrival: BootTime) -> Outcome {
        match self.tickets.verify(attempt).await {
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

    /// Why credentials are refused that are of a scheme which is not accepted, or that nothing can be made of.
    pub fn refuse(&self, credentials: &Credentials) -> Rejection {
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
        Rejection { cause, why: format!("{why}: {}", cause.remedy()), answer: None }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::auth::kerberos::Cause as Kerberos;
    use crate::auth::kerberos::negotiate::{Acceptor, Counters, Details};
    use crate::auth::outcome::Rejection;
    use crate::types::Identity;

    /// `again` needs another token, `no` is refused, everything else proves alice.
    struct Fake;

    impl Acceptor for Fake {
        fn accept(
            &self,
            handshake: Option<Handshake>,
            token: &[u8],
            channel: &Channel,
        ) -> Result<Progress, Failure> {
            match token {
                b"again" => {
                    Ok(Progress::Continue { handshake: Handshake::new(7_u8), answer: b"more".to_vec() })
                }
                b"no" => Err(Failure::rejected(Kerberos::Expired, "it has ended")),
                _ => {
                    let goes_on = handshake.and_then(Handshake::into::<u8>) == Some(7);
                    let details = Details::of_nothing();
                    let Channel::Named(name) = channel else { panic!("{channel:?}") };
                    let answer = [&[u8::from(goes_on)], &name[..]].concat();
                    let identity = Identity::new("alice", "R.TEST", "");
                    Ok(Progress::Proved { identity, answer: Some(answer), details: Box::new(details) })
                }
            }
        }
    }

    fn verifier(registry: &prometheus::Registry) -> Verifier {
        let counters = Counters::new(registry).unwrap();
        Verifier::new(TicketVerifier::with(Arc::new(Fake), 1, 4, counters).unwrap())
    }

    fn context(handshake: Option<Handshake>) -> Context {
        Context {
            client: Ipv4Addr::LOCALHOST.into(),
            accepts: Schemes::NEGOTIATE,
            handshake,
            channel: Channel::Named(b"tls"[..].into()),
            arrival: BootTime::from_nanos(42),
        }
    }

    #[tokio::test]
    async fn a_ticket_proves_by_kerberos_without_a_further_factor_from_when_it_came() {
        let verifier = verifier(&prometheus::Registry::new());
        let negotiate = |token: &[u8]| Credentials::Negotiate(token.to_vec());
        let Outcome::Continue { handshake, answer } =
            verifier.verify(negotiate(b"again"), context(None)).await
        else {
            panic!("a handshake goes on");
        };
        assert_eq!(answer, b"more");
        let Outcome::Proved(proof) = verifier.verify(negotiate(b"x"), context(Some(handshake))).await else {
            panic!("alice is proved");
        };
        assert_eq!(
            (proof.identity.user(), proof.method, proof.factors),
            ("alice", Method::Kerberos, Factors::NONE)
        );
        assert_eq!((proof.at, proof.ticket.is_some()), (BootTime::from_nanos(42), true));
        // The handshake and the channel have come through.
        assert_eq!(proof.mutual.as_deref(), Some(&b"\x01tls"[..]));
        let Outcome::Failed(failure) = verifier.verify(negotiate(b"no"), context(None)).await else {
            panic!("it is refused");
        };
        assert_eq!((failure.label(), failure.to_string().as_str()), ("expired", "it has ended"));
    }

    #[tokio::test]
    async fn what_is_not_offered_or_malformed_is_refused_for_its_cause_and_counted() {
        let registry = prometheus::Registry::new();
        let verifier = verifier(&registry);
        for (field, cause, words) in [
            ("Basic YTpzZWNyZXQ=", Cause::Scheme, "the scheme \"Basic\" was used, which is not offered: "),
            ("Basic %", Cause::Scheme, "the scheme \"Basic\" was used"),
            ("Bearer c2VjcmV0", Cause::Scheme, "the scheme \"Bearer\" was used"),
            ("ntlm c2VjcmV0", Kerberos::Ntlm.into(), "the scheme \"ntlm\" was used"),
            ("Negotiate", Kerberos::Garbage.into(), "the Negotiate token is empty"),
            ("Negotiate %", Kerberos::Garbage.into(), "not base64"),
        ] {
            let outcome = verifier.verify(Credentials::parse(field.as_bytes()), context(None)).await;
            let Outcome::Failed(Failure::Rejected(Rejection { cause: found, why, answer: None })) = outcome
            else {
                panic!("{field}: {outcome:?}");
            };
            assert_eq!(found, cause, "{field}");
            assert!(why.starts_with(words) || why.contains(words), "{field}: {why}");
            assert!(
                why.ends_with(cause.remedy()) && !why.contains("secret") && !why.contains("c2V"),
                "{why}"
            );
        }
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for (label, count) in [("scheme", 3), ("ntlm", 1), ("garbage", 2)] {
            let line = format!("tracker_negotiate_refused_total{{cause=\"{label}\"}} {count}\n");
            assert!(text.contains(&line), "{line}: {text}");
        }
    }
}
