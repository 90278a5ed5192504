//! Running the program `amend`: what user space asks of a record is decided and done in the kernel, in one step.

use aya::Ebpf;
use aya::programs::{CgroupSkb, TestRun as _, TestRunOptions};
use tracker_ebpf::abi::{AMEND_CLOCK, Amendment};

use super::attach::missing;
use super::error::{self, ObserveError};
use crate::clock::{boot_now, boot_time_offset};

/// An order that takes longer than the kernel's patience is not given up at once: the machine may be busy.
const ATTEMPTS: usize = 5;

/// Asks for a change. True if it was made.
pub(super) fn run(programs: &Ebpf, amendment: &Amendment) -> Result<bool, ObserveError> {
    let action = "amending a record";
    let packet = packet(amendment);
    let program = programs.program("amend").ok_or_else(|| missing(action, "amend"))?;
    let program: &CgroupSkb = program.try_into().map_err(|error| error::kernel(action, &error))?;
    let run = TestRunOptions { data_in: Some(&packet), ..TestRunOptions::default() };
    let result = program.test_run(run).map_err(|error| error::kernel(action, &error))?;
    Ok(result.return_value == 1)
}

/// Whether the daemon and the kernel side read the same clock: in a time namespace (time_namespaces(7)) the daemon's can
/// be ahead or behind, and by that every stamp of a record would be wrong. Only the kernel can tell for certain.
pub(super) fn is_of_one_clock(programs: &Ebpf) -> Result<(), ObserveError> {
    for _ in 0..ATTEMPTS {
        let at = boot_now().as_nanos();
        if run(programs, &Amendment { kind: AMEND_CLOCK, at, ..Amendment::default() })? {
            return Ok(());
        }
    }
    Err(ObserveError::ForeignClock { offset: boot_time_offset() })
}

/// The kernel wants an Ethernet frame, whose header it takes off; the type is the one for local experiments, so that it
/// does not take the rest for IP.
fn packet(amendment: &Amendment) -> Vec<u8> {
    let mut packet = vec![0; 12];
    packet.extend([0x88, 0xb5]);
    packet.extend(amendment.client.0);
    for word in [amendment.kind, amendment.changes, amendment.open, amendment.half] {
        packet.extend(word.to_ne_bytes());
    }
    packet.extend(amendment.at.to_ne_bytes());
    packet
}
