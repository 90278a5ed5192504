//! Which ports of origins a request or a tunnel may go to.

use http::StatusCode;

use super::access::Entry;
use super::destination::Destination;
use super::exchange::{Peer, Reply};
use crate::audit::{Ground, Refusal};
use crate::types::{PortRange, UserMessage};

/// Where something else than HTTP and TLS is spoken, so that a request's lines could be taken for commands: browsers do
/// not go there either (the "bad ports" of the Fetch standard, section 2.9). No range opens one of them; who means it names it.
const OTHER_PROTOCOLS: [u16; 82] = [
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104,
    109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515,
    526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049,
    3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Whether a port is open: named by itself, or in a range and not one of [`OTHER_PROTOCOLS`].
pub(super) fn are_open(ranges: &[PortRange], port: u16) -> bool {
    let of_another_protocol = || OTHER_PROTOCOLS.binary_search(&port).is_ok();
    ranges.iter().any(|range| range.has(port) && (range.is_one() || !of_another_protocol()))
}

/// The answer to a request for a port that is not open, which is counted and told in the audit trail.
pub(super) fn closed(peer: &Peer, entry: &Entry, destination: &Destination, message: &UserMessage) -> Reply {
    let shared = &peer.worker().shared;
    shared.stats.destinations_refused.inc();
    let why = format!("{}: {}", destination.key, message.as_str());
    shared.gate.refused(&Refusal::of_request(peer.address(), Ground::Port, entry.user(), &why));
    Reply::new(StatusCode::FORBIDDEN, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{CONNECT_PORTS, FORWARD_PORTS};

    #[test]
    fn the_defaults() {
        for port in [80, 443, 1025, 3000, 8080, 8443, 65535] {
            assert!(are_open(&FORWARD_PORTS, port), "{port}");
        }
        for port in [1, 21, 22, 25, 81, 110, 143, 445, 587, 1024, 2049, 4190, 5060, 6000, 6667, 6697, 10080] {
            assert!(!are_open(&FORWARD_PORTS, port), "{port}");
        }
        assert!(are_open(&CONNECT_PORTS, 443) && !are_open(&CONNECT_PORTS, 8443));
    }

    #[test]
    fn a_port_of_another_protocol_is_open_where_it_is_named_by_itself() {
        let all = PortRange { first: 1, last: u16::MAX };
        assert!(OTHER_PROTOCOLS.is_sorted());
        for port in OTHER_PROTOCOLS {
            assert!(!are_open(&[all], port), "{port}");
            assert!(are_open(&[all, PortRange::one(port)], port), "{port}");
        }
        assert!(are_open(&[all], 24));
    }
}
