//! One timer per connection, for whatever it waits for: set anew only when it rings, or when an earlier deadline comes
//! up, so that a deadline per request costs a comparison.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use crate::clock::{BootTime, boot_now};

pub(super) struct Timer {
    sleep: Pin<Box<Sleep>>,
    rings: BootTime,
    deadline: Option<BootTime>,
}

impl Timer {
    pub(super) fn new(span: Duration) -> Self {
        let at = boot_now().after(span);
        Self { sleep: Box::pin(tokio::time::sleep(span)), rings: at, deadline: Some(at) }
    }

    /// From now on there is this much time.
    pub(super) fn set(&mut self, span: Duration) {
        self.deadline = Some(boot_now().after(span));
    }

    /// From now on there is all the time in the world.
    pub(super) const fn clear(&mut self) {
        self.deadline = None;
    }

    /// Ready when the time is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        if deadline < self.rings {
            self.wind(deadline);
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            // The runtime's clock counts milliseconds, and stands still while the machine is suspended.
            if boot_now() >= deadline {
                return Poll::Ready(());
            }
            self.wind(deadline);
        }
    }

    fn wind(&mut self, deadline: BootTime) {
        self.sleep.set(tokio::time::sleep(deadline.since(boot_now())));
        self.rings = deadline;
    }
}
