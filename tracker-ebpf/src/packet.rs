//! Reading a TCP segment from a packet that starts with its IP header.

use aya_ebpf::bindings::__sk_buff;

/// What matters of a segment.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    /// The sequence number of its first byte.
    pub(crate) seq: u32,
    /// Its payload in bytes; the packet may be far longer than what goes over the wire at once (GSO, GRO).
    pub(crate) payload: u32,
    /// Whether it ends the stream.
    pub(crate) fin: bool,
    /// Up to where it acknowledges, if it does.
    pub(crate) acknowledges: Option<u32>,
}

impl Segment {
    /// The sequence number behind its payload, which is its FIN's, if it has one.
    #[inline(always)]
    pub(crate) const fn end(&self) -> u32 {
        self.seq.wrapping_add(self.payload)
    }
}

const TCP: u8 = 6;
/// The flag that ends a stream.
const FIN: u8 = 1;
/// The flag of one that acknowledges.
const ACK: u8 = 16;
/// Hop-by-hop options (which jumbo packets have), routing, fragment (of a packet that is whole), destination options:
/// `next, length / 8 - 1, ...`.
const EXTENSIONS: [u8; 4] = [0, 43, 44, 60];
const MAX_EXTENSIONS: usize = 4;

/// Reads the packet; `None` if it is none of TCP's, too short or too odd.
#[inline(always)]
pub(crate) fn read(skb: *mut __sk_buff) -> Option<Segment> {
    let (protocol, offset) = transport(skb)?;
    if protocol != TCP {
        return None;
    }
    let [_, _, _, _, a, b, c, d, e, f, g, h, data_offset, flags, ..]: [u8; 20] = bytes(skb, offset)?;
    let headers = offset as u32 + u32::from(data_offset >> 4) * 4;
    // SAFETY: a plain field of the context.
    let length = unsafe { (*skb).len };
    Some(Segment {
        seq: u32::from_be_bytes([a, b, c, d]),
        payload: length.checked_sub(headers)?,
        fin: flags & FIN != 0,
        acknowledges: (flags & ACK != 0).then_some(u32::from_be_bytes([e, f, g, h])),
    })
}

/// The transport protocol, and where its header starts.
#[inline(always)]
fn transport(skb: *mut __sk_buff) -> Option<(u8, usize)> {
    // As much as the shorter of both headers has. (Never one byte alone: the verifier cannot prove that comparison.)
    let [first, _, _, _, _, _, v6_next, _, _, v4_protocol, ..]: [u8; 20] = bytes(skb, 0)?;
    match first >> 4 {
        4 => Some((v4_protocol, usize::from(first & 0xf) * 4)),
        6 => {
            let (mut next, mut offset) = (v6_next, 40);
            for _ in 0..MAX_EXTENSIONS {
                if !EXTENSIONS.contains(&next) {
                    break;
                }
                let [after, length] = bytes(skb, offset)?;
                next = after;
                offset += usize::from(length) * 8 + 8;
            }
            Some((next, offset))
        }
        _ => None,
    }
}

/// `N` bytes at an offset, straight from the packet: the headers always lie in its first, linear part.
#[inline(always)]
fn bytes<const N: usize>(skb: *mut __sk_buff, offset: usize) -> Option<[u8; N]> {
    // SAFETY: the verifier knows both fields as the bounds of the packet, and proves the comparison.
    unsafe {
        let start = (*skb).data as usize + offset;
        if start + N > (*skb).data_end as usize {
            return None;
        }
        Some((start as *const [u8; N]).read_unaligned())
    }
}
