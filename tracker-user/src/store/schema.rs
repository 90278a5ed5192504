//! The layout of the database: its number, and the steps that bring an older one up to date.
//!
//! A step is never changed once it has been released; a new layout is a new step at the end. All steps that a file needs
//! are one transaction: a crash leaves the old layout or the new one.

use redb::{ReadTransaction, TableDefinition, TableHandle, WriteTransaction};

use super::continuity::Tip;
use super::embedded::existing;
use super::layouts;
use crate::types::{GatewayId, SessionId};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const LAYOUT: &str = "schema";
const TRANSACTION: &str = "transaction";
/// The run of the daemon that made the last transaction, in two halves.
const RUN: [&str; 2] = ["run-high", "run-low"];
/// The store's number, in two halves: of it and of all its copies.
const ID: [&str; 2] = ["id-high", "id-low"];
/// The gateway's number.
const GATEWAY: &str = "gateway";
/// From which number on the sessions of the last run were numbered.
const FIRST_SESSION: &str = "first-session";

/// Brings one layout to the next; sessions are the gateway's.
type Step = fn(&WriteTransaction, GatewayId) -> Result<(), redb::Error>;
/// The first step brings layout 1 to layout 2, and so on.
const STEPS: [Step; 4] =
    [layouts::tenures_from_events, layouts::number_by_gateway, layouts::users_and_bans, layouts::roles];
/// The layout that this version writes.
pub(super) const SCHEMA: u64 = 1 + STEPS.len() as u64;

/// What a database is, as far as its layout tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Nothing was ever written to it.
    Empty,
    /// One of ours.
    Known(u64),
    /// Of a later version.
    Newer(u64),
    /// It has tables, but not ours.
    Foreign,
}

/// Reads the layout.
pub(super) fn layout(read: &ReadTransaction) -> Result<Layout, redb::Error> {
    let names: Vec<String> = read.list_tables()?.map(|table| table.name().to_owned()).collect();
    if names.is_empty() {
        return Ok(Layout::Empty);
    }
    if !names.iter().any(|name| name == META.name()) {
        return Ok(Layout::Foreign);
    }
    // A table of that name with other types is somebody else's.
    let Ok(meta) = read.open_table(META) else { return Ok(Layout::Foreign) };
    Ok(match meta.get(LAYOUT)?.map(|value| value.value()) {
        None | Some(0) => Layout::Foreign,
        Some(found) if found > SCHEMA => Layout::Newer(found),
        Some(found) => Layout::Known(found),
    })
}

/// Makes an empty database one of this version's layout; its first transaction says whose it is.
pub(super) fn begin(write: &WriteTransaction) -> Result<(), redb::Error> {
    write.open_table(META)?.insert(LAYOUT, SCHEMA)?;
    Ok(())
}

/// Brings a database of layout `from` up to date; 0 is an empty one. What has no gateway's number yet gets this one.
pub(super) fn migrate(write: &WriteTransaction, from: u64, gateway: GatewayId) -> Result<(), redb::Error> {
    steps(write, from, gateway, &STEPS)?;
    write.open_table(META)?.insert(GATEWAY, u64::from(gateway.number()))?;
    Ok(())
}

fn steps(write: &WriteTransaction, from: u64, gateway: GatewayId, steps: &[Step]) -> Result<(), redb::Error> {
    if let Some(done) = from.checked_sub(1) {
        for (number, step) in (1_u64..).zip(steps).skip(usize::try_from(done).unwrap_or(usize::MAX)) {
            tracing::info!(from = number, to = number + 1, "the store's layout is brought up to date");
            step(write, gateway)?;
        }
    }
    write.open_table(META)?.insert(LAYOUT, 1 + steps.len() as u64)?;
    Ok(())
}

/// Says from which number on the sessions of this run are numbered, and on which gateway.
pub(super) fn number(write: &WriteTransaction, first: SessionId) -> Result<(), redb::Error> {
    let mut meta = write.open_table(META)?;
    meta.insert(GATEWAY, u64::from(first.gateway().number()))?;
    meta.insert(FIRST_SESSION, first.number())?;
    Ok(())
}

/// Says which transaction it is, and of which store.
pub(super) fn stamp(write: &WriteTransaction, tip: Tip, id: u128) -> Result<(), redb::Error> {
    let mut meta = write.open_table(META)?;
    meta.insert(TRANSACTION, tip.number)?;
    for (names, value) in [(RUN, tip.run), (ID, id)] {
        let [high, low] = names;
        meta.insert(high, (value >> 64) as u64)?;
        meta.insert(low, value as u64)?;
    }
    Ok(())
}

/// What a database says it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Imprint {
    /// The last transaction; none in a new one, and in one of an early version.
    pub(super) tip: Option<Tip>,
    /// The store's number; likewise.
    pub(super) id: Option<u128>,
    /// The gateway's number; none before layout 3.
    pub(super) gateway: Option<GatewayId>,
    /// From which number on the last run numbered its sessions, if it wrote any.
    pub(super) first_session: Option<u64>,
}

/// Reads what the database says it is.
pub(super) fn imprint(read: &ReadTransaction) -> Result<Imprint, redb::Error> {
    let Some(meta) = existing(read.open_table(META))? else { return Ok(Imprint::default()) };
    let get =
        |name: &str| -> Result<Option<u64>, redb::Error> { Ok(meta.get(name)?.map(|value| value.value())) };
    let whole = |[high, low]: [&str; 2]| -> Result<Option<u128>, redb::Error> {
        let halves = get(high)?.zip(get(low)?);
        Ok(halves.map(|(high, low)| u128::from(high) << 64 | u128::from(low)))
    };
    let gateway = get(GATEWAY)?.and_then(|number| u32::try_from(number).ok());
    Ok(Imprint {
        tip: whole(RUN)?.zip(get(TRANSACTION)?).map(|(run, number)| Tip { run, number }),
        id: whole(ID)?,
        gateway: gateway.and_then(GatewayId::new),
        first_session: get(FIRST_SESSION)?,
    })
}

#[cfg(test)]
mod tests {
    use redb::{Database, ReadableDatabase, ReadableTable};

    use super::*;

    const OLD: TableDefinition<'_, u64, u64> = TableDefinition::new("old");
    const NEW: TableDefinition<'_, u64, u64> = TableDefinition::new("new");

    fn double(write: &WriteTransaction, _: GatewayId) -> Result<(), redb::Error> {
        let mut new = write.open_table(NEW)?;
        for entry in write.open_table(OLD)?.iter()? {
            let (key, value) = entry?;
            new.insert(key.value(), value.value() * 2)?;
        }
        Ok(())
    }

    fn drop_old(write: &WriteTransaction, _: GatewayId) -> Result<(), redb::Error> {
        write.delete_table(OLD)?;
        Ok(())
    }

    fn fails(_: &WriteTransaction, _: GatewayId) -> Result<(), redb::Error> {
        Err(redb::Error::Corrupted("as the test wants it".into()))
    }

    fn gateway() -> GatewayId {
        GatewayId::new(7).unwrap()
    }

    /// A made-up layout 1 with one row.
    fn old(directory: &std::path::Path) -> Database {
        let database = Database::create(directory.join("db")).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(OLD).unwrap().insert(1, 21).unwrap();
        write.open_table(META).unwrap().insert(LAYOUT, 1).unwrap();
        write.commit().unwrap();
        database
    }

    #[test]
    fn the_steps_that_are_missing_are_taken_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let database = old(directory.path());
        for (from, to, taken) in [(1, 2, &[double as Step][..]), (2, 3, &[fails as Step, drop_old][..])] {
            let write = database.begin_write().unwrap();
            steps(&write, from, gateway(), taken).unwrap();
            write.commit().unwrap();
            let read = database.begin_read().unwrap();
            assert_eq!(read.open_table(META).unwrap().get(LAYOUT).unwrap().unwrap().value(), to);
            assert_eq!(read.open_table(NEW).unwrap().get(1).unwrap().unwrap().value(), 42);
            assert_eq!(read.open_table(OLD).is_ok(), to == 2);
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_old_layout() {
        let directory = tempfile::tempdir().unwrap();
        let database = old(directory.path());
        let write = database.begin_write().unwrap();
        assert!(steps(&write, 1, gateway(), &[double, fails]).is_err());
        write.abort().unwrap();
        let read = database.begin_read().unwrap();
        assert_eq!(read.open_table(META).unwrap().get(LAYOUT).unwrap().unwrap().value(), 1);
        assert!(read.open_table(NEW).is_err());
    }

    #[test]
    fn a_layout_is_told_from_somebody_elses() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::create(directory.path().join("db")).unwrap();
        let look = || layout(&database.begin_read().unwrap()).unwrap();
        assert_eq!(look(), Layout::Empty);
        let write = database.begin_write().unwrap();
        write.open_table(OLD).unwrap();
        write.commit().unwrap();
        assert_eq!(look(), Layout::Foreign);
        for (layout, what) in [(SCHEMA, Layout::Known(SCHEMA)), (SCHEMA + 1, Layout::Newer(SCHEMA + 1))] {
            let write = database.begin_write().unwrap();
            write.open_table(META).unwrap().insert(LAYOUT, layout).unwrap();
            write.commit().unwrap();
            assert_eq!(look(), what);
        }
    }
}
