//! The web pages, as the configuration has them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tracing::warn;

use super::certificates::{hostname, reached_by};
use super::options::conditions;
use crate::config::Config;
use crate::net::certificates::Keeper;
use crate::net::{Endpoint, Handed, Security, Service};
use crate::pages::{Brand, House, Languages, Logo};
use crate::portal::{InnerListeners, Settings};
use crate::proxy::{OwnPages, Way};

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

/// Where the proxy knows the pages to be; `inner` are the ways that it has to them. Blocks: it reads the keytab and the hosts.
pub(super) fn own_pages(config: &Config, inner: &Inner) -> Option<Arc<OwnPages>> {
    let portal = &config.portal;
    let way = |listens: Option<SocketAddr>, inner: Option<SocketAddr>| {
        Some(Way { listens: listens?, inner: inner? })
    };
    let pages = OwnPages {
        origin: secure_origin(config).map(Into::into),
        names: reached_by(config),
        plain: way(portal.http, inner.plain),
        secure: way(portal.https, inner.secure),
        shared_hosts: config.timeouts.shared_hosts.clone(),
        handed: Arc::clone(&inner.handed),
    };
    (pages.plain.is_some() || pages.secure.is_some()).then(|| Arc::new(pages))
}

/// Where the pages are under TLS, if they are: `https://host:port`.
pub(super) fn secure_origin(config: &Config) -> Option<String> {
    let portal = &config.portal;
    let host = portal.host.clone().unwrap_or_else(hostname);
    let settings = Settings { host, https_port: portal.https.map(|at| at.port()), ..Settings::default() };
    settings.secure_origin()
}

/// How the proxy reaches the pages.
#[derive(Clone, Debug)]
pub(super) struct Inner {
    plain: Option<SocketAddr>,
    secure: Option<SocketAddr>,
    handed: Arc<Handed>,
}

impl Inner {
    pub(super) fn of(listeners: &InnerListeners) -> Self {
        let handed = Arc::clone(listeners.handed());
        Self { plain: listeners.plain(), secure: listeners.secure(), handed }
    }
}

/// How the proxy's own pages look.
pub(super) fn house(config: &Config) -> House {
    House::of(&words(config))
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
    Brand { logo: logo.map(Arc::new), ..words(config) }
}

/// A brand but for its logo.
fn words(config: &Config) -> Brand {
    let portal = &config.portal;
    let words = |text: &Option<String>| text.as_deref().map(Arc::from);
    Brand {
        organisation: words(&portal.organisation),
        contact: words(&portal.contact),
        colour: words(&portal.colour),
        logo: None,
    }
}

/// All languages there are.
pub(super) fn languages(config: &Config) -> Languages {
    let Some(directory) = &config.portal.languages else { return Languages::default() };
    let (languages, unusable) = Languages::default().with_directory(directory);
    for error in unusable {
        warn!(%error, "a language of the pages is left out");
    }
    languages
}
