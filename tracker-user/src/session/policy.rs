//! The policy in force: what the judge and the table go by.

use ipnet::IpNet;
use tracker_ebpf::abi;
use tracker_ebpf::abi::{TRAFFIC_BOTH, TRAFFIC_CLIENT};

use super::factors::FactorPolicy;
use super::settings::{Timeouts, TrafficDirection};
use crate::clock::BootTime;
use crate::types::{ClientAddr, ConnectionId, Scope};

/// The timeouts, licences and demands in force, and since when they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The timeouts.
    pub timeouts: Timeouts,
    /// How many users may be logged in at once; 0 is no limit. One user's devices beyond `devices_per_user` count as
    /// further users.
    pub max_users: u32,
    /// How many client addresses one licence covers. A user's connections on a shared host are one together.
    pub devices_per_user: u32,
    /// Addresses whose sessions take no licence.
    pub guests: Vec<IpNet>,
    /// Who must prove a second factor.
    pub factors: FactorPolicy,
    /// When this policy came into force: gaps that ended earlier are not judged by it.
    pub since: BootTime,
}

impl Policy {
    /// What a session that is proved on this connection of a client is of. `None` where many users share the address and
    /// there is no connection: nobody can be logged in there.
    #[must_use]
    pub fn scope(&self, client: ClientAddr, connection: Option<ConnectionId>) -> Option<Scope> {
        if self.timeouts.is_shared(client) {
            connection.map(|connection| Scope::connection(client, connection))
        } else {
            Some(client.into())
        }
    }

    /// Whether sessions from this address take no licence.
    #[must_use]
    pub fn is_guest(&self, client: ClientAddr) -> bool {
        !self.guests.is_empty() && self.guests.iter().any(|net| net.contains(&client.ip()))
    }

    /// How many licences a user takes who is logged in at these addresses, each of them once.
    #[must_use]
    pub fn licences_at(&self, addresses: &[ClientAddr]) -> u32 {
        let devices = addresses.iter().filter(|client| !self.is_guest(**client)).count();
        self.licences_of(u32::try_from(devices).unwrap_or(u32::MAX))
    }

    /// How many licences cover so many of one user's addresses, guests' aside.
    pub(super) fn licences_of(&self, devices: u32) -> u32 {
        devices.div_ceil(self.devices_per_user.max(1))
    }

    /// What the observer has to know of it.
    #[must_use]
    pub fn for_observer(&self) -> abi::Settings {
        let limit = u64::try_from(self.timeouts.timeout.as_nanos()).unwrap_or(u64::MAX);
        let direction = match self.timeouts.traffic_direction {
            TrafficDirection::Both => TRAFFIC_BOTH,
            TrafficDirection::Client => TRAFFIC_CLIENT,
        };
        abi::Settings { limit, direction, ..abi::Settings::default() }
    }
}
