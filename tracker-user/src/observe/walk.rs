//! A walk over all records, in portions: nobody else waits for longer than one of them takes.

use tracker_ebpf::record::Record;

use super::bpf::Cursor;
use super::error::ObserveError;
use super::eyes::Eyes;
use super::{Observer, Source};
use crate::session::Evidence;
use crate::types::ClientAddr;

/// About so many records are told in one portion.
const PORTION: usize = 1_024;

/// Where a walk over the records stands; see [`Observer::walk`].
pub struct RecordWalk(Place);

enum Place {
    Kernel(Cursor),
    /// The part of the map that comes next.
    Eyes(usize),
    /// The same, of those that are only known by their connections through balancers: they come last.
    Relayed(usize),
}

impl Observer {
    /// A walk over all records, in no order, from its beginning. A record that is there from the first to the last portion
    /// is told once, as it is when its portion is read. One that is made or deleted meanwhile is told or not.
    #[must_use]
    pub fn walk(&self) -> RecordWalk {
        RecordWalk(match &self.source {
            Source::Kernel(_) => Place::Kernel(Cursor::new(PORTION)),
            Source::Eyes { .. } => Place::Eyes(0),
        })
    }

    /// Calls `each` with what the next portion of the records says, each consistent in itself. False if it was the last one. Some
    /// microseconds a record: it belongs on a blocking thread.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn next_portion(
        &self,
        walk: &mut RecordWalk,
        mut each: impl FnMut(ClientAddr, &Evidence),
    ) -> Result<bool, ObserveError> {
        if let Place::Relayed(part) = &mut walk.0 {
            let mut portion = Vec::new();
            parts_of(&self.relayed, part, |client, record| portion.push((client, *record)));
            for (client, record) in portion {
                if self.record(client)?.is_none() {
                    each(client, &Evidence::from(&record));
                }
            }
            return Ok(*part < self.relayed.parts());
        }
        let tell = |client: ClientAddr, record: &Record| {
            let known = self.with_relayed(client, Some(Evidence::from(record)));
            known.iter().for_each(|evidence| each(client, evidence));
        };
        let is_over = match (&self.source, &mut walk.0) {
            (Source::Kernel(kernel), Place::Kernel(cursor)) => {
                kernel.portion(cursor, tell)?;
                cursor.is_at_the_end()
            }
            (Source::Eyes { eyes, .. }, Place::Eyes(part)) => {
                parts_of(eyes, part, tell);
                *part >= eyes.parts()
            }
            // A walk of another observer: there is one.
            _ => return Ok(false),
        };
        if is_over {
            walk.0 = Place::Relayed(0);
        }
        Ok(!is_over || !self.relayed.is_empty())
    }
}

/// Calls `each` with about a portion of the records, part by part of their map.
fn parts_of(eyes: &Eyes, part: &mut usize, mut each: impl FnMut(ClientAddr, &Record)) {
    let mut told = 0;
    while told < PORTION && *part < eyes.parts() {
        eyes.each_of_part(*part, |client, record| {
            each(client, record);
            told += 1;
        });
        *part += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::clock::boot_now;
    use crate::observe::{ObserveOptions, ObserverMode};

    #[test]
    fn what_stays_is_told_once_whatever_comes_and_goes_and_no_portion_is_large() {
        let options = ObserveOptions { mode: ObserverMode::Proxy, ..ObserveOptions::default() };
        let (observer, _events) = Observer::start(&options).unwrap();
        let client = |number: u32| ClientAddr::from(std::net::IpAddr::from(number.to_be_bytes()));
        let stays = 0x0a00_0000..0x0a00_0000 + 20_000;
        stays.clone().for_each(|number| observer.ensure(client(number), boot_now()).unwrap());
        let (mut walk, mut told, mut portions) = (observer.walk(), Vec::new(), 0_u32);
        loop {
            let before = told.len();
            let more = observer.next_portion(&mut walk, |client, _| told.push(client)).unwrap();
            assert!(told.len() - before < PORTION + 256, "{}", told.len() - before);
            portions += 1;
            // Others log in and out between the portions.
            for number in 0..200 {
                observer.ensure(client(0x0b00_0000 + portions * 1_000 + number), boot_now()).unwrap();
                observer.release(client(0x0b00_0000 + (portions - 1) * 1_000 + number)).unwrap();
            }
            if !more {
                break;
            }
        }
        assert!(portions >= 19, "{portions}");
        let once: HashSet<_> = told.iter().copied().collect();
        assert_eq!(once.len(), told.len(), "nobody is told twice");
        assert!(stays.into_iter().all(|number| once.contains(&client(number))));
    }
}
