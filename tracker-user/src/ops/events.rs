//! The audit trail: what memory has of it, what the store has beyond that, and what happens from now on.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::{Ops, OpsError};
use crate::audit::TrailEntry;
use crate::store::{EventKey, StoredEvent};

/// So many events are read from the store at once.
const PAGE: usize = 1_000;
/// So many wait for whoever reads them.
const AHEAD: usize = 64;

/// What a reader of the trail is told.
#[derive(Debug)]
pub enum Told {
    /// This happened.
    Event(Arc<TrailEntry>),
    /// This happened, as the store has it.
    Stored(Box<StoredEvent>),
    /// So many events were lost: the reader is too slow.
    Lost(u64),
}

/// The trail, as it is read. Ends when all has been told that was asked for, or behind the error that it was cut short by.
#[derive(Debug)]
pub struct Events {
    told: mpsc::Receiver<Result<Told, OpsError>>,
    /// Ends with this.
    _reader: AbortOnDropHandle<()>,
}

impl Events {
    /// The next of them; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Told, OpsError>> {
        self.told.recv().await
    }
}

/// Nobody reads any more.
struct Left;

type Page = (Vec<StoredEvent>, Option<EventKey>);

impl Ops {
    /// The audit trail: as far as memory goes back, or from `since` on as far as the store does; with `follow` it goes on
    /// with what happens.
    ///
    /// # Errors
    /// When too many follow already, or the store cannot be read. If it fails later, that is told at the end.
    pub async fn events(&self, since: Option<Timestamp>, follow: bool) -> Result<Events, OpsError> {
        let place = || {
            let place = Arc::clone(&self.0.followers).try_acquire_owned();
            place.map_err(|_| OpsError::TooManyFollowers(self.0.limits.followers))
        };
        let place = follow.then(place).transpose()?;
        self.look(async move |ops| {
            let (remembered, followed) = ops.parts().audit.follow();
            let past = match since {
                None => None,
                Some(since) => Some((since, ops.page(since, None).await?)),
            };
            let (tell, told) = mpsc::channel(AHEAD);
            let reader = ops.0.runtime.spawn(ops.clone().tell(
                past,
                remembered,
                place.map(|place| (place, followed)),
                tell,
            ));
            Ok(Events { told, _reader: AbortOnDropHandle::new(reader) })
        })
        .await
    }

    async fn tell(
        self,
        past: Option<(Timestamp, Page)>,
        remembered: Vec<Arc<TrailEntry>>,
        follow: Option<(OwnedSemaphorePermit, Receiver<Arc<TrailEntry>>)>,
        tell: mpsc::Sender<Result<Told, OpsError>>,
    ) {
        let remembered = match past {
            None => remembered,
            Some((since, first)) => match self.tell_stored(since, first, &remembered, &tell).await {
                Ok(Ok(())) => remembered.into_iter().filter(|event| event.time >= since).collect(),
                // Who reads must not take it for the whole.
                Ok(Err(error)) => return drop(tell.send(Err(error)).await),
                Err(Left) => return,
            },
        };
        for event in remembered {
            if tell.send(Ok(Told::Event(event))).await.is_err() {
                return;
            }
        }
        let Some((_place, mut followed)) = follow else { return };
        loop {
            let told = match followed.recv().await {
                Ok(event) => Told::Event(event),
                Err(RecvError::Lagged(lost)) => Told::Lost(lost),
                Err(RecvError::Closed) => return,
            };
            if tell.send(Ok(told)).await.is_err() {
                return;
            }
        }
    }

    /// Tells what the store has, page by page, of what memory does not reach back to. Of many refusals, some are only there.
    async fn tell_stored(
        &self,
        since: Timestamp,
        mut page: Page,
        remembered: &[Arc<TrailEntry>],
        tell: &mpsc::Sender<Result<Told, OpsError>>,
    ) -> Result<Result<(), OpsError>, Left> {
        let reaches = remembered.iter().map(|event| event.time).min();
        let known: HashSet<String> =
            remembered.iter().map(|entry| identity(&StoredEvent::from(&**entry))).collect();
        loop {
            let (events, last) = page;
            let older = |event: &StoredEvent| reaches.is_none_or(|reaches| event.time < reaches);
            let more = events.last().is_some_and(older) || events.is_empty();
            for event in events {
                if older(&event) && !known.contains(&identity(&event)) {
                    tell.send(Ok(Told::Stored(Box::new(event)))).await.map_err(|_| Left)?;
                }
            }
            if last.is_none() || !more {
                return Ok(Ok(()));
            }
            page = match self.page(since, last).await {
                Ok(page) => page,
                Err(error) => return Ok(Err(error)),
            };
        }
    }

    async fn page(&self, since: Timestamp, after: Option<EventKey>) -> Result<Page, OpsError> {
        Ok(self.blocking(move |parts| parts.store.events(since, after, PAGE)).await??)
    }
}

/// What tells an event from every other.
fn identity(event: &StoredEvent) -> String {
    format!("{} {:?} {:?} {:?}", event.time, event.event, event.session, event.client)
}
