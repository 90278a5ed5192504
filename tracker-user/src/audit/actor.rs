//! Who did something to the gateway: an operator on the admin socket, or whoever wrote the configuration file.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::types::{ClientAddr, Identity};

/// Which way an order came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Via {
    /// The admin socket.
    Socket,
    /// The configuration file was saved.
    File,
    /// SIGHUP.
    Signal,
    /// The gateway itself, at its first start.
    Start,
    /// The web pages.
    Portal,
    /// A program on the gateway's host, while the daemon was not running.
    Offline,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The account's name; absent where the account has none, or is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The account's number, as the kernel tells it; absent where nobody can know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The address that it came from; absent where it came from this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// How the order came.
    pub via: Via,
}

impl Actor {
    /// Whoever it was that the order came from on this way: nobody can know.
    #[must_use]
    pub const fn unknown(via: Via) -> Self {
        Self { user: None, uid: None, pid: None, client: None, via }
    }

    /// The account at the other end of the admin socket. Blocks: it asks the host's name service.
    #[must_use]
    pub fn on_socket(uid: u32, pid: Option<i32>) -> Self {
        Self::of_account(uid, pid, Via::Socket)
    }

    /// The account of this very process, which does it while the daemon does not run. Blocks likewise.
    #[must_use]
    pub fn offline() -> Self {
        let pid = i32::try_from(std::process::id()).ok();
        Self::of_account(nix::unistd::getuid().as_raw(), pid, Via::Offline)
    }

    fn of_account(uid: u32, pid: Option<i32>, via: Via) -> Self {
        let user = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
        Self { user, uid: Some(uid), pid, client: None, via }
    }

    /// Somebody who is logged in to the web pages, from this address.
    #[must_use]
    pub fn on_portal(identity: &Identity, client: ClientAddr) -> Self {
        let (user, client) = (Some(identity.to_string()), Some(client.ip()));
        Self { user, uid: None, pid: None, client, via: Via::Portal }
    }
}

impl fmt::Display for Actor {
    /// `root (uid 0) by the admin socket`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let via = match self.via {
            Via::Socket => "the admin socket",
            Via::File => "the configuration file",
            Via::Signal => "SIGHUP",
            Via::Start => "the first start",
            Via::Portal => "the web pages",
            Via::Offline => "trackerctl while trackerd was not running",
        };
        match (&self.user, self.uid) {
            (Some(user), Some(uid)) => write!(f, "{user} (uid {uid}) by ")?,
            (None, Some(uid)) => write!(f, "uid {uid} by ")?,
            (Some(user), None) => write!(f, "{user} by ")?,
            (None, None) => {}
        }
        f.write_str(via)?;
        match self.client {
            Some(client) => write!(f, " from {client}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_named_where_it_has_a_name() {
        let root = Actor::on_socket(0, Some(7));
        assert_eq!(root.to_string(), "root (uid 0) by the admin socket");
        assert_eq!(
            serde_json::to_string(&root).unwrap(),
            r#"{"user":"root","uid":0,"pid":7,"via":"socket"}"#
        );
        let nameless = Actor::on_socket(4_000_000_000, None);
        assert_eq!(nameless.to_string(), "uid 4000000000 by the admin socket");
        assert_eq!(Actor::unknown(Via::Signal).to_string(), "SIGHUP");
        let alice = Identity::new("Alice", "EXAMPLE.TEST", "EXAMPLE.TEST");
        let on_pages = Actor::on_portal(&alice, ClientAddr::from_v4([10, 0, 0, 7]));
        assert_eq!(on_pages.to_string(), "Alice@EXAMPLE.TEST by the web pages from 10.0.0.7");
        assert_eq!(
            serde_json::to_string(&on_pages).unwrap(),
            r#"{"user":"Alice@EXAMPLE.TEST","client":"10.0.0.7","via":"portal"}"#
        );
    }
}
