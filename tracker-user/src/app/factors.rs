//! The wiring of further factors.

use std::sync::Arc;

use super::StartError;
use super::certificates::hostname;
use super::options;
use crate::audit::Audit;
use crate::auth::factors::{SecondFactors, Settings};
use crate::config::{Config, PasskeyUse};
use crate::store::{Journal, Sealer, Store};
use crate::tracker::Enrolled;

/// What the store has of them. Makes the key where there is none. Blocks.
pub(super) fn open(
    config: &Config,
    store: &Store,
    journal: &Arc<Journal>,
    audit: &Arc<Audit>,
) -> Result<Arc<SecondFactors>, StartError> {
    let sealer = Arc::new(Sealer::open(&config.state_dir)?);
    let (journal, audit) = (Arc::clone(journal), Arc::clone(audit));
    Ok(Arc::new(SecondFactors::start(store, sealer, journal, audit, settings(config))?))
}

/// What they go by.
pub(super) fn settings(config: &Config) -> Settings {
    let of = &config.second_factor;
    let host = config.portal.host.clone().unwrap_or_else(hostname);
    Settings {
        policy: options::factors(config),
        passkeys: of.passkey != PasskeyUse::Off,
        passkey_alone: of.passkey == PasskeyUse::Alone,
        remember: of.remember,
        mails: config.mail.smtp.is_some(),
        recovery_delay: of.recovery_delay,
        issuer: config.portal.organisation.clone().unwrap_or_else(|| host.clone()),
        host,
    }
}

/// As the tracker asks for them.
pub(super) fn enrolled(factors: &Arc<SecondFactors>) -> Enrolled {
    let factors = Arc::clone(factors);
    Box::new(move |who| factors.enrolled(who))
}

/// What an operator should look at.
pub(super) fn warnings(factors: &SecondFactors) -> Vec<String> {
    let (_, unreadable) = factors.count();
    let unreadable = (unreadable > 0).then(|| {
        format!(
            "the second factor of {unreadable} users cannot be read, so that they cannot log in: its key is not the one that \
             it was sealed with; put second-factor.key back into state-dir from the backup, or reset each user's second factor"
        )
    });
    unreadable.into_iter().chain(factors.relying_party().warning()).collect()
}
