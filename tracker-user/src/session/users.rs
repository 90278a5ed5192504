//! The users who have sessions: one identity in memory per user, however many sessions they have, and what they take of the licences.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::policy::Policy;
use super::table::Refused;
use crate::types::{ClientAddr, Identity, Scope};

/// The users who have sessions, and how many.
#[derive(Debug, Default)]
pub(super) struct Users {
    users: HashMap<Arc<Identity>, Count>,
    /// How many users have an active session.
    active: usize,
    /// How many active sessions they have.
    sessions: usize,
    licences: u32,
    /// On shared hosts: how many active sessions a user has at an address. Together they are one device.
    together: HashMap<(ClientAddr, Arc<Identity>), u32>,
}

/// What a user has.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    sessions: u32,
    /// The addresses of the active ones among them that licences cover,
    devices: u32,
    /// and those that take none.
    guests: u32,
}

impl Count {
    /// Those that an address is one of.
    fn of(&mut self, client: ClientAddr, policy: &Policy) -> &mut u32 {
        if policy.is_guest(client) { &mut self.guests } else { &mut self.devices }
    }

    /// Whether none of the user's sessions is active.
    const fn is_away(self) -> bool {
        self.devices == 0 && self.guests == 0
    }
}

impl Users {
    /// How many users have an active session.
    pub(super) const fn active(&self) -> usize {
        self.active
    }

    /// How many sessions are active.
    pub(super) const fn sessions(&self) -> usize {
        self.sessions
    }

    /// How many licences are in use.
    pub(super) const fn licences(&self) -> u32 {
        self.licences
    }

    /// The policy is another: other addresses may take none.
    pub(super) fn recount_guests<'a>(
        &mut self,
        active: impl Iterator<Item = (Scope, &'a Arc<Identity>)>,
        policy: &Policy,
    ) {
        for count in self.users.values_mut() {
            (count.devices, count.guests) = (0, 0);
        }
        let mut together = HashSet::new();
        for (scope, identity) in active {
            let is_another = scope.connection.is_none() || together.insert((scope.client, identity));
            if let Some(count) = self.users.get_mut(identity).filter(|_| is_another) {
                *count.of(scope.client, policy) += 1;
            }
        }
        self.recount(policy);
    }

    /// The policy is another: licences may cover more or less.
    pub(super) fn recount(&mut self, policy: &Policy) {
        self.licences = self.users.values().map(|count| policy.licences_of(count.devices)).sum();
    }

    /// A user has one more session: returns the identity to keep in it. It is the one that their other sessions have,
    /// unless it is spelled otherwise by now.
    pub(super) fn session_added(&mut self, identity: &Arc<Identity>) -> Arc<Identity> {
        let known = self.users.remove_entry(identity);
        let (known, mut count) = known.unwrap_or_else(|| (Arc::clone(identity), Count::default()));
        let kept = if known.is_spelled_like(identity) { known } else { Arc::clone(identity) };
        count.sessions += 1;
        self.users.insert(Arc::clone(&kept), count);
        kept
    }

    /// A session that is not active, or not any more, is gone.
    pub(super) fn session_removed(&mut self, identity: &Identity) {
        let Some(count) = self.users.get_mut(identity) else { return };
        count.sessions -= 1;
        if count.sessions == 0 {
            self.users.remove(identity);
        }
    }

    /// A session of the user's is active now.
    pub(super) fn activated(&mut self, scope: Scope, identity: &Arc<Identity>, policy: &Policy) {
        self.sessions += 1;
        if scope.connection.is_some() {
            let together = self.together.entry((scope.client, Arc::clone(identity))).or_default();
            *together += 1;
            if *together > 1 {
                return;
            }
        }
        let Some(count) = self.users.get_mut(identity) else { return };
        let before = *count;
        *count.of(scope.client, policy) += 1;
        self.licences += policy.licences_of(count.devices) - policy.licences_of(before.devices);
        self.active += usize::from(before.is_away());
    }

    /// A session of the user's is not active any more.
    pub(super) fn deactivated(&mut self, scope: Scope, identity: &Arc<Identity>, policy: &Policy) {
        self.sessions -= 1;
        if scope.connection.is_some() {
            let key = (scope.client, Arc::clone(identity));
            if let Some(together) = self.together.get_mut(&key).filter(|together| **together > 1) {
                *together -= 1;
                return;
            }
            self.together.remove(&key);
        }
        let Some(count) = self.users.get_mut(identity) else { return };
        let before = *count;
        *count.of(scope.client, policy) -= 1;
        self.licences -= policy.licences_of(before.devices) - policy.licences_of(count.devices);
        self.active -= usize::from(count.is_away());
    }

    /// Whether one more active session of `identity` fits the licences, once the active one of `leaving` there is gone.
    pub(super) fn fits(
        &self,
        scope: Scope,
        identity: &Arc<Identity>,
        leaving: Option<&Arc<Identity>>,
        policy: &Policy,
    ) -> Result<(), Refused> {
        let max = policy.max_users;
        // Whoever is at the address now takes none, either.
        if max == 0 || policy.is_guest(scope.client) {
            return Ok(());
        }
        let devices = |identity: &Identity| self.users.get(identity).map_or(0, |count| count.devices);
        let together = |identity: &Arc<Identity>| match scope.connection {
            None => 0,
            Some(_) => self.together.get(&(scope.client, Arc::clone(identity))).copied().unwrap_or(0),
        };
        // Of a user's connections on a shared host only the first takes, and only the last frees.
        let freed = leaving.filter(|who| together(who) <= 1);
        let freed =
            freed.map_or(0, |who| policy.licences_of(devices(who)) - policy.licences_of(devices(who) - 1));
        let needed = match together(identity) {
            0 => policy.licences_of(devices(identity) + 1) - policy.licences_of(devices(identity)),
            _ => 0,
        };
        // A user without a further licence to take always fits, also when the limit was lowered below what is in use.
        if needed == 0 || self.licences - freed + needed <= max {
            Ok(())
        } else {
            Err(Refused::Licences { max })
        }
    }
}
