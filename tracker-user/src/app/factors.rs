//! The wiring of further factors.

use std::sync::Arc;

use tracing::warn;

use super::StartError;
use super::certificates::hostname;
use super::options;
use crate::audit::Audit;
use crate::auth::factors::{Mailboxes, SecondFactors, Settings};
use crate::config::{Config, PasskeyUse};
use crate::store::{Journal, Sealer, Store};
use crate::tracker::Enrolled;
use crate::types::LOCAL_DOMAIN;

/// What rows that are secrets are sealed with. Makes the key where there is none, and goes on with a change of it that was cut short.
/// Blocks.
pub(super) fn sealer(config: &Config, journal: &Journal) -> Result<Arc<Sealer>, StartError> {
    let sealer = Arc::new(Sealer::open(&config.state_dir)?);
    if let Err(error) = sealer.resume(journal) {
        warn!(%error, "the key of the second factor has changed, and the one before it is still kept");
    }
    Ok(sealer)
}

/// What the store has of them. Blocks.
pub(super) fn open(
    config: &Config,
    store: &Store,
    sealer: &Arc<Sealer>,
    journal: &Arc<Journal>,
    audit: &Arc<Audit>,
) -> Result<Arc<SecondFactors>, StartError> {
    let (sealer, journal, audit) = (Arc::clone(sealer), Arc::clone(journal), Arc::clone(audit));
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
        mailboxes: mailboxes(config),
    }
}

/// What is known of mailboxes.
fn mailboxes(config: &Config) -> Mailboxes {
    let realm = |domain: &String| match domain.to_lowercase() {
        local if local == LOCAL_DOMAIN => String::new(),
        realm => realm,
    };
    let domains = config.mail.domains.iter().map(|(domain, mail)| (realm(domain), mail.clone()));
    let gateway = config.mail.from.iter().chain(&config.acme.contact).cloned();
    Mailboxes { domains: domains.collect(), gateway: gateway.collect() }
}

/// As the tracker asks for them.
pub(super) fn enrolled(factors: &Arc<SecondFactors>) -> Enrolled {
    let factors = Arc::clone(factors);
    Box::new(move |who| factors.enrolled(who))
}

/// What an operator should look at.
pub(super) fn warnings(factors: &SecondFactors, sealer: &Sealer) -> impl Iterator<Item = String> {
    let (_, unreadable) = factors.count();
    let kept = sealer.has_previous().then(|| {
        "the key of the second factor has changed, and the one before it is still kept, as the rows under it have not been sealed \
         anew: trackerctl second-factor rotate-key brings that to its end"
            .to_owned()
    });
    let unreadable = (unreadable > 0).then(|| {
        format!(
            "the second factor of {unreadable} users cannot be read, so that they cannot log in: its key is not the one that \
             it was sealed with; put second-factor.key back into state-dir from the backup, or reset each user's second factor"
        )
    });
    unreadable.into_iter().chain(kept).chain(factors.relying_party().warning())
}
