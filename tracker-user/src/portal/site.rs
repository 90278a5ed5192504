//! What every page may use.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::login::Pending;
use super::second_factor::{Enrolments, PendingLogins};
use super::settings::Settings;
use super::stats::Stats;
use super::web_sessions::WebSessions;
use crate::audit::Audit;
use crate::auth::factors::{Passkeys, SecondFactors};
use crate::auth::password::LocalUsers;
use crate::auth::{LogoutHolds, ReturnTargets, Verifier};
use crate::mail::Notices;
use crate::ops::Ops;
use crate::pages::Languages;
use crate::store::{Journal, Store};
use crate::tracker::Tracker;

/// What the portal works with.
pub struct Parts {
    /// What an operator can look at and do.
    pub ops: Ops,
    /// The sessions.
    pub tracker: Tracker,
    /// Who verifies credentials.
    pub verifier: Arc<Verifier>,
    /// The gateway's own users.
    pub local_users: Arc<LocalUsers>,
    /// What happened.
    pub audit: Arc<Audit>,
    /// What survives,
    pub store: Arc<Store>,
    /// and what writes it.
    pub journal: Arc<Journal>,
    /// Where people wanted to go.
    pub targets: Arc<ReturnTargets>,
    /// Where nobody is logged in silently.
    pub holds: Arc<LogoutHolds>,
    /// Further factors.
    pub factors: Arc<SecondFactors>,
    /// Users are told by mail of what is done to their factors.
    pub notices: Arc<Notices>,
    /// What is counted.
    pub stats: Stats,
    /// All languages there are.
    pub languages: Languages,
}

/// Cheap to clone: the state of all routes.
#[derive(Clone)]
pub(super) struct Site(Arc<Inner>);

struct Inner {
    parts: Parts,
    settings: ArcSwap<Settings>,
    web_sessions: WebSessions,
    pending: Pending,
    pending_logins: PendingLogins,
    enrolments: Enrolments,
    passkeys: Passkeys,
}

impl Site {
    /// Blocks: what is kept of logins to the pages is read.
    pub(super) fn new(parts: Parts, settings: Settings) -> Self {
        let settings = ArcSwap::from_pointee(settings);
        let web_sessions = WebSessions::start(&parts.store, &parts.journal);
        let (pending, pending_logins) = (Pending::default(), PendingLogins::default());
        let (enrolments, passkeys) = (Enrolments::default(), Passkeys::new(Arc::clone(&parts.factors)));
        Self(Arc::new(Inner { parts, settings, web_sessions, pending, pending_logins, enrolments, passkeys }))
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.0.parts
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.0.settings.load_full()
    }

    pub(super) fn configure(&self, settings: Settings) {
        self.0.settings.store(Arc::new(settings));
    }

    pub(super) fn web_sessions(&self) -> &WebSessions {
        &self.0.web_sessions
    }

    /// Passkeys.
    pub(super) fn passkeys(&self) -> &Passkeys {
        &self.0.passkeys
    }

    /// Logins whose second factor has not come yet.
    pub(super) fn pending_logins(&self) -> &PendingLogins {
        &self.0.pending_logins
    }

    /// What people are setting up who are logged in.
    pub(super) fn enrolments(&self) -> &Enrolments {
        &self.0.enrolments
    }

    /// Where people want to go who are logging in.
    pub(super) fn pending(&self) -> &Pending {
        &self.0.pending
    }
}
