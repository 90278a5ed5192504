//! The table of all keys. A new key is one entry here and one field in `types.rs`; everything else follows.

use std::marker::PhantomData;
use std::time::Duration;

use super::Change::{Live, Restart};
use super::{Field, Key};
use crate::config::codec::{Count, Flag, List, Map, Maybe, OneOf, OneOrMore, Ports, Switch};
use crate::config::span::Span;
use crate::config::text;
use crate::session::settings as core;

/// Tables and keys that are read and checked, but whose function the gateway does not have yet. Whoever builds the
/// function removes the line.
pub(super) const NOT_YET: &[&str] = &["acme", "store"];

const SECOND: Duration = Duration::from_secs(1);
const HOLD_MAX: Duration = Duration::from_secs(24 * 3600);
const REMEMBER_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
const REGULATION_MIN: Duration = Duration::from_secs(60);
const REGULATION_MAX: Duration = Duration::from_secs(24 * 3600);

const PORT: Count<u16> = Count { least: 1, most: u16::MAX, of: "port", example: 443 };

/// `NAME Live|Restart FIELD = KIND; HELP` for each key.
macro_rules! keys {
    ($($name:literal $change:ident $($field:ident).+ = $codec:expr; $help:literal)+) => {
        pub(super) static KEYS: &[Key] = &[$(Key {
            name: $name,
            change: $change,
            help: $help,
            place: &Field {
                codec: $codec,
                get: |config| &config.$($field).+,
                get_mut: |config| &mut config.$($field).+,
            },
        }),+];
    };
}

keys! {
    "state-dir" Restart state_dir = text::PATH;
    "Directory of the embedded database."
    "run-dir" Restart run_dir = text::PATH;
    "Directory of the admin socket, admin.sock."

    "proxy.listen" Restart proxy.listen =
        List { of: text::LISTEN, never_empty: Some("nobody could reach the proxy") };
    "Where clients connect to the proxy."
    "proxy.connect-ports" Live proxy.connect_ports = List { of: Ports, never_empty: None };
    "Ports that CONNECT may reach; any other is refused with 403."
    "proxy.forward-ports" Live proxy.forward_ports = List { of: Ports, never_empty: None };
    "Ports that plain requests (http://) may reach; any other is refused with 403."
    "proxy.allow-destinations" Live proxy.allow_destinations = List { of: text::DESTINATION, never_empty: None };
    "Destinations let through although the built-in deny list (loopback, link-local, metadata services, the gateway itself) names them."
    "proxy.basic" Live proxy.basic = OneOf(PhantomData);
    "Where passwords may be asked for: Basic authentication sends them in the clear."

    "proxy.max-connections" Live proxy.max_connections = Count { least: 0, most: u32::MAX, of: "connections", example: 10_000 };
    "How many connections clients may have in all; 0: as many as there are descriptors for, with a reserve."
    "proxy.max-connections-per-client" Live proxy.max_connections_per_client = Count { least: 1, most: u32::MAX, of: "connections", example: 1_000 };
    "How many connections one client address may have, though never more than half of all."
    "proxy.proxy-protocol" Live proxy.proxy_protocol = List { of: text::NETWORK, never_empty: None };
    "Balancers whose connections begin with a PROXY protocol header (version 1 or 2) that names the client; from others it is refused."

    "observer.mode" Restart observer.mode = OneOf(PhantomData);
    "How connections are watched: by eBPF, by the proxy's own eyes, or by the best that can be had."
    "observer.cgroup" Restart observer.cgroup = Maybe { none: "auto", some: text::PATH, means: "the mounted root" };
    "cgroup v2 directory that the programs are attached to: sockets outside of it are not seen."
    "observer.pin-dir" Restart observer.pin_dir = text::PATH;
    "Directory on the BPF file system where programs and records are pinned, so that they outlive the daemon."
    "observer.watch-ports" Restart observer.watch_ports = List { of: PORT, never_empty: None };
    "Ports of other proxies on this host, watched like the gateway's own."
    "observer.max-records" Restart observer.max_records = Count { least: 1, most: 10_000_000, of: "client addresses", example: 131_072 };
    "For how many client addresses with a session there is room; one that finds none cannot log in. Clients without a session take none of it."

    "timeouts.proxy-auth-timeout" Live timeouts.timeout =
        Span { least: core::TIMEOUT_MIN, least_in_seconds: core::TIMEOUT_MIN, most: core::TIMEOUT_MAX };
    "How long a session may be closed, silent or old, as the mode says, before the client must authenticate again."
    "timeouts.proxy-re-authentication-mode" Live timeouts.mode = OneOf(PhantomData);
    "Where the timeout counts from: the client's last connection closed, its last new data, or the session's creation."
    "timeouts.proxy-auth-lifetime" Live timeouts.lifetime_enabled = Switch;
    "Whether there is a cap over all modes."
    "timeouts.proxy-auth-lifetime-timeout" Live timeouts.lifetime_timeout =
        Span { least: core::LIFETIME_MIN, least_in_seconds: core::LIFETIME_MIN_IN_SECONDS, most: core::LIFETIME_MAX };
    "The cap, counted from the session's creation: then it ends, and even the same user proves again."
    "timeouts.traffic-direction" Live timeouts.traffic_direction = OneOf(PhantomData);
    "Whose data keeps a session alive in mode traffic."
    "timeouts.on-timeout" Live timeouts.on_timeout = OneOf(PhantomData);
    "What becomes of the open connections of a session whose timeout ran out."
    "timeouts.revalidate" Live timeouts.revalidate = OneOf(PhantomData);
    "When a client proves itself again inside the timeout: never, or on its first connection after its last was closed."
    "timeouts.device-change" Live timeouts.device_change = OneOf(PhantomData);
    "What happens when another hardware address shows up behind a client's address."
    "timeouts.shared-hosts" Live timeouts.shared_hosts = List { of: text::NETWORK, never_empty: None };
    "Addresses that many users share (terminal servers, NAT): each connection proves itself, and has a session of its own."

    "licences.max-users" Live licences.max_users = Count { least: 0, most: u32::MAX, of: "users", example: 50 };
    "How many users may be logged in at once; 0: unlimited."
    "licences.devices-per-user" Live licences.devices_per_user = Count { least: 1, most: u32::MAX, of: "addresses", example: 5 };
    "How many addresses one user has on one licence; one more takes another licence."
    "licences.guests" Live licences.guests = List { of: text::NETWORK, never_empty: None };
    "Addresses whose sessions take no licence."

    "kerberos.keytab" Restart kerberos.keytab =
        Maybe { none: "", some: text::KEYTAB, means: "KRB5_KTNAME or the system's" };
    "Keytab with the proxy's keys, HTTP/NAME@REALM."
    "kerberos.keep-domain" Live kerberos.keep_domain = Flag;
    "Whether the domain is part of a user's name."
    "kerberos.domains" Live kerberos.domains = Map { name: text::REALM, of: text::DOMAIN };
    "Short domain names of realms, as shown in user names."
    "kerberos.auth-to-local" Live kerberos.auth_to_local = Flag;
    "Whether the auth_to_local rules of krb5.conf make the user's part of the name; who has no rule is refused."
    "kerberos.machine-accounts" Live kerberos.machine_accounts = OneOf(PhantomData);
    "Whether computers' own accounts (names that end in $) are users, or are refused."
    "kerberos.channel-bindings" Live kerberos.channel_bindings = OneOf(PhantomData);
    "What tickets that come under TLS must say of the TLS connection: nothing, nothing wrong, or the right thing."

    "kerberos.conditions.disabled" Live kerberos.conditions.disabled = Flag;
    "Kerberos is never offered."
    "kerberos.conditions.debugging" Live kerberos.conditions.debugging = Flag;
    "Every decision is logged with its reasons, and every accepted ticket with all that it says."
    "kerberos.conditions.opt-out-cookie" Live kerberos.conditions.opt_out_cookie =
        Maybe { none: "", some: text::COOKIE, means: "no opting out" };
    "Cookie by which a browser opts out of Kerberos."
    "kerberos.conditions.ip-allow" Live kerberos.conditions.ip_allow = List { of: text::PATTERN, never_empty: None };
    "Clients that are offered Kerberos; empty: all."
    "kerberos.conditions.ip-deny" Live kerberos.conditions.ip_deny = List { of: text::PATTERN, never_empty: None };
    "Clients that are not offered Kerberos."
    "kerberos.conditions.spns" Live kerberos.conditions.spns = List { of: text::SPN, never_empty: None };
    "Names that clients must use for this host to be offered Kerberos; empty: any."
    "kerberos.conditions.url-deny" Live kerberos.conditions.url_deny = List { of: text::REGEX, never_empty: None };
    "Where Kerberos is not offered: matched against path and query."
    "kerberos.conditions.browsers" Live kerberos.conditions.browsers =
        List { of: text::USER_AGENT, never_empty: None };
    "Browsers that are offered Kerberos, in any case; empty: none."

    "regulation.max-retries" Live regulation.max_retries = Count { least: 0, most: 100, of: "wrong passwords", example: 3 };
    "How many wrong passwords one address may send for one name before it is banned from it for a while; one more bans the name everywhere, 5 times as many the address; 0: no bans."
    "regulation.find-time" Live regulation.find_time =
        Span { least: REGULATION_MIN, least_in_seconds: SECOND, most: REGULATION_MAX };
    "The time within which they are counted; longer than the directory counts, or others can lock accounts there."
    "regulation.ban-time" Live regulation.ban_time =
        Span { least: REGULATION_MIN, least_in_seconds: SECOND, most: REGULATION_MAX };
    "How long a ban lasts; longer where the tries still count by then."

    "portal.http" Restart portal.http = Maybe { none: "", some: text::LISTEN, means: "off" };
    "Where the web pages and the logout URL are, without TLS."
    "portal.https" Restart portal.https = Maybe { none: "", some: text::LISTEN, means: "off" };
    "The same under TLS."
    "portal.host" Live portal.host = Maybe { none: "", some: text::HOST_OR_ADDRESS, means: "the host name" };
    "Name of this host in redirects to the portal."
    "portal.trusted-proxies" Live portal.trusted_proxies = List { of: text::NETWORK, never_empty: None };
    "Reverse proxies whose X-Forwarded-For says for whom they ask; from others it is not looked at."
    "portal.logout-hold" Live portal.logout_hold =
        Span { least: Duration::ZERO, least_in_seconds: Duration::ZERO, most: HOLD_MAX };
    "For so long after a logout nobody is logged in from that address without typing a password."
    "portal.administrators" Live portal.administrators = List { of: text::USER, never_empty: None };
    "Users of realms who may administer the gateway: user@REALM or DOMAIN\\user."
    "portal.viewers" Live portal.viewers = List { of: text::USER, never_empty: None };
    "Users of realms who may look at what administrators see, and change nothing."
    "portal.gateways" Live portal.gateways = List { of: text::AUTHORITY, never_empty: None };
    "Further gateways in the PAC file: browsers try them in this order when this one does not answer."
    "portal.organisation" Live portal.organisation = Maybe { none: "", some: text::WORDS, means: "none" };
    "Whose gateway it is, as the pages say it."
    "portal.contact" Live portal.contact = Maybe { none: "", some: text::WORDS, means: "none" };
    "Whom people turn to who need help, as the pages say it."
    "portal.logo" Live portal.logo = Maybe { none: "", some: text::PATH, means: "none" };
    "A picture for the pages, SVG or PNG, of at most 64 KiB."
    "portal.colour" Live portal.colour = Maybe { none: "", some: text::COLOUR, means: "the gateway's own" };
    "Colour of buttons and links on the pages."
    "portal.languages" Restart portal.languages = Maybe { none: "", some: text::PATH, means: "English and German" };
    "Directory of further languages, one file each: LANGUAGE.toml."

    "second-factor.domains" Live second_factor.domains = Map { name: text::REALM, of: OneOf(PhantomData) };
    "Whose users are asked for a second factor, by domain; `local` is the local users' domain, one that is not named is off."
    "second-factor.kerberos" Live second_factor.kerberos = OneOf(PhantomData);
    "Whether a Kerberos login is enough, or is followed by the second factor."

    "second-factor.passkey" Live second_factor.passkey = OneOf(PhantomData);
    "What passkeys are good for: nothing, in place of a code, or alone, without a password."
    "second-factor.remember" Live second_factor.remember =
        Span { least: Duration::ZERO, least_in_seconds: Duration::ZERO, most: REMEMBER_MAX };
    "How long a browser is not asked for a factor again that its user told to be remembered, since it was last used; 0s: no longer than the login. Never an administrator's."
    "second-factor.recovery-delay" Live second_factor.recovery_delay =
        Span { least: Duration::ZERO, least_in_seconds: Duration::ZERO, most: HOLD_MAX };
    "How long a reset by mail waits before it takes effect: whoever did not order it can stop it meanwhile."

    "mail.smtp" Live mail.smtp = Maybe { none: "", some: text::SMTP, means: "no mail is sent" };
    "Mail server."
    "mail.from" Live mail.from = Maybe { none: "", some: text::MAIL_ADDRESS, means: "none" };
    "Sender of the gateway's mail."
    "mail.password-file" Live mail.password_file = Maybe { none: "", some: text::PATH, means: "none" };
    "File with the password of the user whom mail.smtp names."
    "mail.domains" Live mail.domains = Map { name: text::REALM, of: text::MAIL_DOMAIN };
    "Mail domains of realms, `local` for the local users: who is called user there has the mailbox user@domain, is told there of what is done to their second factor, and needs another one for recovery."

    "tls.certificate" Live tls.certificate = OneOrMore { of: text::PATH, means: "self-signed, made at first start" };
    "Certificate chain, PEM; of several, clients get the one for the host that they name (SNI), else the first. Read again when it changes."
    "tls.key" Live tls.key = OneOrMore { of: text::PATH, means: "self-signed" };
    "Its private key, PEM; of several certificates, in the same order."
    "tls.proxy-listen" Restart tls.proxy_listen = List { of: text::LISTEN, never_empty: None };
    "Where the explicit proxy is under TLS."

    "acme.directory" Restart acme.directory = Maybe { none: "", some: text::DIRECTORY, means: "off" };
    "Certificate authority: its ACME directory."
    "acme.domains" Restart acme.domains = List { of: text::HOST, never_empty: None };
    "Names to have certified."
    "acme.contact" Restart acme.contact = Maybe { none: "", some: text::MAIL_ADDRESS, means: "none" };
    "Address that the authority writes to."
    "acme.root" Restart acme.root = Maybe { none: "", some: text::PATH, means: "the system's roots" };
    "Extra root of a private authority, PEM."
    "acme.http" Restart acme.http = Maybe { none: "", some: text::LISTEN, means: "off" };
    "Where challenges are answered; the authority comes to port 80. All else is redirected to the portal."

    "store.shared" Restart store.shared = Maybe { none: "", some: text::REDIS, means: "each gateway on its own" };
    "Table of sessions shared by several gateways."

    "metrics.listen" Restart metrics.listen = Maybe { none: "", some: text::LISTEN, means: "off" };
    "Where /metrics, /live and /ready are."
}
