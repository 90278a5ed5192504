//! The addresses that the daemon listens on: held by it, free, or held by somebody else.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use super::{Check, is_root};
use crate::admin::wire::Status;
use crate::config::{Config, Listen};

const PORT: &str = "port";

/// Who holds an address.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Holder {
    /// This process.
    Process { pid: u32, name: String },
    /// One that cannot be seen from here.
    Unknown,
}

/// Looks at each address that this version listens on.
pub(super) fn checks(config: &Config, status: Option<&Status>) -> Vec<Check> {
    let mut wanted = config.listeners();
    // Port 0 is whichever is free.
    wanted.retain(|listen| listen.address.port() != 0 && listen.is_in_effect());
    let check = |Listen { key, address, .. }: &Listen| {
        let bound = TcpListener::bind(*address).map(drop);
        let taken = bound.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
        let holder = if taken { holder(*address) } else { None };
        judge(key, *address, &bound, holder.as_ref(), status)
    };
    wanted.iter().map(check).collect()
}

fn judge(
    key: &str,
    address: SocketAddr,
    bound: &io::Result<()>,
    holder: Option<&Holder>,
    status: Option<&Status>,
) -> Check {
    let finding = |what: &str| format!("{address} ({key}) {what}");
    let ours = match (holder, status) {
        (Some(Holder::Process { pid, .. }), Some(status)) => *pid == status.pid,
        (_, Some(status)) => status.listen.iter().any(|listen| *listen == address.to_string()),
        (_, None) => false,
    };
    let error = match bound {
        Ok(()) if status.is_some() => {
            return Check::failed(
                PORT,
                finding("is not listened on, although trackerd runs"),
                "restart trackerd: listening addresses are taken at start only",
            );
        }
        Ok(()) => return Check::ok(PORT, finding("is free")),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse if ours => Check::ok(PORT, finding("is trackerd's")),
        io::ErrorKind::AddrInUse if holder.is_none_or(|holder| *holder == Holder::Unknown) && !is_root() => {
            Check::skipped(PORT, finding("is held; run trackerctl as root to see by whom"))
        }
        io::ErrorKind::AddrInUse => {
            let by = match holder {
                Some(Holder::Process { pid, name }) => format!("is held by {name}, process {pid}"),
                Some(Holder::Unknown) | None => "is held by another process".to_owned(),
            };
            Check::failed(PORT, finding(&by), format!("stop that one (ss -ltnp shows it), or change {key}"))
        }
        io::ErrorKind::AddrNotAvailable => Check::failed(
            PORT,
            finding("cannot be listened on: no interface of this host has the address"),
            format!("correct {key}, or give an interface the address before trackerd starts"),
        ),
        io::ErrorKind::PermissionDenied => Check::skipped(
            PORT,
            finding("could not be tried: ports below 1024 want root or CAP_NET_BIND_SERVICE"),
        ),
        _ => {
            Check::failed(PORT, finding(&format!("cannot be listened on: {error}")), format!("correct {key}"))
        }
    }
}

/// Who listens on an address, or on all addresses with its port.
fn holder(address: SocketAddr) -> Option<Holder> {
    let sockets: Vec<u64> = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .into_iter()
        .flat_map(|path| listeners(&std::fs::read_to_string(path).unwrap_or_default()))
        .filter(|(listens, _)| {
            listens.port() == address.port()
                && (listens.ip() == address.ip()
                    || listens.ip().is_unspecified()
                    || address.ip().is_unspecified())
        })
        .map(|(_, inode)| inode)
        .collect();
    (!sockets.is_empty()).then(|| process_of(&sockets).unwrap_or(Holder::Unknown))
}

/// The listening sockets of `/proc/net/tcp` or `tcp6`, with their inodes.
fn listeners(table: &str) -> Vec<(SocketAddr, u64)> {
    const LISTEN: &str = "0A";
    let line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (address, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (*state == LISTEN).then_some(())?;
        Some((SocketAddr::new(kernel_address(address)?, port), inode.parse().ok()?))
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// An address as the kernel prints it: words of 32 bits, each in hexadecimal as the machine holds it.
fn kernel_address(text: &str) -> Option<IpAddr> {
    let words: Option<Vec<u32>> =
        (0..text.len() / 8).map(|at| u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok()).collect();
    let bytes: Vec<u8> = words?.into_iter().flat_map(u32::to_ne_bytes).collect();
    if let Ok(v4) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(bytes.as_slice()).ok().map(|v6| Ipv6Addr::from(v6).into())
}

/// The process that holds one of the sockets.
fn process_of(inodes: &[u64]) -> Option<Holder> {
    let wanted: BTreeMap<String, ()> = inodes.iter().map(|inode| (format!("socket:[{inode}]"), ())).collect();
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let holds = descriptors.flatten().any(|descriptor| {
            let target = std::fs::read_link(descriptor.path()).ok();
            target.and_then(|target| target.to_str().map(|name| wanted.contains_key(name))).unwrap_or(false)
        });
        if holds {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(Holder::Process { pid, name: name.trim_end().to_owned() });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn who_listens_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            let Some(Holder::Process { pid, .. }) = holder(address) else {
                panic!("{address} has no holder")
            };
            assert_eq!(pid, std::process::id());
            let bound = TcpListener::bind(address).map(drop);
            let check = judge("proxy.listen", address, &bound, holder(address).as_ref(), None);
            assert_eq!(check.state, State::Failed);
            assert!(check.finding.contains(&format!("process {pid}")), "{check:?}");
            drop(listener);
            assert_eq!(holder(address), None);
            assert_eq!(judge("proxy.listen", address, &Ok(()), None, None).state, State::Ok);
        }
    }

    #[test]
    fn an_address_of_nobody_and_a_port_of_root_are_told_apart() {
        let judged = |kind: io::ErrorKind| {
            judge("metrics.listen", "192.0.2.1:80".parse().unwrap(), &Err(kind.into()), None, None)
        };
        assert_eq!(judged(io::ErrorKind::AddrNotAvailable).state, State::Failed);
        assert_eq!(judged(io::ErrorKind::PermissionDenied).state, State::Skipped);
    }

    #[test]
    fn only_what_this_version_listens_on_is_looked_at() {
        let mut config = Config::default();
        config.metrics.listen = Some("127.0.0.1:0".parse().unwrap());
        let found = checks(&config, None);
        let expected = config.listeners().into_iter().filter(Listen::is_in_effect).count() - 1;
        assert_eq!(found.len(), expected, "{found:?}");
    }
}
