//! What the verifier counts. No label carries a user or an address.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::cause::Cause;
use crate::auth::enctype;
use crate::auth::token::Kind;

/// The encryption types that get a label of their own; all others are `other`.
const ENCTYPES: [i32; 5] = [18, 17, 20, 19, 23];

/// Counters; cheap to clone, all clones are the same ones.
#[derive(Clone, Debug)]
pub struct Counters {
    tokens: IntCounterVec,
    refused: IntCounterVec,
    tickets: IntCounterVec,
    /// By the place of the encryption type in [`ENCTYPES`], and all others: looked up once.
    by_enctype: [IntCounter; ENCTYPES.len() + 1],
    spnego: IntCounter,
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
            &Cause::ALL.map(Cause::label),
        )?;
        let names = ENCTYPES.map(enctype::name);
        let [a, b, c, d, e] = names.each_ref().map(String::as_str);
        let tickets = vec(
            "tracker_negotiate_tickets_total",
            "Accepted tickets, by the encryption type of the service's key",
            "enctype",
            &[a, b, c, d, e, "other"],
        )?;
        let ticket = |label: &str| tickets.get_metric_with_label_values(&[label]);
        let by_enctype = [ticket(a)?, ticket(b)?, ticket(c)?, ticket(d)?, ticket(e)?, ticket("other")?];
        let spnego = tokens.get_metric_with_label_values(&[Kind::LABELS[1]])?;
        Ok(Self { tokens, refused, tickets, by_enctype, spnego })
    }

    pub(super) fn token(&self, kind: Kind) {
        match kind {
            Kind::Spnego { kerberos: true, .. } => self.spnego.inc(),
            kind => self.tokens.with_label_values(&[kind.label()]).inc(),
        }
    }

    pub(super) fn refused(&self, cause: Cause) {
        self.refused.with_label_values(&[cause.label()]).inc();
    }

    pub(super) fn ticket(&self, enctype: i32) {
        let at = ENCTYPES.iter().position(|known| *known == enctype).unwrap_or(ENCTYPES.len());
        if let Some(counter) = self.by_enctype.get(at) {
            counter.inc();
        }
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
        counters.refused(Cause::Ntlm);
        counters.ticket(18);
        counters.ticket(99);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "tracker_negotiate_tokens_total{kind=\"spnego\"} 1",
            "tracker_negotiate_tokens_total{kind=\"ntlm\"} 1",
            "tracker_negotiate_tokens_total{kind=\"garbage\"} 0",
            "tracker_negotiate_refused_total{cause=\"ntlm\"} 1",
            "tracker_negotiate_refused_total{cause=\"replay\"} 0",
            "tracker_negotiate_tickets_total{enctype=\"aes256-cts-hmac-sha1-96\"} 1",
            "tracker_negotiate_tickets_total{enctype=\"other\"} 1",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(Counters::new(&registry).is_err());
    }
}
