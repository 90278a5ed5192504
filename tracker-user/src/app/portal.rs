//! The web pages, as the configuration has them.

use std::net::IpAddr;
use std::sync::Arc;

use tracing::warn;

use super::certificates::{hostname, reached_by};
use super::options::conditions;
use crate::config::Config;
use crate::net::certificates::Keeper;
use crate::net::{Endpoint, Security, Service};
use crate::pages::{Brand, Languages, Logo};
use crate::portal::Settings;

/// Where the pages are.
pub(super) fn endpoints(config: &Config, certificates: Option<&Arc<Keeper>>) -> Vec<Endpoint> {
    let endpoint = |listen: crate::config::Listen| {
        let security = match certificates {
            Some(keeper) if listen.is_tls => Security::Tls(Arc::clone(keeper.server())),
            None if listen.is_tls => return None,
            _ => Security::Plain,
        };
        Some(Endpoint { service: Service::Portal, security, address: listen.address })
    };
    config.addresses_of(Service::Portal).into_iter().filter_map(endpoint).collect()
}

/// What the pages go by. Blocks: it reads the logo, the keytab and the hosts.
pub(super) fn settings(config: &Config) -> Settings {
    let portal = &config.portal;
    let host = portal.host.clone().unwrap_or_else(hostname);
    Settings {
        names: reached_by(config),
        http_port: portal.http.map(|address| address.port()),
        https_port: portal.https.map(|address| address.port()),
        trusted_proxies: portal.trusted_proxies.clone(),
        logout_hold: portal.logout_hold,
        administrators: portal.administrators.iter().map(|user| user.as_str().into()).collect(),
        viewers: portal.viewers.iter().map(|user| user.as_str().into()).collect(),
        conditions: Arc::new(conditions(config)),
        opt_out_cookie: config.kerberos.conditions.opt_out_cookie.clone(),
        proxies: proxies(config, &host),
        brand: Arc::new(brand(config)),
        host,
    }
}

/// What the PAC file lists: this gateway, under TLS first where it is, then the others.
fn proxies(config: &Config, host: &str) -> Vec<String> {
    let named = |port: u16| match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        _ => format!("{host}:{port}"),
    };
    let plain = config.proxy.listen.first().map(|address| format!("PROXY {}", named(address.port())));
    let tls = config.tls.proxy_listen.first().map(|address| format!("HTTPS {}", named(address.port())));
    let others = config.portal.gateways.iter().map(|other| format!("PROXY {other}"));
    plain.into_iter().chain(tls).chain(others).collect()
}

fn brand(config: &Config) -> Brand {
    let portal = &config.portal;
    let logo = portal
        .logo
        .as_deref()
        .and_then(|path| Logo::read(path).inspect_err(|error| warn!(%error, "the pages have no logo")).ok());
    let words = |text: &Option<String>| text.as_deref().map(Arc::from);
    Brand {
        organisation: words(&portal.organisation),
        contact: words(&portal.contact),
        colour: words(&portal.colour),
        logo: logo.map(Arc::new),
    }
}

/// All languages there are.
pub(super) fn languages(config: &Config) -> Languages {
    let built_in = Languages::default();
    match &config.portal.languages {
        None => built_in,
        Some(directory) => built_in.clone().with_directory(directory).unwrap_or_else(|error| {
            warn!(%error, "the pages are in English and German alone");
            built_in
        }),
    }
}
