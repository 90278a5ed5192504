//! What the verifier counts. No label carries a user or an address.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use crate::auth::Cause;
use crate::auth::kerberos::token::Kind;
use crate::auth::kerberos::{self, enctype};

/// The encryption types that get a label of their own.
const ENCTYPES: [i32; 5] = [18, 17, 20, 19, 23];
/// All others.
const OTHER: &str = "other";

/// Counters; cheap to clone, all clones are the same ones.
#[derive(Clone, Debug)]
pub struct Counters {
    tokens: IntCounterVec,
    refused: IntCounterVec,
    tickets: IntCounterVec,
    replay_cache: IntCounter,
}

impl Counters {
    /// All at 0, and visible in `registry`.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counters = Self::hidden()?;
        for vec in [&counters.tokens, &counters.refused, &counters.tickets] {
            registry.register(Box::new(vec.clone()))?;
        }
        registry.register(Box::new(counters.replay_cache.clone()))?;
        Ok(counters)
    }

    /// The same, visible nowhere.
    ///
    /// # Errors
    /// Never with these names; passed on from the library.
    pub fn hidden() -> prometheus::Result<Self> {
        let vec = |name: &str, help: &str, label: &str, values: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), &[label])?;
            // Made at once: a rate is wrong for a counter that appears with its first event.
            for value in values {
                vec.get_metric_with_label_values(&[value])?;
            }
            Ok::<_, prometheus::Error>(vec)
        };
        let tokens = vec(
            "tracker_negotiate_tokens_total",
            "First tokens of handshakes, by what they are",
            "kind",
            &Kind::LABELS,
        )?;
        let refused = vec(
            "tracker_negotiate_refused_total",
            "Tokens that proved nothing, by the probable cause",
            "cause",
            &kerberos::Cause::ALL
                .map(kerberos::Cause::label)
                .into_iter()
                .chain([Cause::SCHEME])
                .collect::<Vec<_>>(),
        )?;
        let enctypes = ENCTYPES.iter().filter_map(|number| enctype::known(*number));
        let tickets = vec(
            "tracker_negotiate_tickets_total",
            "Accepted tickets, by the encryption type of the service's key",
            "enctype",
            &enctypes.chain([OTHER]).collect::<Vec<_>>(),
        )?;
        let replay_cache = IntCounter::new(
            "tracker_negotiate_replay_cache_errors_total",
            "Tokens that could not be verified because the record of used tokens could not be used",
        )?;
        Ok(Self { tokens, refused, tickets, replay_cache })
    }

    pub(super) fn token(&self, kind: Kind) {
        self.tokens.with_label_values(&[kind.label()]).inc();
    }

    pub(in crate::auth) fn refused(&self, cause: Cause) {
        self.refused.with_label_values(&[cause.label()]).inc();
    }

    pub(super) fn replay_cache_failed(&self) {
        self.replay_cache.inc();
    }

    pub(super) fn ticket(&self, number: i32) {
        let known = enctype::known(number).filter(|_| ENCTYPES.contains(&number));
        self.tickets.with_label_values(&[known.unwrap_or(OTHER)]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_cause_is_there_from_the_start() {
        let registry = Registry::new();
        let counters = Counters::new(&registry).unwrap();
        counters.token(Kind::Spnego { kerberos: true, ntlm: true });
        counters.token(Kind::Ntlm);
        counters.refused(kerberos::Cause::Ntlm.into());
        counters.refused(Cause::Scheme);
        counters.ticket(18);
        counters.ticket(99);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "tracker_negotiate_tokens_total{kind=\"spnego\"} 1",
            "tracker_negotiate_tokens_total{kind=\"ntlm\"} 1",
            "tracker_negotiate_tokens_total{kind=\"garbage\"} 0",
            "tracker_negotiate_refused_total{cause=\"ntlm\"} 1",
            "tracker_negotiate_refused_total{cause=\"scheme\"} 1",
            "tracker_negotiate_refused_total{cause=\"replay\"} 0",
            "tracker_negotiate_tickets_total{enctype=\"aes256-cts-hmac-sha1-96\"} 1",
            "tracker_negotiate_tickets_total{enctype=\"other\"} 1",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(Counters::new(&registry).is_err());
    }
}
