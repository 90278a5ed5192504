//! What the proxy counts. No label carries a user or an address.

use std::collections::BTreeMap;

use http::StatusCode;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::limits::Why;
use super::{balancer, handshakes};

/// Counters and gauges; cheap to clone, all clones are the same ones.
#[derive(Clone, Debug)]
pub struct Stats {
    requests: IntCounterVec,
    by_class: [IntCounter; 6],
    proofs: IntCounterVec,
    /// Connections accepted from clients.
    pub connections: IntCounter,
    /// Connections from clients on which nobody was served because the observer does not see them.
    pub connections_unseen: IntCounter,
    /// Connections from clients that are open.
    pub connections_open: IntGauge,
    /// Tunnels that are open.
    pub tunnels_open: IntGauge,
    /// Content bytes received from clients, in requests and tunnels.
    pub bytes_received: IntCounter,
    /// Content bytes sent to clients, in responses and tunnels.
    pub bytes_sent: IntCounter,
    /// Requests answered with 407.
    pub challenges: IntCounter,
    /// Passwords that came without TLS where none is asked for.
    pub passwords_in_the_clear: IntCounter,
    /// Credentials that proved a user.
    pub proofs_accepted: IntCounter,
    /// Credentials that proved nothing.
    pub proofs_refused: IntCounter,
    /// Handshakes that need another leg.
    pub proofs_continued: IntCounter,
    /// Credentials that were not looked at because the queue was full or slow.
    pub proofs_busy: IntCounter,
    /// Credentials that could not be looked at: the keytab or the replay cache is at fault.
    pub proofs_unavailable: IntCounter,
    /// Good proofs that were not admitted: licences, or the client cannot be tracked.
    pub proofs_not_admitted: IntCounter,
    /// Connections made to origins.
    pub origins_connected: IntCounter,
    /// Requests sent on a connection that was open already.
    pub origins_reused: IntCounter,
    /// Connections to origins that wait for another request.
    pub origins_idle: IntGauge,
    /// Lines of the access log that were given up.
    pub access_lost: IntCounter,
    /// Destinations that were refused.
    pub destinations_refused: IntCounter,
    /// Destinations of which the kernel did not say where they lead, and which were not connected to.
    pub destinations_unknown: IntCounter,
    handshakes: IntCounterVec,
    turned_away: IntCounterVec,
    turned_away_by: BTreeMap<Why, IntCounter>,
    proxy_headers: IntCounterVec,
    proxy_headers_by: BTreeMap<balancer::Outcome, IntCounter>,
    /// Connections that were ended, idle and unproved, to make room.
    pub shed: IntCounter,
    /// Sources whose connections only failed, and that were refused for a while.
    pub penalties: IntCounter,
    /// Connections that were ended since too much of unfinished heads was in memory.
    pub heads_ended: IntCounter,
    /// Idle connections to origins that were closed since there were too many, or descriptors short.
    pub origins_given_up: IntCounter,
    /// Requests that the conditions did not offer Kerberos to, and that had no session.
    pub not_offered: IntCounter,
    /// Requests that were led to the page where people log in.
    pub led_to_login: IntCounter,
    /// Requests and tunnels to the gateway's own pages. They are in no other count of requests or bytes.
    pub own_pages: IntCounter,
}

impl Stats {
    /// All at 0.
    ///
    /// # Errors
    /// Never with these names; passed on from the library.
    pub fn new() -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new("tracker_proxy_requests_total", "Requests answered, by class of status"),
            &["class"],
        )?;
        let class = |class: &str| requests.get_metric_with_label_values(&[class]);
        let by_class =
            [class("aborted")?, class("1xx")?, class("2xx")?, class("3xx")?, class("4xx")?, class("5xx")?];
        let proofs = IntCounterVec::new(
            Opts::new("tracker_proxy_proofs_total", "Credentials offered by clients, by what they came to"),
            &["result"],
        )?;
        let turned_away = IntCounterVec::new(
            Opts::new("tracker_proxy_turned_away_total", "Connections that found no room, by what was short"),
            &["why"],
        )?;
        let handshakes = IntCounterVec::new(
            Opts::new(
                "tracker_tls_handshakes_total",
                "TLS handshakes that clients began, by what they came to",
            ),
            &["outcome"],
        )?;
        for outcome in handshakes::Outcome::ALL {
            // Known from the start, at 0.
            handshakes.get_metric_with_label_values(&[outcome.label()])?;
        }
        let turned_away_by = Why::ALL
            .into_iter()
            .map(|(why, label)| Ok((why, turned_away.get_metric_with_label_values(&[label])?)))
            .collect::<prometheus::Result<_>>()?;
        let proxy_headers = IntCounterVec::new(
            Opts::new(
                "tracker_proxy_protocol_total",
                "Connections of balancers by what came of their PROXY header",
            ),
            &["outcome"],
        )?;
        let proxy_headers_by = balancer::Outcome::ALL
            .into_iter()
            .map(|(outcome, label)| Ok((outcome, proxy_headers.get_metric_with_label_values(&[label])?)))
            .collect::<prometheus::Result<_>>()?;
        let proof = |result: &str| proofs.get_metric_with_label_values(&[result]);
        Ok(Self {
            by_class,
            proofs_accepted: proof("accepted")?,
            proofs_refused: proof("refused")?,
            proofs_continued: proof("continued")?,
            proofs_busy: proof("busy")?,
            proofs_unavailable: proof("unavailable")?,
            proofs_not_admitted: proof("not_admitted")?,
            requests,
            proofs,
            handshakes,
            turned_away,
            turned_away_by,
            proxy_headers,
            proxy_headers_by,
            shed: IntCounter::new(
                "tracker_proxy_shed_total",
                "Connections ended to make room: nothing was served on them, and nobody had proved anything",
            )?,
            penalties: IntCounter::new(
                "tracker_proxy_penalties_total",
                "Sources that were refused for a while because all their connections failed",
            )?,
            heads_ended: IntCounter::new(
                "tracker_proxy_heads_ended_total",
                "Connections ended because unfinished heads, or unfinished messages and records of TLS, took too much memory in all",
            )?,
            origins_given_up: IntCounter::new(
                "tracker_proxy_origin_given_up_total",
                "Idle connections to origins closed because there were too many, or descriptors short",
            )?,
            connections: IntCounter::new(
                "tracker_proxy_connections_total",
                "Connections accepted from clients",
            )?,
            connections_unseen: IntCounter::new(
                "tracker_proxy_connections_unseen_total",
                "Connections from clients on which nobody was served because the observer did not see them",
            )?,
            connections_open: IntGauge::new(
                "tracker_proxy_connections_open",
                "Connections from clients that are open",
            )?,
            tunnels_open: IntGauge::new("tracker_proxy_tunnels_open", "Tunnels that are open")?,
            bytes_received: IntCounter::new(
                "tracker_proxy_received_bytes_total",
                "Content bytes received from clients, in requests and tunnels",
            )?,
            bytes_sent: IntCounter::new(
                "tracker_proxy_sent_bytes_total",
                "Content bytes sent to clients, in responses and tunnels",
            )?,
            challenges: IntCounter::new("tracker_proxy_challenges_total", "Requests answered with 407")?,
            passwords_in_the_clear: IntCounter::new(
                "tracker_proxy_passwords_in_the_clear_total",
                "Requests with a password that came without TLS where none is asked for",
            )?,
            origins_connected: IntCounter::new(
                "tracker_proxy_origin_connections_total",
                "Connections made to origins",
            )?,
            origins_reused: IntCounter::new(
                "tracker_proxy_origin_reuses_total",
                "Requests sent on an origin's connection that was open already",
            )?,
            origins_idle: IntGauge::new(
                "tracker_proxy_origin_connections_idle",
                "Connections to origins that wait for another request",
            )?,
            access_lost: IntCounter::new(
                "tracker_access_log_lost_total",
                "Lines of the access log that were given up because its reader was too slow",
            )?,
            destinations_refused: IntCounter::new(
                "tracker_proxy_destinations_refused_total",
                "Requests to destinations that the gateway does not reach out to",
            )?,
            destinations_unknown: IntCounter::new(
                "tracker_proxy_destinations_unknown_total",
                "Requests refused because the kernel did not say where their destination leads",
            )?,
            not_offered: IntCounter::new(
                "tracker_proxy_not_offered_total",
                "Requests refused because the conditions did not offer them Kerberos",
            )?,
            led_to_login: IntCounter::new(
                "tracker_proxy_led_to_login_total",
                "Requests for pages that were redirected to the portal to log in",
            )?,
            own_pages: IntCounter::new(
                "tracker_proxy_portal_requests_total",
                "Requests and tunnels through the proxy to the portal, which are in no other count",
            )?,
        })
    }

    /// Makes them visible.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.requests.clone()))?;
        registry.register(Box::new(self.proofs.clone()))?;
        registry.register(Box::new(self.handshakes.clone()))?;
        registry.register(Box::new(self.turned_away.clone()))?;
        registry.register(Box::new(self.proxy_headers.clone()))?;
        registry.register(Box::new(self.connections_open.clone()))?;
        registry.register(Box::new(self.tunnels_open.clone()))?;
        registry.register(Box::new(self.origins_idle.clone()))?;
        for counter in [
            &self.connections,
            &self.connections_unseen,
            &self.bytes_received,
            &self.bytes_sent,
            &self.challenges,
            &self.passwords_in_the_clear,
            &self.origins_connected,
            &self.origins_reused,
            &self.access_lost,
            &self.destinations_refused,
            &self.destinations_unknown,
            &self.not_offered,
            &self.led_to_login,
            &self.own_pages,
            &self.shed,
            &self.penalties,
            &self.heads_ended,
            &self.origins_given_up,
        ] {
            registry.register(Box::new(counter.clone()))?;
        }
        Ok(())
    }

    /// Counts a connection that found no room.
    pub(super) fn turned_away(&self, why: Why) {
        if let Some(counter) = self.turned_away_by.get(&why) {
            counter.inc();
        }
    }

    /// Counts a TLS handshake.
    pub(super) fn handshake(&self, outcome: handshakes::Outcome) {
        if let Ok(counter) = self.handshakes.get_metric_with_label_values(&[outcome.label()]) {
            counter.inc();
        }
    }

    /// Counts a connection that began with a header, or should have.
    pub(super) fn proxy_header(&self, outcome: balancer::Outcome) {
        if let Some(counter) = self.proxy_headers_by.get(&outcome) {
            counter.inc();
        }
    }

    /// How many handshakes came to this.
    #[cfg(test)]
    pub(super) fn handshakes(&self, outcome: handshakes::Outcome) -> u64 {
        self.handshakes.with_label_values(&[outcome.label()]).get()
    }

    /// How many came to this so far.
    #[cfg(test)]
    pub(super) fn proxy_headers(&self, outcome: balancer::Outcome) -> u64 {
        self.proxy_headers_by[&outcome].get()
    }

    /// Counts one answer; `None` is a request that ended without one.
    pub(super) fn answered(&self, status: Option<StatusCode>) {
        let class = status.map_or(0, |status| usize::from(status.as_u16() / 100));
        if let Some(counter) = self.by_class.get(class) {
            counter.inc();
        }
    }
}

/// Adds one to a gauge while it lives.
#[derive(Debug)]
pub(super) struct Held(IntGauge);

impl Held {
    pub(super) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_register_once_and_count() {
        let (stats, registry) = (Stats::new().unwrap(), Registry::new());
        stats.register(&registry).unwrap();
        assert!(stats.register(&registry).is_err());
        stats.answered(Some(StatusCode::PROXY_AUTHENTICATION_REQUIRED));
        stats.answered(None);
        stats.answered(StatusCode::from_u16(999).ok());
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains("tracker_proxy_requests_total{class=\"4xx\"} 1"), "{text}");
        assert!(text.lines().filter(|line| !line.starts_with('#')).all(|line| line.starts_with("tracker_")));
    }
}
