//! What several tests need.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::answers::{Event, Session, list};
use lab::gateway::PROXY_PORT;
use lab::raw::Raw;
use lab::wait::until;

/// The origin's front page.
pub(crate) const ORIGIN: &str = "http://origin.example.test/";
/// How long something may take that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// The short timeout that most tests use.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than that timeout, by more than a loaded machine is late.
pub(crate) const PAST_TIMEOUT: Duration = Duration::from_millis(3_500);

/// Settings: this mode and the short timeout.
pub(crate) fn mode(mode: &str) -> String {
    format!("[timeouts]\nproxy-auth-timeout = \"2s\"\nproxy-re-authentication-mode = \"{mode}\"\n")
}

/// A URL on the origin.
pub(crate) fn url(path: &str) -> String {
    format!("{ORIGIN}{}", path.trim_start_matches('/'))
}

/// A page without what is different each time it is shown: its footer has time and number.
pub(crate) fn lasting(page: &str) -> String {
    let (before, rest) = page.split_once("<footer>").unwrap_or((page, ""));
    let after = rest.split_once("</footer>").map_or("", |(_, after)| after);
    format!("{before}{after}")
}

/// The session of a client, which must be there.
pub(crate) fn session(lab: &Lab, client: usize) -> Result<Session> {
    let found = lab.gateway.session(&lab.address(client))?;
    found.ok_or_else(|| anyhow::anyhow!("client {client} has no session\n{}", lab.gateway.log()))
}

/// True if a request without credentials is served: a valid session is there.
pub(crate) fn is_let_through(lab: &Lab, client: usize) -> bool {
    status_without_credentials(lab, client) == 200
}

/// The status of a request without credentials.
pub(crate) fn status_without_credentials(lab: &Lab, client: usize) -> u16 {
    lab.curl(client).get(ORIGIN).map_or(0, |reply| reply.code)
}

/// Waits until the session of a client is stale.
pub(crate) fn becomes_stale(lab: &Lab, client: usize) -> Result<Session> {
    until("the session to be stale", TIMEOUT + SOON, || {
        session(lab, client).ok().filter(|s| s.state == "stale")
    })
}

/// The number of connections of a client that are open, as recorded.
pub(crate) fn open_connections(lab: &Lab, client: usize) -> Option<u64> {
    lab.gateway.host(&lab.address(client)).ok().flatten().map(|host| host.open_connections)
}

/// Waits until this many are open.
pub(crate) fn has_open(lab: &Lab, client: usize, count: u64) -> Result<()> {
    until(&format!("{count} open connections"), SOON, || {
        (open_connections(lab, client)? == count).then_some(())
    })
}

/// True if the audit trail has an end with this reason for this client.
pub(crate) fn has_ended(lab: &Lab, client: usize, reason: &str) -> bool {
    let events = lab.gateway.events().unwrap_or_default();
    events.iter().any(|event| event.client == lab.address(client) && event.reason == reason)
}

/// How many requests of a client are in the access log; waits for the first.
pub(crate) fn requests(lab: &Lab, client: usize) -> Result<usize> {
    let of_client = format!(" access: client={} ", lab.address(client));
    until("the client's requests in the access log", SOON, || {
        let log = lab.gateway.log();
        Some(log.lines().filter(|line| line.contains(&of_client)).count()).filter(|count| *count > 0)
    })
}

/// Waits for a line of the log that has all of these words: the answer that a client has may be ahead of its line, which a
/// thread of its own writes.
pub(crate) fn logged(lab: &Lab, words: &[&str]) -> Result<String> {
    until(&format!("a line of the log with {words:?}"), SOON, || {
        let log = lab.gateway.log();
        log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
    })
    .with_context(|| lab.gateway.log())
}

/// Waits for a refusal of this client's in the audit trail whose reason has all of these words, in any case.
pub(crate) fn is_refused_for(lab: &Lab, client: usize, words: &[&str]) -> Result<()> {
    let fits = |reason: &str| words.iter().all(|word| reason.contains(&word.to_lowercase()));
    let is_told = || {
        let events = lab.gateway.events().ok()?;
        let refused = |event: &&Event| event.kind == "refused" && event.client == lab.address(client);
        events.iter().filter(refused).any(|event| fits(&event.reason.to_lowercase())).then_some(())
    };
    until(&format!("a refusal that names {words:?}"), SOON, is_told)
        .with_context(|| format!("the audit trail:\n{:#?}", lab.gateway.events()))
}

/// Checks that a page has nothing on it that is meant for the operator: no key of the configuration, no path, no command of
/// theirs. What the operator is told stands in the audit trail and the log.
pub(crate) fn is_for_people(lab: &Lab, page: &str) -> Result<()> {
    let body = page.split_once("<body>").map_or(page, |(_, body)| body);
    // As it is shown: a tag ends a word.
    let shown: Vec<&str> =
        body.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text)).collect();
    let shown = shown.join(" ");
    let settings = lab.gateway.ask(&["get"])?;
    let settings = list(&settings, "settings");
    ensure!(settings.len() > 20, "{settings:#?}");
    for key in settings.iter().filter_map(|setting| setting["key"].as_str()) {
        let short = key.rsplit('.').next().unwrap_or(key);
        for name in [key, short].into_iter().filter(|name| name.contains(['.', '-'])) {
            ensure!(!shown.contains(name), "the key {name} is on a page: {shown}");
        }
    }
    for tool in ["trackerctl", "trackerd", "systemctl", "setspn", "ktadd", "keytab", "krb5.conf", "os error"]
    {
        ensure!(!shown.contains(tool), "{tool} is on a page: {shown}");
    }
    let is_path = |word: &str| word.trim_start_matches(['(', '"', '\'']).starts_with('/');
    ensure!(!shown.split_whitespace().any(is_path), "a path is on a page: {shown}");
    Ok(())
}

/// The gateway's link-local address on each cable of [`lay_cable`].
const LINK_LOCAL_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xa);
/// And the client's, the same on all.
pub(crate) const LINK_LOCAL_CLIENT: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xb);

/// Gives a client a cable of its own to the gateway, whose ends are called `link` with the client's number.
pub(crate) fn lay_cable(lab: &Lab, client: usize) -> Result<()> {
    let (link, ns) = (format!("link{client}"), &lab.net.clients[client].ns);
    lab.net.gateway.ip(&format!(
        "link add {link} type veth peer name {link} netns {}
         link set {link} addrgenmode none
         addr add {LINK_LOCAL_GATEWAY}/64 dev {link} nodad
         link set {link} up",
        ns.pid()
    ))?;
    // Only this address, none that its hardware address gives it.
    ns.ip(&format!(
        "link set {link} addrgenmode none
         addr add {LINK_LOCAL_CLIENT}/64 dev {link} nodad
         link set {link} up"
    ))
}

/// A connection of a client by its own cable.
pub(crate) fn raw_by_cable(lab: &Lab, client: usize) -> Result<Raw> {
    let ns = &lab.net.clients[client].ns;
    // `ip` asks the kernel; `/sys` would be this machine's own.
    let told = ns.run(&["ip", "-o", "link", "show", &format!("link{client}")])?;
    let index = told.split(':').next().context("ip shows no number")?.parse()?;
    Raw::connect(ns, SocketAddr::V6(SocketAddrV6::new(LINK_LOCAL_GATEWAY, PROXY_PORT, 0, index)))
}
