//! The kernel's list of TCP connections to the watched ports, by netlink (sock_diag). Needs no privilege.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{Emitable, Parseable};
use netlink_packet_sock_diag::SOCK_DIAG_BY_FAMILY;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags, Timer,
};
use nix::sys::socket::SockProtocol;
use tracker_ebpf::record::Record;

use super::netlink::{Door, Netlink, malformed};
use super::place::Place;
use crate::types::ClientAddr;

/// One connection of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The client's end.
    pub peer: SocketAddr,
    /// Our end; its port is a watched one.
    pub local: SocketAddr,
    /// The TCP state, as `ss` writes it.
    pub state: &'static str,
}

impl Socket {
    /// Whether the client has ended its side: TCP has accepted its FIN.
    fn is_half(&self) -> bool {
        matches!(self.state, CLOSE_WAIT | LAST_ACK | CLOSING)
    }
}

const CLOSE_WAIT: &str = "CLOSE-WAIT";
const LAST_ACK: &str = "LAST-ACK";
const CLOSING: &str = "CLOSING";

/// All connections of one moment.
pub(super) type Dump = Vec<(ClientAddr, Socket)>;

/// The door to the list. It belongs to the network namespace of the thread that reads first.
pub(super) struct SocketDump {
    door: Door,
    places: Vec<Place>,
}

/// A connection counts from established to CLOSE. Not yet: SYN_SENT, SYN_RECV. No more: TIME_WAIT, CLOSE. Never: LISTEN.
fn counted() -> StateFlags {
    StateFlags::ESTABLISHED
        | StateFlags::FIN_WAIT1
        | StateFlags::FIN_WAIT2
        | StateFlags::CLOSE_WAIT
        | StateFlags::LAST_ACK
        | StateFlags::CLOSING
}

const fn state_name(state: u8) -> &'static str {
    match state {
        1 => "ESTAB",
        4 => "FIN-WAIT-1",
        5 => "FIN-WAIT-2",
        8 => CLOSE_WAIT,
        9 => LAST_ACK,
        11 => CLOSING,
        _ => "UNKNOWN",
    }
}

impl SocketDump {
    pub(super) fn new(places: &[Place]) -> Self {
        Self { door: Door::new(SockProtocol::NetlinkSockDiag), places: places.to_vec() }
    }

    /// All connections that are watched.
    pub(super) fn read(&self) -> io::Result<Dump> {
        self.door.with(|socket| self.read_from(socket, &[]))
    }

    /// How many connections of one client are watched. The kernel picks them out.
    pub(super) fn count(&self, client: ClientAddr) -> io::Result<Count> {
        let dump = self.door.with(|socket| self.read_from(socket, &from(client)))?;
        Ok(count(&dump).remove(&client).unwrap_or_default())
    }

    fn read_from(&self, socket: &mut Netlink, filter: &[u8]) -> io::Result<Dump> {
        // The list is not one moment's: a socket that moves while it is read can be told twice.
        let mut seen = HashSet::new();
        let mut dump = Vec::new();
        for id in [SocketId::new_v4(), SocketId::new_v6()] {
            each_connection(socket, id, filter, |header| {
                let SocketId { source_address, source_port, .. } = header.socket_id;
                let counted = self.places.iter().any(|place| place.includes(source_address, source_port));
                if counted && seen.insert(header.socket_id.cookie) {
                    dump.extend(connection(header));
                }
            })?;
        }
        Ok(dump)
    }
}

/// How many connections a client has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Those that the client has not ended.
    pub(super) open: u32,
    /// Those that it has.
    pub(super) half: u32,
}

impl Count {
    /// As the record has it.
    pub(super) const fn of(record: &Record) -> Self {
        Self { open: record.open, half: record.half }
    }
}

/// How many connections each client has.
pub(super) fn count(dump: &Dump) -> HashMap<ClientAddr, Count> {
    let mut counts = HashMap::new();
    for (client, socket) in dump {
        let count: &mut Count = counts.entry(*client).or_default();
        let which = if socket.is_half() { &mut count.half } else { &mut count.open };
        *which = which.saturating_add(1);
    }
    counts
}

/// Whose connection it is; `None` where that is not clear: no program watches it either, and nobody is served on it.
pub(super) fn client(id: &SocketId) -> Option<ClientAddr> {
    match id.destination_address {
        IpAddr::V4(v4) => Some(v4.into()),
        IpAddr::V6(v6) => ClientAddr::from_v6(v6.octets(), id.interface_id),
    }
}

fn connection(header: &InetResponseHeader) -> Option<(ClientAddr, Socket)> {
    let id = &header.socket_id;
    let connection = Socket {
        peer: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
        local: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
        state: state_name(header.state),
    };
    Some((client(id)?, connection))
}

/// Hands over each connection of the family of `id`, of those that have its ports where it has any. `filter` is code for
/// the kernel (`INET_DIAG_REQ_BYTECODE`), as an attribute.
pub(super) fn each_connection(
    socket: &mut Netlink,
    id: SocketId,
    filter: &[u8],
    mut each: impl FnMut(&InetResponseHeader),
) -> io::Result<()> {
    let mut message = request(id);
    message.extend(filter);
    socket.dump(SOCK_DIAG_BY_FAMILY, &message, |_, payload| {
        // Only the fixed part is read: attributes come and go with kernels.
        let header = InetResponseHeader::parse(payload).map_err(malformed)?;
        // What is left of a socket after CLOSE can call itself FIN_WAIT2: the timer tells it from a live one.
        if header.timer != Some(Timer::TimeWait) {
            each(&header);
        }
        Ok(())
    })
}

/// A request that means the connections, or the one, that `id` describes.
pub(super) fn request(id: SocketId) -> Vec<u8> {
    let family = if id.source_address.is_ipv4() { AF_INET } else { AF_INET6 };
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: counted(),
        socket_id: id,
    };
    let mut bytes = vec![0; request.buffer_len()];
    request.emit(&mut bytes);
    bytes
}

/// `INET_DIAG_REQ_BYTECODE`
const BYTECODE: u16 = 1;
/// `INET_DIAG_BC_D_COND`: the peer's address.
const PEER_IS: u8 = 8;

/// Code for the kernel: this client's connections only, also those that an IPv6 socket has with an IPv4 client.
pub(super) fn from(client: ClientAddr) -> Vec<u8> {
    let (family, address): (u8, Vec<u8>) = match client.ip() {
        IpAddr::V4(v4) => (AF_INET, v4.octets().into()),
        IpAddr::V6(v6) => (AF_INET6, v6.octets().into()),
    };
    // An operation (code, where to go on if it holds, where if not), its condition (family, bits that count, port), the address.
    let length = 4 + 8 + address.len();
    let bits = (address.len() * 8) as u8;
    let mut code = vec![PEER_IS, length as u8];
    // Beyond the end by one operation: no.
    code.extend(((length + 4) as u16).to_ne_bytes());
    code.extend([family, bits, 0, 0]);
    code.extend((-1_i32).to_ne_bytes());
    code.extend(address);
    let mut attribute = ((4 + code.len()) as u16).to_ne_bytes().to_vec();
    attribute.extend(BYTECODE.to_ne_bytes());
    attribute.extend(code);
    attribute
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_listed_while_it_lasts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let dump = SocketDump::new(&[port.into()]);
        assert_eq!(dump.read().unwrap(), vec![]);

        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let server = listener.accept().unwrap();
        let listed = dump.read().unwrap();
        let expected =
            Socket { peer: client.local_addr().unwrap(), local: client.peer_addr().unwrap(), state: "ESTAB" };
        assert_eq!(listed, vec![(ClientAddr::from_v4([127, 0, 0, 1]), expected)]);
        assert_eq!(count(&listed).values().copied().collect::<Vec<_>>(), vec![Count { open: 1, half: 0 }]);

        client.shutdown(std::net::Shutdown::Write).unwrap();
        let half = count(&dump.read().unwrap());
        assert_eq!(half.values().copied().collect::<Vec<_>>(), vec![Count { open: 0, half: 1 }]);

        // The client closes first, so its end keeps the TIME_WAIT, and ours is gone.
        drop(client);
        drop(server);
        assert_eq!(dump.read().unwrap(), vec![]);
    }
}
