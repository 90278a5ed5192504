//! What the proxy goes by. All of it may change while it runs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::{Balancers, OwnPages};
use crate::auth::kerberos::Conditions;
use crate::auth::kerberos::conditions::ConditionSettings;
use crate::config::{self, AllowedDestination, Basic};
use crate::pages::House;
use crate::types::PortRange;

/// How long a client may take to send a request's head, from its first byte.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client's connection may stay open without a request. Longer than browsers keep one, so that it is the
/// browser who closes, and so that an idle connection holds a session in mode `session` as long as people expect.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// How long one attempt to reach one address may take, and how long names may take to be resolved.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an origin may take to answer, from the last byte of the request that it was sent.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_secs(120);

/// How long an origin's idle connection is kept. Many origins close after 5 s; later ones are seen to be closed.
pub const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How many idle connections to one origin a core keeps: as many as clients ask it for at once on a busy day. Fewer would
/// be closed and made anew all the time; those that nobody needs any more end by [`POOL_IDLE_TIMEOUT`].
pub const POOL_PER_ORIGIN: usize = 256;

/// The name by which proxies know this one, in `Via`, unless it is set to something of its own.
pub const VIA: &str = "tracker";

/// See the module.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// The ports that tunnels may lead to.
    pub connect_ports: Vec<PortRange>,
    /// The ports that plain requests may go to.
    pub forward_ports: Vec<PortRange>,
    /// Destinations that are let through although they are on the built-in list of refused ones.
    pub allow_destinations: AllowList,
    /// Where passwords may be asked for.
    pub basic: Basic,
    /// Who says of its connections who the client is.
    pub balancers: Balancers,
    /// When Kerberos is offered.
    pub conditions: Arc<Conditions>,
    /// Every step of the conditions is logged.
    pub debugging: bool,
    /// Where the gateway's own pages are.
    pub own_pages: Option<Arc<OwnPages>>,
    /// How the proxy's pages look.
    pub house: Arc<House>,
    /// The name in `Via`. Must differ from those of all other proxies in a chain: its return means a loop.
    pub via: String,
    /// How many connections clients may have in all; 0 is as many as there are descriptors for.
    pub max_connections: usize,
    /// How many one client may have.
    pub max_connections_per_client: usize,
    /// See [`HEADER_TIMEOUT`].
    pub header_timeout: Duration,
    /// See [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// See [`CONNECT_TIMEOUT`].
    pub connect_timeout: Duration,
    /// See [`RESPONSE_TIMEOUT`].
    pub response_timeout: Duration,
    /// See [`POOL_IDLE_TIMEOUT`].
    pub pool_idle_timeout: Duration,
    /// See [`POOL_PER_ORIGIN`].
    pub pool_per_origin: usize,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            connect_ports: config::CONNECT_PORTS.to_vec(),
            forward_ports: config::FORWARD_PORTS.to_vec(),
            allow_destinations: AllowList::default(),
            basic: Basic::default(),
            balancers: Balancers::default(),
            conditions: Arc::new(everybody()),
            debugging: false,
            own_pages: None,
            house: Arc::default(),
            via: VIA.to_owned(),
            max_connections: 0,
            max_connections_per_client: crate::config::MAX_CONNECTIONS_PER_CLIENT as usize,
            header_timeout: HEADER_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            connect_timeout: CONNECT_TIMEOUT,
            response_timeout: RESPONSE_TIMEOUT,
            pool_idle_timeout: POOL_IDLE_TIMEOUT,
            pool_per_origin: POOL_PER_ORIGIN,
        }
    }
}

/// The configuration's own defaults: Kerberos is offered to every browser.
fn everybody() -> Conditions {
    Conditions::new(&ConditionSettings::default()).unwrap_or_default()
}

/// Addresses and host names that are let through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    nets: Vec<IpNet>,
    names: Vec<String>,
}

impl AllowList {
    /// What is configured.
    #[must_use]
    pub fn new(allowed: &[AllowedDestination]) -> Self {
        let mut list = Self::default();
        for one in allowed {
            match one {
                AllowedDestination::Network(net) => list.nets.push(*net),
                AllowedDestination::Host(name) => list.names.push(name.clone()),
            }
        }
        list
    }

    /// Whether an address is let through.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        self.nets.iter().any(|net| net.contains(&address))
    }

    /// Whether a host name, in lower case and without a last dot, is let through wherever it leads.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|allowed| allowed == name)
    }
}
