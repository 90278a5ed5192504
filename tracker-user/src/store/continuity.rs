//! Whether the database is the one that this gateway last wrote, and nothing is missing: told by what no copy of the
//! files carries. If not, the sessions in it are void; nothing else is.
//!
//! Three things are compared. The file's inode and its birth: a copy is another file. Within a boot, the last transaction
//! with the [witness](crate::observe::Witness)'s note of it: an older state is behind it. Over a reboot, when the file was
//! last changed with what the mark has noted of that: whoever writes a copy over it changes it, and nobody can set that
//! time back.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

/// After a power cut, what the mark has noted may be older than the database: the kernel writes either to disk within half
/// a minute.
const SLACK: Duration = Duration::from_secs(60);

/// One transaction: never used for another, of this store or any copy of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    /// The run of the daemon that made it; a random number.
    pub(super) run: u128,
    /// Rises with each attempt.
    pub(super) number: u64,
}

impl fmt::Display for Tip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}:{}", self.run, self.number)
    }
}

impl FromStr for Tip {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (run, number) = text.split_once(':').ok_or(())?;
        let run = u128::from_str_radix(run, 16).map_err(drop)?;
        Ok(Self { run, number: number.parse().map_err(drop)? })
    }
}

/// Which file it is, on its file system, and when it was last changed in any way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileFacts {
    pub(super) inode: u64,
    /// Nanoseconds of wall time; 0 where the file system does not say.
    pub(super) born: i64,
    /// Nanoseconds of wall time.
    pub(super) changed: i64,
}

impl FileFacts {
    pub(super) fn of(file: &Metadata) -> Self {
        let born = file.created().ok().and_then(|born| Timestamp::try_from(born).ok());
        Self {
            inode: file.ino(),
            born: born.map_or(0, nanos),
            changed: file.ctime().saturating_mul(1_000_000_000).saturating_add(file.ctime_nsec()),
        }
    }

    /// Whether it is the same file, changed or not.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.inode, self.born) == (other.inode, other.born)
    }

    /// Whether it has not been changed since. Some file systems keep whole seconds only.
    fn is_unchanged(&self, other: &Self) -> bool {
        const SECOND: i64 = 1_000_000_000;
        self.changed == other.changed
            || self.changed % SECOND == 0 && self.changed / SECOND == other.changed / SECOND
    }
}

/// A moment as it is kept.
pub(super) fn nanos(moment: Timestamp) -> i64 {
    i64::try_from(moment.as_nanosecond()).unwrap_or_default()
}

/// What the mark knows of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The run that wrote this came to an orderly end.
    pub(super) closed: bool,
    /// That run.
    pub(super) run: u128,
    /// The last transaction; none: nothing was written yet.
    pub(super) tip: Option<Tip>,
    /// The file, after that.
    pub(super) file: FileFacts,
    /// When this was written.
    pub(super) written: i64,
    /// In which boot.
    pub(super) boot: String,
    /// On which host.
    pub(super) host: String,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { closed, run, tip, file: FileFacts { inode, born, changed }, written, boot, host } = self;
        let state = if *closed { "closed" } else { "open" };
        let tip = tip.map_or_else(|| "-".to_owned(), |tip| tip.to_string());
        write!(f, "{state} {run:032x} {tip} {inode} {born} {changed} {written} {boot} {host}")
    }
}

impl FromStr for Record {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [state, run, tip, inode, born, changed, written, boot, host] = *words.as_slice() else {
            return Err(());
        };
        let number = |text: &str| text.parse::<i64>().map_err(drop);
        Ok(Self {
            closed: match state {
                "closed" => true,
                "open" => false,
                _ => return Err(()),
            },
            run: u128::from_str_radix(run, 16).map_err(drop)?,
            tip: if tip == "-" { None } else { Some(tip.parse()?) },
            file: FileFacts {
                inode: inode.parse().map_err(drop)?,
                born: number(born)?,
                changed: number(changed)?,
            },
            written: number(written)?,
            boot: boot.to_owned(),
            host: host.to_owned(),
        })
    }
}

/// What the witness knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// The sessions on disk are void.
    pub(super) void: bool,
    /// The last transaction that anybody was told of.
    pub(super) last: Option<Tip>,
    /// One that was being written: if it is on disk, nobody was told of it.
    pub(super) next: Option<Tip>,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [last, next] =
            [self.last, self.next].map(|tip| tip.map_or_else(|| "-".to_owned(), |tip| tip.to_string()));
        write!(f, "{} {last} {next}", if self.void { "void" } else { "good" })
    }
}

impl FromStr for Note {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [state, last, next] = *words.as_slice() else { return Err(()) };
        let tip = |text: &str| if text == "-" { Ok(None) } else { text.parse().map(Some) };
        Ok(Self { void: state != "good", last: tip(last)?, next: tip(next)? })
    }
}

/// What was found at start.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The last transaction in the database.
    pub(super) tip: Option<Tip>,
    /// The database's file.
    pub(super) file: FileFacts,
    /// What the mark says; none if it is new or cannot be read.
    pub(super) record: Option<Record>,
    /// When the mark's file was last changed.
    pub(super) mark_changed: i64,
    /// What the witness says; none if it says nothing.
    pub(super) note: Option<Note>,
    /// This boot, and when it began.
    pub(super) boot: String,
    pub(super) booted: i64,
    /// This host.
    pub(super) host: String,
}

impl Found {
    /// Whether the sessions in it can be gone on with.
    ///
    /// # Errors
    /// Says what speaks against it.
    pub(super) fn judge(&self) -> Result<(), &'static str> {
        let Some(tip) = self.tip else {
            return Err("it was written by a version that did not know its own file");
        };
        let Some(record) = &self.record else {
            return Err(
                "the file \"revoked\", which belongs to it, is missing, or was when it was looked for",
            );
        };
        if record.host != self.host {
            return Err("it is of another host");
        }
        if !record.file.is(&self.file) {
            return Err("it is a copy, not the file that was last written");
        }
        match &self.note {
            Some(note) => self.fits_note(tip, note),
            None => self.fits_record(tip, record),
        }
    }

    /// Equal to the last transaction that was told of, its content is what it was then, whoever wrote it there.
    fn fits_note(&self, tip: Tip, note: &Note) -> Result<(), &'static str> {
        if note.void {
            return Err("what had ended could not be written to it, and the file \"revoked\" was replaced");
        }
        if note.last == Some(tip) || note.next == Some(tip) {
            return Ok(());
        }
        Err("it was replaced by an earlier state: its last transaction is not the last one of this boot")
    }

    fn fits_record(&self, tip: Tip, record: &Record) -> Result<(), &'static str> {
        if self.mark_changed > after(record.written, SLACK) {
            return Err("the file \"revoked\", which belongs to it, was replaced");
        }
        if record.closed {
            if record.tip != Some(tip) {
                return Err("its last transaction is not the one that it was closed with");
            }
            if !self.file.is_unchanged(&record.file) {
                return Err("it was changed after it had been closed");
            }
            return Ok(());
        }
        if record.boot == self.boot {
            return Err("the gateway was killed, and its note of the last transaction is gone");
        }
        // A power cut, or a crash of the kernel.
        let follows = tip.run == record.run && record.tip.is_none_or(|last| tip.number >= last.number);
        if record.tip != Some(tip) && !follows {
            return Err("its last transaction is not one that followed the last one noted");
        }
        if self.file.changed > after(record.file.changed, SLACK) || self.file.changed > self.booted {
            return Err("it was changed after the last transaction noted");
        }
        Ok(())
    }
}

fn after(moment: i64, span: Duration) -> i64 {
    moment.saturating_add(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;
    const NOW: i64 = 1_800_000_000 * SECOND + 123;
    const RUN: u128 = 7;

    fn tip(number: u64) -> Tip {
        Tip { run: RUN, number }
    }

    /// Killed in this boot, after transaction 9, with a witness.
    fn killed() -> Found {
        let file = FileFacts { inode: 5, born: NOW - 900 * SECOND, changed: NOW };
        let record = Record {
            closed: false,
            run: RUN,
            tip: Some(tip(9)),
            file,
            written: NOW,
            boot: "this".into(),
            host: "here".into(),
        };
        Found {
            tip: Some(tip(9)),
            file,
            record: Some(record),
            mark_changed: NOW,
            note: Some(Note { void: false, last: Some(tip(9)), next: None }),
            boot: "this".into(),
            booted: NOW - 1_000 * SECOND,
            host: "here".into(),
        }
    }

    /// The same, with what `change` makes of the mark's record.
    fn with_record(found: Found, change: impl FnOnce(&mut Record)) -> Found {
        let mut record = found.record.clone().unwrap();
        change(&mut record);
        Found { record: Some(record), ..found }
    }

    /// Stopped in order, and found without a witness.
    fn closed() -> Found {
        Found { note: None, ..with_record(killed(), |record| record.closed = true) }
    }

    /// After a power cut.
    fn power_cut() -> Found {
        Found { note: None, boot: "next".into(), booted: NOW + 20 * SECOND, ..killed() }
    }

    fn why(found: &Found) -> &'static str {
        found.judge().expect_err("it is not to be gone on with")
    }

    #[test]
    fn texts_read_back() {
        for found in [killed(), closed()] {
            let record = found.record.unwrap();
            assert_eq!(record.to_string().parse(), Ok(record.clone()));
            let record = Record { tip: None, ..record };
            assert_eq!(record.to_string().parse(), Ok(record));
        }
        for note in [
            Note { void: true, last: None, next: Some(tip(u64::MAX)) },
            Note { void: false, last: Some(Tip { run: u128::MAX, number: 0 }), next: None },
        ] {
            assert_eq!(note.to_string().parse(), Ok(note));
        }
        for text in ["", "-", "open", "closed 1 2 3", "good - - -", "good 1 2"] {
            assert!(text.parse::<Record>().is_err() && text.parse::<Note>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_kill_at_any_moment_costs_nobody_their_session() {
        killed().judge().unwrap();
        // While transaction 10 was written: it is on disk, or not.
        let note = Some(Note { void: false, last: Some(tip(9)), next: Some(tip(10)) });
        Found { note, ..killed() }.judge().unwrap();
        // The mark is told last.
        let file = FileFacts { changed: NOW + 900 * SECOND, ..killed().file };
        Found { note, tip: Some(tip(10)), file, ..killed() }.judge().unwrap();
        // At the very start of a run, when nothing was written yet.
        with_record(killed(), |record| record.run = 8).judge().unwrap();
        with_record(power_cut(), |record| record.run = 8).judge().unwrap();
    }

    #[test]
    fn an_orderly_end_needs_no_witness() {
        closed().judge().unwrap();
        Found { boot: "next".into(), ..closed() }.judge().unwrap();
        // A file system that keeps whole seconds only.
        let file = FileFacts { changed: NOW / SECOND * SECOND, ..closed().file };
        Found { file, ..closed() }.judge().unwrap();
    }

    #[test]
    fn a_power_cut_may_have_lost_what_the_mark_noted_last() {
        power_cut().judge().unwrap();
        let file = FileFacts { changed: NOW + 15 * SECOND, ..power_cut().file };
        Found { tip: Some(tip(12)), file, ..power_cut() }.judge().unwrap();
        let file = FileFacts { changed: NOW - 30 * SECOND, ..power_cut().file };
        Found { file, ..power_cut() }.judge().unwrap();
        // And all of its first transactions.
        let lost = with_record(power_cut(), |record| (record.run, record.tip) = (8, Some(tip(9))));
        Found { tip: Some(Tip { run: 8, number: 10 }), ..lost }.judge().unwrap();
    }

    #[test]
    fn an_earlier_state_is_not_gone_on_with_in_the_same_boot() {
        assert!(why(&Found { tip: Some(tip(8)), ..killed() }).contains("earlier state"));
        // Also with the mark that belongs to it.
        let both = with_record(killed(), |record| record.tip = Some(tip(8)));
        assert!(why(&Found { tip: Some(tip(8)), ..both }).contains("earlier state"));
        // The same number, but of a copy that went its own way.
        let astray = Some(Tip { run: 9, number: 9 });
        assert!(why(&Found { tip: astray, ..killed() }).contains("earlier state"));
        // Stopped in order since.
        let cold = with_record(killed(), |record| (record.closed, record.tip) = (true, Some(tip(8))));
        assert!(why(&Found { tip: Some(tip(8)), ..cold }).contains("earlier state"));
        // Its end could not be written to the database, and the mark that said so is gone.
        let note = Some(Note { void: true, last: Some(tip(9)), next: None });
        assert!(why(&Found { note, ..killed() }).contains("could not be written"));
    }

    #[test]
    fn a_copy_is_not_gone_on_with() {
        for found in [killed(), closed(), power_cut()] {
            for file in
                [FileFacts { inode: 6, ..found.file }, FileFacts { born: found.file.born + 1, ..found.file }]
            {
                assert!(why(&Found { file, ..found.clone() }).contains("copy"));
            }
            assert!(why(&Found { host: "there".into(), ..found.clone() }).contains("another host"));
            assert!(why(&Found { record: None, ..found.clone() }).contains("missing"));
            assert!(why(&Found { tip: None, ..found.clone() }).contains("version"));
        }
    }

    #[test]
    fn a_copy_written_over_the_file_is_not_gone_on_with_over_a_reboot() {
        let changed =
            |found: Found, by| Found { file: FileFacts { changed: NOW + by, ..found.file }, ..found };
        for found in [closed(), Found { boot: "next".into(), ..closed() }] {
            assert!(why(&changed(found.clone(), 1)).contains("after it had been closed"));
            assert!(why(&changed(found.clone(), -1)).contains("after it had been closed"));
            assert!(why(&Found { tip: Some(tip(8)), ..found.clone() }).contains("last transaction"));
            assert!(why(&Found { mark_changed: NOW + 61 * SECOND, ..found }).contains("was replaced"));
        }
        assert!(why(&changed(power_cut(), 61 * SECOND)).contains("was changed after"));
        assert!(why(&changed(power_cut(), 21 * SECOND)).contains("was changed after"), "in this boot");
        assert!(why(&Found { tip: Some(tip(8)), ..power_cut() }).contains("not one that followed"));
        let astray = Some(Tip { run: 9, number: 99 });
        assert!(why(&Found { tip: astray, ..power_cut() }).contains("not one that followed"));
        assert!(why(&Found { mark_changed: NOW + 61 * SECOND, ..power_cut() }).contains("was replaced"));
    }

    #[test]
    fn without_a_witness_nothing_tells_a_kill_from_a_copy_put_back() {
        assert!(why(&Found { note: None, ..killed() }).contains("note of the last transaction is gone"));
    }
}
