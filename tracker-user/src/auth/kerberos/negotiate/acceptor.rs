//! The real acceptor: GSSAPI with the keys of a keytab, which may change under it.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use super::details::Inside;
use super::keytab::{self, KeytabProblem, Stamp};
use super::replay::{self, ReplayProblem};
use super::{Acceptor, Counters, Details, Options, Progress};
use crate::auth::channel::Channel;
use crate::auth::kerberos::ap_req::ApReq;
use crate::auth::kerberos::cause::{Cause, explain};
use crate::auth::kerberos::credential::{Context, Credential, GssError, Keytab, Peer, Step, local_name};
use crate::auth::kerberos::token::{self, Kind};
use crate::auth::outcome::{Failure, Handshake, Rejection};
use crate::clock::{BootTime, boot_now, wall_now};
use crate::outside;

/// The longest name of a service that is looked for in the keytab, with its realm: no directory has longer ones, and what
/// the library does with a name grows with it.
const MAX_SERVICE: usize = 1024;

/// How often the keytab's file is looked at, at most.
const RECHECK: Duration = Duration::from_secs(1);

pub(super) struct GssAcceptor {
    state: Mutex<State>,
    counters: Counters,
    /// Why the replay cache failed, since which no token has been accepted.
    replay: Mutex<Option<ReplayProblem>>,
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
    kind: Kind,
    bytes: usize,
}

impl Leg {
    fn step(&mut self, keys: &Keys, token: &[u8], bindings: Option<&[u8]>) -> Result<Step, GssError> {
        keys.lend(|credential| self.context.accept(credential, token, bindings)).flatten()
    }
}

impl GssAcceptor {
    pub(super) fn new(options: Options, counters: Counters) -> Self {
        let (keys, stamp) = load(&options);
        let state = State { options: Arc::new(options), keys, stamp, checked: boot_now() };
        state.report();
        Self { state: Mutex::new(state), counters, replay: Mutex::default() }
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

    fn replay(&self) -> MutexGuard<'_, Option<ReplayProblem>> {
        self.replay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The replay cache failed: every token fails, whoever it is from.
    fn replay_failed(&self, error: &GssError) -> Failure {
        let problem = ReplayProblem::said(error);
        self.counters.replay_cache_failed();
        if self.replay().replace(problem.clone()).is_none() {
            warn!(%problem, "no Kerberos ticket can be accepted");
        }
        Failure::Unavailable(problem.to_string())
    }

    fn replay_worked(&self) {
        if self.replay().take().is_some() {
            info!("the record of used tokens can be used again");
        }
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
    let keys = Keys::load(options.keytab.as_deref()).map(Arc::new);
    let keys = keys.map_err(|error| keytab::unusable(options.keytab.as_deref(), error));
    (keys, stamp)
}

impl Acceptor for GssAcceptor {
    fn accept(
        &self,
        handshake: Option<Handshake>,
        token: &[u8],
        channel: &Channel,
    ) -> Result<Progress, Failure> {
        let outcome = self.leg(handshake, token, channel);
        match &outcome {
            Ok(Progress::Proved { details, .. }) => self.counters.ticket(details.enctype),
            Err(Failure::Rejected(Rejection { cause, .. })) => self.counters.refused(*cause),
            _ => {}
        }
        outcome
    }

    fn problem(&self) -> Option<String> {
        self.current(false).1.err().map(|problem| problem.to_string())
    }

    fn replay_problem(&self) -> Option<ReplayProblem> {
        let seen = replay::replay_file().as_deref().and_then(replay::replay_problem);
        seen.or_else(|| self.replay().clone())
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

impl GssAcceptor {
    fn leg(
        &self,
        handshake: Option<Handshake>,
        token: &[u8],
        channel: &Channel,
    ) -> Result<Progress, Failure> {
        let (options, keys) = self.current(false);
        let expected = options.channel_bindings.expected(channel)?;
        let (mut leg, begins) = match handshake.and_then(Handshake::into::<Leg>) {
            Some(leg) => (leg, false),
            None => {
                let kind = token::triage(token);
                self.counters.token(kind);
                precheck(kind)?;
                (Leg { context: Context::new(), kind, bytes: 0 }, true)
            }
        };
        let mut keys = keys.map_err(|problem| Failure::Unavailable(problem.to_string()))?;
        leg.bytes = leg.bytes.saturating_add(token.len());
        let request = ApReq::in_token(token);
        if let Some(request) = request.as_ref().filter(|request| request.service_bytes > MAX_SERVICE) {
            let cause = Cause::UnknownService;
            let text = format!("the ticket is for a name of {} bytes", request.service_bytes);
            return Err(Failure::rejected(cause, explain(cause, &text, None, wall_now())));
        }
        let mut step = leg.step(&keys, token, expected);
        // A ticket may be newer than the keys that were read; the client need not hear of that.
        if step.is_err()
            && begins
            && let Some(renewed) = self.renewed(&keys)
        {
            keys = renewed;
            leg.context = Context::new();
            step = leg.step(&keys, token, expected);
        }
        match step {
            Ok(Step::Continue(answer)) => Ok(Progress::Continue { handshake: Handshake::new(leg), answer }),
            Ok(Step::Done(peer)) => {
                self.replay_worked();
                options.channel_bindings.check(channel, peer.is_bound())?;
                proved(&options, &keys, peer, &leg, request)
            }
            Err(error) if replay::is_at_fault(&error) => Err(self.replay_failed(&error)),
            Err(error) => Err(Failure::Rejected(rejection(&keys, token, request.as_ref(), error))),
        }
    }
}

/// What cannot be Kerberos is told from what only fails.
fn precheck(kind: Kind) -> Result<(), Failure> {
    let cause = match kind {
        Kind::Spnego { kerberos: true, .. } | Kind::Krb5 | Kind::MsKrb5 => return Ok(()),
        Kind::Ntlm | Kind::Spnego { ntlm: true, .. } => Cause::Ntlm,
        Kind::Spnego { .. } | Kind::Other => Cause::NoKerberos,
        Kind::SpnegoResponse | Kind::Garbage => Cause::Garbage,
    };
    Err(Failure::rejected(cause, format!("the client sent {kind}: {}", cause.remedy())))
}

/// What the library refused, and why, as far as the ticket tells.
fn rejection(keys: &Keys, token: &[u8], request: Option<&ApReq<'_>>, error: GssError) -> Rejection {
    let GssError { text, answer, .. } = error;
    // The client had its chance to go on with Kerberos, and did not.
    let cause = if token::goes_on_with_ntlm(token) { Cause::Ntlm } else { Cause::of(&text) };
    let opened = request.and_then(|request| keys.keytab.look_into(request));
    Rejection { cause: cause.into(), why: explain(cause, &text, opened.as_ref(), wall_now()), answer }
}

fn proved(
    options: &Options,
    keys: &Keys,
    peer: Peer,
    leg: &Leg,
    request: Option<ApReq<'_>>,
) -> Result<Progress, Failure> {
    if !peer.kerberos || peer.anonymous {
        return Err(Failure::rejected(
            Cause::Name,
            "the client proved nobody: its mechanism or its name is anonymous",
        ));
    }
    let identity = options
        .names
        .identity(&peer.principal, local_name)
        .map_err(|problem| Failure::rejected(Cause::from(&problem), problem.to_string()))?;
    let opened =
        request.as_ref().filter(|_| options.debugging).and_then(|request| keys.keytab.look_into(request));
    let details = Details {
        principal: outside::shown_bytes(&peer.principal, outside::NAME),
        kind: leg.kind,
        token_bytes: leg.bytes,
        answer_bytes: peer.answer.as_ref().map_or(0, Vec::len),
        enctype: request.as_ref().map_or(0, |request| request.ticket.enctype),
        key_version: request.as_ref().and_then(|request| request.ticket.version),
        service: request.map(|request| request.service).unwrap_or_default(),
        lifetime: peer.lifetime,
        flags: peer.flags,
        inside: opened.as_ref().map(|opened| Inside::from(&opened.ticket)),
    };
    Ok(Progress::Proved { identity, answer: peer.answer, details: Box::new(details) })
}
