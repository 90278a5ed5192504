//! The judge's reader on messages whose meaning is known.

use super::*;

/// What a strict and a mending reader make of requests: how many there are, and why no more.
fn read(text: &str) -> [(usize, Stop); 2] {
    [STRICT, MENDED].map(|allowed| {
        let reading = requests(text.as_bytes(), allowed);
        (reading.whole.len(), reading.stop)
    })
}

#[test]
fn good_requests() {
    for (text, count, stop) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1, Stop::End),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2, Stop::End),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 1, Stop::End),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabc", 0, Stop::Incomplete),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET", 1, Stop::Incomplete),
        ("GET / HTTP/1.0\r\n\r\nanything", 1, Stop::Closes),
        ("GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n", 1, Stop::End),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /", 1, Stop::Closes),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3;a;b=c; d=\"e\\\"\"\r\nabc\r\n00\r\nT: v\r\n\r\n",
            1,
            Stop::End,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
            1,
            Stop::End,
        ),
    ] {
        assert_eq!(read(text), [(count, stop); 2], "{text:?}");
    }
}

#[test]
fn requests_that_can_be_mended() {
    for (line, mend) in [
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Mend::BareLf),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Mend::LineSpace),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Mend::LineSpace),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Mend::EmptyLines),
        ("GET /\" HTTP/1.1\r\nHost: a\r\n\r\n", Mend::TargetChars),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Mend::Minor),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", Mend::Fold),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\0\r\n\r\n", Mend::Nul),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\x01\r\n\r\n", Mend::Control),
        ("GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", Mend::BareCr),
        ("GET / HTTP/1.1\r\n\r\n", Mend::Host),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", Mend::Host),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", Mend::Host),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", Mend::Length),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1,\r\n\r\na", Mend::EmptyMember),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
            Mend::Extension,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;\r\na\r\n0\r\n\r\n",
            Mend::Extension,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\x01b\r\na\r\n0\r\n\r\n",
            Mend::ChunkControl,
        ),
    ] {
        let [strict, mended] = read(line);
        assert!(matches!(strict, (0, Stop::Invalid(_))), "{line:?}: {strict:?}");
        assert_eq!(mended, (1, Stop::End), "{line:?}");
        let reading = requests(line.as_bytes(), MENDED);
        assert_eq!(reading.whole[0].mends, Mends::from([mend]), "{line:?}");
    }
    let both = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
    assert_eq!(read(both), [(0, Stop::Invalid("both framings")), (1, Stop::Closes)]);
}

#[test]
fn requests_that_mean_nothing() {
    for text in [
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;\r\r\na\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\na\r\n0\r\n\r\n",
    ] {
        let found = read(text);
        assert!(
            found.iter().all(|(count, stop)| *count == 0 && matches!(stop, Stop::Invalid(_))),
            "{text:?}: {found:?}"
        );
    }
}

#[test]
fn where_answers_end() {
    let get: &[&[u8]] = &[b"GET", b"GET"];
    let head: &[&[u8]] = &[b"HEAD", b"GET"];
    let behind = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for (methods, text, body) in [
        (get, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc"),
        (get, "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc"),
        (
            get,
            "HTTP/1.1 103 Early\r\nContent-Length: 9\r\n\r\nHTTP/1.1 204 No\r\nContent-Length: 9\r\n\r\n",
            "",
        ),
        (get, "HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", ""),
        (head, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", ""),
        (head, "HTTP/1.1 200 OK\r\n\r\n", ""),
    ] {
        let reading = answers(format!("{text}{behind}").as_bytes(), methods, true, STRICT);
        let finals: Vec<_> = reading.whole.iter().filter(|answer| !answer.is_interim()).collect();
        assert_eq!(finals.len(), 2, "{text:?}: {reading:?}");
        assert_eq!(
            (finals[0].body.as_slice(), finals[1].body.as_slice()),
            (body.as_bytes(), &b"ok"[..]),
            "{text:?}"
        );
        assert_eq!(reading.stop, Stop::End, "{text:?}");
    }
    let to_the_end = "HTTP/1.1 200 OK\r\n\r\nabc";
    for (ended, whole) in [(true, 1), (false, 0)] {
        let reading = answers(to_the_end.as_bytes(), get, ended, STRICT);
        assert_eq!((reading.whole.len(), reading.part.is_some()), (whole, !ended));
    }
    let mended = |text: &str, mend| {
        assert!(answers(text.as_bytes(), get, true, STRICT).whole.is_empty(), "{text:?}");
        let reading = answers(text.as_bytes(), get, true, MENDED);
        assert_eq!(reading.whole[0].mends, Mends::from([mend]), "{text:?}");
    };
    mended("HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n", Mend::Colon);
    mended("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", Mend::LineSpace);
    mended("HTTP/1.3 200 OK\r\nContent-Length: 0\r\n\r\n", Mend::Minor);
    mended("HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n", Mend::Status);
}
