//! The kernel's neighbour table (ARP and NDP): which hardware address is behind which client address, by netlink.
//!
//! The kernel tells every change before it handles the packet that follows, so whoever reads what was told before deciding
//! about a new connection decides by the table as it was when that connection was made: its handshake was answered to the
//! hardware address that the table had.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use nix::sys::socket::SockProtocol;
use tracing::warn;
use tracker_ebpf::abi::ClientAddr;

use super::netlink::{Netlink, malformed};
use crate::clock::{BootTime, boot_now};
use crate::session::Device;

/// So many clients behind one hardware address make it a router's (or a proxy's), which tells nothing of who they are:
/// their addresses may move to another router together.
pub(super) const SHARED_BY: usize = 3;
/// What was found to be a router's is taken for one for this long: its clients may leave it one by one.
const SHARED_FOR: Duration = Duration::from_secs(600);
/// So many of the addresses behind a device are looked at, at most, to find [`SHARED_BY`] clients among them.
const LOOKED_AT: usize = 256;
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
    /// Asks for the whole table: an answer never waits behind what is told, or finds no room for it.
    asked: Netlink,
    table: Table,
    shared: HashMap<(bool, Device), BootTime>,
}

#[derive(Default)]
struct Table {
    devices: HashMap<ClientAddr, Device>,
    clients: HashMap<Device, HashSet<ClientAddr>>,
}

/// What the kernel says of a neighbour: its hardware address, or that none is known any more.
type Told = (ClientAddr, Option<Device>);

impl Neighbours {
    /// Reads the table of the calling thread's network namespace, and listens to its changes.
    pub(super) fn open() -> io::Result<Self> {
        let told = Netlink::open(SockProtocol::NetlinkRoute, GROUP)?;
        told.make_room(ROOM);
        let asked = Netlink::open(SockProtocol::NetlinkRoute, 0)?;
        let mut neighbours = Self { told, asked, table: Table::default(), shared: HashMap::new() };
        for (client, device) in neighbours.dump()? {
            neighbours.table.set(client, device);
        }
        Ok(neighbours)
    }

    /// Another handle on the socket, to wait for changes with.
    pub(super) fn handle(&self) -> io::Result<OwnedFd> {
        self.told.as_fd().try_clone_to_owned()
    }

    /// Takes note of what the kernel told since the last time, and returns the devices that have shown up behind addresses
    /// that `concern` somebody, in order. `is_client` says whether an address is one of a client.
    pub(super) fn refresh(
        &mut self,
        concern: impl Fn(ClientAddr) -> bool,
        is_client: impl Fn(ClientAddr) -> bool,
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
            let there: HashSet<ClientAddr> = all.iter().map(|(client, _)| *client).collect();
            let known = self.table.devices.keys().copied().chain(told.iter().map(|(client, _)| *client));
            let gone: Vec<Told> =
                known.filter(|client| !there.contains(client)).map(|client| (client, None)).collect();
            told.extend(gone);
            told.extend(all);
        }
        let mut changes = Vec::new();
        for (client, device) in told {
            let before = self.table.devices.get(&client).copied();
            if before == device {
                continue;
            }
            let concerned = concern(client);
            // Before it moves: a router's clients may all be on their way to another one.
            if concerned && let Some(before) = before {
                self.is_shared(before, client, &is_client);
            }
            self.table.set(client, device);
            changes.extend(device.filter(|_| concerned).map(|device| (client, device)));
        }
        Ok(changes)
    }

    /// What is behind an address, as far as was told.
    pub(super) fn device(&self, client: ClientAddr) -> Option<Device> {
        self.table.devices.get(&client).copied()
    }

    /// Whether many clients of the family of `client`, who is or was one of them, are or were just now behind a device.
    pub(super) fn is_shared(
        &mut self,
        device: Device,
        client: ClientAddr,
        is_client: impl Fn(ClientAddr) -> bool,
    ) -> bool {
        let family = client.ip().is_ipv4();
        let now = boot_now();
        if self.shared.get(&(family, device)).is_some_and(|since| now.since(*since) < SHARED_FOR) {
            return true;
        }
        let behind = self.table.clients.get(&device).into_iter().flatten().copied();
        let others = behind.filter(|other| *other != client && other.ip().is_ipv4() == family);
        let shared = others.take(LOOKED_AT).filter(|other| is_client(*other)).take(SHARED_BY - 1).count() + 1
            == SHARED_BY;
        if shared {
            self.shared.retain(|_, since| now.since(*since) < SHARED_FOR);
            self.shared.insert((family, device), now);
        }
        shared
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
    fn set(&mut self, client: ClientAddr, device: Option<Device>) {
        let before = match device {
            Some(device) => {
                self.clients.entry(device).or_default().insert(client);
                self.devices.insert(client, device)
            }
            None => self.devices.remove(&client),
        };
        if let Some(before) = before.filter(|before| Some(*before) != device)
            && let Some(clients) = self.clients.get_mut(&before)
        {
            clients.remove(&client);
            if clients.is_empty() {
                self.clients.remove(&before);
            }
        }
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
    Ok(Some((address, device.filter(|_| known))))
}

/// An address that a client can have, behind this interface. Link-local ones of IPv4 are not unique on a host with several;
/// entries of other families are a bridge's.
fn client(family: i32, bytes: &[u8], link: u32) -> Option<ClientAddr> {
    let ip: IpAddr = match family {
        libc::AF_INET => Ipv4Addr::from(*bytes.first_chunk::<4>()?).into(),
        libc::AF_INET6 => Ipv6Addr::from(*bytes.first_chunk::<16>()?).into(),
        _ => return None,
    };
    let is_unique = match ip {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_multicast(),
        IpAddr::V6(v6) => !v6.is_multicast(),
    };
    if !is_unique || ip.is_loopback() {
        return None;
    }
    match ip {
        IpAddr::V4(v4) => Some(v4.into()),
        IpAddr::V6(v6) => ClientAddr::from_v6(v6.octets(), link),
    }
}
