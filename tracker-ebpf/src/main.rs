//! The eBPF programs: they see every connection to a watched port from its establishment to its end, and keep the
//! record of its client.
//!
//! `watch` (sock_ops) decides once per connection whether it is watched, and marks its socket; `received` and `sent`
//! (cgroup_skb) look at nothing but the mark; `amend` runs only when user space asks for it. What happens to a record is
//! decided by the library's transitions, under the record's lock. Nothing here ever drops a packet or refuses a
//! connection: what goes wrong is counted.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    target_arch = "bpf",
    expect(
        unsafe_code,
        reason = "every helper of the kernel is a foreign function; the verifier proves each use"
    )
)]

#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
mod programs;

/// Never reached: the verifier refuses a program that can loop for ever.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel gives most helpers only to programs under its own licence.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
