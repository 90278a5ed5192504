//! The kernel's neighbour table (ARP and NDP): which hardware address is behind which client address, by netlink.
//!
//! The kernel tells every change before it handles the packet that follows, so whoever reads what was told before deciding
//! about a new connection decides by the table as it was when that connection was made: its handshake was answered to the
//! hardware address that the table had.
//!
//! Anybody on a link can write its entries. So only those of the link by which a client is reached are compared, and what
//! is concluded from an entry (that it is a router's) rests on connections that were established while it stood: whoever
//! only says that an address is elsewhere does not get the answers that a handshake takes.
//!
//! That the kernel drops an entry says nothing of who is there: it drops what was not used for a minute, and what does not
//! answer at the moment, and asks anew with the next packet. So what was behind an address last is remembered until
//! something else is.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, OwnedFd};

use nix::sys::socket::SockProtocol;
use tracing::warn;

use super::netlink::{Netlink, malformed};
use super::route;
use crate::clock::{BootTime, boot_now};
use crate::types::{ClientAddr, Device};

/// So many clients behind one hardware address make it a router's (or a proxy's), which tells nothing of who they are:
/// their addresses may move to another router together.
pub(super) const SHARED_BY: usize = 3;
/// So many of the addresses behind a device are looked at, at most, to find [`SHARED_BY`] clients among them.
const LOOKED_AT: usize = 256;
/// So many entries that the kernel has dropped are remembered: some ten megabytes.
const REMEMBERED: usize = 64 * 1024;
/// Room for what the kernel tells while we are busy: some ten thousand changes.
const ROOM: usize = 4 << 20;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
/// `RTNLGRP_NEIGH`, as a bit.
const GROUP: u32 = 1 << (libc::RTNLGRP_NEIGH - 1);
/// States in which the kernel sends to the hardware address without asking first, whether it may be out of date or not.
const VALID: u16 =
    libc::NUD_PERMANENT | libc::NUD_REACHABLE | libc::NUD_PROBE | libc::NUD_STALE | libc::NUD_DELAY;

/// See the module.
pub(super) struct Neighbours {
    /// Hears of changes.
    told: Netlink,
    /// Asks for the whole table, and for routes: an answer never waits behind what is told, or finds no room for it.
    asked: Netlink,
    table: Table,
}

#[derive(Default)]
struct Table {
    entries: HashMap<ClientAddr, Vec<Entry>>,
    clients: HashMap<Device, HashSet<ClientAddr>>,
    /// What the kernel has dropped, the longest ago first, and how many that were when it did. Some are there again.
    dropped: VecDeque<(ClientAddr, u32, u64)>,
    drops: u64,
}

/// What is behind an address on one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    link: u32,
    device: Device,
    /// Since when, as far as we have been told.
    since: BootTime,
    /// Another device was there before.
    has_replaced: bool,
    /// The kernel has dropped it: the number of that.
    dropped: Option<u64>,
}

/// What the kernel says of a neighbour on a link: its hardware address, or that it knows none any more.
#[derive(Clone, Copy, Debug)]
struct Told {
    client: ClientAddr,
    link: u32,
    device: Option<Device>,
}

impl Neighbours {
    /// Reads the table of the calling thread's network namespace, and listens to its changes.
    pub(super) fn open() -> io::Result<Self> {
        let told = Netlink::open(SockProtocol::NetlinkRoute, GROUP)?;
        told.make_room(ROOM);
        let asked = Netlink::open(SockProtocol::NetlinkRoute, 0)?;
        let mut neighbours = Self { told, asked, table: Table::default() };
        let now = boot_now();
        for told in neighbours.dump()? {
            neighbours.table.set(told, now);
        }
        Ok(neighbours)
    }

    /// Another handle on the socket, to wait for changes with.
    pub(super) fn handle(&self) -> io::Result<OwnedFd> {
        self.told.as_fd().try_clone_to_owned()
    }

    /// Takes note of what the kernel told since the last time, and returns the devices that have shown up behind addresses
    /// that `concern` somebody, on the links by which these are reached, in order.
    pub(super) fn refresh(
        &mut self,
        concern: impl Fn(ClientAddr) -> bool,
    ) -> io::Result<Vec<(ClientAddr, Device)>> {
        let mut told: Vec<Told> = Vec::new();
        let mut lost = false;
        loop {
            let outcome = self.told.told(|kind, message| {
                told.extend(read(kind, message)?);
                Ok(())
            });
            match outcome {
                Ok(()) => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => lost = true,
                Err(error) => return Err(error),
            }
        }
        if lost {
            warn!("changes of the neighbour table were lost: reading all of it");
            let all = self.dump()?;
            let there: HashSet<(ClientAddr, u32)> = all.iter().map(|told| (told.client, told.link)).collect();
            let known = self.table.all().chain(told.iter().map(|told| (told.client, told.link)));
            let gone: Vec<Told> = known
                .filter(|place| !there.contains(place))
                .map(|(client, link)| Told { client, link, device: None })
                .collect();
            told.extend(gone);
            told.extend(all);
        }
        let mut changes = Vec::new();
        let now = boot_now();
        // Asked once for each: whoever says a thousand things of a client must not make us ask as often.
        let mut links: HashMap<ClientAddr, Option<u32>> = HashMap::new();
        for told in told {
            if self.table.on(told.client, told.link) == told.device {
                continue;
            }
            self.table.set(told, now);
            if let Some(device) = told.device.filter(|_| concern(told.client)) {
                let link = *links.entry(told.client).or_insert_with(|| self.link(told.client, told.link));
                changes.extend((link == Some(told.link)).then_some((told.client, device)));
            }
        }
        Ok(changes)
    }

    /// What is behind an address on the link by which it is reached, or was last; `None` for one behind a next hop.
    pub(super) fn device(&mut self, client: ClientAddr) -> Option<Device> {
        self.entry(client).map(|entry| entry.device)
    }

    /// Since when it is there, if another device was there before. Costs nothing where none was on any link.
    pub(super) fn replaced_at(&mut self, client: ClientAddr) -> Option<BootTime> {
        self.table.entries.get(&client)?.iter().find(|entry| entry.has_replaced)?;
        self.entry(client).filter(|entry| entry.has_replaced).map(|entry| entry.since)
    }

    /// What is behind an address, if it is not `expected`. Costs nothing where all links agree.
    pub(super) fn other_than(&mut self, client: ClientAddr, expected: Device) -> Option<Device> {
        let entries = self.table.entries.get(&client)?;
        if entries.iter().all(|entry| entry.device == expected) {
            return None;
        }
        self.device(client).filter(|device| *device != expected)
    }

    /// Whether many clients of the family of `client`, who is one of them, are behind what is behind it. `connected` says of
    /// another whether it is a client, by a connection that it has established after a moment: since then it is there.
    pub(super) fn is_shared(
        &mut self,
        client: ClientAddr,
        connected: impl Fn(ClientAddr, BootTime) -> bool,
    ) -> bool {
        let Some(Entry { link, device, .. }) = self.entry(client) else { return false };
        let family = client.ip().is_ipv4();
        let behind = self.table.clients.get(&device).into_iter().flatten().copied();
        let others = behind.filter(|other| *other != client && other.ip().is_ipv4() == family);
        let there = others.take(LOOKED_AT).filter(|other| {
            let entry = self.table.entry(*other, link).filter(|entry| entry.device == device);
            entry.is_some_and(|entry| connected(*other, entry.since))
        });
        there.take(SHARED_BY - 1).count() == SHARED_BY - 1
    }

    fn entry(&mut self, client: ClientAddr) -> Option<Entry> {
        let entries = self.table.entries.get(&client)?;
        let link = match route::link(&mut self.asked, client.ip()) {
            Ok(link) => link?,
            // Where there is but one it can only be that.
            Err(error) => {
                warn!(%client, %error, "the kernel does not say by which link a client is reached");
                return entries.first().filter(|_| entries.len() == 1).copied();
            }
        };
        self.table.entry(client, link)
    }

    /// The link by which a client is reached; in doubt, this one.
    fn link(&mut self, client: ClientAddr, told: u32) -> Option<u32> {
        route::link(&mut self.asked, client.ip()).unwrap_or_else(|error| {
            warn!(%client, %error, "the kernel does not say by which link a client is reached");
            Some(told)
        })
    }

    /// So little room that changes are lost.
    #[cfg(test)]
    pub(super) fn leave_no_room(&self) {
        self.told.make_room(1);
    }

    /// The whole table.
    fn dump(&mut self) -> io::Result<Vec<Told>> {
        let mut told = Vec::new();
        // struct ndmsg: any family, any interface.
        self.asked.dump(RTM_GETNEIGH, &[0; 12], |kind, message| {
            told.extend(read(kind, message)?);
            Ok(())
        })?;
        Ok(told)
    }
}

impl Table {
    fn entry(&self, client: ClientAddr, link: u32) -> Option<Entry> {
        self.entries.get(&client)?.iter().find(|entry| entry.link == link).copied()
    }

    fn on(&self, client: ClientAddr, link: u32) -> Option<Device> {
        self.entry(client, link).filter(|entry| entry.dropped.is_none()).map(|entry| entry.device)
    }

    fn all(&self) -> impl Iterator<Item = (ClientAddr, u32)> {
        let of = |(client, entries): (&ClientAddr, &Vec<Entry>)| {
            let client = *client;
            entries.iter().map(move |entry| (client, entry.link)).collect::<Vec<_>>()
        };
        self.entries.iter().flat_map(of)
    }

    fn set(&mut self, told: Told, now: BootTime) {
        match told.device {
            Some(device) => self.is_there(told.client, told.link, device, now),
            None => self.is_dropped(told.client, told.link),
        }
    }

    fn is_there(&mut self, client: ClientAddr, link: u32, device: Device, now: BootTime) {
        let before = self.take(client, link);
        let entry = match before {
            // What is told again stands since it was told first.
            Some(before) if before.device == device => Entry { dropped: None, ..before },
            _ => Entry { link, device, since: now, has_replaced: before.is_some(), dropped: None },
        };
        self.entries.entry(client).or_default().push(entry);
        self.clients.entry(device).or_default().insert(client);
    }

    fn is_dropped(&mut self, client: ClientAddr, link: u32) {
        let mut entries = self.entries.get_mut(&client).into_iter().flatten();
        let Some(entry) = entries.find(|entry| entry.link == link) else { return };
        self.drops += 1;
        entry.dropped = Some(self.drops);
        self.dropped.push_back((client, link, self.drops));
        if self.dropped.len() > REMEMBERED
            && let Some((client, link, number)) = self.dropped.pop_front()
            && self.entry(client, link).is_some_and(|entry| entry.dropped == Some(number))
        {
            self.take(client, link);
        }
    }

    fn take(&mut self, client: ClientAddr, link: u32) -> Option<Entry> {
        let entries = self.entries.get_mut(&client)?;
        let at = entries.iter().position(|entry| entry.link == link)?;
        let taken = entries.swap_remove(at);
        let is_elsewhere = entries.iter().any(|entry| entry.device == taken.device);
        if entries.is_empty() {
            self.entries.remove(&client);
        }
        if !is_elsewhere && let Some(clients) = self.clients.get_mut(&taken.device) {
            clients.remove(&client);
            if clients.is_empty() {
                self.clients.remove(&taken.device);
            }
        }
        Some(taken)
    }
}

/// Reads a message: `struct ndmsg` (family, 3 bytes of padding, interface, state, flags, type) and attributes.
fn read(kind: u16, message: &[u8]) -> io::Result<Option<Told>> {
    if !matches!(kind, RTM_NEWNEIGH | RTM_DELNEIGH) {
        return Ok(None);
    }
    let short = || malformed("a neighbour that is cut off");
    let (header, mut rest) = message.split_first_chunk::<12>().ok_or_else(short)?;
    let [family, _, _, _, l0, l1, l2, l3, state_low, state_high, flags, _] = *header;
    let state = u16::from_ne_bytes([state_low, state_high]);
    let link = u32::from_ne_bytes([l0, l1, l2, l3]);
    let (mut address, mut device) = (None, None);
    while let Some((head, _)) = rest.split_first_chunk::<4>() {
        let [length_low, length_high, kind_low, kind_high] = *head;
        let length = usize::from(u16::from_ne_bytes([length_low, length_high]));
        let value = rest.get(4..length).ok_or_else(short)?;
        match u16::from_ne_bytes([kind_low, kind_high]) {
            libc::NDA_DST => address = client(i32::from(family), value, link),
            libc::NDA_LLADDR => device = Device::new(value),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    let Some(address) = address.filter(|_| flags & libc::NTF_PROXY == 0) else { return Ok(None) };
    let known = kind == RTM_NEWNEIGH && state & VALID != 0;
    Ok(Some(Told { client: address, link, device: device.filter(|_| known) }))
}

/// An address that a client can have, behind this interface. (One of 169.254.0.0/16 is on many links, and has answers on that of
/// its route alone, as any other.) Entries of other families are a bridge's.
fn client(family: i32, bytes: &[u8], link: u32) -> Option<ClientAddr> {
    let ip: IpAddr = match family {
        libc::AF_INET => Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(),
        libc::AF_INET6 => Ipv6Addr::from(*bytes.first_chunk::<16>()?).into(),
        _ => return None,
    };
    if ip.is_multicast() || ip.is_loopback() {
        return None;
    }
    match ip {
        IpAddr::V4(v4) => Some(v4.into()),
        IpAddr::V6(v6) => ClientAddr::from_v6(v6.octets(), link),
    }
}
