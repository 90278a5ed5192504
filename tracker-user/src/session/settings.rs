//! The timeouts, typed: what the operator may tune and within which ranges.

use std::time::Duration;

/// PLACEHOLDER until the config room lands.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeouts {
    pub timeout: Duration,
    pub mode: Mode,
    pub lifetime_enabled: bool,
    pub lifetime_timeout: Duration,
    pub on_timeout: OnTimeout,
    pub revalidate: Revalidate,
    pub shared_hosts: Vec<ipnet::IpNet>,
}
impl Timeouts {
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime_enabled.then_some(self.lifetime_timeout)
    }
}
impl Default for Timeouts {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(600),
            mode: Mode::Session,
            lifetime_enabled: false,
            lifetime_timeout: Duration::from_secs(480 * 60),
            on_timeout: OnTimeout::Keep,
            revalidate: Revalidate::OnTimeout,
            shared_hosts: vec![],
        }
    }
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Session,
    Traffic,
    Absolute,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnTimeout {
    Keep,
    Close,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revalidate {
    OnTimeout,
    OnReopen,
}

/// What the judge goes by: the timeouts and licences in force, and since when they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The timeouts.
    pub timeouts: Timeouts,
    /// How many users may be logged in at once; 0 is no limit. One user's devices beyond `devices_per_user` count as
    /// further users.
    pub max_users: u32,
    /// How many client addresses one licence covers.
    pub devices_per_user: u32,
    /// When this policy came into force: gaps that ended earlier are not judged by it.
    pub since: crate::clock::BootTime,
}
