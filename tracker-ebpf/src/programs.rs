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
    AMEND_CLOCK, AMEND_FORGET, AMEND_OPEN, Amendment, ClientAddr, Counter, HINT_CLOSED, HINT_OPENED,
    MAX_PORTS, SAME_CLOCK, Slot, TRAFFIC_BOTH, as_words, covers,
};
use tracker_ebpf::mark::{Mark, Moved};
use tracker_ebpf::record::{Closed, Direction, Edge};

use crate::maps::{self, Made, count, hint};
use crate::packet::{self, Packet};

/// The watched local ports, written by the loader; 0 is an empty place. Their addresses are in a map.
#[unsafe(no_mangle)]
static PORTS: Global<[u16; MAX_PORTS]> = Global::new([0; MAX_PORTS]);

/// The lowest and the highest of them, likewise: what tells most sockets of the host in two comparisons.
#[unsafe(no_mangle)]
static SPAN: Global<[u16; 2]> = Global::new([0; 2]);

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
        _ => keep_callback(&ctx),
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
        AMEND_CLOCK => boot_now().abs_diff(amendment.at) < SAME_CLOCK,
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
    // Nobody is served whose link is not known: see `ClientAddr::from_peer`.
    let Some(client) = client(ctx, socket) else { return };
    let now = boot_now();
    // SAFETY: plain fields of the context.
    let (received, sent) = unsafe { ((*ctx.ops).rcv_nxt, (*ctx.ops).snd_nxt) };
    let Some(mark) = maps::set_mark(socket, Mark::starting(client, received, sent)) else {
        return count(Counter::MarkFailed);
    };
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
    with_handshake(ctx, mark, received, now);
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
fn with_handshake(ctx: &SockOpsContext, mark: &mut Mark, first: u32, now: u64) {
    // SAFETY: plain fields of the context; the packet is read within the bounds that the verifier knows.
    let (payload, fin) = unsafe {
        let start = (*ctx.ops).__bindgen_anon_3.skb_data as usize;
        let end = (*ctx.ops).__bindgen_anon_4.skb_data_end as usize;
        if start + 20 > end {
            return;
        }
        let header = u32::from(*((start + 12) as *const u8) >> 4) * 4;
        ((*ctx.ops).skb_len.saturating_sub(header), *((start + 13) as *const u8) & packet::FIN != 0)
    };
    let end = first.wrapping_add(payload);
    if fin {
        mark.on_end(end);
    }
    if payload > 0 {
        data(mark, Direction::Received, Some(end), now);
    }
}

#[inline(always)]
fn closed(ctx: &SockOpsContext) {
    if !is_watched(ctx) {
        return;
    }
    let Some(socket) = socket(ctx) else { return };
    let Some(mark) = maps::mark(socket) else { return };
    let (client, now, limit) = (mark.client(Direction::Received), boot_now(), maps::settings().limit);
    // SAFETY: a plain field of the context.
    let received = unsafe { (*ctx.ops).rcv_nxt };
    let outcome = maps::slot(&client).and_then(|slot| {
        maps::locked(slot, &client, |record| {
            mark.settle(record, limit, Some(received));
            record.on_close(now)
        })
    });
    // A socket is closed once, even if the kernel should say so twice.
    maps::clear_mark(socket);
    match outcome.unwrap_or(Closed::WithoutOpen) {
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
    let segment = segment(ctx, socket)?;
    let mark = maps::mark(socket)?;
    let end = segment.seq.wrapping_add(segment.payload);
    if segment.fin {
        mark.on_end(end);
        if segment.payload == 0 {
            return None;
        }
    }
    // SAFETY: the kernel checks the socket.
    let tcp = unsafe { bpf_tcp_sock(socket) };
    if tcp.is_null() {
        count(Counter::Unreadable);
        return None;
    }
    // SAFETY: not null, and valid as long as the socket.
    let expected = unsafe { (*tcp).rcv_nxt };
    let new = beyond(expected, end)?;
    // Where it leaves a hole before it, the stream gets no further yet.
    let got = if new <= segment.payload { end } else { expected };
    data(mark, Direction::Received, Some(got), boot_now());
    Some(())
}

/// New data ends beyond what was ever sent. The mark remembers how far that is: the socket itself counts a segment only
/// after it got past the queue, so that one which was dropped there would be new twice.
#[inline(always)]
fn on_sent(ctx: &SkBuffContext) -> Option<()> {
    let socket = packet_socket(ctx)?;
    let segment = segment(ctx, socket).filter(|segment| segment.payload > 0)?;
    let mark = maps::mark(socket)?;
    let end = segment.seq.wrapping_add(segment.payload);
    beyond(mark.sent(), end)?;
    // Segments of one socket leave one at a time: its owner holds the socket's lock.
    mark.on_sent(end);
    data(mark, Direction::Sent, None, boot_now());
    Some(())
}

/// The packet's TCP segment, if there is more to it than an acknowledgement.
#[inline(always)]
fn segment(ctx: &SkBuffContext, socket: *mut bpf_sock) -> Option<packet::Segment> {
    match packet::read(ctx.skb.skb) {
        Packet::Tcp(segment) if segment.payload > 0 || segment.fin => Some(segment),
        Packet::Tcp(_) | Packet::Other => None,
        Packet::Unreadable => {
            maps::mark(socket)?;
            count(Counter::Unreadable);
            None
        }
    }
}

/// How far `end` lies beyond `edge`, on the circle of sequence numbers; `None` if it does not.
#[inline(always)]
fn beyond(edge: u32, end: u32) -> Option<u32> {
    let advance = end.wrapping_sub(edge);
    if advance == 0 || advance > i32::MAX as u32 { None } else { Some(advance) }
}

/// Data moved on a watched socket: its mark keeps that, or its client's record is told.
#[inline(always)]
fn data(mark: &mut Mark, direction: Direction, received: Option<u32>, now: u64) {
    let settings = maps::settings();
    let counts = settings.direction == TRAFFIC_BOTH || matches!(direction, Direction::Received);
    let moved = Moved { at: now, direction, counts };
    if mark.keeps(&moved) {
        return;
    }
    let (client, limit) = (mark.client(direction), settings.limit);
    let Some(slot) = maps::slot(&client) else { return count(Counter::DataWithoutRecord) };
    if mark.yields(&moved, maps::traffic_at(slot)) {
        return;
    }
    if maps::locked(slot, &client, |record| mark.tell(record, limit, &moved, received)).is_none() {
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

/// Another program may have set the callbacks of a watched socket to those that it wants itself: ours is asked for again
/// with whatever event comes next.
#[inline(always)]
fn keep_callback(ctx: &SockOpsContext) {
    let flags = ctx.cb_flags();
    if flags & BPF_SOCK_OPS_STATE_CB_FLAG != 0 || !is_watched(ctx) {
        return;
    }
    let Some(socket) = socket(ctx) else { return };
    if maps::mark(socket).is_some() {
        let _ = ctx.set_cb_flags((flags | BPF_SOCK_OPS_STATE_CB_FLAG) as i32);
    }
}

/// A watched port and address in the daemon's network namespace. Decided before any map is touched.
#[inline(always)]
fn is_watched(ctx: &SockOpsContext) -> bool {
    let port = ctx.local_port();
    let ports = PORTS.load();
    if !ports.iter().any(|watched| u32::from(*watched) == port) {
        return false;
    }
    let local = local(ctx);
    let known = (0..).zip(ports).any(|(place, watched)| {
        u32::from(watched) == port && maps::address(place).is_some_and(|address| covers(address, local))
    });
    // SAFETY: the helper only reads the context.
    known && unsafe { bpf_get_netns_cookie(ctx.ops.cast()) } == NETNS.load()
}

/// Our own address.
#[inline(always)]
fn local(ctx: &SockOpsContext) -> [u64; 2] {
    if ctx.family() != AF_INET6 {
        return as_words(ClientAddr::from_v4(ctx.local_ip4().to_ne_bytes()).0);
    }
    let mut address = [0; 16];
    for (word, place) in address.chunks_exact_mut(4).enumerate() {
        // SAFETY: a field of the context, which the verifier lets be read only in words of four bytes.
        let value = unsafe { (&raw const (*ctx.ops).local_ip6[word]).read_volatile() };
        place.copy_from_slice(&value.to_ne_bytes());
    }
    as_words(address)
}

/// The peer's address as a key; `None` where it is not clear which host that is.
#[inline(always)]
fn client(ctx: &SockOpsContext, socket: *mut bpf_sock) -> Option<ClientAddr> {
    if ctx.family() != AF_INET6 {
        return Some(ClientAddr::from_v4(ctx.remote_ip4().to_ne_bytes()));
    }
    let mut address = [0; 16];
    for (word, place) in address.chunks_exact_mut(4).enumerate() {
        // SAFETY: a field of the context, which the verifier lets be read only in words of four bytes.
        let value = unsafe { (&raw const (*ctx.ops).remote_ip6[word]).read_volatile() };
        place.copy_from_slice(&value.to_ne_bytes());
    }
    // SAFETY: a field that the kernel lets be read of every socket. One with a link-local peer is bound to its link.
    let link = unsafe { (*socket).bound_dev_if };
    ClientAddr::from_v6(address, link)
}

#[inline(always)]
fn socket(ctx: &SockOpsContext) -> Option<*mut bpf_sock> {
    // SAFETY: a plain field of the context.
    let socket = unsafe { (*ctx.ops).__bindgen_anon_2.sk };
    if socket.is_null() { None } else { Some(socket) }
}

/// The packet's socket, if its port may be a watched one.
#[inline(always)]
fn packet_socket(ctx: &SkBuffContext) -> Option<*mut bpf_sock> {
    // SAFETY: a plain field of the context.
    let socket = unsafe { (*ctx.skb.skb).__bindgen_anon_2.sk };
    if socket.is_null() {
        return None;
    }
    // SAFETY: not null; the verifier knows this field of every kind of socket.
    let port = unsafe { (*socket).src_port };
    let [lowest, highest] = SPAN.load();
    if port < u32::from(lowest) || port > u32::from(highest) { None } else { Some(socket) }
}

#[inline(always)]
fn boot_now() -> u64 {
    // SAFETY: the helper has no argument.
    unsafe { bpf_ktime_get_boot_ns() }
}
