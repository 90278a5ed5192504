//! What is sent through a tunnel: every stream can be told from every other, at every place.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::sleep;
use std::time::Duration;

/// As much as is written or read at once, at most.
const CHUNK: usize = 300_000;

/// The bytes of stream `seed` from `at` on.
pub(super) fn fill(seed: u64, at: usize, into: &mut [u8]) {
    for (offset, byte) in into.iter_mut().enumerate() {
        let position = (at + offset) as u64;
        let word = mix((position / 8) ^ (seed << 40));
        *byte = word.to_le_bytes()[position as usize % 8];
    }
}

fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// Sizes from one byte to many, as different as they come, and now and then a stall.
struct Whims(u64);

impl Whims {
    fn size(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let draw = (self.0 >> 33) as usize;
        if draw.is_multiple_of(40) {
            sleep(Duration::from_millis(draw as u64 % 7));
        }
        match draw % 4 {
            0 => 1 + draw % 200,
            1 => 1 + draw % 20_000,
            _ => 1 + draw % CHUNK,
        }
    }
}

/// Sends the first `length` bytes of stream `seed`, and ends it.
pub(super) fn send(mut to: &TcpStream, seed: u64, length: usize) {
    let (mut whims, mut buffer, mut sent) = (Whims(seed), vec![0; CHUNK], 0);
    while sent < length {
        let size = whims.size().min(length - sent);
        fill(seed, sent, &mut buffer[..size]);
        to.write_all(&buffer[..size]).unwrap();
        sent += size;
    }
    to.shutdown(Shutdown::Write).unwrap();
}

/// Receives until the end; all of it has to be stream `seed`. Returns how much it was.
pub(super) fn receive(mut from: &TcpStream, seed: u64) -> usize {
    let (mut whims, mut buffer, mut expected, mut received) =
        (Whims(!seed), vec![0; CHUNK], vec![0; CHUNK], 0);
    loop {
        let size = whims.size();
        let length = from.read(&mut buffer[..size]).unwrap();
        if length == 0 {
            return received;
        }
        fill(seed, received, &mut expected[..length]);
        assert!(buffer[..length] == expected[..length], "stream {seed} is not itself near byte {received}");
        received += length;
    }
}
