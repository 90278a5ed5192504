//! Genuine NTLM: Debian's gss-ntlmssp, loaded by client programs of a lab only.
//!
//! Installed, it would change GSSAPI for the whole machine, the gateway included; so `cargo xtask setup` unpacks it
//! beside what is built, and two variables tell a program where it is and which password to use.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::PROXY_NAME;
use crate::ns::Ns;
use crate::raw;
use crate::realm::{NO_TICKETS, Realm};
use crate::scratch::Scratch;

/// Where `cargo xtask setup` unpacks the package, in the directory that everything is built in.
const UNPACKED: &str = "gss-ntlmssp";
/// The number that NTLM has in SPNEGO's lists.
const OID: &str = "1.3.6.1.4.1.311.2.2.10";

/// What programs need to speak NTLM: as alice of the domain EXAMPLE, who has a password.
#[derive(Debug)]
pub struct Ntlm {
    mechanisms: PathBuf,
    users: PathBuf,
}

impl Ntlm {
    /// Finds the plug-in.
    ///
    /// # Errors
    /// When it has not been unpacked.
    pub fn new(scratch: &Scratch) -> Result<Self> {
        let plugin = plugin()?;
        let line = format!("gssntlmssp_v1 {OID} {}\n", plugin.display());
        let mechanisms = scratch.write("mechanisms.conf", line)?;
        let users = scratch.write("ntlm-users", "EXAMPLE:alice:alice-pw\n")?;
        Ok(Self { mechanisms, users })
    }

    /// The variables that make a program's GSSAPI offer NTLM, after Kerberos if there is a ticket.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("GSS_MECH_CONFIG", self.mechanisms.clone()), ("NTLM_USER_FILE", self.users.clone())]
    }

    /// A SPNEGO token (base64) for the proxy as curl makes it: with tickets Kerberos comes first in it, and NTLM second;
    /// without, it is NTLM's alone.
    ///
    /// # Errors
    /// When curl makes none.
    pub fn spnego(&self, ns: &Ns, realm: &Realm, tickets: Option<&Path>) -> Result<String> {
        let cache = tickets.unwrap_or(Path::new(NO_TICKETS));
        let sent = raw::catch(ns, PROXY_NAME, 1, |curl| {
            curl.args(["--proxy-negotiate", "--proxy-user", ":"]);
            curl.envs(realm.environment()).env("KRB5CCNAME", cache).envs(self.environment());
        })?;
        token(&sent, "Negotiate")
    }
}

/// The first message of NTLM (base64) without a wrapper, as curl makes it by itself. Windows sends the like under the
/// scheme Negotiate where it has no ticket.
///
/// # Errors
/// When curl makes none.
pub fn bare(ns: &Ns) -> Result<String> {
    let sent = raw::catch(ns, PROXY_NAME, 1, |curl| {
        curl.args(["--proxy-ntlm", "--proxy-user", "EXAMPLE\\alice:alice-pw"]);
    })?;
    token(&sent, "NTLM")
}

/// The only token that was sent, under this scheme.
fn token(sent: &[String], scheme: &str) -> Result<String> {
    let credentials = sent.first().context("curl sent no token")?;
    let token = credentials.strip_prefix(scheme).map(str::trim);
    Ok(token.with_context(|| format!("another scheme: {credentials}"))?.to_owned())
}

/// The plug-in, in the directory that this program was built in: `<target>/<profile>/deps` or `<target>/<profile>`.
fn plugin() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let unpacked = exe.ancestors().skip(2).take(2).map(|dir| dir.join(UNPACKED).join("usr/lib"));
    // The directory between is named after the machine.
    let machines = unpacked.filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    let mut found = machines
        .map(|machine| machine.path().join("gssntlmssp/gssntlmssp.so"))
        .filter(|plugin| plugin.is_file());
    found.next().context("gss-ntlmssp is not unpacked: `cargo xtask setup` does it")
}
