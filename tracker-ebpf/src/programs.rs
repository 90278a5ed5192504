//! The four programs.

use aya_ebpf::Global;
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_TCP_CLOSE,
    bpf_sock,
};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_ktime_get_boot_ns, bpf_tcp_sock};
use aya_ebpf::macros::{cgroup_skb, sock_ops};
use aya_ebpf::programs::{SkBuffContext, SockOpsContext};
use tracker_ebpf::abi::{
    AMEND_FORGET, AMEND_OPEN, Amendment, ClientAddr, Counter, HINT_CLOSED, HINT_OPENED, MAX_PORTS, Mark,
    Slot, TRAFFIC_BOTH,
};
use tracker_ebpf::record::{Closed, Direction, Edge};

use crate::maps::{self, Made, count, hint};
use crate::packet::{self, Packet};

/// The watched local ports, written by the loader; 0 is an empty place.
#[unsafe(no_mangle)]
static PORTS: Global<[u16; MAX_PORTS]> = Global::new([0; MAX_PORTS]);

/// The daemon's network namespace, written by the loader: others use the same ports and addresses.
#[unsafe(no_mangle)]
static NETNS: Global<u64> = Global::new(0);

const AF_INET6: u32 = 10;

/// How often an opening looks again for a record that is being deleted under its hands.
const ATTEMPTS: u32 = 8;

/// Sees connections begin and end.
#[sock_ops]
pub(crate) fn watch(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => established(&ctx),
        // Called before the change; of all states only CLOSE is the end, however it came about.
        BPF_SOCK_OPS_STATE_CB if ctx.arg(1) == BPF_TCP_CLOSE => closed(&ctx),
        _ => {}
    }
    // Anything else makes the kernel fail the operation.
    1
}

/// Sees what arrives.
#[cgroup_skb(ingress)]
pub(crate) fn received(ctx: SkBuffContext) -> i32 {
    on_received(&ctx);
    PASS
}

/// Sees what leaves.
#[cgroup_skb(egress)]
pub(crate) fn sent(ctx: SkBuffContext) -> i32 {
    on_sent(&ctx);
    PASS
}

const PASS: i32 = 1;

/// Changes a record on behalf of user space, which runs this program by hand with an [`Amendment`] as the packet. It is
/// attached nowhere. Answers 1 if it did what it was asked for.
#[cgroup_skb(ingress)]
pub(crate) fn amend(ctx: SkBuffContext) -> i32 {
    let Ok(amendment) = ctx.load::<Amendment>(0) else { return 0 };
    i32::from(match amendment.kind {
        AMEND_OPEN => correct(&amendment),
        AMEND_FORGET => forget(&amendment.client),
        _ => false,
    })
}

/// First the mark, then the callback, last the count: what fails before the count needs no more than its mark taken back.
#[inline(always)]
fn established(ctx: &SockOpsContext) {
    if !is_watched(ctx) {
        return;
    }
    let Some(socket) = socket(ctx) else { return };
    let (client, now) = (client(ctx), boot_now());
    // SAFETY: a plain field of the context.
    let sent = unsafe { (*ctx.ops).snd_nxt };
    if !maps::set_mark(socket, Mark { client, sent, _pad: 0 }) {
        return count(Counter::MarkFailed);
    }
    // Other programs on this host may have asked for callbacks too.
    if ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32).is_err() {
        maps::clear_mark(socket);
        return count(Counter::CallbackRefused);
    }
    match open(&client, now) {
        Opened::First => hint(client, now, HINT_OPENED, false),
        Opened::Another => {}
        Opened::NoRoom => {
            maps::clear_mark(socket);
            return count(Counter::RecordMapFull);
        }
        // The mark stays: the next resync makes a record with the right count, and from then on everything is as usual.
        Opened::Retired => return count(Counter::RecordRetired),
    }
    with_handshake(ctx, &client, now);
}

/// What became of the attempt to count a connection.
enum Opened {
    First,
    Another,
    NoRoom,
    Retired,
}

/// Counts a connection. A new record begins with it, so that it is never seen idle, and nobody forgets it at once.
#[inline(always)]
fn open(client: &ClientAddr, now: u64) -> Opened {
    let limit = maps::settings().limit;
    for _ in 0..ATTEMPTS {
        if let Some(slot) = maps::slot(client) {
            match maps::locked(slot, client, |record| record.on_open(now, limit)) {
                Some(true) => return Opened::First,
                Some(false) => return Opened::Another,
                // It is being deleted: on another CPU, which is soon done, or by a program that this one interrupted.
                None => continue,
            }
        }
        let mut fresh = Slot::starting(*client, now);
        fresh.record.on_open(now, limit);
        match maps::make(&fresh) {
            Made::New => return Opened::First,
            Made::Exists => {}
            Made::Full => return Opened::NoRoom,
        }
    }
    Opened::Retired
}

/// The segment that completes the handshake may carry data already (always, if the bare ACK before it was lost). It came
/// in by the listening socket, so `received` did not see it.
#[inline(always)]
fn with_handshake(ctx: &SockOpsContext, client: &ClientAddr, now: u64) {
    // SAFETY: plain fields of the context; the packet is read within the bounds that the verifier knows.
    let payload = unsafe {
        let start = (*ctx.ops).__bindgen_anon_3.skb_data as usize;
        let end = (*ctx.ops).__bindgen_anon_4.skb_data_end as usize;
        if start + 20 > end {
            return;
        }
        let header = u32::from(*((start + 12) as *const u8) >> 4) * 4;
        (*ctx.ops).skb_len.saturating_sub(header)
    };
    if payload > 0 {
        data(client, Direction::Received, payload, now);
    }
}

#[inline(always)]
fn closed(ctx: &SockOpsContext) {
    if !is_watched(ctx) {
        return;
    }
    let Some(socket) = socket(ctx) else { return };
    let Some(mark) = maps::mark(socket) else { return };
    let (client, now) = (mark.client, boot_now());
    // A socket is closed once, even if the kernel should say so twice.
    maps::clear_mark(socket);
    let outcome = maps::slot(&client)
        .and_then(|slot| maps::locked(slot, &client, |record| record.on_close(now)))
        .unwrap_or(Closed::WithoutOpen);
    match outcome {
        Closed::OthersOpen => {}
        Closed::Last => hint(client, now, HINT_CLOSED, false),
        Closed::WithoutOpen => count(Counter::CloseWithoutOpen),
    }
}

/// New data ends beyond what the socket has received in order. Everything else (keep-alives with or without a byte of
/// garbage, bare ACKs, retransmissions) ends at or before that.
#[inline(always)]
fn on_received(ctx: &SkBuffContext) -> Option<()> {
    let socket = packet_socket(ctx)?;
    let mark = maps::mark(socket)?;
    let segment = segment(ctx)?;
    // SAFETY: the kernel checks the socket.
    let tcp = unsafe { bpf_tcp_sock(socket) };
    if tcp.is_null() {
        count(Counter::Unreadable);
        return None;
    }
    // SAFETY: not null, and valid as long as the socket.
    let expected = unsafe { (*tcp).rcv_nxt };
    let new = beyond(expected, &segment)?;
    data(&mark.client, Direction::Received, new, boot_now());
    Some(())
}

/// New data ends beyond what was ever sent. The mark remembers how far that is: the socket itself counts a segment only
/// after it got past the queue, so that one which was dropped there would be new twice.
#[inline(always)]
fn on_sent(ctx: &SkBuffContext) -> Option<()> {
    let socket = packet_socket(ctx)?;
    let mark = maps::mark(socket)?;
    let segment = segment(ctx)?;
    let new = beyond(mark.sent, &segment)?;
    // Segments of one socket leave one at a time: its owner holds the socket's lock.
    mark.sent = segment.seq.wrapping_add(segment.payload);
    data(&mark.client, Direction::Sent, new, boot_now());
    Some(())
}

/// The packet's TCP segment, if it has any payload.
#[inline(always)]
fn segment(ctx: &SkBuffContext) -> Option<packet::Segment> {
    match packet::read(ctx.skb.skb) {
        Packet::Tcp(segment) if segment.payload > 0 => Some(segment),
        Packet::Tcp(_) | Packet::Other => None,
        Packet::Unreadable => {
            count(Counter::Unreadable);
            None
        }
    }
}

/// How many bytes of the segment lie beyond `edge`, on the circle of sequence numbers; `None` if it is not new.
#[inline(always)]
fn beyond(edge: u32, segment: &packet::Segment) -> Option<u32> {
    let advance = segment.seq.wrapping_add(segment.payload).wrapping_sub(edge);
    if advance == 0 || advance > i32::MAX as u32 {
        return None;
    }
    Some(if advance < segment.payload { advance } else { segment.payload })
}

#[inline(always)]
fn data(client: &ClientAddr, direction: Direction, bytes: u32, now: u64) {
    let settings = maps::settings();
    let counts = settings.direction == TRAFFIC_BOTH || matches!(direction, Direction::Received);
    let limit = settings.limit;
    let recorded = maps::slot(client).and_then(|slot| {
        maps::locked(slot, client, |record| record.on_data(now, limit, direction, u64::from(bytes), counts))
    });
    if recorded.is_none() {
        count(Counter::DataWithoutRecord);
    }
}

/// Sets the count right, if nothing was opened or closed since user space looked.
#[inline(always)]
fn correct(amendment: &Amendment) -> bool {
    let limit = maps::settings().limit;
    let Some(slot) = maps::slot(&amendment.client) else { return false };
    let outcome = maps::locked(slot, &amendment.client, |record| {
        if record.changes == amendment.changes {
            Some(record.correct(amendment.open, amendment.at, limit))
        } else {
            None
        }
    });
    let Some(Some(edge)) = outcome else { return false };
    match edge {
        Some(Edge::Opened) => hint(amendment.client, amendment.at, HINT_OPENED, true),
        Some(Edge::Closed) => hint(amendment.client, amendment.at, HINT_CLOSED, true),
        None => {}
    }
    true
}

/// Deletes the record unless a connection is open. A program that has just found it either opened before it was retired,
/// which saves it, or sees that it is retired, and looks for its successor. (The kernel has no "delete if".)
#[inline(always)]
fn forget(client: &ClientAddr) -> bool {
    let Some(slot) = maps::slot(client) else { return false };
    match maps::locked(slot, client, |record| record.retire()) {
        Some(true) => maps::remove(client),
        _ => false,
    }
}

/// A watched port in the daemon's network namespace. Decided before any map is touched.
#[inline(always)]
fn is_watched(ctx: &SockOpsContext) -> bool {
    let local = ctx.local_port();
    let known = PORTS.load().iter().any(|port| u32::from(*port) == local);
    // SAFETY: the helper only reads the context.
    known && unsafe { bpf_get_netns_cookie(ctx.ops.cast()) } == NETNS.load()
}

/// The peer's address as a key.
#[inline(always)]
fn client(ctx: &SockOpsContext) -> ClientAddr {
    if ctx.family() != AF_INET6 {
        return ClientAddr::from_v4(ctx.remote_ip4().to_ne_bytes());
    }
    let mut address = [0; 16];
    for (word, place) in address.chunks_exact_mut(4).enumerate() {
        // SAFETY: a field of the context, which the verifier lets be read only in words of four bytes.
        let value = unsafe { (&raw const (*ctx.ops).remote_ip6[word]).read_volatile() };
        place.copy_from_slice(&value.to_ne_bytes());
    }
    ClientAddr(address)
}

#[inline(always)]
fn socket(ctx: &SockOpsContext) -> Option<*mut bpf_sock> {
    // SAFETY: a plain field of the context.
    let socket = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if socket.is_null() { None } else { Some(socket) }
}

#[inline(always)]
fn packet_socket(ctx: &SkBuffContext) -> Option<*mut bpf_sock> {
    // SAFETY: a plain field of the context.
    let socket = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if socket.is_null() { None } else { Some(socket) }
}

#[inline(always)]
fn boot_now() -> u64 {
    // SAFETY: the helper has no argument.
    unsafe { bpf_ktime_get_boot_ns() }
}
