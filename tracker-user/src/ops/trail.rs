//! The audit trail backwards, page by page: of what memory and the store have, what is wanted.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Ops, OpsError, Parts};
use crate::audit::TrailEntry;
use crate::links;
use crate::store::{EventKey, Store, StoreError, StoredEvent};
use crate::types::{ClientAddr, UserQuery, told_realm};

/// So many events are read from the store at once.
const READ: usize = 1_000;
/// So many are looked at for one page; where few are wanted, it is shorter than it might be.
const LOOKED_AT: usize = 50_000;

/// Which events are wanted, the newest first.
#[derive(Clone, Debug, Default)]
pub struct WantedEvents {
    /// Of these kinds only, by their words; none: of all.
    pub kinds: Vec<String>,
    /// Only those that happened to this user, or that this user has brought about.
    pub user: Option<UserQuery>,
    /// Only those of this client, or whose order came from there.
    pub client: Option<ClientAddr>,
    /// Only those from this moment on.
    pub since: Option<Timestamp>,
    /// Only those behind this place.
    pub before: Option<TrailPlace>,
    /// At most so many.
    pub most: usize,
}

/// A place in the trail: behind so many of the wanted events of one moment, and all later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrailPlace {
    time: Timestamp,
    told: usize,
}

/// Some of the trail.
#[derive(Clone, Debug)]
pub struct TrailPage {
    /// The events, the newest first.
    pub events: Vec<StoredEvent>,
    /// Where it goes on; `None`: there are no more.
    pub next: Option<TrailPlace>,
}

impl fmt::Display for TrailPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.time.as_nanosecond(), self.told)
    }
}

/// It is no place in a trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a place in the audit trail")]
pub struct NoPlace;

impl FromStr for TrailPlace {
    type Err = NoPlace;

    /// As it is displayed.
    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (time, told) = text.rsplit_once('-').ok_or(NoPlace)?;
        let time = time.parse().ok().and_then(|nanos| Timestamp::from_nanosecond(nanos).ok());
        Ok(Self { time: time.ok_or(NoPlace)?, told: told.parse().map_err(|_| NoPlace)? })
    }
}

impl WantedEvents {
    fn accepts(&self, event: &StoredEvent) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&event.event))
            && self.client.is_none_or(|client| is_of(event, client))
            && self.user.as_ref().is_none_or(|typed| concerns(event, typed))
    }
}

fn is_of(event: &StoredEvent, client: ClientAddr) -> bool {
    let is_client = event.client.as_deref().is_some_and(|shown| links::parse(shown) == Ok(client));
    is_client || event.actor.as_ref().is_some_and(|actor| actor.client == Some(client.ip()))
}

fn concerns(event: &StoredEvent, typed: &UserQuery) -> bool {
    let user = event.user.as_ref().is_some_and(|user| {
        let domain = event.domain.as_deref().unwrap_or_default();
        typed.means(&user.to_lowercase(), &told_realm(domain, event.realm.as_deref()), domain)
    });
    // As they are shown: a bare name means everybody who is called so.
    let is_called = |shown: &str| {
        let shown = UserQuery::from(shown);
        shown == *typed || shown.user() == typed.to_string()
    };
    let actor = event.actor.as_ref().and_then(|actor| actor.user.as_deref());
    user || actor.is_some_and(is_called) || event.by.as_deref().is_some_and(is_called)
}

impl Ops {
    /// The part of the audit trail that is wanted, the newest first.
    ///
    /// # Errors
    /// When the store cannot be read, or the gateway is stopping.
    pub async fn past_events(&self, wanted: WantedEvents) -> Result<TrailPage, OpsError> {
        self.look(async move |ops| Ok(ops.blocking(move |parts| page(parts, &wanted)).await??)).await
    }
}

/// Makes a page. Blocks.
fn page(parts: &Parts, wanted: &WantedEvents) -> Result<TrailPage, StoreError> {
    let until = wanted.before.map_or(Timestamp::MAX, |place| place.time);
    let is_within = |time| time <= until && wanted.since.is_none_or(|since| since <= time);
    let mut recent = parts.audit.past(|_| true);
    recent.retain(|entry| is_within(entry.time));
    // The last of one moment first.
    recent.reverse();
    recent.sort_by_key(|entry| std::cmp::Reverse(entry.time));
    let mut both = Both { recent: recent.into(), kept: Kept::new(&parts.store, until), same: None };
    let mut events = Vec::new();
    let mut place = wanted.before.unwrap_or(TrailPlace { time: Timestamp::MAX, told: 0 });
    // Those of the first moment have been told before, as far as the place says.
    let mut skip = place.told;
    for _ in 0..LOOKED_AT {
        if events.len() == wanted.most {
            return Ok(TrailPage { events, next: Some(place) });
        }
        let event = match both.next()? {
            Some(event) if is_within(event.time) => event,
            _ => return Ok(TrailPage { events, next: None }),
        };
        if event.time != place.time {
            place = TrailPlace { time: event.time, told: 0 };
            skip = 0;
        }
        if wanted.accepts(&event) {
            if skip > 0 {
                skip -= 1;
            } else {
                place.told += 1;
                events.push(event);
            }
        }
    }
    Ok(TrailPage { events, next: Some(place) })
}

/// What memory has and what the store has, each event once, the newest first.
struct Both<'a> {
    recent: VecDeque<Arc<TrailEntry>>,
    kept: Kept<'a>,
    /// The moment that was told of last, and its events.
    same: Option<(Timestamp, Vec<StoredEvent>)>,
}

impl Both<'_> {
    fn next(&mut self) -> Result<Option<StoredEvent>, StoreError> {
        loop {
            let kept = self.kept.peek()?.map(|event| event.time);
            let event = match self.recent.front() {
                Some(entry) if kept.is_none_or(|kept| entry.time >= kept) => {
                    let event = StoredEvent::from(&**entry);
                    self.recent.pop_front();
                    event
                }
                _ => match self.kept.read.pop_front() {
                    Some(event) => event,
                    None => return Ok(None),
                },
            };
            match &mut self.same {
                Some((time, told)) if *time == event.time => {
                    if told.contains(&event) {
                        continue;
                    }
                    told.push(event.clone());
                }
                _ => self.same = Some((event.time, vec![event.clone()])),
            }
            return Ok(Some(event));
        }
    }
}

/// What the store has, the newest first.
struct Kept<'a> {
    store: &'a Store,
    until: Timestamp,
    read: VecDeque<StoredEvent>,
    before: Option<EventKey>,
    is_over: bool,
}

impl<'a> Kept<'a> {
    const fn new(store: &'a Store, until: Timestamp) -> Self {
        Self { store, until, read: VecDeque::new(), before: None, is_over: false }
    }

    fn peek(&mut self) -> Result<Option<&StoredEvent>, StoreError> {
        while self.read.is_empty() && !self.is_over {
            let (read, before) = self.store.events_before(self.until, self.before, READ)?;
            self.is_over = before.is_none();
            self.before = before;
            self.read = read.into();
        }
        Ok(self.read.front())
    }
}
