//! The wiring of the one door for passwords: who knows them, what it goes by, and when it forgets.

use std::sync::Arc;

use prometheus::Registry;

use super::StartError;
use super::options::{kerberos, names};
use crate::auth::application_passwords::ApplicationPasswords;
use crate::auth::password::kdc::Kdc;
use crate::auth::password::{Counters, LocalUsers, Parts, Passwords, Settings};
use crate::auth::regulation::Regulator;
use crate::config::Config;
use crate::session::{Event, Reason, What};
use crate::tracker::OnEnd;

/// The door, and who else has to hear of a change of the configuration.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) passwords: Passwords,
    kdc: Arc<Kdc>,
}

impl Door {
    /// Opens it.
    pub(super) fn open(
        config: &Config,
        local: &Arc<LocalUsers>,
        regulator: &Regulator,
        applications: &Arc<ApplicationPasswords>,
        registry: &Registry,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::System { what: "the threads that verify passwords", source };
        let kdc = Arc::new(Kdc::start(kerberos(config)).map_err(failed)?);
        let parts = Parts {
            kdc: Arc::clone(&kdc),
            local: Arc::clone(local),
            regulator: regulator.clone(),
            applications: Arc::clone(applications),
            counters: Counters::new(registry)?,
            settings: settings(config),
        };
        Ok(Self { passwords: Passwords::new(parts).map_err(failed)?, kdc })
    }

    /// Goes by another configuration from now on.
    pub(super) fn configure(&self, config: &Config) {
        self.kdc.configure(kerberos(config));
        self.passwords.configure(settings(config));
    }

    /// What an operator should look at.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.kdc.warnings()
    }

    /// What the tracker tells of sessions that end: a user who has gone for a reason proves themselves anew. Where only time ran
    /// out, or a connection closed, what was remembered is not older for it.
    pub(super) fn forgets(&self) -> OnEnd {
        let passwords = self.passwords.clone();
        Box::new(move |event: &Event| {
            let What::Ended { reason, .. } = event.what else { return };
            match reason {
                Reason::Logout
                | Reason::Admin
                | Reason::Kicked
                | Reason::DeviceChanged
                | Reason::Lifetime => {
                    passwords.forget(event.client, &event.identity);
                }
                Reason::AbsoluteTimeout
                | Reason::ClosedTimeout
                | Reason::TrafficTimeout
                | Reason::Shutdown => {}
            }
        })
    }
}

fn settings(config: &Config) -> Settings {
    Settings { names: names(config), counts_once_for: config.regulation.find_time }
}
