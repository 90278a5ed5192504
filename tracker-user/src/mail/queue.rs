//! Mails that wait to be sent. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::BootTime;

/// So many wait at most,
pub(super) const MOST: usize = 1_000;
/// and so many to one address.
pub(super) const PER_ADDRESS: usize = 20;

/// How long after each try that failed the next one is: the first ones soon, for codes that are good for minutes; then as RFC
/// 5321, section 4.5.4.1 has it, more rarely.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(2 * 60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(10 * 60),
    Duration::from_secs(60 * 60),
];

/// A mail that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Its number.
    pub(super) number: Box<str>,
    /// To whom.
    pub(super) to: Box<str>,
    /// The mail, sealed.
    pub(super) sealed: Vec<u8>,
    /// Until when it is any use.
    pub(super) until: Timestamp,
}

#[derive(Debug)]
struct Held {
    waiting: Waiting,
    tries: usize,
    next: BootTime,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue(BTreeMap<Box<str>, Held>);

impl Queue {
    /// Whether one more to this address may wait.
    pub(super) fn has_room(&self, to: &str) -> bool {
        let to_them = self.0.values().filter(|held| held.waiting.to.eq_ignore_ascii_case(to));
        self.0.len() < MOST && to_them.count() < PER_ADDRESS
    }

    /// It waits, and is tried at once.
    pub(super) fn put(&mut self, waiting: Waiting, now: BootTime) {
        self.0.insert(waiting.number.clone(), Held { waiting, tries: 0, next: now });
    }

    /// It waits no more.
    pub(super) fn remove(&mut self, number: &str) -> Option<Waiting> {
        self.0.remove(number).map(|held| held.waiting)
    }

    /// What is to be tried now, the longest overdue first; at most so many.
    pub(super) fn due(&self, now: BootTime, most: usize) -> Vec<Waiting> {
        let mut due: Vec<&Held> = self.0.values().filter(|held| held.next <= now).collect();
        due.sort_by_key(|held| held.next);
        due.into_iter().take(most).map(|held| held.waiting.clone()).collect()
    }

    /// When something is to be tried next.
    pub(super) fn next(&self) -> Option<BootTime> {
        self.0.values().map(|held| held.next).min()
    }

    /// A try has failed: there is another one later.
    pub(super) fn again(&mut self, number: &str, now: BootTime) {
        if let Some(held) = self.0.get_mut(number) {
            let pause = PAUSES.get(held.tries).or(PAUSES.last()).copied().unwrap_or_default();
            held.tries += 1;
            held.next = now.after(pause);
        }
    }

    /// All are tried now.
    pub(super) fn hurry(&mut self, now: BootTime) {
        for held in self.0.values_mut() {
            (held.tries, held.next) = (0, held.next.min(now));
        }
    }

    /// Takes out those that are no use any more.
    pub(super) fn expired(&mut self, now: Timestamp) -> Vec<Waiting> {
        let over: Vec<Box<str>> = self
            .0
            .values()
            .filter(|held| held.waiting.until <= now)
            .map(|held| held.waiting.number.clone())
            .collect();
        over.iter().filter_map(|number| self.remove(number)).collect()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(number: &str, to: &str, until: i64) -> Waiting {
        let until = Timestamp::from_second(until).unwrap();
        Waiting { number: number.into(), to: to.into(), sealed: Vec::new(), until }
    }

    fn numbers(waiting: &[Waiting]) -> Vec<&str> {
        waiting.iter().map(|waiting| &*waiting.number).collect()
    }

    #[test]
    fn it_is_tried_at_once_and_then_more_and_more_rarely_until_it_is_no_use() {
        let start = BootTime::from_nanos(1);
        let mut queue = Queue::default();
        queue.put(waiting("1", "a", 600), start);
        let (mut now, mut pauses) = (start, Vec::new());
        for _ in 0..8 {
            assert_eq!(numbers(&queue.due(now, 9)), ["1"]);
            queue.again("1", now);
            let next = queue.next().unwrap();
            pauses.push(next.since(now).as_secs());
            assert!(queue.due(next.before(Duration::from_nanos(1)), 9).is_empty());
            now = next;
        }
        assert_eq!(pauses, [10, 30, 120, 300, 600, 3600, 3600, 3600]);
        queue.hurry(start);
        assert_eq!(numbers(&queue.due(start, 9)), ["1"], "the server was mended");
        assert!(queue.expired(Timestamp::from_second(599).unwrap()).is_empty());
        assert_eq!(numbers(&queue.expired(Timestamp::from_second(600).unwrap())), ["1"]);
        assert_eq!((queue.len(), queue.next()), (0, None));
    }

    #[test]
    fn neither_many_nor_many_to_one_address_wait() {
        let now = BootTime::from_nanos(1);
        let mut queue = Queue::default();
        for number in 0..PER_ADDRESS {
            assert!(queue.has_room("A@example.com"));
            queue.put(waiting(&number.to_string(), "a@Example.com", 1), now);
        }
        assert!(!queue.has_room("a@example.com") && queue.has_room("b@example.com"));
        for number in PER_ADDRESS..MOST {
            queue.put(waiting(&number.to_string(), &number.to_string(), 1), now);
        }
        assert!(!queue.has_room("b@example.com"));
        assert_eq!(queue.due(now, 7).len(), 7);
    }
}
