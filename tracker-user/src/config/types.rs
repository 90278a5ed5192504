//! The configuration as types: one struct per table of the file, every field with its default.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::values::{
    AllowedDestination, Basic, ChannelBindings, KerberosTrust, MachineAccounts, ObserverMode, PasskeyUse,
    SecondFactorPolicy,
};
use crate::auth::kerberos::conditions::ConditionSettings;
use crate::net::certificates::Pair;
use crate::session::settings::Timeouts;
use crate::types::PortRange;

/// Where the embedded database lives: the file hierarchy standard's place for what survives a reboot.
pub const STATE_DIR: &str = "/var/lib/tracker";
/// Where the admin socket lives: gone after a reboot, as it should be.
pub const RUN_DIR: &str = "/run/tracker";
/// Where the kernel side is pinned: bpffs' usual mount point, and a directory of our own.
pub const PIN_DIR: &str = "/sys/fs/bpf/tracker";
/// 3128, the port that Squid made the usual one of explicit proxies.
pub const PROXY_PORT: u16 = 3128;
/// CONNECT is for TLS, and TLS is on 443; Squid's `SSL_ports` says the same.
pub const CONNECT_PORTS: [PortRange; 1] = [PortRange::one(443)];
/// HTTP's own ports, and those above the system's; Squid's `Safe_ports` says nearly the same.
pub const FORWARD_PORTS: [PortRange; 3] =
    [PortRange::one(80), PortRange::one(443), PortRange { first: 1025, last: u16::MAX }];
/// 0 = as many as there are descriptors for.
pub const MAX_CONNECTIONS: u32 = 0;
/// Browsers open some dozens through a proxy, and a page that listens for news a few hundred at most.
pub const MAX_CONNECTIONS_PER_CLIENT: u32 = 1_000;
/// So many client addresses are room enough for most sites, at some 25 MiB of kernel memory.
pub const MAX_RECORDS: u32 = 131_072;
/// 0 = unlimited: whoever pays per user says how many.
pub const MAX_USERS: u32 = 0;
/// Kerio Control counts a person with up to five devices as one licence.
pub const DEVICES_PER_USER: u32 = 5;
/// Show the domain, so that two people of one name in two domains can be told apart (`PortalGuard`'s `keepDomain`).
pub const KEEP_DOMAIN: bool = true;
/// A principal's own name needs no configuration elsewhere.
pub const AUTH_TO_LOCAL: bool = false;
/// Fewer than the usual lock-out of Active Directory (5 and more): nobody is locked out of the directory by what others try
/// here.
pub const MAX_RETRIES: u32 = 3;
/// Active Directory forgets wrong passwords after 10 to 30 minutes: so these are counted for longer.
pub const FIND_TIME: Duration = Duration::from_secs(30 * 60);
/// A ban is over when the counting would be.
pub const BAN_TIME: Duration = Duration::from_secs(30 * 60);
/// Kerio Control's port of the web pages and the logout URL.
pub const PORTAL_HTTP_PORT: u16 = 4080;
/// Kerio Control's port of the web pages under TLS.
pub const PORTAL_HTTPS_PORT: u16 = 4081;
/// ACME's HTTP-01 challenge always comes to port 80 (RFC 8555, section 8.3).
pub const ACME_HTTP_PORT: u16 = 80;
/// The metrics' port; only this host may read them by default, as they tell how busy the site is.
pub const METRICS_PORT: u16 = 9477;

const fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

/// The whole configuration, complete and valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The directory of the embedded database.
    pub state_dir: PathBuf,
    /// The directory of the admin socket.
    pub run_dir: PathBuf,
    /// `[proxy]`
    pub proxy: Proxy,
    /// `[observer]`
    pub observer: Observer,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[licences]`
    pub licences: Licences,
    /// `[kerberos]`
    pub kerberos: Kerberos,
    /// `[regulation]`
    pub regulation: Regulation,
    /// `[portal]`
    pub portal: Portal,
    /// `[second-factor]`
    pub second_factor: SecondFactor,
    /// `[mail]`
    pub mail: Mail,
    /// `[tls]`
    pub tls: Tls,
    /// `[acme]`
    pub acme: Acme,
    /// `[store]`
    pub store: Store,
    /// `[metrics]`
    pub metrics: Metrics,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: STATE_DIR.into(),
            run_dir: RUN_DIR.into(),
            proxy: Proxy::default(),
            observer: Observer::default(),
            timeouts: Timeouts::default(),
            licences: Licences::default(),
            kerberos: Kerberos::default(),
            regulation: Regulation::default(),
            portal: Portal::default(),
            second_factor: SecondFactor::default(),
            mail: Mail::default(),
            tls: Tls::default(),
            acme: Acme::default(),
            store: Store::default(),
            metrics: Metrics::default(),
        }
    }
}

/// The explicit proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// Where clients connect to.
    pub listen: Vec<SocketAddr>,
    /// The ports that CONNECT may reach.
    pub connect_ports: Vec<PortRange>,
    /// The ports that plain requests may reach.
    pub forward_ports: Vec<PortRange>,
    /// What is let through although the built-in deny list names it.
    pub allow_destinations: Vec<AllowedDestination>,
    /// Where passwords may be asked for.
    pub basic: Basic,
    /// How many connections clients may have in all; 0 = as many as there are descriptors for.
    pub max_connections: u32,
    /// How many one client may have.
    pub max_connections_per_client: u32,
    /// Whose connections begin with a PROXY protocol header that says who the client is.
    pub proxy_protocol: Vec<IpNet>,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            listen: vec![everywhere(PROXY_PORT)],
            connect_ports: CONNECT_PORTS.to_vec(),
            forward_ports: FORWARD_PORTS.to_vec(),
            allow_destinations: Vec::new(),
            basic: Basic::default(),
            max_connections: MAX_CONNECTIONS,
            max_connections_per_client: MAX_CONNECTIONS_PER_CLIENT,
            proxy_protocol: Vec::new(),
        }
    }
}

/// The observer of connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Observer {
    /// Which observer.
    pub mode: ObserverMode,
    /// The cgroup v2 directory to attach to; `None` finds it.
    pub cgroup: Option<PathBuf>,
    /// Where programs and records are pinned.
    pub pin_dir: PathBuf,
    /// Ports of other proxies on this host, watched besides the gateway's own.
    pub watch_ports: Vec<u16>,
    /// How many client addresses there is room for in the record map.
    pub max_records: u32,
}

impl Default for Observer {
    fn default() -> Self {
        Self {
            mode: ObserverMode::default(),
            cgroup: None,
            pin_dir: PIN_DIR.into(),
            watch_ports: Vec::new(),
            max_records: MAX_RECORDS,
        }
    }
}

/// How many users may be logged in.
#[derive(Clone, Debug, PartialEq)]
pub struct Licences {
    /// How many licences there are; 0 = unlimited.
    pub max_users: u32,
    /// How many addresses one user has on one licence.
    pub devices_per_user: u32,
    /// Addresses whose sessions take no licence.
    pub guests: Vec<IpNet>,
}

impl Default for Licences {
    fn default() -> Self {
        Self { max_users: MAX_USERS, devices_per_user: DEVICES_PER_USER, guests: Vec::new() }
    }
}

/// Kerberos.
#[derive(Clone, Debug, PartialEq)]
pub struct Kerberos {
    /// The keytab; `None` is `KRB5_KTNAME` or the system's.
    pub keytab: Option<PathBuf>,
    /// Whether the domain is part of a user's name.
    pub keep_domain: bool,
    /// Realm to short domain name.
    pub domains: BTreeMap<String, String>,
    /// Whether krb5.conf's `auth_to_local` rules make the user's part of the name.
    pub auth_to_local: bool,
    /// Whether computers' own accounts are users.
    pub machine_accounts: MachineAccounts,
    /// What tickets that come under TLS must say of the TLS connection.
    pub channel_bindings: ChannelBindings,
    /// `[kerberos.conditions]`
    pub conditions: ConditionSettings,
}

impl Default for Kerberos {
    fn default() -> Self {
        Self {
            keytab: None,
            keep_domain: KEEP_DOMAIN,
            domains: BTreeMap::new(),
            auth_to_local: AUTH_TO_LOCAL,
            machine_accounts: MachineAccounts::default(),
            channel_bindings: ChannelBindings::default(),
            conditions: ConditionSettings::default(),
        }
    }
}

/// How wrong passwords are answered: the names are those of Authelia.
#[derive(Clone, Debug, PartialEq)]
pub struct Regulation {
    /// How many wrong secrets one address may send for one name before it is banned from that name; 0: nobody is banned.
    pub max_retries: u32,
    /// The time within which they are counted.
    pub find_time: Duration,
    /// How long a ban lasts.
    pub ban_time: Duration,
}

impl Default for Regulation {
    fn default() -> Self {
        Self { max_retries: MAX_RETRIES, find_time: FIND_TIME, ban_time: BAN_TIME }
    }
}

/// The web pages.
#[derive(Clone, Debug, PartialEq)]
pub struct Portal {
    /// Where the pages are without TLS; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// Where they are under TLS; `None`: nowhere.
    pub https: Option<SocketAddr>,
    /// This host's name in redirects; `None`: its host name.
    pub host: Option<String>,
    /// Who says in `X-Forwarded-For` for whom it asks.
    pub trusted_proxies: Vec<IpNet>,
    /// For so long after a logout nobody is logged in silently from its address.
    pub logout_hold: Duration,
    /// Realm users who may administer the gateway, and those who may look.
    pub administrators: Vec<String>,
    /// Realm users who may look at what administrators see, and change nothing.
    pub viewers: Vec<String>,
    /// Further gateways for the PAC file, tried in this order when this one does not answer.
    pub gateways: Vec<String>,
    /// Who the gateway belongs to, as pages say it.
    pub organisation: Option<String>,
    /// Whom people turn to who need help.
    pub contact: Option<String>,
    /// A picture, SVG or PNG.
    pub logo: Option<PathBuf>,
    /// The colour of what stands out, `#rrggbb`.
    pub colour: Option<String>,
    /// A directory with files of further languages.
    pub languages: Option<PathBuf>,
}

impl Default for Portal {
    fn default() -> Self {
        Self {
            http: Some(everywhere(PORTAL_HTTP_PORT)),
            https: Some(everywhere(PORTAL_HTTPS_PORT)),
            host: None,
            trusted_proxies: Vec::new(),
            logout_hold: Duration::ZERO,
            administrators: Vec::new(),
            viewers: Vec::new(),
            gateways: Vec::new(),
            organisation: None,
            contact: None,
            logo: None,
            colour: None,
            languages: None,
        }
    }
}

/// So long browsers are remembered, unless the configuration says otherwise.
const REMEMBER: Duration = Duration::from_secs(30 * 24 * 3600);

/// The second factor.
#[derive(Clone, Debug, PartialEq)]
pub struct SecondFactor {
    /// Who is asked, by domain; a domain that is not named is off.
    pub domains: BTreeMap<String, SecondFactorPolicy>,
    /// Whether Kerberos is enough.
    pub kerberos: KerberosTrust,
    /// What passkeys are good for.
    pub passkey: PasskeyUse,
    /// So long a browser is remembered that was told to be, since it was last used; zero: none is.
    pub remember: Duration,
    /// So long a reset by mail waits before it takes effect, so that whoever did not order it can still stop it.
    pub recovery_delay: Duration,
}

impl Default for SecondFactor {
    fn default() -> Self {
        Self {
            domains: BTreeMap::new(),
            kerberos: KerberosTrust::default(),
            passkey: PasskeyUse::default(),
            remember: REMEMBER,
            recovery_delay: Duration::ZERO,
        }
    }
}

/// Outgoing mail.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mail {
    /// The mail server's URL; `None`: no mail is sent.
    pub smtp: Option<String>,
    /// The sender's address.
    pub from: Option<String>,
    /// The file with the password for the mail server, where the URL names a user.
    pub password_file: Option<PathBuf>,
    /// The mail domain of each realm's users: their own mailboxes are `user@domain`. Of a realm that is not named none is known.
    pub domains: BTreeMap<String, String>,
}

/// TLS.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// Certificate chains, PEM, the default first; none: self-signed.
    pub certificate: Vec<PathBuf>,
    /// Their private keys, PEM, in the same order.
    pub key: Vec<PathBuf>,
    /// Where the explicit proxy is under TLS.
    pub proxy_listen: Vec<SocketAddr>,
}

impl Tls {
    /// Each certificate with its key.
    #[must_use]
    pub fn pairs(&self) -> Vec<Pair> {
        let pairs = self.certificate.iter().cloned().zip(self.key.iter().cloned());
        pairs.map(|(chain, key)| Pair { chain, key }).collect()
    }
}

/// Certificates by ACME.
#[derive(Clone, Debug, PartialEq)]
pub struct Acme {
    /// The directory's URL; `None`: off.
    pub directory: Option<String>,
    /// The names to have certified.
    pub domains: Vec<String>,
    /// The mail address for notices.
    pub contact: Option<String>,
    /// One more root to trust, PEM, for a private authority.
    pub root: Option<PathBuf>,
    /// Where challenges are answered; `None`: nowhere.
    pub http: Option<SocketAddr>,
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            directory: None,
            domains: Vec::new(),
            contact: None,
            root: None,
            http: Some(everywhere(ACME_HTTP_PORT)),
        }
    }
}

/// Where sessions are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Store {
    /// The URL of the table shared between gateways; `None`: each keeps its own.
    pub shared: Option<String>,
}

/// Metrics and health.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Where `/metrics`, `/live` and `/ready` are; `None`: nowhere.
    pub listen: Option<SocketAddr>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), METRICS_PORT)) }
    }
}
