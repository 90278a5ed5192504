//! The kernel's list of TCP connections to the watched ports, by netlink (sock_diag). Needs no privilege.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use netlink_packet_core::{
    Emitable, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, Parseable,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags, Timer,
};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use tracker_ebpf::abi::ClientAddr;

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

/// All connections of one moment.
pub(super) type Dump = Vec<(ClientAddr, Socket)>;

/// The door to the list. It belongs to the network namespace of the thread that reads first.
pub(super) struct SocketDump {
    socket: Mutex<Option<OwnedFd>>,
    ports: BTreeSet<u16>,
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
        8 => "CLOSE-WAIT",
        9 => "LAST-ACK",
        11 => "CLOSING",
        _ => "UNKNOWN",
    }
}

impl SocketDump {
    pub(super) fn new(ports: &[u16]) -> Self {
        Self { socket: Mutex::new(None), ports: ports.iter().copied().collect() }
    }

    /// All connections to the watched ports.
    pub(super) fn read(&self) -> io::Result<Dump> {
        let mut kept = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let socket = match kept.take() {
            Some(socket) => socket,
            None => open()?,
        };
        let dump = self.read_from(&socket)?;
        // Kept only after a good end: nothing of a failed answer is left in it for the next.
        *kept = Some(socket);
        Ok(dump)
    }

    fn read_from(&self, socket: &OwnedFd) -> io::Result<Dump> {
        // The list is not one moment's: a socket that moves while it is read can be told twice.
        let mut seen = HashSet::new();
        let mut dump = Vec::new();
        for (sequence, family, id) in [(1, AF_INET, SocketId::new_v4()), (2, AF_INET6, SocketId::new_v6())] {
            request(socket, sequence, family, id)?;
            replies(socket, sequence, |header| {
                if self.is_counted(header) && seen.insert(header.socket_id.cookie) {
                    dump.push(connection(header));
                }
            })?;
        }
        Ok(dump)
    }

    fn is_counted(&self, header: &InetResponseHeader) -> bool {
        // What is left of a socket after CLOSE can call itself FIN_WAIT2: the timer tells it from a live one.
        self.ports.contains(&header.socket_id.source_port) && header.timer != Some(Timer::TimeWait)
    }
}

fn open() -> io::Result<OwnedFd> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)?;
    // The kernel answers at once; only a lost answer could make us wait.
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
    Ok(socket)
}

/// How many connections each client has.
pub(super) fn count(dump: &Dump) -> HashMap<ClientAddr, u32> {
    let mut counts = HashMap::new();
    for (client, _) in dump {
        let count: &mut u32 = counts.entry(*client).or_default();
        *count = count.saturating_add(1);
    }
    counts
}

fn connection(header: &InetResponseHeader) -> (ClientAddr, Socket) {
    let id = &header.socket_id;
    let connection = Socket {
        peer: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
        local: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
        state: state_name(header.state),
    };
    (id.destination_address.into(), connection)
}

fn request(socket: &OwnedFd, sequence: u32, family: u8, socket_id: SocketId) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.sequence_number = sequence;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: counted(),
        socket_id,
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; Emitable::buffer_len(&message)];
    message.serialize(&mut bytes);
    send(socket.as_raw_fd(), &bytes, MsgFlags::empty())?;
    Ok(())
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Hands over each socket of the answer, until its end. Only the fixed part is read: attributes come and go with kernels.
fn replies(socket: &OwnedFd, sequence: u32, mut each: impl FnMut(&InetResponseHeader)) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest).map_err(malformed)?;
            let step = (message.length() as usize).next_multiple_of(4);
            // Never anything else: one request at a time.
            if message.sequence_number() == sequence {
                match message.message_type() {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return Err(refusal(message.payload())),
                    _ => each(&InetResponseHeader::parse(message.payload()).map_err(malformed)?),
                }
            }
            rest = rest.get(step..).unwrap_or_default();
        }
    }
}

fn malformed(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed answer: {error}"))
}

fn refusal(payload: &[u8]) -> io::Error {
    match payload.first_chunk::<4>() {
        Some(code) => io::Error::from_raw_os_error(i32::from_ne_bytes(*code).wrapping_neg()),
        None => malformed("an error without a number"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_listed_while_it_lasts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let dump = SocketDump::new(&[port]);
        assert_eq!(dump.read().unwrap(), vec![]);

        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let server = listener.accept().unwrap();
        let listed = dump.read().unwrap();
        let expected =
            Socket { peer: client.local_addr().unwrap(), local: client.peer_addr().unwrap(), state: "ESTAB" };
        assert_eq!(listed, vec![(ClientAddr::from_v4([127, 0, 0, 1]), expected)]);
        assert_eq!(count(&listed).values().copied().collect::<Vec<_>>(), vec![1]);

        // The client closes first, so its end keeps the TIME_WAIT, and ours is gone.
        drop(client);
        drop(server);
        assert_eq!(dump.read().unwrap(), vec![]);
    }
}
