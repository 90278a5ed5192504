//! Time, in two types that never mix: boot time decides, wall time is shown. Nobody else reads a clock.

use std::fmt;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::time::TimeSpec;
use nix::sys::timer::TimerSetTimeFlags;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags};
use nix::time::{ClockId as Clock, clock_gettime};
use tokio::io::unix::AsyncFd;

/// A moment of `CLOCK_BOOTTIME`, in nanoseconds since boot: it never jumps, and goes on while the machine is suspended.
/// Moments before this boot are negative: a session that outlived a reboot began at one.
///
/// It is kept with its sign turned over, so that the order of the numbers is the order of the moments. The one number
/// that no moment has, 0, lets an `Option` of it take no more room.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(NonZeroU64);

const _: () = assert!(size_of::<Option<BootTime>>() == 8);

/// The bit that tells moments before boot from those after it.
const SIGN: u64 = 1 << 63;

impl BootTime {
    /// The moment as the kernel side writes it: a moment before boot is a number that wrapped around.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        match NonZeroU64::new(nanos ^ SIGN) {
            Some(turned) => Self(turned),
            // The earliest number is the next one's.
            None => Self(NonZeroU64::MIN),
        }
    }

    const fn from_signed(nanos: i64) -> Self {
        Self::from_nanos(nanos.cast_unsigned())
    }

    /// The nanoseconds since boot.
    const fn signed(self) -> i64 {
        self.as_nanos().cast_signed()
    }

    /// A moment in a record or in the settings of the kernel side, where 0 says that it never came.
    #[must_use]
    pub const fn from_stamp(nanos: u64) -> Option<Self> {
        if nanos == 0 { None } else { Some(Self::from_nanos(nanos)) }
    }

    /// The moment as the kernel side reads it.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0.get() ^ SIGN
    }

    /// The moment `span` later; the end of time where that cannot be expressed.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self::from_signed(self.signed().saturating_add(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// The moment `span` earlier; the beginning of time where that cannot be expressed.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self::from_signed(self.signed().saturating_sub(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// How long ago `earlier` was, seen from here; zero if it is still to come.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.signed().saturating_sub(earlier.signed())).unwrap_or(0))
    }
}

/// The moment of the boot.
impl Default for BootTime {
    fn default() -> Self {
        Self::from_nanos(0)
    }
}

impl fmt::Debug for BootTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootTime({})", self.signed())
    }
}

/// The boot time now.
#[must_use]
pub fn boot_now() -> BootTime {
    // Cannot fail on Linux >= 2.6.39 with this constant; 0 would only make everything look old, which fails closed.
    let now = clock_gettime(Clock::CLOCK_BOOTTIME).unwrap_or(TimeSpec::new(0, 0));
    BootTime::from_signed(now.tv_sec() * 1_000_000_000 + now.tv_nsec())
}

/// The wall time now, for people and for the store; it decides nothing while the machine is up.
#[must_use]
pub fn wall_now() -> Timestamp {
    Timestamp::now()
}

/// The name of this boot (the kernel's: `random(4)`, boot_id): boot times of another boot mean nothing in this one, nor
/// do those of another time namespace.
#[must_use]
pub fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    match boot_time_offset() {
        None | Some(0) => id.trim().to_owned(),
        Some(seconds) => format!("{}{seconds:+}", id.trim()),
    }
}

/// By how many seconds the boot time of this process is ahead of the kernel's, as its time namespace says; `None` where
/// that cannot be told.
#[must_use]
pub fn boot_time_offset() -> Option<i64> {
    offset_in(&std::fs::read_to_string("/proc/self/timens_offsets").ok()?)
}

/// The line `boottime SECONDS NANOSECONDS`.
fn offset_in(offsets: &str) -> Option<i64> {
    let mut lines = offsets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|line| line.first() == Some(&"boottime"))?.get(1)?.parse().ok()
}

/// How the two clocks stand to each other, to show boot times to people.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    /// Nanoseconds of wall time at boot.
    offset: i128,
}

/// The offset that was told last. The clocks cannot be read at one moment, so each reading differs by some nanoseconds;
/// the same boot time should always be shown as the same wall time, unless the wall clock was really set.
static TOLD: AtomicI64 = AtomicI64::new(0);
/// A smaller difference is the reading's, or the wall clock being disciplined.
const SET: u64 = 1_000_000;
/// Of so many readings the one that took the shortest is believed.
const READINGS: u32 = 3;

/// The offset, and by how many nanoseconds it may be wrong: whoever reads two clocks can be interrupted in between.
fn offset() -> (i64, u64) {
    let reading = || {
        let (before, wall, after) = (boot_now().signed(), wall_now().as_nanosecond(), boot_now().signed());
        let middle = before + (after - before) / 2;
        (i64::try_from(wall - i128::from(middle)).unwrap_or(i64::MAX), after.abs_diff(before))
    };
    (0..READINGS).map(|_| reading()).min_by_key(|(_, uncertain)| *uncertain).unwrap_or_default()
}

impl Anchor {
    /// How the clocks stand now.
    #[must_use]
    pub fn now() -> Self {
        let told = TOLD.load(Ordering::Relaxed);
        let (read, uncertain) = offset();
        if told != 0 && read.abs_diff(told) < SET.max(uncertain) {
            return Self { offset: told.into() };
        }
        // Who is first tells; the others repeat it.
        let telling = TOLD.compare_exchange(told, read, Ordering::Relaxed, Ordering::Relaxed);
        Self { offset: telling.map_or_else(i128::from, |_| read.into()) }
    }

    /// What is told from now on, unless the wall clock has really been set since: the offset that an earlier run of the
    /// daemon told in this boot.
    pub fn go_on(&self) {
        TOLD.store(i64::try_from(self.offset).unwrap_or_default(), Ordering::Relaxed);
    }

    /// The offset, to be kept.
    #[must_use]
    pub fn offset(&self) -> i64 {
        i64::try_from(self.offset).unwrap_or_default()
    }

    /// An offset that was kept.
    #[must_use]
    pub const fn from_offset(offset: i64) -> Self {
        Self { offset: offset as i128 }
    }

    /// The boot time at `moment`, as far as the wall clock's present setting tells; it may be before this boot.
    #[must_use]
    pub fn boot(&self, moment: Timestamp) -> BootTime {
        let nanos = moment.as_nanosecond() - self.offset;
        BootTime::from_signed(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
    }

    /// The wall time at `moment`, as far as the wall clock's present setting tells.
    #[must_use]
    pub fn wall(&self, moment: BootTime) -> Timestamp {
        let nanos = i128::from(moment.signed()) + self.offset;
        Timestamp::from_nanosecond(nanos).unwrap_or(if nanos < 0 { Timestamp::MIN } else { Timestamp::MAX })
    }
}

/// A timer on `CLOCK_BOOTTIME`: exact to what the kernel can do, and right after a suspend, which tokio's own is not.
pub struct BootTimer(AsyncFd<Fd>);

/// nix's timer as tokio wants to see it.
struct Fd(TimerFd);

impl AsRawFd for Fd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl BootTimer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// When the process has no file descriptor left, or outside a tokio runtime.
    pub fn new() -> std::io::Result<Self> {
        let timer =
            TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "Fd owns its descriptor while it lives, which is all that the new constructor asks for"
        )]
        let timer = AsyncFd::new(Fd(timer))?;
        Ok(Self(timer))
    }

    /// Sets the moment to wake at; `None` never wakes. A moment that has passed wakes at once.
    ///
    /// # Errors
    /// Never on a valid descriptor; passed on from the kernel.
    pub fn set(&self, deadline: Option<BootTime>) -> std::io::Result<()> {
        let timer = &self.0.get_ref().0;
        match deadline {
            None => timer.unset()?,
            Some(moment) => {
                // An absolute time of 0 would disarm the timer.
                let at =
                    TimeSpec::from_duration(Duration::from_nanos(moment.signed().max(1).cast_unsigned()));
                timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            }
        }
        Ok(())
    }

    /// Waits until the moment that was set. Cancel-safe.
    pub async fn expired(&self) {
        loop {
            match self.0.readable().await {
                Ok(mut guard) => {
                    // EAGAIN means it was set anew in between.
                    let fired = guard.try_io(|timer| timer.get_ref().0.wait().map_err(std::io::Error::from));
                    if matches!(fired, Ok(Ok(()))) {
                        return;
                    }
                }
                // The runtime is going away: nothing will be decided any more.
                Err(_) => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_before_boot_come_before_those_after_it() {
        let moments = [i64::MIN + 1, -2, -1, 0, 1, 2, i64::MAX].map(BootTime::from_signed);
        assert!(moments.is_sorted() && moments.map(BootTime::signed).is_sorted());
        assert_eq!(BootTime::default().as_nanos(), 0);
        assert_eq!(BootTime::from_nanos(u64::MAX).after(Duration::from_nanos(2)).as_nanos(), 1);
        let first = BootTime::from_signed(i64::MIN);
        assert_eq!((first, first.before(Duration::MAX)), (moments[0], moments[0]));
    }

    #[test]
    fn the_offset_of_a_time_namespace_is_read() {
        assert_eq!(
            offset_in("monotonic           0         0\nboottime       86400         5\n"),
            Some(86_400)
        );
        assert_eq!(offset_in("boottime -10 0"), Some(-10));
        assert_eq!(offset_in("monotonic 1 0"), None);
    }
}
