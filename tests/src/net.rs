//! The lab's network.
//!
//! ```text
//!  client 1  10.77.0.11  fd77::11 --+
//!  client 2  10.77.0.12  fd77::12 --+-- br0 10.77.0.1 fd77::1 [gateway] 10.78.0.1 fd78::1 -- [origin] 10.78.0.2 fd78::2
//!  ...                            --+
//! ```
//!
//! Nothing is forwarded: clients reach the origin only through the proxy. Every lab has its own namespaces, so the
//! addresses are always the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::ns::Ns;
use crate::scratch::Scratch;
use crate::wait;

/// The gateway, as clients see it.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The gateway by IPv6.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// The origin.
pub const ORIGIN_V4: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
/// The origin by IPv6.
pub const ORIGIN_V6: Ipv6Addr = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, 2);

/// How long the gateway may take to believe what is said by ARP.
const BELIEVED: Duration = Duration::from_secs(5);

/// What everyone in the lab finds in `/etc/hosts`.
const HOSTS: &str = "\
127.0.0.1 localhost
::1 localhost ip6-localhost
10.77.0.1 proxy.example.test
fd77::1 proxy6.example.test
10.77.0.1 kdc.example.test
10.78.0.2 origin.example.test
10.78.0.2 second.example.test
fd78::2 origin6.example.test
# Packets to it vanish: connecting to it times out.
10.78.0.99 blackhole.example.test
# Names of destinations that the proxy must refuse.
127.0.0.1 loopback.example.test
127.0.0.1 allowed.example.test
169.254.169.254 metadata.example.test
# One good address and one bad.
10.78.0.2 mixed.example.test
127.0.0.1 mixed.example.test
";

/// No name server: unknown names fail at once.
const RESOLV: &str = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";

/// A client host.
#[derive(Debug)]
pub struct Host {
    /// Its namespace.
    pub ns: Ns,
    /// Its address now.
    pub v4: Ipv4Addr,
    /// Its IPv6 address now.
    pub v6: Ipv6Addr,
    /// The gateway's end of its cable.
    port: String,
}

/// Gateway, origin and clients, connected.
#[derive(Debug)]
pub struct Net {
    /// The host that `trackerd` and the KDC run on.
    pub gateway: Ns,
    /// The host of the web server.
    pub origin: Ns,
    /// The client hosts, the first is number 0.
    pub clients: Vec<Host>,
    scratch: Scratch,
}

impl Net {
    /// Builds the network with this many clients.
    ///
    /// # Errors
    /// Without root.
    pub fn new(scratch: &Scratch, clients: usize) -> Result<Self> {
        let hosts = scratch.write("hosts", HOSTS)?;
        let resolv = scratch.write("resolv.conf", RESOLV)?;
        let gateway = Ns::new(scratch, "gateway", &hosts, &resolv)?;
        let origin = Ns::new(scratch, "origin", &hosts, &resolv)?;
        gateway.ip(&format!(
            "link add br0 type bridge mcast_snooping 0
             addr add {GATEWAY_V4}/24 dev br0
             addr add {GATEWAY_V6}/64 dev br0 nodad
             link set br0 up
             link add up0 type veth peer name eth0 netns {}
             addr add 10.78.0.1/24 dev up0
             addr add fd78::1/64 dev up0 nodad
             link set up0 up
             neigh add 10.78.0.99 lladdr 02:00:00:00:00:99 dev up0 nud permanent",
            origin.pid()
        ))?;
        // A new host on an old address is believed at once, as most routers do.
        gateway
            .inside(|| std::fs::write("/proc/sys/net/ipv4/neigh/br0/locktime", "0"))
            .context("cannot set locktime")?;
        origin.ip(&format!(
            "addr add {ORIGIN_V4}/24 dev eth0
             addr add {ORIGIN_V6}/64 dev eth0 nodad
             link set eth0 up"
        ))?;
        let mut net = Self { gateway, origin, clients: Vec::new(), scratch: scratch.clone() };
        for _ in 0..clients {
            net.add_client()?;
        }
        Ok(net)
    }

    /// Plugs in one more client and returns its number.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_client(&mut self) -> Result<usize> {
        let number = self.clients.len();
        let last = u8::try_from(number + 11).context("too many clients")?;
        let v4 = Ipv4Addr::new(10, 77, 0, last);
        // Written as decimal digits, so that both addresses look alike.
        let v6: Ipv6Addr = format!("fd77::{last}").parse()?;
        let name = format!("client{}", number + 1);
        let ns = Ns::new(&self.scratch, &name, &self.hosts(), &self.scratch.join("resolv.conf"))?;
        let port = format!("c{}", number + 1);
        self.gateway.ip(&format!(
            "link add {port} type veth peer name eth0 netns {}
             link set {port} master br0 up",
            ns.pid()
        ))?;
        ns.ip(&format!(
            "addr add {v4}/24 dev eth0
             addr add {v6}/64 dev eth0 nodad
             link set eth0 up"
        ))?;
        self.clients.push(Host { ns, v4, v6, port });
        Ok(number)
    }

    /// The second client takes over the addresses of the first, who is cut off: another machine, the same addresses.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn take_over(&mut self, victim: usize, taker: usize) -> Result<()> {
        self.cable(victim, false)?;
        let (v4, v6) = {
            let victim = self.clients.get(victim).context("no such client")?;
            (victim.v4, victim.v6)
        };
        let taker = self.clients.get_mut(taker).context("no such client")?;
        taker.ns.ip(&format!(
            "addr del {}/24 dev eth0
             addr del {}/64 dev eth0
             addr add {v4}/24 dev eth0
             addr add {v6}/64 dev eth0 nodad",
            taker.v4, taker.v6
        ))?;
        (taker.v4, taker.v6) = (v4, v6);
        Ok(())
    }

    /// The hardware address of a client.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn device(&self, client: usize) -> Result<String> {
        let shown = self
            .clients
            .get(client)
            .context("no such client")?
            .ns
            .run(&["ip", "-o", "link", "show", "eth0"])?;
        let mut words = shown.split_whitespace().skip_while(|word| *word != "link/ether").skip(1);
        Ok(words.next().context("eth0 has no hardware address")?.to_owned())
    }

    /// A client says, by ARP or NDP, that these addresses are at that hardware address; and the gateway believes it. Then
    /// the client is itself again.
    ///
    /// # Errors
    /// When there is no such client, or it is not believed.
    pub fn claim(&self, client: usize, addresses: &[IpAddr], device: &str) -> Result<()> {
        let own = self.device(client)?;
        let ns = &self.clients.get(client).context("no such client")?.ns;
        ns.ip(&format!("link set eth0 address {device}"))?;
        for address in addresses {
            let (length, flags, gateway) = match address {
                IpAddr::V4(_) => (24, "", IpAddr::from(GATEWAY_V4)),
                IpAddr::V6(_) => (64, "nodad", IpAddr::from(GATEWAY_V6)),
            };
            ns.ip(&format!("addr add {address}/{length} dev eth0 {flags}"))?;
            // Whoever wants to send asks for the gateway's hardware address, and says who asks.
            ns.inside(|| UdpSocket::bind((*address, 0))?.send_to(b"x", (gateway, 9)).map(drop))
                .with_context(|| format!("{address} cannot send"))?;
            let shown = address.to_string();
            wait::until("the gateway to believe it", BELIEVED, || {
                let there = self.gateway.run(&["ip", "neigh", "show", &shown, "dev", "br0"]).ok()?;
                there.contains(device).then_some(())
            })?;
            ns.ip(&format!("addr del {address}/{length} dev eth0\nneigh flush dev eth0"))?;
        }
        ns.ip(&format!("link set eth0 address {own}"))
    }

    /// Plugs a client's cable in or pulls it out, at the gateway's end.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn cable(&self, client: usize, plugged: bool) -> Result<()> {
        let port = &self.clients.get(client).context("no such client")?.port;
        self.gateway.ip(&format!("link set {port} {}", if plugged { "up" } else { "down" }))
    }

    /// Gives a client a whole /64 of addresses, `fd77:0:0:1::1` and on, to connect from; returns the first 64 bits.
    ///
    /// # Errors
    /// When there is no such client.
    pub fn many_addresses(&self, client: usize) -> Result<[u16; 4]> {
        let host = self.clients.get(client).context("no such client")?;
        host.ns.ip("route add local fd77:0:0:1::/64 dev lo")?;
        host.ns.inside(|| std::fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1"))?;
        self.gateway.ip(&format!("route add fd77:0:0:1::/64 via {}", host.v6))?;
        Ok([0xfd77, 0, 0, 1])
    }

    /// Adds a line to everyone's `/etc/hosts`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add_name(&self, address: IpAddr, name: &str) -> Result<()> {
        // In place: the namespaces have this very file mounted.
        let old = std::fs::read_to_string(self.hosts())?;
        std::fs::write(self.hosts(), format!("{old}{address} {name}\n"))?;
        Ok(())
    }

    fn hosts(&self) -> std::path::PathBuf {
        self.scratch.join("hosts")
    }
}

/// True if this machine has a cgroup v2 and a mounted bpffs, which the kernel side needs.
#[must_use]
pub fn has_kernel_side() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(2) == Some("cgroup2"))
        && mounts
            .lines()
            .any(|line| line.split(' ').nth(2) == Some("bpf") && Path::new("/sys/fs/bpf").is_dir())
}
