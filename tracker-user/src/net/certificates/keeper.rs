//! Which certificates are shown: those that are configured, read again when their files change, or the gateway's own. What
//! cannot be used never takes the place of what can.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use super::{Certificate, CertificateError, CertificateFacts, Finding, Standing, load, own};
use crate::clock::{BootTime, boot_now, wall_now};
use crate::net::TlsServer;

/// Certificate and key are written one after the other: so long what does not fit is not spoken of.
const PATIENCE: Duration = Duration::from_secs(10);
/// So often what cannot be used is tried again although its files look as they did.
const AGAIN: Duration = Duration::from_secs(30);
/// So long before its end a certificate is spoken of, or a quarter of its life before where that is shorter.
const SPOKEN_OF: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The files of a configured certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Its chain.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where the gateway's own certificate is kept, and what it is for.
#[derive(Clone)]
pub struct Own {
    /// The directory; it belongs to the daemon alone.
    pub directory: PathBuf,
    /// The names and addresses of the host, asked for when a certificate is made.
    pub names: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
}

/// A certificate that is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What it says.
    pub facts: CertificateFacts,
    /// Its files; `None` for the gateway's own.
    pub files: Option<Pair>,
    /// How it stands to the present.
    pub standing: Standing,
    /// When the gateway itself renews it; `None` where others have to.
    pub renewal: Option<Timestamp>,
    /// What went wrong when it was last read or renewed, and since when; `None` when all is well.
    pub problem: Option<Problem>,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Since when.
    pub since: Timestamp,
    /// What, with the remedy.
    pub text: String,
}

/// Keeps a server's certificates up to date. See the module.
pub struct Keeper {
    server: Arc<TlsServer>,
    own: Own,
    state: Mutex<State>,
    replaced: AtomicU64,
    failed: AtomicU64,
}

struct State {
    /// What is to be shown; empty: the gateway's own.
    wanted: Vec<Pair>,
    /// What is shown. It is never empty, and in the order of the pairs.
    slots: Vec<Slot>,
    /// The files as they were when they were last read.
    read: Vec<Option<Stamp>>,
    /// As they were at the last look.
    seen: Vec<Option<Stamp>>,
    /// When they were last read.
    tried: BootTime,
    /// Others are wanted than those that were read.
    is_stale: bool,
    /// Where a certificate that is wanted has no place among those that are shown.
    unplaced: Option<Trouble>,
}

struct Slot {
    files: Option<Pair>,
    certificate: Certificate,
    trouble: Option<Trouble>,
}

/// A certificate that cannot be used.
#[derive(Clone)]
struct Trouble {
    error: CertificateError,
    since: Timestamp,
    begun: BootTime,
    is_told: bool,
}

impl Trouble {
    fn problem(&self) -> Option<Problem> {
        self.is_told.then(|| Problem { since: self.since, text: self.error.to_string() })
    }
}

impl Keeper {
    /// Reads what is configured, or makes a certificate where nothing is.
    ///
    /// # Errors
    /// With the first that cannot be used. One that has expired can: clients are told so.
    pub fn start(wanted: Vec<Pair>, own: Own) -> Result<Self, CertificateError> {
        let now = wall_now();
        let stamps = stamps(&wanted);
        let slots = if wanted.is_empty() {
            let certificate = own::read_or_make(&own.directory, &*own.names, now)?;
            vec![Slot { files: None, certificate, trouble: None }]
        } else {
            let read = wanted.iter().map(|pair| {
                let certificate = load(&pair.chain, &pair.key)?;
                Ok(Slot { files: Some(pair.clone()), certificate, trouble: None })
            });
            read.collect::<Result<_, CertificateError>>()?
        };
        let server = TlsServer::new(&certificates(&slots))
            .map_err(|error| CertificateError::new(&own.directory, Finding::NotMade(error.to_string())))?;
        let state = State {
            wanted,
            slots,
            seen: stamps.clone(),
            read: stamps,
            tried: boot_now(),
            is_stale: false,
            unplaced: None,
        };
        Ok(Self {
            server: Arc::new(server),
            own,
            state: Mutex::new(state),
            replaced: AtomicU64::default(),
            failed: AtomicU64::default(),
        })
    }

    /// The server that shows them.
    #[must_use]
    pub const fn server(&self) -> &Arc<TlsServer> {
        &self.server
    }

    /// Other certificates are wanted from now on: they are read at the next look, or by [`Self::reread`].
    pub fn want(&self, wanted: Vec<Pair>) {
        let mut state = self.state();
        if state.wanted != wanted {
            state.wanted = wanted;
            // What was wrong was wrong with others.
            state.unplaced = None;
            state.is_stale = true;
        }
    }

    /// Reads the files again, changed or not; what is wrong with them is told at once.
    pub fn reread(&self) {
        self.read(&mut self.state(), wall_now(), boot_now(), true);
    }

    /// Looks whether there is something to do: files have changed, or the gateway's own certificate is to be renewed. To be
    /// called every second; it waits for the disk.
    pub fn look(&self) {
        self.look_at(wall_now(), boot_now());
    }

    fn look_at(&self, now: Timestamp, boot: BootTime) {
        let mut state = self.state();
        let stamps = stamps(&state.wanted);
        // A file that has just been written may go on being written.
        let is_settled = state.seen == stamps;
        let has_changed = state.is_stale || state.read != stamps;
        state.seen = stamps;
        let is_due = boot.since(state.tried) >= AGAIN;
        if has_changed && is_settled || is_due && self.is_unfinished(&state, now) {
            self.read(&mut state, now, boot, false);
        } else {
            self.tell(&mut state, boot, false);
        }
    }

    /// Whether what is shown is not what is wanted, for reasons that may be over.
    fn is_unfinished(&self, state: &State, now: Timestamp) -> bool {
        state.unplaced.is_some()
            || state.slots.iter().any(|slot| {
                slot.trouble.is_some() || slot.files.is_none() && own::renewal(&slot.certificate) <= now
            })
    }

    fn read(&self, state: &mut State, now: Timestamp, boot: BootTime, is_asked_for: bool) {
        // Taken before the files are read: what is written meanwhile is found at the next look.
        state.read = stamps(&state.wanted);
        state.seen.clone_from(&state.read);
        state.tried = boot;
        state.is_stale = false;
        let wanted: Vec<Option<Pair>> = match state.wanted.as_slice() {
            [] => vec![None],
            pairs => pairs.iter().cloned().map(Some).collect(),
        };
        let mut slots = Vec::with_capacity(wanted.len());
        let mut unplaced = None;
        for files in wanted {
            let known = state.slots.iter().find(|slot| slot.files == files);
            let found = self.certificate(files.as_ref(), known, now);
            let trouble = |known: Option<&Trouble>, error| match known {
                Some(known) if known.error == error => known.clone(),
                Some(known) => Trouble { error, is_told: false, ..known.clone() },
                None => Trouble { error, since: now, begun: boot, is_told: false },
            };
            match (found, known) {
                (Ok(certificate), _) => slots.push(Slot { files, certificate, trouble: None }),
                (Err(error), Some(slot)) => slots.push(Slot {
                    files,
                    certificate: slot.certificate.clone(),
                    trouble: Some(trouble(slot.trouble.as_ref(), error)),
                }),
                (Err(error), None) => {
                    unplaced.get_or_insert_with(|| trouble(state.unplaced.as_ref(), error));
                }
            }
        }
        state.unplaced = unplaced;
        // All that is wanted, or what there was: nobody is shown a certificate for another name meanwhile.
        if state.unplaced.is_none() {
            self.show(state, slots);
        }
        self.tell(state, boot, is_asked_for);
    }

    /// What is in these files now, or the gateway's own; an error if what is known is better.
    fn certificate(
        &self,
        files: Option<&Pair>,
        known: Option<&Slot>,
        now: Timestamp,
    ) -> Result<Certificate, CertificateError> {
        let Some(Pair { chain, key }) = files else {
            return match known {
                Some(slot) if now < own::renewal(&slot.certificate) => Ok(slot.certificate.clone()),
                Some(_) => own::make(&self.own.directory, &*self.own.names, now),
                None => own::read_or_make(&self.own.directory, &*self.own.names, now),
            };
        };
        let found = load(chain, key)?;
        let is_worse = |slot: &Slot| {
            found.standing(now) == Standing::Expired && slot.certificate.standing(now) == Standing::Valid
        };
        if known.is_some_and(is_worse) {
            return Err(CertificateError::new(chain, Finding::Expired(found.facts().not_after)));
        }
        Ok(found)
    }

    fn show(&self, state: &mut State, slots: Vec<Slot>) {
        let (before, after) = (certificates(&state.slots), certificates(&slots));
        if before != after {
            if let Err(error) = self.server.show(&after) {
                warn!(%error, "the new certificates cannot be shown, the earlier ones stay");
                return;
            }
            self.replaced.fetch_add(1, Relaxed);
            for certificate in after.iter().filter(|certificate| !before.contains(certificate)) {
                let CertificateFacts { fingerprint, not_after, .. } = certificate.facts();
                let names = certificate.facts().names().join(" ");
                info!(%fingerprint, names, expires = %not_after, "another certificate is shown from now on");
            }
        }
        state.slots = slots;
    }

    /// Says what is wrong, once, as soon as it is certain that it stays so.
    fn tell(&self, state: &mut State, boot: BootTime, at_once: bool) {
        let troubles = state.slots.iter_mut().filter_map(|slot| slot.trouble.as_mut());
        for trouble in troubles.chain(state.unplaced.as_mut()) {
            if trouble.is_told || !at_once && boot.since(trouble.begun) < PATIENCE {
                continue;
            }
            trouble.is_told = true;
            self.failed.fetch_add(1, Relaxed);
            warn!("a certificate cannot be used, the earlier one stays: {}", trouble.error);
        }
    }

    /// The certificates that are shown, the first of them to clients that name no host.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let now = wall_now();
        let state = self.state();
        let shown = state.slots.iter().map(|slot| Shown {
            facts: slot.certificate.facts().clone(),
            files: slot.files.clone(),
            standing: slot.certificate.standing(now),
            renewal: slot.files.is_none().then(|| own::renewal(&slot.certificate)),
            problem: slot.trouble.as_ref().and_then(Trouble::problem),
        });
        shown.collect()
    }

    /// Why what is configured is not what is shown, where that is more than a file that cannot be read again.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        self.state().unplaced.as_ref().and_then(Trouble::problem)
    }

    /// What operators should look at.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.warnings_at(wall_now())
    }

    fn warnings_at(&self, now: Timestamp) -> Vec<String> {
        let state = self.state();
        let mut found = Vec::new();
        let problems = state.slots.iter().map(|slot| &slot.trouble).chain([&state.unplaced]);
        for problem in problems.flatten().filter_map(Trouble::problem) {
            found.push(format!("a certificate cannot be used, the earlier one stays: {}", problem.text));
        }
        for Slot { files, certificate, .. } in &state.slots {
            found.extend(certificate.warnings().iter().cloned());
            let facts = certificate.facts();
            let name = match files {
                Some(pair) => format!("the certificate {}", pair.chain.display()),
                None => "the self-signed certificate".to_owned(),
            };
            let spoken_of = SPOKEN_OF.min(
                (facts.not_after - facts.not_before)
                    .try_into()
                    .map_or(SPOKEN_OF, |life: SignedDuration| life / 4),
            );
            match certificate.standing(now) {
                Standing::NotYet => found.push(format!(
                    "{name} is not valid before {}: see whether this host's clock is right; clients refuse it",
                    facts.not_before
                )),
                Standing::Expired => found.push(format!(
                    "{name} expired on {}: clients refuse it; have it renewed, the gateway reads the new one by itself",
                    facts.not_after
                )),
                // The gateway's own is renewed long before.
                Standing::Valid if files.is_some() && now > facts.not_after - spoken_of => {
                    found.push(format!("{name} expires on {}: have it renewed", facts.not_after));
                }
                Standing::Valid => {}
            }
        }
        found
    }

    /// How often other certificates were shown, and how often some could not be used.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.replaced.load(Relaxed), self.failed.load(Relaxed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn certificates(slots: &[Slot]) -> Vec<Certificate> {
    slots.iter().map(|slot| slot.certificate.clone()).collect()
}

/// What the file system says of a file, by which a changed one is told, wherever links on the way lead by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<Metadata> for Stamp {
    fn from(meta: Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

fn stamps(pairs: &[Pair]) -> Vec<Option<Stamp>> {
    let stamp = |path: &Path| std::fs::metadata(path).ok().map(Stamp::from);
    pairs.iter().flat_map(|Pair { chain, key }| [stamp(chain), stamp(key)]).collect()
}

#[cfg(test)]
mod tests;
