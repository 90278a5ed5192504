//! The lab: network namespaces, a real KDC, real clients, a web server, and the gateway under test.
//!
//! Used by the end-to-end tests and by `cargo xtask demo`. It needs root and Debian packages only; see [`require_root`].
//! `TRACKER_KEEP=1` keeps a lab's directory, with the log and the configuration in it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a lab fails loudly"
)]

pub mod answers;
pub mod axe;
pub mod browser;
pub mod certificates;
pub mod chance;
pub mod chromium;
pub mod client;
pub mod clock;
pub mod dhcp;
pub mod firefox;
pub mod gateway;
pub mod haproxy;
pub mod kerberos;
pub mod net;
pub mod npm;
pub mod ns;
pub mod nss;
pub mod ntlm;
pub mod oath;
pub mod origin;
pub mod pages;
pub mod raw;
pub mod realm;
pub mod scratch;
pub mod secrets;
pub mod secure;
pub mod segment;
pub mod smtp;
pub mod spnego;
pub mod tls;
pub mod wait;
pub mod web;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use chromium::Chromium;
use client::Curl;
use gateway::{Gateway, PROXY_PORT};
use net::{GATEWAY_V4, GATEWAY_V6, Net};
use origin::Origin;
use raw::Raw;
use realm::Realm;
use scratch::Scratch;

/// The people of the realm; each one's password is the name and `-pw`.
pub const USERS: [&str; 3] = ["alice", "bob", "carol"];
/// The name of the proxy, and what clients ask the KDC for.
pub const PROXY_NAME: &str = "proxy.example.test";

/// Everything together. Dropped in this order: the gateway goes before the network it stands in.
#[derive(Debug)]
pub struct Lab {
    /// `trackerd`.
    pub gateway: Gateway,
    /// The web server.
    pub origin: Origin,
    /// The KDC.
    pub realm: Realm,
    /// Hosts and cables.
    pub net: Net,
    /// The gateway's keytab.
    pub keytab: PathBuf,
    /// The lab's directory.
    pub scratch: Scratch,
    tickets: RefCell<HashMap<String, PathBuf>>,
}

/// Whether this process may build a lab.
///
/// # Errors
/// Says what is missing.
pub fn require_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { bail!("needs root") }
}

/// True if a test cannot run here and says so; where `TRACKER_REQUIRE_PRIVILEGED` is set, it fails instead.
///
/// # Panics
/// Where privileges are required and missing.
#[must_use]
pub fn skipped() -> bool {
    match require_root() {
        Ok(()) => false,
        Err(missing) if std::env::var_os("TRACKER_REQUIRE_PRIVILEGED").is_some() => panic!("{missing}"),
        Err(missing) => {
            println!("skipped: {missing}");
            true
        }
    }
}

impl Lab {
    /// A lab with this many clients and a gateway that does not run yet; its programs lie in `bin`.
    ///
    /// # Errors
    /// Without root, or where a package is missing.
    pub fn prepare(clients: usize, bin: &Path) -> Result<Self> {
        require_root()?;
        let scratch = Scratch::new()?;
        let net = Net::new(&scratch, clients)?;
        let realm = Realm::new(&scratch, &net.gateway)?;
        for user in USERS {
            realm.add_user(user, &format!("{user}-pw"))?;
        }
        let keytab = scratch.join("proxy.keytab");
        realm.add_service(&format!("HTTP/{PROXY_NAME}"), &keytab)?;
        realm.add_service("HTTP/proxy6.example.test", &keytab)?;
        let origin = Origin::start(&net.origin)?;
        let gateway = Gateway::new(&scratch, &net.gateway, &realm, &keytab, bin)?;
        Ok(Self { gateway, origin, realm, net, keytab, scratch, tickets: RefCell::default() })
    }

    /// A lab with two clients and a running gateway with these settings over the lab's own.
    ///
    /// # Errors
    /// When the gateway does not get ready, with its log.
    pub fn start(settings: &str) -> Result<Self> {
        Self::start_with(2, settings)
    }

    /// The same with this many clients.
    ///
    /// # Errors
    /// When the gateway does not get ready, with its log.
    pub fn start_with(clients: usize, settings: &str) -> Result<Self> {
        let mut lab = Self::prepare(clients, &gateway::bin_dir()?)?;
        lab.gateway.configure(settings)?;
        lab.gateway.start()?;
        Ok(lab)
    }

    /// The address of a client, as the gateway shows it.
    #[must_use]
    pub fn address(&self, client: usize) -> String {
        self.net.clients[client].v4.to_string()
    }

    /// The tickets of a user: the file of a credential cache, filled on first use.
    ///
    /// # Errors
    /// When the KDC does not answer.
    pub fn tickets(&self, user: &str) -> Result<PathBuf> {
        if let Some(cache) = self.tickets.borrow().get(user) {
            return Ok(cache.clone());
        }
        let cache = self.realm.kinit(&self.net.gateway, user, &format!("{user}-pw"))?;
        self.tickets.borrow_mut().insert(user.to_owned(), cache.clone());
        Ok(cache)
    }

    /// curl on a client, through the proxy, without credentials.
    pub fn curl(&self, client: usize) -> Curl<'_> {
        Curl::new(&self.net.clients[client].ns, &self.scratch, &self.realm, &Gateway::proxy_url())
    }

    /// curl on a client, volunteering a user's credentials.
    ///
    /// # Errors
    /// When the user gets no tickets.
    pub fn curl_as(&self, client: usize, user: &str) -> Result<Curl<'_>> {
        Ok(self.curl(client).tickets(&self.tickets(user)?))
    }

    /// Chromium on a client, through the proxy, without tickets.
    pub fn chromium(&self, client: usize) -> Chromium<'_> {
        Chromium::new(&self.net.clients[client].ns, &self.scratch, &self.realm, &Gateway::proxy_url())
    }

    /// Chromium on a client, with a user's tickets.
    ///
    /// # Errors
    /// When the user gets no tickets.
    pub fn chromium_as(&self, client: usize, user: &str) -> Result<Chromium<'_>> {
        Ok(self.chromium(client).tickets(&self.tickets(user)?))
    }

    /// Logs a user in from a client by one small request.
    ///
    /// # Errors
    /// When that is not answered by the origin, with the gateway's log.
    pub fn login(&self, client: usize, user: &str) -> Result<()> {
        let reply = self.curl_as(client, user)?.get("http://origin.example.test/")?;
        if reply.code == 200 {
            return Ok(());
        }
        bail!("{user} cannot log in: {reply:?}\nlog of trackerd:\n{}", self.gateway.log())
    }

    /// A plain connection from a client to the proxy.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn raw(&self, client: usize) -> Result<Raw> {
        Raw::connect(&self.net.clients[client].ns, SocketAddr::from((GATEWAY_V4, PROXY_PORT)))
    }

    /// A connection under TLS from a client to the proxy, where [`gateway::PROXY_TLS`] is configured.
    ///
    /// # Errors
    /// When nobody listens, or the handshake fails.
    pub fn raw_tls(&self, client: usize) -> Result<Raw> {
        let to = SocketAddr::from((GATEWAY_V4, gateway::PROXY_TLS_PORT));
        Raw::connect(&self.net.clients[client].ns, to)?.secure()
    }

    /// A plain connection from a client to the proxy by IPv6.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn raw6(&self, client: usize) -> Result<Raw> {
        Raw::connect(&self.net.clients[client].ns, SocketAddr::from((GATEWAY_V6, PROXY_PORT)))
    }

    /// So many header lines, each with a fresh token of a user for the proxy.
    ///
    /// # Errors
    /// When the user gets no ticket.
    pub fn many_credentials(&self, client: usize, user: &str, count: usize) -> Result<Vec<String>> {
        let cache = self.tickets(user)?;
        let tokens = raw::tokens(&self.net.clients[client].ns, &self.realm, &cache, PROXY_NAME, count)?;
        Ok(tokens.iter().map(|token| raw::credentials(token)).collect())
    }

    /// The header line with a fresh token of a user for the proxy.
    ///
    /// # Errors
    /// When the user gets no ticket.
    pub fn credentials(&self, client: usize, user: &str) -> Result<String> {
        let cache = self.tickets(user)?;
        let token = raw::token(&self.net.clients[client].ns, &self.realm, &cache, PROXY_NAME)?;
        Ok(raw::credentials(&token))
    }

    /// A user's Kerberos library on a client, for handshakes step by step.
    ///
    /// # Errors
    /// When the user gets no ticket, or there is no compiler.
    pub fn kerberos(&self, client: usize, user: &str) -> Result<kerberos::Client<'_>> {
        let cache = self.tickets(user)?;
        kerberos::Client::new(&self.scratch, &self.net.clients[client].ns, &self.realm, &cache)
    }
}
