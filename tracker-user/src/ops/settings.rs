//! Settings: looked at, changed live, and read again from the file.

use std::sync::Arc;

use super::{Ops, OpsError};
use crate::audit::Actor;
use crate::config::Key;
use crate::store::StoredSetting;
use crate::types::Identity;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said otherwise.
    Default,
    /// The configuration file.
    File,
    /// It was set live.
    Set,
}

/// A key, and all that is said of it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The key.
    pub key: &'static Key,
    /// Its value in force.
    pub value: String,
    /// Where that comes from.
    pub source: Source,
    /// What the file says, whether it counts or not; `None`: nothing.
    pub file: Option<String>,
    /// What was set, by whom and when.
    pub set: Option<StoredSetting>,
}

impl Ops {
    /// One key, or all of them, and all that is said of them.
    ///
    /// # Errors
    /// When `name` is no key.
    pub async fn get(&self, name: Option<&str>) -> Result<Vec<Setting>, OpsError> {
        let name = name.map(str::to_owned);
        self.look(async move |ops| ops.parts().configuration.get(name.as_deref()).await).await
    }

    /// Sets a key by order of `actor`. When this returns it is on disk with its line in the audit trail, and every decision
    /// goes by it.
    ///
    /// # Errors
    /// When the key or the value is no good, or it cannot be kept: then nothing was changed.
    pub async fn set(&self, name: &str, value: &str, actor: Actor) -> Result<Setting, OpsError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.order(async move |ops| ops.parts().configuration.set(&name, &value, actor, None).await).await
    }

    /// Takes back what was set: the file's word counts again, or the default. On disk when this returns.
    ///
    /// # Errors
    /// When the key is none or was not set, when the value does not go with others that were set, or when the store fails:
    /// then nothing was changed.
    pub async fn unset(&self, name: &str, actor: Actor) -> Result<Setting, OpsError> {
        let name = name.to_owned();
        self.order(async move |ops| ops.parts().configuration.unset(&name, actor, None).await).await
    }

    /// [`set`](Self::set) by somebody who does not take the right to administer from themselves.
    ///
    /// # Errors
    /// As there, and [`OpsError::OwnRole`].
    pub async fn set_administering(
        &self,
        name: &str,
        value: &str,
        actor: Actor,
        who: Arc<Identity>,
    ) -> Result<Setting, OpsError> {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.order(async move |ops| ops.parts().configuration.set(&name, &value, actor, Some(&who)).await)
            .await
    }

    /// [`unset`](Self::unset) by somebody who does not take the right to administer from themselves.
    ///
    /// # Errors
    /// As there, and [`OpsError::OwnRole`].
    pub async fn unset_administering(
        &self,
        name: &str,
        actor: Actor,
        who: Arc<Identity>,
    ) -> Result<Setting, OpsError> {
        let name = name.to_owned();
        self.order(async move |ops| ops.parts().configuration.unset(&name, actor, Some(&who)).await).await
    }

    /// Reads the configuration file, if there is one, where it was saved since it was read last, and returns the keys that have
    /// changed by it.
    ///
    /// # Errors
    /// When the file is bad: then no key has changed.
    pub async fn catch_up(&self, actor: Actor) -> Result<Vec<&'static Key>, OpsError> {
        self.order(async move |ops| ops.parts().configuration.reload(actor).await).await
    }

    /// Reads the configuration file, if there is one, and the certificates again, and returns the keys that have changed by it.
    /// Passwords that were right or wrong a moment ago are looked at anew.
    ///
    /// # Errors
    /// When the file is bad: then no key has changed.
    pub async fn reload(&self, actor: Actor) -> Result<Vec<&'static Key>, OpsError> {
        self.order(async move |ops| {
            let changed = ops.parts().configuration.reload(actor).await;
            // Certificates may have changed although the file has not, and what a directory says of a password.
            if let Some(passwords) = ops.parts().verifier.passwords() {
                passwords.forget_all();
            }
            if let Some(keeper) = ops.parts().certificates.clone() {
                ops.blocking(move |_| keeper.reread()).await?;
            }
            changed
        })
        .await
    }
}
