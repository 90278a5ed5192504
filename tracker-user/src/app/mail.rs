//! The wiring of mail, and resets by mail that take effect after a while.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;

use super::certificates::hostname;
use super::{StartError, portal};
use crate::audit::{Audit, FactorChange};
use crate::auth::factors::SecondFactors;
use crate::clock::wall_now;
use crate::config::Config;
use crate::mail::{House, Mailer, Notice, Notices, Parts, Settings};
use crate::pages::Languages;
use crate::store::{Journal, Sealer, Store};
use crate::tracker::Tracker;

/// How late a reset that waits may take effect.
const LATE: Duration = Duration::from_secs(2);

/// What the store has of mail. Blocks.
pub(super) fn open(
    config: &Config,
    store: &Store,
    sealer: &Arc<Sealer>,
    journal: &Arc<Journal>,
    audit: &Arc<Audit>,
    registry: &Registry,
) -> Result<Arc<Mailer>, StartError> {
    let (sealer, journal, audit) = (Arc::clone(sealer), Arc::clone(journal), Arc::clone(audit));
    let parts = Parts { sealer, journal, audit };
    Ok(Arc::new(Mailer::start(store, parts, settings(config), registry)?))
}

/// What mail goes by.
pub(super) fn settings(config: &Config) -> Settings {
    Settings::of(&config.mail, config.portal.organisation.clone(), hostname())
}

/// Whose gateway it is, as mails say it.
pub(super) fn house(config: &Config) -> House {
    let host = config.portal.host.clone().unwrap_or_else(hostname);
    House {
        organisation: config.portal.organisation.clone(),
        contact: config.portal.contact.clone(),
        origin: portal::secure_origin(config),
        host,
    }
}

/// Users are told by this mailer.
pub(super) fn notices(
    config: &Config,
    mailer: &Arc<Mailer>,
    factors: &Arc<SecondFactors>,
    languages: Languages,
) -> Arc<Notices> {
    Arc::new(Notices::new(Arc::clone(mailer), Arc::clone(factors), languages, house(config)))
}

/// What does its work beside everything else.
pub(super) struct Post {
    pub(super) mailer: Arc<Mailer>,
    pub(super) notices: Arc<Notices>,
    pub(super) factors: Arc<SecondFactors>,
    pub(super) tracker: Tracker,
}

impl Post {
    /// Resets by mail take effect when their time has come. Ends only with the daemon.
    pub(super) async fn reset_when_due(self, journal: Arc<Journal>) {
        loop {
            for (who, language) in self.factors.recoveries_due(wall_now()) {
                // Before the reset, which forgets where.
                let addresses = self.notices.addresses(&who);
                let (_, row) = self.factors.reset(&who);
                journal.submit(vec![row], None);
                self.factors.tell(&who, None, FactorChange::Recovered, None, None);
                let language = self.notices.language(&language);
                self.notices.tell(&who, addresses, Notice::Recovered, None, &language, Vec::new());
                let factors = self.factors.enrolled(&who);
                self.tracker.enrolled(who, factors).await;
            }
            tokio::time::sleep(LATE).await;
        }
    }
}
