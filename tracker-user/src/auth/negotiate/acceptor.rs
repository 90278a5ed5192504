//! The real acceptor: GSSAPI with the keys of a keytab, which may change under it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::keytab::{self, KeytabProblem, Stamp};
use super::remedy::with_remedy;
use super::{Acceptor, Details, Options, Outcome, Pending, Refused, VerifyError};
use crate::auth::credential::{Context, Credential, GssError, Keytab, Peer, Step, local_name};
use crate::auth::token::{self, Kind};
use crate::clock::{BootTime, boot_now};

/// How often the keytab's file is looked at, at most.
const RECHECK: Duration = Duration::from_secs(1);

pub(super) struct GssAcceptor {
    state: Mutex<State>,
}

struct State {
    options: Arc<Options>,
    keys: Result<Arc<Keys>, KeytabProblem>,
    stamp: Option<Stamp>,
    checked: BootTime,
}

/// The keys as they were read, and the credentials that no thread uses just now: never more than there are threads.
struct Keys {
    keytab: Keytab,
    idle: Mutex<Vec<Credential>>,
}

impl Keys {
    fn load(keytab: Option<&Path>) -> Result<Self, GssError> {
        let keytab = Keytab::load(keytab)?;
        // Acquired at once: that is how an unusable keytab is found out.
        let first = keytab.credential()?;
        Ok(Self { keytab, idle: Mutex::new(vec![first]) })
    }

    /// Does `work` with a credential that nobody else uses meanwhile.
    fn lend<T>(&self, work: impl FnOnce(&Credential) -> T) -> Result<T, GssError> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle().pop();
        let credential = match taken {
            Some(credential) => credential,
            None => self.keytab.credential()?,
        };
        let done = work(&credential);
        idle().push(credential);
        Ok(done)
    }
}

/// A handshake between two legs.
struct Leg {
    context: Context,
    wrapping: Kind,
    bytes: usize,
}

impl Leg {
    fn step(&mut self, keys: &Keys, token: &[u8]) -> Result<Step, GssError> {
        keys.lend(|credential| self.context.accept(credential, token)).flatten()
    }
}

impl GssAcceptor {
    pub(super) fn new(options: Options) -> Self {
        let (keys, stamp) = load(&options);
        let state = State { options: Arc::new(options), keys, stamp, checked: boot_now() };
        state.report();
        Self { state: Mutex::new(state) }
    }

    /// The keys, read anew if the keytab has changed, which is looked at now and then, or `now`.
    fn current(&self, now: bool) -> (Arc<Options>, Result<Arc<Keys>, KeytabProblem>) {
        let mut state = self.lock();
        let moment = boot_now();
        if now || moment.since(state.checked) >= RECHECK {
            state.checked = moment;
            let file = keytab::file_meant(state.options.keytab.as_deref());
            let stamp = file.as_deref().and_then(keytab::stamp);
            // Without a file to look at, a failure is tried again, since its cause cannot be seen to go away.
            if stamp != state.stamp || (file.is_none() && state.keys.is_err()) {
                let before = state.keys.as_ref().err().cloned();
                (state.keys, state.stamp) = load(&state.options);
                if state.keys.is_ok() || state.keys.as_ref().err() != before.as_ref() {
                    state.report();
                }
            }
        }
        (Arc::clone(&state.options), state.keys.clone())
    }

    /// The keys that have taken the place of these, if the keytab has changed.
    fn renewed(&self, keys: &Arc<Keys>) -> Option<Arc<Keys>> {
        self.current(true).1.ok().filter(|current| !Arc::ptr_eq(current, keys))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn report(&self) {
        match &self.keys {
            Ok(_) => info!("the keytab is read: Kerberos tickets can be verified"),
            Err(problem) => warn!(%problem, "no Kerberos ticket can be verified"),
        }
    }
}

fn load(options: &Options) -> (Result<Arc<Keys>, KeytabProblem>, Option<Stamp>) {
    let file = keytab::file_meant(options.keytab.as_deref());
    // Stamped before it is read: a change in between is seen at the next look.
    let stamp = file.as_deref().and_then(keytab::stamp);
    let keys = Keys::load(options.keytab.as_deref()).map(Arc::new).map_err(|error| {
        // The file's own state says more than GSSAPI does, where it says anything.
        match file.as_deref().map(keytab::check) {
            Some(Err(problem)) => problem,
            _ => KeytabProblem::Unusable {
                path: file.map_or("of KRB5_KTNAME".into(), |path| path.display().to_string()),
                why: error.text,
            },
        }
    });
    (keys, stamp)
}

impl Acceptor for GssAcceptor {
    fn accept(&self, pending: Option<Pending>, token: &[u8]) -> Result<Outcome, VerifyError> {
        let (options, keys) = self.current(false);
        let keys = keys.map_err(|problem| VerifyError::Unavailable(problem.to_string()))?;
        let (mut leg, begins) = match pending.and_then(Pending::into::<Leg>) {
            Some(leg) => (leg, false),
            None => (Leg { context: Context::new(), wrapping: first(token)?, bytes: 0 }, true),
        };
        leg.bytes = leg.bytes.saturating_add(token.len());
        let mut step = leg.step(&keys, token);
        // A ticket may be newer than the keys that were read; the client need not hear of that.
        if step.is_err()
            && begins
            && let Some(keys) = self.renewed(&keys)
        {
            leg.context = Context::new();
            step = leg.step(&keys, token);
        }
        match step {
            Ok(Step::Continue(answer)) => Ok(Outcome::Continue { pending: Pending::new(leg), answer }),
            Ok(Step::Done(peer)) => proved(&options, peer, &leg),
            Err(GssError { text, answer }) => {
                let why = match leg.wrapping {
                    Kind::Spnego { ntlm: true } => {
                        format!(
                            "{text}: the client offered NTLM, so it has no Kerberos ticket for the proxy's name"
                        )
                    }
                    _ => with_remedy(&text),
                };
                Err(VerifyError::Refused(Refused { why, answer }))
            }
        }
    }

    fn problem(&self) -> Option<String> {
        self.current(false).1.err().map(|problem| problem.to_string())
    }

    fn configure(&self, options: Options) {
        let mut state = self.lock();
        if *state.options != options {
            (state.keys, state.stamp) = load(&options);
            state.options = Arc::new(options);
            state.report();
        }
    }
}

/// A handshake's first token: what cannot be Kerberos is told from what only fails.
fn first(token: &[u8]) -> Result<Kind, VerifyError> {
    match token::triage(token) {
        Kind::Ntlm => Err(VerifyError::refused(
            "the client sent NTLM instead of Kerberos: check that it is in the realm and uses the proxy's full name, not its address",
        )),
        kind @ (Kind::Other | Kind::Garbage | Kind::SpnegoResponse) => {
            Err(VerifyError::refused(format!("the client's token is no Kerberos token but {kind}")))
        }
        kind @ (Kind::Spnego { .. } | Kind::Krb5) => Ok(kind),
    }
}

fn proved(options: &Options, peer: Peer, leg: &Leg) -> Result<Outcome, VerifyError> {
    if !peer.kerberos || peer.anonymous {
        return Err(VerifyError::refused("the client proved nobody: its mechanism or its name is anonymous"));
    }
    let identity = options
        .names
        .identity(&peer.principal, local_name)
        .map_err(|problem| VerifyError::refused(problem.to_string()))?;
    let details = Details {
        principal: String::from_utf8_lossy(&peer.principal).into_owned(),
        wrapping: if leg.wrapping == Kind::Krb5 { "krb5" } else { "spnego" },
        token_bytes: leg.bytes,
        lifetime: peer.lifetime,
        flags: peer.flags,
    };
    Ok(Outcome::Proved { identity, answer: peer.answer, details })
}
