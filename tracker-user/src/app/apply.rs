//! What a changed configuration does to the running parts.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};

use super::factors;
use super::mail;
use super::options::{kerberos, policy, proxy_options};
use super::passwords::Door;
use super::portal;
use super::regulated::{self, Regulated};
use crate::auth::factors::SecondFactors;
use crate::auth::regulation::Regulator;
use crate::auth::{LogoutHolds, Verifier};
use crate::clock::boot_now;
use crate::config::Config;
use crate::mail::{Mailer, Notices};
use crate::net::certificates::Keeper;
use crate::ops::Apply;
use crate::portal::Running;
use crate::proxy;
use crate::threads::Threads;
use crate::tracker::Tracker;

/// The parts that go by the configuration while they run.
pub(super) struct Applied {
    pub(super) tracker: Tracker,
    pub(super) verifier: Arc<Verifier>,
    pub(super) proxy: proxy::Running,
    pub(super) certificates: Option<Arc<Keeper>>,
    /// Where files are read.
    pub(super) threads: Arc<Threads>,
    pub(super) regulator: Regulator,
    pub(super) regulated: Regulated,
    pub(super) door: Door,
    /// How the proxy reaches the web pages.
    pub(super) inner: portal::Inner,
    /// The web pages: they are made of operations, and so after them.
    pub(super) pages: Arc<OnceLock<Running>>,
    pub(super) holds: Arc<LogoutHolds>,
    pub(super) factors: Arc<SecondFactors>,
    pub(super) mailer: Arc<Mailer>,
    pub(super) notices: Arc<Notices>,
}

impl Applied {
    /// These, as whoever changes the configuration calls them.
    pub(super) fn into_apply(self) -> Apply {
        let parts = Arc::new(self);
        Box::new(move |config: Arc<Config>| -> Pin<Box<dyn Future<Output = ()> + Send>> {
            let parts = Arc::clone(&parts);
            Box::pin(async move { parts.apply(&config).await })
        })
    }

    async fn apply(&self, config: &Arc<Config>) {
        self.regulated.configure(config);
        self.regulator.configure(regulated::settings(config));
        if let Some(keeper) = self.certificates.clone() {
            keeper.want(config.tls.pairs());
            // Without a thread now, it is done by the next look.
            if let Ok(done) = self.threads.run(move || keeper.reread()) {
                let _ = done.await;
            }
        }
        self.verifier.tickets().configure(kerberos(config));
        self.door.configure(config);
        self.holds.configure(config.portal.logout_hold);
        self.factors.configure(factors::settings(config));
        self.mailer.configure(mail::settings(config));
        self.notices.configure(mail::house(config));
        let (asked, inner) = (Arc::clone(config), self.inner.clone());
        let made = match self.threads.run(move || proxy_options(&asked, &inner)) {
            Ok(done) => done.await.ok(),
            Err(_) => None,
        };
        // Without a thread now, this one reads the two small files: what was changed must count.
        self.proxy.configure(made.unwrap_or_else(|| proxy_options(config, &self.inner)));
        if let Some(pages) = self.pages.get().cloned() {
            let config = Arc::clone(config);
            // Without a thread now, the pages go by what they went by.
            if let Ok(done) = self.threads.run(move || pages.configure(portal::settings(&config))) {
                let _ = done.await;
            }
        }
        self.tracker.set_policy(policy(config, boot_now())).await;
    }
}
