//! What somebody may do to the gateway: the one place where the pages ask.

use super::Ops;
use crate::types::{Identity, Role};

impl Ops {
    /// What `who` may do to the gateway now: the gateway's own users by what was said of them, users of realms by
    /// `portal.administrators` and `portal.viewers`. Whoever is disabled, or has to change the password first, may not do more
    /// than anybody else. It is looked up in memory, and never waits: ask it for each request, as a role may change at any
    /// moment.
    #[must_use]
    pub fn role_of(&self, who: &Identity) -> Role {
        let parts = self.parts();
        if !who.is_local() {
            return parts.configuration.config().role_of(who);
        }
        let user = parts.local_users.user(&who.user().to_lowercase());
        user.filter(|user| !user.disabled && !user.must_change).map_or(Role::User, |user| user.role)
    }
}
