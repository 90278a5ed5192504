//! The real acceptor: GSSAPI with the keys of a keytab, which may change under it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::keytab::{self, KeytabProblem, Stamp};
use super::remedy::with_remedy;
use super::{Acceptor, Details, Options, Outcome, Pending, Refused, VerifyError};
use crate::auth::credential::{Context, Credential, GssError, Peer, Step};
use crate::auth::token::{self, Kind};
use crate::clock::{BootTime, boot_now};

/// How often the keytab's file is looked at, at most.
const RECHECK: Duration = Duration::from_secs(1);

pub(super) struct GssAcceptor {
    state: Mutex<State>,
}

struct State {
    options: Arc<Options>,
    credential: Result<Arc<Credential>, KeytabProblem>,
    stamp: Option<Stamp>,
    checked: BootTime,
}

/// A handshake between two legs.
struct Leg {
    context: Context,
    wrapping: Kind,
    bytes: usize,
}

impl GssAcceptor {
    pub(super) fn new(options: Options) -> Self {
        let (credential, stamp) = acquire(&options);
        let state = State { options: Arc::new(options), credential, stamp, checked: boot_now() };
        state.report();
        Self { state: Mutex::new(state) }
    }

    /// The credential, acquired anew if its keytab has changed.
    fn current(&self) -> (Arc<Options>, Result<Arc<Credential>, KeytabProblem>) {
        let mut state = self.lock();
        let now = boot_now();
        if now.since(state.checked) >= RECHECK {
            state.checked = now;
            let file = keytab::file_meant(state.options.keytab.as_deref());
            let stamp = file.as_deref().and_then(keytab::stamp);
            // Without a file to look at, a failure is tried again, since its cause cannot be seen to go away.
            if stamp != state.stamp || (file.is_none() && state.credential.is_err()) {
                let before = state.credential.as_ref().err().cloned();
                (state.credential, state.stamp) = acquire(&state.options);
                if state.credential.is_ok() || state.credential.as_ref().err() != before.as_ref() {
                    state.report();
                }
            }
        }
        (Arc::clone(&state.options), state.credential.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn report(&self) {
        match &self.credential {
            Ok(_) => info!("the keytab is read: Kerberos tickets can be verified"),
            Err(problem) => warn!(%problem, "no Kerberos ticket can be verified"),
        }
    }
}

fn acquire(options: &Options) -> (Result<Arc<Credential>, KeytabProblem>, Option<Stamp>) {
    let file = keytab::file_meant(options.keytab.as_deref());
    // Stamped before it is read: a change in between is seen at the next look.
    let stamp = file.as_deref().and_then(keytab::stamp);
    let credential = Credential::acquire(options.keytab.as_deref()).map(Arc::new).map_err(|error| {
        // The file's own state says more than GSSAPI does, where it says anything.
        match file.as_deref().map(keytab::check) {
            Some(Err(problem)) => problem,
            _ => KeytabProblem::Unusable {
                path: file.map_or("of KRB5_KTNAME".into(), |path| path.display().to_string()),
                why: error.text,
            },
        }
    });
    (credential, stamp)
}

impl Acceptor for GssAcceptor {
    fn accept(&self, pending: Option<Pending>, token: &[u8]) -> Result<Outcome, VerifyError> {
        let (options, credential) = self.current();
        let credential = credential.map_err(|problem| VerifyError::Unavailable(problem.to_string()))?;
        let mut leg = match pending.and_then(Pending::into::<Leg>) {
            Some(leg) => leg,
            None => Leg { context: Context::new(), wrapping: first(token)?, bytes: 0 },
        };
        leg.bytes = leg.bytes.saturating_add(token.len());
        match leg.context.accept(&credential, token) {
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
        self.current().1.err().map(|problem| problem.to_string())
    }

    fn configure(&self, options: Options) {
        let mut state = self.lock();
        if *state.options != options {
            (state.credential, state.stamp) = acquire(&options);
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
        .identity(&peer.principal)
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
