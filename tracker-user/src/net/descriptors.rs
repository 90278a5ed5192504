//! How many descriptors there are, and that some are left for what must always work: accepting, the operator's socket, the
//! metrics, the store, names, and the web pages.
//!
//! The kernel gives out the lowest number that is free. So a new descriptor's number tells how many are in use, by
//! whomever, without counting: one that lies in the reserve means that all below it are taken.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::sys::resource::{Resource, getrlimit};

/// Of so many descriptors, one is of the reserve,
const RESERVED_SHARE: u64 = 8;
/// but never fewer than these: so many connections of operators and scrapers there may be, and some threads that resolve names,
const LEAST_RESERVE: u64 = 48;
/// nor more than these.
const MOST_RESERVE: u64 = 1_024;
/// Of so many descriptors one more is of the reserve for whoever looks at the web pages,
const PAGES_SHARE: u64 = 16;
/// but never fewer than these,
const LEAST_PAGES: u64 = 8;
/// nor more than these.
const MOST_PAGES: u64 = 512;

/// The limit, as it was when it was last looked up.
static LIMIT: AtomicU64 = AtomicU64::new(1_024);

/// Looks the limit up: it may be changed while the daemon runs (prlimit).
pub fn look() {
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        LIMIT.store(soft, Relaxed);
    }
}

fn limit() -> u64 {
    LIMIT.load(Relaxed)
}

/// The first number of the reserve.
fn reserve_begins(limit: u64) -> u64 {
    let others = (limit / RESERVED_SHARE).clamp(LEAST_RESERVE, MOST_RESERVE);
    limit - (others + pages(limit)).min(limit / 2)
}

fn pages(limit: u64) -> u64 {
    (limit / PAGES_SHARE).clamp(LEAST_PAGES, MOST_PAGES)
}

/// How many connections there may be to the web pages. They are part of the reserve.
#[must_use]
pub fn room_for_pages() -> usize {
    usize::try_from(pages(limit())).unwrap_or(usize::MAX)
}

/// Whether this descriptor, which has just been made, lies in the reserve: what it is for should be given up.
#[must_use]
pub fn in_reserve(made: &impl AsRawFd) -> bool {
    u64::try_from(made.as_raw_fd()).is_ok_and(|number| number >= reserve_begins(limit()))
}

/// How many connections of clients there is room for, each with one to an origin.
#[must_use]
pub fn room_for_clients() -> usize {
    usize::try_from(reserve_begins(limit()) / 2).unwrap_or(usize::MAX)
}

/// How many connections to origins may wait to be used again: they never take more than a quarter of what there is.
#[must_use]
pub fn room_for_idle() -> usize {
    usize::try_from(reserve_begins(limit()) / 4).unwrap_or(usize::MAX).min(MOST_IDLE)
}

/// How many pipes there may be, of two descriptors each: an eighth of what there is. They are filled by whoever reads nothing, who
/// has connections as well.
#[must_use]
pub fn room_for_pipes() -> usize {
    usize::try_from(reserve_begins(limit()) / 16).unwrap_or(usize::MAX)
}

/// More than this do not wait, however many descriptors there are.
const MOST_IDLE: usize = 8_192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_reserve_whatever_the_limit_is() {
        for (limit, begins) in
            [(16, 8), (64, 32), (256, 192), (1_024, 832), (65_536, 64_000), (1 << 20, (1 << 20) - 1_536)]
        {
            assert_eq!(reserve_begins(limit), begins, "{limit}");
        }
        assert!(!in_reserve(&std::io::stdin()));
    }
}
