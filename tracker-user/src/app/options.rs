//! What the configuration says, for the parts that go by it.

use std::sync::Arc;

use tracing::error;

use super::{portal, via};
use crate::auth::kerberos::negotiate;
use crate::auth::kerberos::{ChannelBindings, Conditions, NameRules};
use crate::clock::BootTime;
use crate::config;
use crate::config::Config;
use crate::net::Service;
use crate::observe::{ObserveOptions, ObserverMode, Place, places};
use crate::proxy::{AllowList, Balancers, ProxyOptions};
use crate::session::{Demand, FactorPolicy, Policy};
use crate::types::{LOCAL_DOMAIN, Method};

/// What tickets and passwords are verified by.
pub(super) fn kerberos(config: &Config) -> negotiate::Options {
    let config::Kerberos { keytab, channel_bindings, conditions, .. } = &config.kerberos;
    negotiate::Options {
        keytab: keytab.clone(),
        names: names(config),
        channel_bindings: match channel_bindings {
            config::ChannelBindings::Off => ChannelBindings::Off,
            config::ChannelBindings::Accept => ChannelBindings::Accept,
            config::ChannelBindings::Require => ChannelBindings::Require,
        },
        debugging: conditions.debugging,
    }
}

/// What names mean.
pub(super) fn names(config: &Config) -> NameRules {
    let config::Kerberos { keep_domain, domains, auth_to_local, machine_accounts, .. } = &config.kerberos;
    NameRules::new(*keep_domain, domains.clone())
        .with_auth_to_local(*auth_to_local)
        .with_machine_accounts(*machine_accounts == config::MachineAccounts::Accept)
}

/// When Kerberos is offered.
pub(super) fn conditions(config: &Config) -> Conditions {
    Conditions::new(&config.kerberos.conditions).unwrap_or_else(|error| {
        // Cannot be: the patterns were tried when the configuration was read. Without browsers, nobody is offered it.
        error!(%error, "the conditions for Kerberos cannot be used: it is not offered");
        Conditions::default()
    })
}

/// What the proxy goes by. Blocks: it reads the keytab and the hosts.
pub(super) fn proxy_options(config: &Config, inner: &portal::Inner) -> ProxyOptions {
    ProxyOptions {
        connect_ports: config.proxy.connect_ports.clone(),
        forward_ports: config.proxy.forward_ports.clone(),
        allow_destinations: AllowList::new(&config.proxy.allow_destinations),
        balancers: Balancers::new(&config.proxy.proxy_protocol),
        max_connections: config.proxy.max_connections as usize,
        max_connections_per_client: config.proxy.max_connections_per_client as usize,
        basic: config.proxy.basic,
        conditions: Arc::new(conditions(config)),
        debugging: config.kerberos.conditions.debugging,
        own_pages: portal::own_pages(config, inner),
        house: Arc::new(portal::house(config)),
        via: via(),
        ..ProxyOptions::default()
    }
}

/// Who must prove a second factor. Nobody has to prove one after an application password, which is of a program, or after a
/// passkey alone, which is two factors in one.
pub(super) fn factors(config: &Config) -> FactorPolicy {
    let config::SecondFactor { domains, kerberos, .. } = &config.second_factor;
    let demand = |policy: config::SecondFactorPolicy| match policy {
        config::SecondFactorPolicy::Off => None,
        config::SecondFactorPolicy::Optional => Some(Demand::IfEnrolled),
        config::SecondFactorPolicy::Required => Some(Demand::Always),
    };
    // The local users have no realm.
    let realm = |domain: &String| match domain.to_lowercase() {
        local if local == LOCAL_DOMAIN => String::new(),
        realm => realm,
    };
    let realms = domains.iter().filter_map(|(domain, policy)| Some((realm(domain), demand(*policy)?)));
    let mut trusted = vec![Method::ApplicationPassword, Method::Passkey];
    if *kerberos == config::KerberosTrust::Trust {
        trusted.push(Method::Kerberos);
    }
    FactorPolicy { realms: realms.collect(), trusted }
}

/// What sessions are judged by, from that time on.
pub(super) fn policy(config: &Config, since: BootTime) -> Policy {
    Policy {
        timeouts: config.timeouts.clone(),
        max_users: config.licences.max_users,
        devices_per_user: config.licences.devices_per_user,
        guests: config.licences.guests.clone(),
        factors: factors(config),
        since,
    }
}

/// What clients are observed by.
pub(super) fn observe_options(config: &Config, policy: &Policy) -> ObserveOptions {
    let listeners = config.addresses_of(Service::Proxy);
    let own: Vec<u16> = listeners.iter().map(|listen| listen.address.port()).collect();
    let listeners: Vec<Place> =
        listeners.iter().map(|listen| Place::from(listen.address).opaque(listen.is_tls)).collect();
    let watched = config.observer.watch_ports.iter().copied();
    let foreign_ports: Vec<u16> = watched.filter(|port| !own.contains(port)).collect();
    let places = places(&listeners, &config.observer.watch_ports);
    ObserveOptions {
        mode: match config.observer.mode {
            config::ObserverMode::Auto => ObserverMode::Auto,
            config::ObserverMode::Ebpf => ObserverMode::Ebpf,
            config::ObserverMode::Proxy => ObserverMode::Proxy,
        },
        cgroup: config.observer.cgroup.clone(),
        pin_dir: Some(config.observer.pin_dir.clone()),
        places,
        foreign_ports,
        max_records: config.observer.max_records,
        settings: policy.for_observer(),
    }
}
