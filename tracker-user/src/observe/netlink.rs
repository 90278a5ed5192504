//! Asking the kernel by netlink, and listening to what it tells.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

/// More than the kernel puts into one datagram.
const BUFFER: usize = 64 * 1024;
/// The kernel answers at once; only a lost answer could make us wait.
const PATIENCE: TimeVal = TimeVal::new(5, 0);
const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// A netlink socket. It belongs to the network namespace in which it was opened.
pub(super) struct Netlink {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Netlink {
    /// Opens one that hears of these groups (a bit for each).
    pub(super) fn open(protocol: SockProtocol, groups: u32) -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &PATIENCE)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { socket, buffer: vec![0; BUFFER], sequence: 0 })
    }

    /// Makes room for this many bytes of what is told and not yet read, as far as we may.
    pub(super) fn make_room(&self, bytes: usize) {
        if setsockopt(&self.socket, sockopt::RcvBufForce, &bytes).is_err() {
            // Without the privilege, as much as everybody gets.
            let _ = setsockopt(&self.socket, sockopt::RcvBuf, &bytes);
        }
    }

    /// Asks for a list, and hands over each message of it by kind and content. What the kernel tells to the groups
    /// meanwhile comes in between.
    pub(super) fn dump(
        &mut self,
        kind: u16,
        request: &[u8],
        mut each: impl FnMut(u16, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.ask(kind, NLM_F_DUMP, request)?;
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            let datagram = self.buffer.get(..length).unwrap_or_default();
            if messages(datagram, self.sequence, &mut each)? {
                return Ok(());
            }
        }
    }

    /// Asks for one thing, and reads the message that answers. The kernel has answered when it has taken the question: what
    /// is not there then was lost, and nobody waits for it.
    pub(super) fn one<T>(
        &mut self,
        kind: u16,
        request: &[u8],
        read: impl Fn(u16, &[u8]) -> io::Result<T>,
    ) -> io::Result<T> {
        self.ask(kind, 0, request)?;
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT)?;
            let mut answer = None;
            let datagram = self.buffer.get(..length).unwrap_or_default();
            messages(datagram, self.sequence, &mut |kind, message| {
                answer = Some(read(kind, message)?);
                Ok(())
            })?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
        }
    }

    /// Gives an order and waits until it is carried out.
    pub(super) fn order(&mut self, kind: u16, request: &[u8]) -> io::Result<()> {
        self.ask(kind, NLM_F_ACK, request)?;
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            let datagram = self.buffer.get(..length).unwrap_or_default();
            if messages(datagram, self.sequence, &mut |_, _| Ok(()))? {
                return Ok(());
            }
        }
    }

    /// Hands over what was told so far, and does not wait for more. `ENOBUFS`: something was lost.
    pub(super) fn told(&mut self, mut each: impl FnMut(u16, &[u8]) -> io::Result<()>) -> io::Result<()> {
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(nix::errno::Errno::EAGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            messages(self.buffer.get(..length).unwrap_or_default(), self.sequence, &mut each)?;
        }
    }

    fn ask(&mut self, kind: u16, flags: u16, request: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut message = Vec::with_capacity(HEADER + request.len());
        message.extend(((HEADER + request.len()) as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(request);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        Ok(())
    }
}

/// A netlink socket that is opened when it is first needed.
pub(super) struct Door {
    protocol: SockProtocol,
    socket: Mutex<Option<Netlink>>,
}

impl Door {
    pub(super) const fn new(protocol: SockProtocol) -> Self {
        Self { protocol, socket: Mutex::new(None) }
    }

    /// Does `work` with it. It is kept only after a good end: nothing of a failed answer is left in it for the next.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Netlink) -> io::Result<T>) -> io::Result<T> {
        let mut kept = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let mut socket = match kept.take() {
            Some(socket) => socket,
            None => Netlink::open(self.protocol, 0)?,
        };
        let done = work(&mut socket)?;
        *kept = Some(socket);
        Ok(done)
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Goes through a datagram. True at the end of the answer to the request `sequence`.
fn messages(
    datagram: &[u8],
    sequence: u32,
    each: &mut impl FnMut(u16, &[u8]) -> io::Result<()>,
) -> io::Result<bool> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let message = NetlinkBuffer::new_checked(rest).map_err(malformed)?;
        let step = (message.length() as usize).next_multiple_of(4);
        match (message.sequence_number(), message.message_type()) {
            (number, NLMSG_DONE) if number == sequence => return Ok(true),
            (number, NLMSG_ERROR) if number == sequence => return outcome(message.payload()).map(|()| true),
            // 0 is what the kernel tells to everybody; other numbers belong to requests that were given up.
            (number, kind) if number == sequence || number == 0 => each(kind, message.payload())?,
            _ => {}
        }
        rest = rest.get(step..).unwrap_or_default();
    }
    Ok(false)
}

/// An error's number, or 0, which is an acknowledgement.
fn outcome(payload: &[u8]) -> io::Result<()> {
    match payload.first_chunk::<4>().map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
        None => Err(malformed("an error without a number")),
    }
}

/// An answer that cannot be understood.
pub(super) fn malformed(error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed answer: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + payload.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn read(datagram: &[u8]) -> (io::Result<bool>, Vec<(u16, Vec<u8>)>) {
        let mut seen = Vec::new();
        let done = messages(datagram, 7, &mut |kind, payload| {
            seen.push((kind, payload.to_vec()));
            Ok(())
        });
        (done, seen)
    }

    #[test]
    fn an_answer_is_told_from_what_is_told_to_all_and_from_older_answers() {
        let parts =
            [message(20, 7, b"abc"), message(28, 0, b"told"), message(20, 6, b"old"), message(3, 7, &[0; 4])];
        let (done, seen) = read(&parts.concat());
        assert!(done.unwrap());
        assert_eq!(seen, [(20, b"abc".to_vec()), (28, b"told".to_vec())]);
        assert!(!read(&parts[0]).0.unwrap());
    }

    #[test]
    fn errors_have_the_kernels_number_and_nonsense_is_refused() {
        let refused = read(&message(2, 7, &(-libc::ENOENT).to_ne_bytes())).0.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOENT));
        assert!(read(&message(2, 7, &[0; 4])).0.unwrap());
        assert!(read(&message(2, 7, &[0; 2])).0.is_err());
        assert!(read(&[1, 2, 3]).0.is_err());
        let mut long = message(20, 7, b"abcd");
        long[0] = 200;
        assert!(read(&long).0.is_err());
    }
}
