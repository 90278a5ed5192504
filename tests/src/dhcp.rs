//! Addresses from a real DHCP server (dnsmasq) to real DHCP clients (udhcpc).

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;

use crate::net::{Host, Net};
use crate::scratch::{Process, Scratch};
use crate::wait::until;

/// The only address that is given away: whoever asks next gets what the last one gave back.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 200);
/// How long a lease may take, and a release.
const PATIENCE: Duration = Duration::from_secs(15);

/// What udhcpc calls when something changes.
const SCRIPT: &str = r#"#!/bin/sh
case "$1" in
deconfig) ip -4 addr flush dev "$interface" ;;
bound | renew) ip -4 addr flush dev "$interface" && ip addr add "$ip/24" dev "$interface" ;;
esac
"#;

/// The server; it ends on drop.
#[derive(Debug)]
pub struct Dhcp {
    scratch: Scratch,
    script: PathBuf,
    leases: PathBuf,
    _server: Process,
}

/// A client that holds an address; it is killed on drop, without giving it back.
#[derive(Debug)]
pub struct Lease {
    process: Process,
}

impl Dhcp {
    /// Starts the server on the gateway, with leases of two minutes.
    ///
    /// # Errors
    /// Where dnsmasq is not installed.
    pub fn start(scratch: &Scratch, net: &Net) -> Result<Self> {
        let leases = scratch.write("dhcp.leases", "")?;
        let script = scratch.write("udhcpc.sh", SCRIPT)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        let log = fs::File::create(scratch.join("dnsmasq.log"))?;
        let mut command = net.gateway.command("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--pid-file="]);
        command.args(["--user=root", "--log-facility=-", "--log-dhcp", "--no-ping", "--dhcp-authoritative"]);
        command.args(["--interface=br0", "--bind-interfaces"]);
        command.arg(format!("--dhcp-range={ADDRESS},{ADDRESS},255.255.255.0,2m"));
        command.arg(format!("--dhcp-leasefile={}", leases.display()));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let server = scratch.spawn(&mut command).context("is dnsmasq-base installed?")?;
        Ok(Self { scratch: scratch.clone(), script, leases, _server: server })
    }

    /// Gets the address for a client; its fixed one is gone.
    ///
    /// # Errors
    /// When the server does not give it.
    pub fn lease(&self, host: &mut Host) -> Result<Lease> {
        let log = fs::File::create(self.scratch.unused("udhcpc.log"))?;
        let mut command = host.ns.command("udhcpc");
        command.args(["-f", "-i", "eth0", "-t", "20", "-T", "1", "-s"]).arg(&self.script);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = self.scratch.spawn(&mut command).context("is udhcpc installed?")?;
        let address = ADDRESS.to_string();
        until("an address by DHCP", PATIENCE, || {
            let shown = host.ns.run(&["ip", "-4", "addr", "show", "dev", "eth0"]).ok()?;
            shown.contains(&address).then_some(())
        })?;
        host.v4 = ADDRESS;
        Ok(Lease { process })
    }

    /// Gives the address back.
    ///
    /// # Errors
    /// When the server still has it down as given away.
    pub fn release(&self, mut lease: Lease) -> Result<()> {
        lease.process.signal(Signal::SIGUSR2)?;
        let address = ADDRESS.to_string();
        until("the address to be given back", PATIENCE, || {
            (!fs::read_to_string(&self.leases).ok()?.contains(&address)).then_some(())
        })?;
        lease.process.kill();
        Ok(())
    }
}
