//! Our own gateway on the rig: with everything on, and without one thing at a time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::client::Curl;
use lab::gateway::{Gateway, PORTAL_PORT, PORTAL_TLS_PORT};
use lab::ns::Ns;
use lab::origin::ECHO_PORT;
use lab::raw::Raw;
use lab::scratch::Scratch;
use lab::wait::until;

use super::place::PROXY_CORE;
use super::{FAR_END, ORIGIN, PATIENCE, Rig, Runs, Subject, Way};

/// How a gateway differs from the one with everything on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Variant<'a> {
    /// More settings, each laid over those before it.
    pub(crate) settings: &'a [&'a str],
    /// `TRACKER_LOG`, if it is not the default.
    pub(crate) log: Option<&'a str>,
    /// No metrics.
    pub(crate) unmeasured: bool,
    /// Words before the program, after those that put it in its place.
    pub(crate) under: &'a [&'a str],
    /// What is said of it.
    pub(crate) note: &'a str,
}

/// A running gateway.
pub(crate) struct Tracker {
    /// The lab's handle. Dropped first.
    pub(crate) gateway: Gateway,
    /// Its directory, with configuration and log.
    pub(crate) scratch: Scratch,
    metrics: Option<SocketAddr>,
    port: u16,
}

/// The first of our gateways listens here, further ones count up; their metrics ports lie as far above the usual one. So do the
/// ports of their web pages, from the usual ones in steps of two.
const FIRST_PORT: u16 = 3200;
const METRICS_ABOVE: u16 = 6_000;

impl Rig {
    /// Starts a gateway, number `number` of this run.
    ///
    /// It runs on one core from its beginning, so that it makes as many threads as it would on a machine that has one.
    pub(crate) fn tracker(&self, name: &str, number: u16, variant: &Variant<'_>) -> Result<Subject> {
        let port = FIRST_PORT + number;
        let group = self.cgroups.group(name)?;
        let scratch = Scratch::new()?;
        let lab = &self.lab;
        let mut gateway = Gateway::new(&scratch, &lab.net.gateway, &lab.realm, &lab.keytab, &self.bin)?;
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, port + METRICS_ABOVE));
        let listen = if variant.unmeasured { String::new() } else { metrics.to_string() };
        let ports = [ORIGIN.port(), FAR_END.port(), ECHO_PORT];
        let (pages, secure) = (PORTAL_PORT + 2 * number, PORTAL_TLS_PORT + 2 * number);
        gateway.configure(&format!(
            "[proxy]\nlisten = [\"0.0.0.0:{port}\", \"[fd77::1]:{port}\"]\nconnect-ports = {ports:?}\n\
             max-connections-per-client = 1000000\n[portal]\nhttp = \"[::]:{pages}\"\nhttps = \"[::]:{secure}\"\n[metrics]\nlisten = \"{listen}\"\n[observer]\ncgroup = \"{}\"\n[timeouts]\nproxy-auth-timeout = \"8h\"\n",
            group.path.display()
        ))?;
        for settings in variant.settings {
            gateway.configure(settings)?;
        }
        let log = variant.log.map(|filter| format!("TRACKER_LOG={filter}"));
        let mut words = group.enter(PROXY_CORE);
        words.extend(["env".into()].into_iter().chain(log.map(Into::into)));
        words.extend(variant.under.iter().map(Into::into));
        gateway.run_under(words);
        gateway.start_unready()?;
        let metrics = (!variant.unmeasured).then_some(metrics);
        let tracker = Tracker { gateway, scratch, metrics, port };
        tracker.ready(self).with_context(|| format!("log of {name}:\n{}", tracker.gateway.log()))?;
        let runs = Runs::Tracker(Box::new(tracker));
        let note = variant.note.to_owned();
        Ok(Subject { name: name.to_owned(), note, port, way: Way::Proxy, group: Some(group), runs })
    }

    /// The gateway with everything on, and the lab's first client logged in.
    pub(crate) fn everything_on(&self, number: u16) -> Result<Subject> {
        let note = "session (Kerberos), kernel observer, access log to a file, metrics scraped once a second";
        let subject = self.tracker("trackerd", number, &Variant { note, ..Variant::default() })?;
        subject.tracker()?.login(self, 0, "alice")?;
        Ok(subject)
    }
}

impl Tracker {
    fn ready(&self, rig: &Rig) -> Result<()> {
        rig.listens(self.port)?;
        // Under valgrind everything takes its time.
        until("trackerctl status", PATIENCE * 3, || {
            self.gateway.ctl(&["status"]).ok().filter(|answer| answer.exit == 0)
        })
        .map(drop)
    }

    /// Logs a user in from one of the lab's clients.
    pub(crate) fn login(&self, rig: &Rig, client: usize, user: &str) -> Result<()> {
        let lab = &rig.lab;
        let host = lab.net.clients.get(client).context("no such client")?;
        let proxy = format!("http://{}:{}", lab::PROXY_NAME, self.port);
        let curl = Curl::new(&host.ns, &self.scratch, &lab.realm, &proxy).tickets(&lab.tickets(user)?);
        let reply = curl.limit(Duration::from_secs(60)).get("http://origin.example.test/")?;
        ensure!(reply.code == 200, "{user} cannot log in: {reply:?}\n{}", self.gateway.log());
        Ok(())
    }

    /// Where its metrics are read, if they are on.
    pub(crate) fn metrics(&self, rig: &Rig) -> Option<Metrics> {
        Some(Metrics { ns: rig.lab.net.gateway.clone(), address: self.metrics? })
    }
}

/// The metrics of one gateway.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    ns: Ns,
    address: SocketAddr,
}

impl Metrics {
    /// All of them as text.
    pub(crate) fn read(&self) -> Result<String> {
        let mut raw = Raw::connect(&self.ns, self.address)?;
        raw.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let (head, body) = raw.answer()?;
        ensure!(head.code == 200, "/metrics answered {}", head.code);
        Ok(String::from_utf8(body)?)
    }
}
