//! Evidence: what is known of what a client did. With the session and the policy it is what decisions are made from.
//!
//! It is made from the records of the kernel side, or of a single connection, at the border (`net/evidence.rs`). What
//! several gateways know of one client comes together in [`Evidence::merge`].

use std::time::Duration;

use crate::clock::BootTime;

/// What one source knows of one client, or of one connection of a shared host. The default is of a client that never
/// connected: nothing is open, and nothing has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// How many connections are open that the client has not ended.
    pub open: u32,
    /// How many connections the client has ended (FIN) that are not closed yet.
    pub half_closed: u32,
    /// When the client last came to count as open.
    pub opened_at: Option<BootTime>,
    /// When `open` last fell to 0: whatever is opened from then on may be somebody else's.
    pub left_at: Option<BootTime>,
    /// While `open` is 0: from when on the client counts as closed. That may be still to come, if connections are left that
    /// the client has ended. `None` while one is open, and if there never was any.
    pub closed_from: Option<BootTime>,
    /// When the client last came to count as closed, as far as was known when a connection last changed.
    pub closed_at: Option<BootTime>,
    /// When new stream data last moved that counts as traffic.
    pub traffic_at: Option<BootTime>,
    /// The most recent closed period of at least the timeout that is over.
    pub closed_gap: Option<Gap>,
    /// The most recent silence of at least the timeout that is over.
    pub traffic_gap: Option<Gap>,
    /// Payload bytes received from the client.
    pub received: u64,
    /// Payload bytes sent to the client.
    pub sent: u64,
}

// It is handed on by value: not more than the kernel's record takes.
const _: () = assert!(size_of::<Evidence>() <= 112);

/// A time in which nothing was open, or nothing moved, and that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When it began.
    pub start: BootTime,
    /// When it ended.
    pub end: BootTime,
}

/// Whether the client counts as open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has a connection that it has not ended.
    Open,
    /// It has none: it counts as closed from this moment on, which may be still to come; `None` if it never had any.
    Closed(Option<BootTime>),
}

impl Evidence {
    /// Whether the client counts as open, or from when on as closed.
    #[must_use]
    pub const fn presence(&self) -> Presence {
        if self.open > 0 { Presence::Open } else { Presence::Closed(self.closed_from) }
    }

    /// Whether the client counts as open at `now`.
    #[must_use]
    pub fn is_open(&self, now: BootTime) -> bool {
        self.open > 0 || (self.half_closed > 0 && self.closed_from.is_some_and(|from| from > now))
    }

    /// When the client last came to count as closed, up to `now`.
    #[must_use]
    pub fn closed_by(&self, now: BootTime) -> Option<BootTime> {
        self.closed_from.filter(|from| *from <= now).or(self.closed_at)
    }

    /// How many connections there are, ended by the client or not.
    #[must_use]
    pub const fn connections(&self) -> u32 {
        self.open.saturating_add(self.half_closed)
    }

    /// When the client was last active, as far as is known at `now`: while a connection is open that is now.
    #[must_use]
    pub fn last_active(&self, now: BootTime) -> BootTime {
        match self.presence() {
            Presence::Open => now,
            // A moment that is still to come is now.
            Presence::Closed(from) => {
                let closed = from.unwrap_or_default().min(now);
                closed.max(self.traffic_at.unwrap_or_default())
            }
        }
    }

    /// What two gateways know of one client together; see [`Self::merge_all`].
    #[must_use]
    pub fn merge(self, other: Self, limit: Duration) -> Self {
        Self::merge_all(&[self, other], limit)
    }

    /// What several gateways know of one client together, in the time of one of them. `limit` is the timeout: gaps of at
    /// least this length are kept. The order does not matter, and who knows nothing of the client changes nothing.
    ///
    /// - A connection that is open anywhere holds the client open. Its clock of mode `session` starts when it is closed
    ///   everywhere; that of mode `traffic` at the last data anywhere.
    /// - A gap is one that held on **all** of them. Each knows its last long gap, and the one that is running now; of what
    ///   all have in common, the latest of at least `limit` is kept.
    /// - Counts are sums. So a gateway must be merged once; in all else once more changes nothing.
    ///
    /// What a merge cannot know: a gateway remembers one gap. If it has latched another since, a gap that all had before is
    /// forgotten, and the session looks fresher than it is. It is never the other way round: nobody's session runs out
    /// for a time in which a connection was open, or data moved, anywhere. This is the right side to err on, since
    /// whoever is awake when the gap completes has judged it already, and what was judged stays with the session. For
    /// the same reason, merge all gateways at once: a merge of merges has but one gap of the first ones.
    ///
    /// Whether a client left everywhere cannot be told from when it last left each. It is taken to have left when it last
    /// left any: with `revalidate = "on-reopen"` it is asked once too often rather than never.
    #[must_use]
    pub fn merge_all(all: &[Self], limit: Duration) -> Self {
        let sum = |count: fn(&Self) -> u32| all.iter().map(count).fold(0, u32::saturating_add);
        let bytes = |count: fn(&Self) -> u64| all.iter().map(count).fold(0, u64::wrapping_add);
        let latest = |moment: fn(&Self) -> Option<BootTime>| all.iter().filter_map(moment).max();
        let open = sum(|one| one.open);
        // It has been open for as long as that one which has been so for longest.
        let opened = all.iter().filter(|one| one.open > 0).filter_map(|one| one.opened_at).min();
        let closed = all.iter().map(|one| Quiet {
            gap: one.closed_gap,
            running: match one.presence() {
                Presence::Open => Running::No,
                Presence::Closed(None) => Running::Always,
                Presence::Closed(Some(from)) => Running::Since(from),
            },
        });
        let silent = all.iter().map(|one| Quiet {
            gap: one.traffic_gap,
            running: one.traffic_at.map_or(Running::Always, Running::Since),
        });
        Self {
            open,
            half_closed: sum(|one| one.half_closed),
            opened_at: opened.or_else(|| latest(|one| one.opened_at)),
            left_at: latest(|one| one.left_at),
            closed_from: latest(|one| one.closed_from).filter(|_| open == 0),
            closed_at: latest(|one| one.closed_at),
            traffic_at: latest(|one| one.traffic_at),
            closed_gap: common_gap(&closed, limit),
            traffic_gap: common_gap(&silent, limit),
            received: bytes(|one| one.received),
            sent: bytes(|one| one.sent),
        }
    }
}

/// When it was quiet on one gateway, as far as is known: in its last long gap, and from some moment on.
#[derive(Clone, Copy)]
struct Quiet {
    gap: Option<Gap>,
    running: Running,
}

/// Whether it is quiet now.
#[derive(Clone, Copy)]
enum Running {
    No,
    Since(BootTime),
    Always,
}

impl Quiet {
    /// Since when it was quiet up to `moment`; `None` if it was not just before that, or if that is not known.
    fn up_to(self, moment: BootTime) -> Option<Since> {
        match self.running {
            Running::Always => return Some(None),
            Running::Since(since) if since < moment => return Some(Some(since)),
            Running::Since(_) | Running::No => {}
        }
        let gap = self.gap.filter(|gap| gap.start < moment && moment <= gap.end)?;
        Some(Some(gap.start))
    }
}

/// A moment, or the beginning of all time.
type Since = Option<BootTime>;

/// The latest time of at least `limit` in which it was quiet on all, and that is over. It ends where somebody's gap does.
fn common_gap(all: &(impl Iterator<Item = Quiet> + Clone), limit: Duration) -> Option<Gap> {
    let up_to = |end: BootTime| {
        let mut quiet = all.clone().map(|one| one.up_to(end));
        // The beginning of all time, `None`, is earlier than every moment.
        let start = quiet.try_fold(None, |latest: Since, start| Some(latest.max(start?)))??;
        Some(Gap { start, end }).filter(|gap| gap.end.since(gap.start) >= limit)
    };
    let ends = all.clone().filter_map(|one| one.gap).map(|gap| gap.end);
    ends.filter_map(up_to).max_by_key(|gap| gap.end)
}
