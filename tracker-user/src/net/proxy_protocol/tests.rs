//! What is a header, and what is none, in whatever pieces it comes.

use std::time::Duration;

use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::*;

/// A header of version 2 with this command, family, addresses and additions.
fn binary(command: u8, family: u8, addresses: &[u8], additions: &[u8]) -> Vec<u8> {
    let length = u16::try_from(addresses.len() + additions.len()).unwrap().to_be_bytes();
    [v2::BEGIN, &[command, family], &length, addresses, additions].concat()
}

const ADDRESSES: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 0x0c, 0x38];

fn client() -> Header {
    Header::Client("192.0.2.7:4660".parse().unwrap())
}

fn addition(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &u16::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat()
}

/// A header with its checksum, which the last addition has room for.
fn summed(mut header: Vec<u8>) -> Vec<u8> {
    let place = header.len() - 4;
    let sum = v2::crc32c(&header, place).to_be_bytes();
    header[place..].copy_from_slice(&sum);
    header
}

fn good() -> Vec<(Vec<u8>, Header)> {
    let six = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 16], &[1, 0, 0, 0]].concat();
    let six_client = Header::Client("[2001:db8::7]:256".parse().unwrap());
    let mapped = Header::Client("[::ffff:192.0.2.7]:4660".parse().unwrap());
    let additions = [addition(2, b"www.example.test"), addition(0x20, &[1; 40]), addition(4, &[])].concat();
    vec![
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 3128\r\n".to_vec(), client()),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 256 3128\r\n".to_vec(), six_client),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 4660 3128\r\n".to_vec(), mapped),
        (binary(0x21, 0x11, &ADDRESSES, &[]), client()),
        (binary(0x21, 0x11, &ADDRESSES, &additions), client()),
        (binary(0x21, 0x11, &ADDRESSES, &addition(0xee, &[0; 533])), client()),
        (binary(0x21, 0x21, &six, &[]), six_client),
        (binary(0x20, 0x00, &[], &[]), Header::Local),
        (binary(0x20, 0x11, &ADDRESSES, &additions), Header::Local),
        (summed(binary(0x21, 0x11, &ADDRESSES, &[additions, addition(3, &[0; 4])].concat())), client()),
    ]
}

fn bad() -> Vec<(Vec<u8>, Refused)> {
    let malformed = Refused::Malformed;
    let long = format!("PROXY TCP6 {} 1 2\r\n", "1".repeat(100));
    vec![
        (b"GET http://a.test/ HTTP/1.1\r\n\r\n".to_vec(), Refused::Missing),
        (b"\x16\x03\x01\x02\x00".to_vec(), Refused::Missing),
        (b"PROXYx".to_vec(), Refused::Missing),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), Refused::Missing),
        (b"PROXY UNKNOWN\r\n".to_vec(), Refused::Unknown),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), Refused::Unknown),
        (
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 3128\n".to_vec(),
            malformed("its line does not end with CR LF"),
        ),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 +466 3128\r\n".to_vec(), malformed("it has a bad port")),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 0466 3128\r\n".to_vec(), malformed("it has a bad port")),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 65536\r\n".to_vec(), malformed("it has a bad port")),
        (b"PROXY TCP4 192.0.2.07 198.51.100.1 4660 3128\r\n".to_vec(), malformed("it has a bad address")),
        (b"PROXY TCP4 2001:db8::7 2001:db8::1 4660 3128\r\n".to_vec(), malformed("it has a bad address")),
        (b"PROXY TCP4  192.0.2.7 198.51.100.1 4660 3128\r\n".to_vec(), malformed("it has a bad address")),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 4660\r\n".to_vec(), malformed("something is missing in it")),
        (
            b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 1 2\r\n".to_vec(),
            malformed("something follows its ports"),
        ),
        (
            b"PROXY UDP4 192.0.2.7 198.51.100.1 4660 3128\r\n".to_vec(),
            malformed("it is of no known protocol"),
        ),
        (b"PROXY \xff\xff\xff\xff\xff\xff\xff\r\n".to_vec(), malformed("its line is not ASCII")),
        (long.into_bytes(), malformed("its line has no end")),
        (binary(0x31, 0x11, &ADDRESSES, &[]), malformed("it is of no known version or command")),
        (binary(0x22, 0x11, &ADDRESSES, &[]), malformed("it is of no known version or command")),
        (binary(0x21, 0x12, &ADDRESSES, &[]), malformed("it is of a datagram")),
        (binary(0x21, 0x41, &ADDRESSES, &[]), malformed("it is of no known family or protocol")),
        (binary(0x21, 0x00, &[], &[]), Refused::Unknown),
        (binary(0x21, 0x31, &[0; 216], &[]), Refused::Unknown),
        (binary(0x21, 0x11, &ADDRESSES[..11], &[]), malformed("its addresses are cut")),
        (binary(0x21, 0x21, &ADDRESSES, &[]), malformed("its addresses are cut")),
        (binary(0x21, 0x11, &ADDRESSES, &[4, 0]), v2_cut()),
        (binary(0x21, 0x11, &ADDRESSES, &[4, 0, 9, 1]), v2_cut()),
        (binary(0x21, 0x11, &ADDRESSES, &addition(3, &[0; 4])), malformed("its checksum is wrong")),
        (binary(0x21, 0x11, &ADDRESSES, &addition(3, &[0; 3])), malformed("its checksum is none")),
        (binary(0x21, 0x11, &ADDRESSES, &addition(4, &[0; 600])), malformed("it is too long")),
    ]
}

fn v2_cut() -> Refused {
    Refused::Malformed("what it adds is longer than it says")
}

/// Takes a header off the front of what comes, as the reader does: of what has come, these many bytes at a time.
fn take(bytes: &[u8], mut come: impl FnMut() -> usize) -> Result<Option<(Header, usize)>, Refused> {
    let mut taken = 0;
    let mut there = 0;
    loop {
        let certain = match parse(&bytes[..taken])? {
            Parsed::Done(header) => return Ok(Some((header, taken))),
            Parsed::More(more) => more,
            Parsed::Line(most) => {
                let seen = &bytes[taken..there.min(taken + most)];
                seen.iter().position(|byte| *byte == b'\n').map_or(seen.len(), |end| end + 1)
            }
        };
        if there == taken {
            if there == bytes.len() {
                return Ok(None);
            }
            there = (there + come()).min(bytes.len());
            continue;
        }
        taken += certain.min(there - taken);
    }
}

#[test]
fn headers_say_who_the_client_is_and_nothing_behind_them_is_taken() {
    for (header, expected) in good() {
        let length = header.len();
        for behind in [&b""[..], b"\n", b"GET http://a.test/ HTTP/1.1\r\n\r\n", b"\x16\x03\x01", &header] {
            let bytes = [&header, behind].concat();
            assert!(is_header(&bytes));
            for step in 1..=bytes.len() {
                assert_eq!(take(&bytes, || step), Ok(Some((expected, length))), "{bytes:?} by {step}");
            }
        }
        for cut in 0..length {
            assert_eq!(take(&header[..cut], || 1), Ok(None), "{header:?} up to {cut}");
        }
    }
}

#[test]
fn what_is_no_header_is_refused_however_it_comes() {
    for (bytes, expected) in bad() {
        for step in 1..=bytes.len() {
            assert_eq!(take(&bytes, || step), Err(expected), "{} by {step}", bytes.escape_ascii());
        }
    }
}

/// The check value of the polynomial's catalogue.
#[test]
fn the_checksum_is_crc_32c() {
    assert_eq!(v2::crc32c(b"123456789", 9), 0xe306_9283);
}

#[test]
fn only_an_address_that_a_client_may_have_is_one() {
    let via = "10.0.0.1:5".parse().unwrap();
    for (source, is_credible) in [
        ("192.0.2.7:1", true),
        ("169.254.1.1:1", true),
        ("[2001:db8::1]:1", true),
        ("[::ffff:192.0.2.7]:1", true),
        ("192.0.2.7:0", false),
        ("0.0.0.0:1", false),
        ("[::]:1", false),
        ("[::ffff:0.0.0.0]:1", false),
        ("127.0.0.1:1", false),
        ("[::1]:1", false),
        ("[::ffff:127.0.0.1]:1", false),
        ("224.0.0.1:1", false),
        ("[ff02::1]:1", false),
        ("255.255.255.255:1", false),
        ("[fe80::1]:1", false),
    ] {
        let caller = Caller::relayed(source.parse().unwrap(), via);
        assert_eq!(caller.is_ok(), is_credible, "{source}: {caller:?}");
    }
    let mapped = Caller::relayed("[::ffff:192.0.2.7]:9".parse().unwrap(), via).unwrap();
    let plain = Caller::direct("192.0.2.7:9".parse().unwrap()).unwrap();
    assert_eq!((mapped.client, mapped.peer, mapped.via), (plain.client, plain.peer, Some(via)));
}

#[tokio::test]
async fn of_a_connection_the_header_is_read_and_the_rest_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (header, expected) in good() {
        for cut in [0, 1, 6, 15, 16, header.len() - 1, header.len()] {
            let (far, near) =
                tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
            let (mut far, mut near) = (far.unwrap(), near.unwrap().0);
            far.set_nodelay(true).unwrap();
            let (first, rest) = header.split_at(cut);
            far.write_all(first).await.unwrap();
            if cut < header.len() {
                assert!(
                    timeout(Duration::from_millis(2), read(&mut near)).await.is_err(),
                    "{header:?} at {cut}"
                );
                // What was taken is gone: a read that is given up is not begun again.
                continue;
            }
            far.write_all(&[rest, b"PROXY \r\n"].concat()).await.unwrap();
            assert_eq!(read(&mut near).await, Ok(expected));
            let mut left = [0; 8];
            near.read_exact(&mut left).await.unwrap();
            assert_eq!(&left, b"PROXY \r\n");
        }
    }
}

#[tokio::test]
async fn a_connection_that_breaks_off_has_no_header() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (begin, expected) in [
        (&b""[..], Refused::Closed),
        (b"PROXY TCP4 192.0.2.7 ", Refused::Malformed("it breaks off")),
        (b"\r\n\r\n\0", Refused::Malformed("it breaks off")),
    ] {
        let (far, near) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut far, mut near) = (far.unwrap(), near.unwrap().0);
        far.write_all(begin).await.unwrap();
        drop(far);
        assert_eq!(timeout(Duration::from_secs(5), read(&mut near)).await.unwrap(), Err(expected));
    }
}

proptest! {
    /// Whatever comes, in whatever pieces: no more than a header is taken, and the pieces change nothing.
    #[test]
    fn whatever_comes_it_ends_and_the_pieces_do_not_matter(
        begin in prop::sample::select(vec![&b""[..], b"P", b"PROXY ", b"PROXY TCP4 ", v2::BEGIN, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00"]),
        noise in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\r\n .:0123456789".to_vec())], 0..700),
        pieces in prop::collection::vec(1..40_usize, 1..20),
    ) {
        let bytes = [begin, &noise].concat();
        let whole = take(&bytes, || usize::MAX / 2);
        let mut sizes = pieces.iter().cycle();
        prop_assert_eq!(&take(&bytes, || *sizes.next().unwrap()), &whole);
        if let Ok(Some((_, taken))) = whole {
            prop_assert!(taken <= v2::MAX);
        }
    }

    /// One bit more or less, and a header with a checksum is none.
    #[test]
    fn the_checksum_tells_every_flipped_bit(bit in 0..(16 + 12 + 7) * 8_usize) {
        let mut header = summed(binary(0x21, 0x11, &ADDRESSES, &addition(3, &[0; 4])));
        // What is not called a checksum is none.
        prop_assume!(bit / 8 != 16 + 12);
        header[bit / 8] ^= 1 << (bit % 8);
        let taken = take(&header, || 7);
        prop_assert!(!matches!(taken, Ok(Some((Header::Client(_), _)))), "{taken:?}");
    }
}
