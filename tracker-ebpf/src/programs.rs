//! The four programs.

use aya_ebpf::Global;
use aya_ebpf::bindings::{
    BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_TCP_CLOSE,
    BPF_TCP_CLOSE_WAIT, BPF_TCP_CLOSING, BPF_TCP_FIN_WAIT1, BPF_TCP_FIN_WAIT2, bpf_sock,
};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_ktime_get_boot_ns, bpf_tcp_sock};
use aya_ebpf::macros::{cgroup_skb, sock_ops};
use aya_ebpf::programs::{SkBuffContext, SockOpsContext};
use tracker_ebpf::abi::{
    AMEND_CLOCK, AMEND_EVICT, AMEND_FORGET, AMEND_HOLD, AMEND_OPEN, AMEND_RELEASE, AMEND_TRAFFIC, Amendment,
    ClientAddr, Counter, HINT_CLOSED, HINT_OPENED, MAX_PORTS, SAME_CLOCK, Settings, Slot, TRAFFIC_BOTH,
    as_words, covers,
};
use tracker_ebpf::mark::{Counts, Mark, Moved, Reached};
use tracker_ebpf::record::{Closed, Direction, Edge, Record};

use crate::maps::{self, Made, count, hint};
use crate::packet::{self, Segment};

/// The watched local ports, written by the loader; 0 is an empty place. Their addresses are in a map.
#[unsafe(no_mangle)]
static PORTS: Global<[u16; MAX_PORTS]> = Global::new([0; MAX_PORTS]);

/// At which of these places the stream is not the payload (TLS): a bit for each, likewise.
#[unsafe(no_mangle)]
static OPAQUE: Global<u32> = Global::new(0);

/// The lowest and the highest of them, likewise: what tells most sockets of the host in two comparisons.
#[unsafe(no_mangle)]
static SPAN: Global<[u16; 2]> = Global::new([0; 2]);

/// The daemon's network namespace, written by the loader: others use the same ports and addresses.
#[unsafe(no_mangle)]
static NETNS: Global<u64> = Global::new(0);

/// How many records clients without a session may have, and those with one, written by the loader.
#[unsafe(no_mangle)]
static MAX_STRANGERS: Global<u64> = Global::new(0);
#[unsafe(no_mangle)]
static MAX_HELD: Global<u64> = Global::new(0);

const AF_INET6: u32 = 10;

/// How often an opening looks again for a record that is being deleted under its hands.
const ATTEMPTS: u32 = 8;

/// Sees connections begin and end.
#[sock_ops]
pub(crate) fn watch(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB => established(&ctx),
        // Called before the change; of all states only CLOSE is the end, however it came about, and only into these two it
        // gets because TCP has accepted the client's FIN.
        BPF_SOCK_OPS_STATE_CB => match ctx.arg(1) {
            BPF_TCP_CLOSE => closed(&ctx),
            BPF_TCP_CLOSE_WAIT | BPF_TCP_CLOSING => ended(&ctx),
            _ => {}
        },
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
        AMEND_FORGET => forget(&amendment.client, false),
        AMEND_EVICT => forget(&amendment.client, true),
        AMEND_HOLD => hold(&amendment),
        AMEND_RELEASE => release(&amendment.client),
        AMEND_TRAFFIC => stamp(&amendment),
        AMEND_CLOCK => boot_now().abs_diff(amendment.at) < SAME_CLOCK,
        _ => false,
    })
}

/// First the mark, then the callback, last the count: what fails before the count needs no more than its mark taken back.
#[inline(always)]
fn established(ctx: &SockOpsContext) {
    let Some(place) = place(ctx) else { return };
    let Some(socket) = socket(ctx) else { return };
    // Nobody is served whose link is not known: see `ClientAddr::from_peer`.
    let Some(client) = client(ctx, socket) else { return };
    let now = boot_now();
    // The segment that completes the handshake may carry data already (always, if the bare ACK before it was lost), which
    // TCP takes after this: the mark begins with that one as the packet of which it is not yet known.
    let mark = Mark::starting(client, &reached_by(ctx), now).opaque(OPAQUE.load() >> place & 1 != 0);
    let Some(mark) = maps::set_mark(socket, &mark) else { return count(Counter::MarkFailed) };
    // Other programs on this host may have asked for callbacks too.
    if ctx.set_cb_flags((ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG) as i32).is_err() {
        maps::clear_mark(socket);
        return count(Counter::CallbackRefused);
    }
    open(mark, &client, now);
}

/// Counts a connection. A new record begins with it, so that it is never seen idle, and nobody forgets it at once. Where
/// there is no room, or a record is being deleted just now, it is counted later, in the record that there is then.
#[inline(always)]
fn open(mark: &mut Mark, client: &ClientAddr, now: u64) {
    let limit = maps::settings().limit;
    for _ in 0..ATTEMPTS {
        if let Some(slot) = maps::slot(client) {
            match maps::locked(slot, client, |slot| mark.enter(slot.born, &mut slot.record, limit, now)) {
                Some(edge) => return tell(edge, *client, now, false),
                // It is being deleted: on another CPU, which is soon done, or by a program that this one interrupted.
                None => continue,
            }
        }
        if !reserve_stranger() {
            return count(Counter::StrangerUncounted);
        }
        let mut fresh = Slot::starting(*client, now, now);
        fresh.record.on_open(now, limit);
        // Before anybody can find it there.
        mark.begins(now);
        match maps::make(&fresh) {
            Made::New => return tell(Some(Edge::Opened), *client, now, false),
            Made::Exists => {}
            Made::Full => count(Counter::StrangerUncounted),
        }
        mark.is_in_none();
        one_stranger_less();
    }
}

/// Takes one of the places for strangers' records, if one is free.
#[inline(always)]
fn reserve_stranger() -> bool {
    let most = MAX_STRANGERS.load();
    maps::tally(|used| {
        let is_free = used.strangers < most;
        used.strangers += u64::from(is_free);
        is_free
    })
}

#[inline(always)]
fn one_stranger_less() {
    maps::tally(|used| {
        used.strangers = used.strangers.saturating_sub(1);
        true
    });
}

/// Takes one of the places for records that are held, if one is free.
#[inline(always)]
fn reserve_held() -> bool {
    let most = MAX_HELD.load();
    maps::tally(|used| {
        let is_free = used.held < most;
        used.held += u64::from(is_free);
        is_free
    })
}

#[inline(always)]
fn one_held_less() {
    maps::tally(|used| {
        used.held = used.held.saturating_sub(1);
        true
    });
}

/// Does `work` on the client's record under its lock, after making sure that this connection is counted in it.
#[inline(always)]
fn joined<T>(
    slot: *mut Slot,
    client: &ClientAddr,
    mark: &mut Mark,
    (limit, now): (u64, u64),
    work: impl FnOnce(&mut Mark, &mut Record) -> T,
) -> Option<(Option<Edge>, T)> {
    maps::locked(slot, client, |slot| {
        let edge = mark.join(slot.born, &mut slot.record, limit, now);
        (edge, work(mark, &mut slot.record))
    })
}

/// Tells user space where to look.
#[inline(always)]
fn tell(edge: Option<Edge>, client: ClientAddr, at: u64, amended: bool) {
    match edge {
        Some(Edge::Opened) => hint(client, at, HINT_OPENED, amended),
        Some(Edge::Closed) => hint(client, at, HINT_CLOSED, amended),
        None => {}
    }
}

/// The client has ended its side.
#[inline(always)]
fn ended(ctx: &SockOpsContext) {
    let Some((_, mark)) = marked(ctx) else { return };
    if mark.is_half() {
        return;
    }
    let (now, settings, reached) = (boot_now(), maps::settings(), reached_by(ctx));
    let client = mark.client(Direction::Received);
    let outcome = maps::slot(&client).and_then(|slot| {
        joined(slot, &client, mark, (settings.limit, now), |mark, record| {
            mark.end(record, settings.limit, counts(&settings), &reached, now)
        })
    });
    match outcome {
        Some((_, ended)) => report(ended, client, now),
        None => mark.end_untold(&reached),
    }
}

#[inline(always)]
fn closed(ctx: &SockOpsContext) {
    let Some((socket, mark)) = marked(ctx) else { return };
    let (now, settings, reached) = (boot_now(), maps::settings(), reached_by(ctx));
    let client = mark.client(Direction::Received);
    let outcome = maps::slot(&client).and_then(|slot| {
        joined(slot, &client, mark, (settings.limit, now), |mark, record| {
            mark.close(record, settings.limit, counts(&settings), &reached, now)
        })
    });
    // A socket is closed once, even if the kernel should say so twice.
    maps::clear_mark(socket);
    if let Some((_, closed)) = outcome {
        report(closed, client, now);
    }
}

/// The socket and its mark, if it is watched.
#[inline(always)]
fn marked(ctx: &SockOpsContext) -> Option<(*mut bpf_sock, &'static mut Mark)> {
    if !is_watched(ctx) {
        return None;
    }
    let socket = socket(ctx)?;
    Some((socket, maps::mark(socket)?))
}

/// What the end of a connection, or of the client's side of it, came to.
#[inline(always)]
fn report(outcome: Closed, client: ClientAddr, now: u64) {
    match outcome {
        Closed::OthersOpen => {}
        Closed::Last => hint(client, now, HINT_CLOSED, false),
        Closed::WithoutOpen => count(Counter::CloseWithoutOpen),
    }
}

/// First what TCP has made of the packets before this one; this one then is the last that may have carried data, unless
/// it surely carries none. A packet that cannot be read may: what it was TCP will tell.
#[inline(always)]
fn on_received(ctx: &SkBuffContext) -> Option<()> {
    let socket = packet_socket(ctx)?;
    let mark = maps::mark(socket)?;
    let mut reached = reached(socket)?;
    let expected = reached.received;
    let segment = packet::read(ctx.skb.skb);
    if let Some(Segment { acknowledges: Some(by), .. }) = segment {
        reached = mark.acknowledged(reached, by);
    }
    moved(mark, &reached);
    match segment {
        Some(segment) if segment.fin && is_ended_by_us(socket) => {
            let fin = segment.end();
            if fin.wrapping_sub(expected) <= i32::MAX as u32 {
                mark.on_last(fin);
            }
        }
        Some(Segment { payload: 0, .. }) => return None,
        _ => {}
    }
    mark.on_packet(Direction::Received, boot_now());
    Some(())
}

/// Likewise.
#[inline(always)]
fn on_sent(ctx: &SkBuffContext) -> Option<()> {
    let socket = packet_socket(ctx)?;
    let mark = maps::mark(socket)?;
    moved(mark, &reached(socket)?);
    match packet::read(ctx.skb.skb) {
        Some(Segment { payload: 0, fin: false, .. }) => return None,
        Some(segment) => mark.on_leaving(segment.end(), segment.fin),
        None => {}
    }
    mark.on_packet(Direction::Sent, boot_now());
    Some(())
}

/// Data has moved on a watched socket, or not: its mark keeps that, or its client's record is told.
#[inline(always)]
fn moved(mark: &mut Mark, reached: &Reached) {
    let [first, second] = mark.news(reached);
    data(mark, &first, reached);
    data(mark, &second, reached);
}

#[inline(always)]
fn data(mark: &mut Mark, moved: &Moved, reached: &Reached) {
    if moved.at == 0 {
        return;
    }
    let settings = maps::settings();
    let (counts, limit) = (counts(&settings), settings.limit);
    if mark.keeps(moved, counts) {
        return;
    }
    let client = mark.client(moved.direction);
    // Without a record there is nobody who has to know.
    let Some(slot) = maps::slot(&client) else { return };
    if mark.is_counted_in(maps::born(slot)) && mark.yields(moved, counts, maps::traffic_at(slot)) {
        return;
    }
    let now = moved.at;
    let told = joined(slot, &client, mark, (limit, now), |mark, record| {
        mark.tell(record, limit, moved, counts, reached);
    });
    if let Some((edge, ())) = told {
        tell(edge, client, now, false);
    }
}

#[inline(always)]
fn counts(settings: &Settings) -> Counts {
    if settings.direction == TRAFFIC_BOTH { Counts::Both } else { Counts::Client }
}

/// How far the socket's TCP got.
#[inline(always)]
fn reached(socket: *mut bpf_sock) -> Option<Reached> {
    // SAFETY: the kernel checks the socket.
    let tcp = unsafe { bpf_tcp_sock(socket) };
    if tcp.is_null() {
        count(Counter::Unreadable);
        return None;
    }
    // SAFETY: not null, and valid as long as the socket.
    Some(unsafe { Reached { received: (*tcp).rcv_nxt, sent: (*tcp).snd_nxt } })
}

#[inline(always)]
fn reached_by(ctx: &SockOpsContext) -> Reached {
    // SAFETY: plain fields of the context.
    unsafe { Reached { received: (*ctx.ops).rcv_nxt, sent: (*ctx.ops).snd_nxt } }
}

/// Whether our side of the connection has ended, and the client's has not.
#[inline(always)]
fn is_ended_by_us(socket: *mut bpf_sock) -> bool {
    // SAFETY: not null; the verifier knows this field of every kind of socket.
    matches!(unsafe { (*socket).state }, BPF_TCP_FIN_WAIT1 | BPF_TCP_FIN_WAIT2)
}

/// Sets the counts right, if nothing was opened or closed since user space looked.
#[inline(always)]
fn correct(amendment: &Amendment) -> bool {
    let limit = maps::settings().limit;
    let Some(slot) = maps::slot(&amendment.client) else { return false };
    let outcome = maps::locked(slot, &amendment.client, |slot| {
        let record = &mut slot.record;
        if record.changes == amendment.changes {
            Some(record.correct(amendment.open, amendment.half, amendment.at, limit))
        } else {
            None
        }
    });
    let Some(Some(edge)) = outcome else { return false };
    tell(edge, amendment.client, amendment.at, true);
    true
}

/// Deletes a stranger's record; unless `evict`, only if there is no connection. A program that has just found it sees that
/// it is retired, and looks for its successor. (The kernel has no "delete if".)
#[inline(always)]
fn forget(client: &ClientAddr, evict: bool) -> bool {
    let Some(slot) = maps::slot(client) else { return false };
    let retired = maps::locked(slot, client, |slot| {
        let may = slot.held == 0 && (evict || slot.record.connections() == 0);
        if may {
            slot.record.retire();
        }
        may
    });
    if retired != Some(true) {
        return false;
    }
    one_stranger_less();
    maps::remove(client)
}

/// Payload moved that only user space could tell from the rest.
#[inline(always)]
fn stamp(amendment: &Amendment) -> bool {
    let limit = maps::settings().limit;
    let Some(slot) = maps::slot(&amendment.client) else { return false };
    let told = maps::locked(slot, &amendment.client, |slot| {
        slot.record.on_traffic(amendment.before, limit);
        slot.record.on_traffic(amendment.at, limit);
    });
    told.is_some()
}

/// The client has a session from now on.
#[inline(always)]
fn hold(amendment: &Amendment) -> bool {
    let client = &amendment.client;
    let has_room = reserve_held();
    for _ in 0..ATTEMPTS {
        let was_held = match maps::slot(client) {
            Some(slot) => {
                let held = maps::locked(slot, client, |slot| {
                    let was_held = slot.held != 0;
                    if has_room {
                        slot.held = 1;
                    }
                    was_held
                });
                // If it is being deleted, it is soon done.
                let Some(was_held) = held else { continue };
                was_held
            }
            None if has_room => {
                let mut fresh = Slot::starting(*client, amendment.at, boot_now());
                fresh.held = 1;
                match maps::make(&fresh) {
                    Made::New => return true,
                    Made::Exists => continue,
                    Made::Full => break,
                }
            }
            None => return false,
        };
        return match (was_held, has_room) {
            (true, true) => {
                one_held_less();
                true
            }
            (false, true) => {
                one_stranger_less();
                true
            }
            (was_held, false) => was_held,
        };
    }
    if has_room {
        one_held_less();
    }
    false
}

/// The client has no session any more: its record is a stranger's, if there is room for one more of these.
#[inline(always)]
fn release(client: &ClientAddr) -> bool {
    let Some(slot) = maps::slot(client) else { return false };
    let has_room = reserve_stranger();
    let was_held = maps::locked(slot, client, |slot| {
        let was_held = slot.held != 0;
        slot.held = 0;
        if was_held && !has_room {
            slot.record.retire();
        }
        was_held
    });
    if was_held == Some(true) {
        one_held_less();
        return has_room || maps::remove(client);
    }
    if has_room {
        one_stranger_less();
    }
    false
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

#[inline(always)]
fn is_watched(ctx: &SockOpsContext) -> bool {
    place(ctx).is_some()
}

/// A watched port and address in the daemon's network namespace: the first place that has it. Other ports are told before
/// any map is touched.
#[inline(always)]
fn place(ctx: &SockOpsContext) -> Option<u32> {
    let port = ctx.local_port();
    let ports = PORTS.load();
    if !ports.iter().any(|watched| u32::from(*watched) == port) {
        return None;
    }
    let local = local(ctx);
    let (place, _) = (0..).zip(ports).find(|(place, watched)| {
        u32::from(*watched) == port && maps::address(*place).is_some_and(|address| covers(address, local))
    })?;
    // SAFETY: the helper only reads the context.
    if unsafe { bpf_get_netns_cookie(ctx.ops.cast()) } == NETNS.load() { Some(place) } else { None }
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
