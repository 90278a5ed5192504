//! Application passwords at the door: they go the way of other passwords, and are looked at elsewhere.

use super::accounts::Target;
use super::cause::Cause;
use super::door::{Inner, rejected};
use super::secret::Password;
use crate::auth::application_passwords::{Text, Unfit};
use crate::auth::outcome::Failure;
use crate::clock::wall_now;
use crate::types::{ClientAddr, Identity};

impl Inner {
    /// Whose name and application password these are, if they are anybody's. Asks nobody, and never waits: whoever has a right
    /// one is not regulated, but for a ban that stands.
    pub(super) fn find_application(
        &self,
        user: &str,
        password: &Password,
        client: ClientAddr,
    ) -> Option<Identity> {
        let applications = self.applications.as_ref()?;
        let text = Text::parse(password.reveal()).ok()?;
        let target = self.accounts.find(user, &self.settings.load().names).ok()?;
        let now = wall_now();
        let known = applications.check(&text, target.key(), client, now).ok()?;
        let is_banned = || self.regulation.is_banned(client, target.key());
        let is_good = !self.accounts.is_disabled(&target)
            && known.is_used(client, now, self.regulation.generation(), is_banned);
        is_good.then(|| (**known.owner()).clone())
    }

    /// The same, and why not. `counts`: it is a try of its own.
    pub(super) fn check_application(
        &self,
        target: &Target,
        password: &Password,
        client: ClientAddr,
        counts: bool,
    ) -> Result<Identity, Failure> {
        let Some(applications) = &self.applications else {
            return Err(rejected(Cause::WrongApplicationPassword, "there are no application passwords"));
        };
        let Ok(text) = Text::parse(password.reveal()) else {
            return Err(rejected(Cause::Mistyped, "the application password has a typing error in it"));
        };
        let now = wall_now();
        match applications.check(&text, target.key(), client, now) {
            Ok(_) if self.accounts.is_disabled(target) => {
                Err(rejected(Cause::Disabled, "the application password is right, and its user is disabled"))
            }
            Ok(known) => {
                // Whoever is banned has not come so far.
                known.is_used(client, now, self.regulation.generation(), || false);
                Ok((**known.owner()).clone())
            }
            Err(Unfit::Wrong) => {
                if counts {
                    applications.tell_wrong(&text, client);
                }
                let what = "there is no such application password, or it is another user's";
                Err(rejected(Cause::WrongApplicationPassword, what))
            }
            Err(Unfit::Expired) => {
                Err(rejected(Cause::ApplicationPasswordExpired, "the application password has expired"))
            }
            Err(Unfit::Network) => {
                let what = "the application password is not good from this address";
                Err(rejected(Cause::ApplicationPasswordNetwork, what))
            }
        }
    }
}
