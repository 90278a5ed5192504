//! Where the gateway differs from what a message's authors or a lenient reader of the RFC would have, and why it may; and what
//! is known to be wrong. Each rule must fit something, so that none outlives its reason. The first that fits counts.

use super::judge::{Case, Fate, Wrong};
use super::wire::{Mend, Message, Stop, trim};

/// A difference that is meant, or a fault that is known.
pub(super) struct Rule {
    pub(super) name: &'static str,
    /// Why it is right so; or the issue that will mend it.
    pub(super) why: &'static str,
    pub(super) fits: fn(&Case<'_>, &Wrong) -> bool,
}

/// Differences that are meant.
pub(super) const ACCEPTED: &[Rule] = &[
    Rule {
        name: "what follows the message is none",
        why: "it went on and was answered; then come bytes for a protocol that the origin did not change to, or half a request",
        fits: |case, wrong| {
            is_not_delivered(wrong)
                && case.served
                && matches!(case.stop(), Stop::Invalid(_) | Stop::Incomplete)
        },
    },
    Rule {
        name: "tunnels",
        why: "CONNECT leads to its authors' hosts and ports: the lab has none of them, and what is in a tunnel is no HTTP to the gateway",
        fits: |case, wrong| {
            is_not_delivered(wrong)
                && is_request(case)
                && case.message.raw.windows(8).any(|at| at == b"CONNECT ")
        },
    },
    Rule {
        name: "no complete address of http",
        why: "an explicit proxy is asked for http://host/; all else is 400",
        fits: |case, wrong| {
            is_not_delivered(wrong) && is_request(case) && case.messages().any(|request| !is_http(request))
        },
    },
    Rule {
        name: "both framings in a request",
        why: "a server behind the gateway may read it otherwise (RFC 9112, 6.1)",
        fits: |case, wrong| is_not_delivered(wrong) && is_request(case) && case.needs(Mend::TwoFramings),
    },
    Rule {
        name: "another transfer coding than chunked",
        why: "nobody uses it; who applies it on the way and who does not is how requests are smuggled",
        fits: |case, wrong| is_not_delivered(wrong) && case.has_other_coding(),
    },
    Rule {
        name: "a transfer coding in HTTP/1.0",
        why: "its framing is faulty (RFC 9112, 6.1)",
        fits: |case, wrong| is_not_delivered(wrong) && case.fault == Some("a transfer coding in HTTP/1.0"),
    },
    Rule {
        name: "folded lines",
        why: "refused with 400 or 502, which RFC 9112, 5.2 leaves open",
        fits: |case, wrong| is_not_delivered(wrong) && case.needs(Mend::Fold),
    },
    Rule {
        name: "control characters in a request",
        why: "refused, which RFC 9110, 5.5 leaves open",
        fits: |case, wrong| {
            let needs = [Mend::Control, Mend::Nul, Mend::BareCr].into_iter().any(|mend| case.needs(mend));
            is_not_delivered(wrong) && is_request(case) && needs
        },
    },
    Rule {
        name: "field names that are no tokens",
        why: "the grammar knows none (RFC 9110, 5.1)",
        fits: |case, wrong| is_not_delivered(wrong) && case.fault == Some("a field name is no token"),
    },
    Rule {
        name: "not HTTP/1",
        why: "another protocol, no status line, or one that needs guessing",
        fits: |case, wrong| {
            is_not_delivered(wrong)
                && matches!(case.fate, Fate::Refused(400 | 502))
                && case.has_no_first_line()
        },
    },
    Rule {
        name: "half a message",
        why: "its authors try a parser on a part of it; an answer must look broken off to a client, and what comes behind a request completes it",
        fits: |case, wrong| matches!(wrong, Wrong::NotDelivered | Wrong::Delivered) && case.is_half,
    },
    Rule {
        name: "bare line feeds in chunk lines",
        why: "a chunk's line ends in CR LF; what others make of less is how messages are taken for one another",
        fits: |case, wrong| {
            is_not_delivered(wrong)
                && case.stop() == Stop::Invalid("a chunk's line ends in a line feed alone")
        },
    },
    Rule {
        name: "407 from an origin",
        why: "only a proxy may ask for credentials for itself: a client would show them to the origin",
        fits: |case, wrong| is_not_delivered(wrong) && case.answers_with(407),
    },
    Rule {
        name: "101 that nobody asked for",
        why: "the request has no Upgrade",
        fits: |case, wrong| is_not_delivered(wrong) && case.answers_with(101),
    },
    Rule {
        name: "what follows the last message is not read",
        why: "its authors call it invalid for bytes behind the end of the connection's last message",
        fits: |case, wrong| *wrong == Wrong::Delivered && case.has_more,
    },
    Rule {
        name: "large heads",
        why: "its authors' limit is below the gateway's 64 KiB",
        fits: |case, wrong| {
            let is_tiny = case.message.id.contains("max_incomplete_event_size");
            *wrong == Wrong::Delivered && (is_tiny || case.message.raw.len() > 8_000)
        },
    },
    Rule {
        name: "content in TRACE",
        why: "the framing is clear, and an origin may refuse it",
        fits: |case, wrong| {
            *wrong == Wrong::Delivered
                && case.messages().any(|request| request.line[0] == b"TRACE" && !request.body.is_empty())
        },
    },
    Rule {
        name: "handshakes of other protocols",
        why: "whether they are complete is between client and origin",
        fits: |case, wrong| *wrong == Wrong::Delivered && case.has("Upgrade"),
    },
    Rule {
        name: "Host that differs from the target",
        why: "the target counts, and Host is written anew (RFC 9112, 3.2.2)",
        fits: |case, wrong| *wrong == Wrong::Delivered && case.message.id.contains("h1_host_normalization"),
    },
    Rule {
        name: "methods of other protocols",
        why: "to HTTP, ANNOUNCE is a method like any other",
        fits: |case, wrong| {
            *wrong == Wrong::Delivered && case.messages().any(|request| request.line[0] == b"ANNOUNCE")
        },
    },
    Rule {
        name: "Max-Forwards: 0",
        why: "the proxy answers itself (RFC 9110, 7.6.2)",
        fits: |case, wrong| is_not_delivered(wrong) && is_request(case) && case.has("Max-Forwards"),
    },
    Rule {
        name: "answers that only curl minds",
        why: "Location twice, which means nothing to a proxy; and a good answer whose successor is HTTP/0.9",
        fits: |case, wrong| {
            *wrong == Wrong::Delivered && (case.has("Location") || case.message.id == "test1479:data")
        },
    },
];

/// Faults that are known: mended, they have to go.
pub(super) const KNOWN: &[Rule] = &[
    Rule {
        name: "HTTP/1.1 without Host, or with one that cannot be",
        why: "issue 17, C10: must be 400 (RFC 9112, 3.2); the gateway replaces it by the target's",
        fits: |case, wrong| *wrong == Wrong::NotRefused && case.needs(Mend::Host),
    },
    Rule {
        name: "control characters in chunk lines",
        why: "issue 17, C10: a form feed behind a size, and any of them in an extension, are passed over",
        fits: |case, wrong| *wrong == Wrong::NotRefused && case.needs(Mend::ChunkControl),
    },
    Rule {
        name: "white space before a colon in an answer",
        why: "issue 17, C6: 502; a proxy must take it out (RFC 9112, 5.1)",
        fits: |case, wrong| is_not_delivered(wrong) && !is_request(case) && case.needs(Mend::Colon),
    },
    Rule {
        name: "control characters in an answer",
        why: "issue 17, C6: 502, or cut off where they are in trailers; other proxies deliver it",
        fits: |case, wrong| is_not_delivered(wrong) && !is_request(case) && case.needs(Mend::Control),
    },
    Rule {
        name: "HTTP/1.2 in an answer",
        why: "issue 17, C6: 502; to be read as HTTP/1.1 (RFC 9110, 2.5)",
        fits: |case, wrong| is_not_delivered(wrong) && !is_request(case) && case.needs(Mend::Minor),
    },
    Rule {
        name: "more than 128 fields in an answer",
        why: "issue 17, C6: 502; other proxies deliver it",
        fits: |case, wrong| {
            is_not_delivered(wrong)
                && !is_request(case)
                && case.messages().any(|answer| answer.fields.len() > 128)
        },
    },
];

/// Messages that rules fit, and that no part may be without: corpus and id.
pub(super) const WITNESSES: &[(&str, &str)] = &[
    ("curl", "test341:data"),
    ("curl", "test772:data"),
    ("curl", "test580:data"),
    ("curl", "test1479:data"),
    ("curl", "test81:data1001"),
    ("curl", "test16:protocol"),
    ("curl", "test1482:data"),
    ("garden", "insert:2:57:0c"),
    ("respmut", "insert:0:18:20"),
    ("respmut", "insert:0:13:0b"),
];

fn is_not_delivered(wrong: &Wrong) -> bool {
    *wrong == Wrong::NotDelivered
}

fn is_request(case: &Case<'_>) -> bool {
    !case.message.is_answer
}

/// A target that begins with `http://` and a host.
fn is_http(request: &Message) -> bool {
    let target = &request.line[1];
    let scheme = b"http://".len();
    target.get(..scheme).is_some_and(|start| start.eq_ignore_ascii_case(b"http://"))
        && target.get(scheme).is_some_and(u8::is_ascii_alphanumeric)
        && !target.contains(&b'@')
}

impl Case<'_> {
    /// All heads that were understood.
    fn messages(&self) -> impl Iterator<Item = &Message> {
        self.reading.whole.iter().chain(&self.reading.part)
    }

    fn stop(&self) -> Stop {
        self.reading.stop
    }

    fn has(&self, name: &str) -> bool {
        self.messages().any(|message| message.field(name).is_some())
    }

    fn needs(&self, mend: Mend) -> bool {
        self.messages().any(|message| message.mends.contains(&mend))
    }

    fn has_other_coding(&self) -> bool {
        let is_other = |message: &Message| {
            message
                .field("Transfer-Encoding")
                .is_some_and(|coding| !trim(coding).eq_ignore_ascii_case(b"chunked"))
        };
        let faults = ["the last transfer coding is not chunked", "chunked is not the last transfer coding"];
        self.messages().any(is_other) || self.fault.is_some_and(|fault| faults.contains(&fault))
    }

    fn has_no_first_line(&self) -> bool {
        self.messages().next().is_none()
    }

    fn answers_with(&self, status: u16) -> bool {
        self.message.is_answer && self.messages().any(|answer| answer.status() == status)
    }
}
