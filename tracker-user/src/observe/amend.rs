//! Running the program `amend`: what user space asks of a record is decided and done in the kernel, in one step.

use std::os::fd::BorrowedFd;

use tracker_ebpf::abi::{AMEND_CLOCK, Amendment};

use super::bpf;
use super::error::{self, ObserveError};
use crate::clock::{boot_now, boot_time_offset};

/// An order that takes longer than the kernel's patience is not given up at once: the machine may be busy.
const ATTEMPTS: usize = 5;

/// The kernel wants an Ethernet frame, whose header it takes off.
const HEADER: usize = 14;
/// The type of frames for local experiments: what follows is not taken for IP.
const LOCAL_EXPERIMENT: [u8; 2] = [0x88, 0xb5];

const PACKET: usize = HEADER + size_of::<Amendment>();

/// Asks for a change by `program`, which is `amend`. True if it was made. Costs a system call of some microseconds, and
/// waits for nothing but the record's lock.
pub(super) fn run(program: BorrowedFd<'_>, amendment: &Amendment) -> Result<bool, ObserveError> {
    let answer = bpf::run(program, &packet(amendment));
    let answer = answer.map_err(|error| error::kernel("amending a record", &error))?;
    Ok(answer == 1)
}

/// Whether the daemon and the kernel side read the same clock: in a time namespace (time_namespaces(7)) the daemon's can
/// be ahead or behind, and by that every stamp of a record would be wrong. Only the kernel can tell for certain.
pub(super) fn is_of_one_clock(program: BorrowedFd<'_>) -> Result<(), ObserveError> {
    for _ in 0..ATTEMPTS {
        let at = boot_now().as_nanos();
        if run(program, &Amendment { kind: AMEND_CLOCK, at, ..Amendment::default() })? {
            return Ok(());
        }
    }
    Err(ObserveError::ForeignClock { offset: boot_time_offset() })
}

fn packet(amendment: &Amendment) -> [u8; PACKET] {
    let Amendment { client, kind, changes, open, half, at, before } = *amendment;
    let mut packet = [0; PACKET];
    let mut rest = packet.as_mut_slice();
    let mut put = |bytes: &[u8]| {
        if let Some((place, after)) = std::mem::take(&mut rest).split_at_mut_checked(bytes.len()) {
            place.copy_from_slice(bytes);
            rest = after;
        }
    };
    put(&[0; HEADER - LOCAL_EXPERIMENT.len()]);
    put(&LOCAL_EXPERIMENT);
    put(&client.0);
    for word in [kind, changes, open, half] {
        put(&word.to_ne_bytes());
    }
    put(&at.to_ne_bytes());
    put(&before.to_ne_bytes());
    packet
}
