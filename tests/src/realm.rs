//! A throw-away Kerberos realm `EXAMPLE.TEST`: MIT's own KDC, in the gateway's namespace, in the lab's directory.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::net::GATEWAY_V4;
use crate::ns::{Ns, finish};
use crate::scratch::{Process, Scratch};
use crate::wait;

/// The realm's name.
pub const REALM: &str = "EXAMPLE.TEST";
/// The KDC's port in the gateway's namespace.
const PORT: u16 = 88;

/// The realm. Its KDC is stopped on drop.
#[derive(Debug)]
pub struct Realm {
    scratch: Scratch,
    kdc: Option<Process>,
}

impl Realm {
    /// Makes the database and starts the KDC on the gateway. There are no principals yet but the realm's own.
    ///
    /// # Errors
    /// Where krb5-kdc and krb5-admin-server are not installed.
    pub fn new(scratch: &Scratch, gateway: &Ns) -> Result<Self> {
        let dir = scratch.join("realm");
        std::fs::create_dir_all(&dir)?;
        let at = dir.display();
        std::fs::write(
            dir.join("krb5.conf"),
            format!(
                "[libdefaults]
 default_realm = {REALM}
 dns_canonicalize_hostname = false
 rdns = false
 dns_lookup_kdc = false
 dns_lookup_realm = false
 dns_uri_lookup = false
 permitted_enctypes = aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96
[realms]
 {REALM} = {{
  kdc = {GATEWAY_V4}:{PORT}
 }}
[domain_realm]
 .example.test = {REALM}
 example.test = {REALM}
"
            ),
        )?;
        std::fs::write(
            dir.join("kdc.conf"),
            format!(
                "[kdcdefaults]
 kdc_listen = {PORT}
 kdc_tcp_listen = {PORT}
[realms]
 {REALM} = {{
  database_name = {at}/principal
  key_stash_file = {at}/stash
  acl_file = {at}/kadm5.acl
  max_life = 10h
  max_renewable_life = 7d
 }}
[logging]
 kdc = FILE:{at}/kdc.log
"
            ),
        )?;
        let mut realm = Self { scratch: scratch.clone(), kdc: None };
        finish(realm.local("kdb5_util").args(["create", "-s", "-P", "throw-away", "-r", REALM]), &[])
            .context("is krb5-kdc installed? `cargo xtask setup` installs it")?;
        realm.start_kdc(gateway)?;
        Ok(realm)
    }

    /// Starts the KDC if it does not run.
    ///
    /// # Errors
    /// When it does not answer soon.
    pub fn start_kdc(&mut self, gateway: &Ns) -> Result<()> {
        if self.kdc.is_some() {
            return Ok(());
        }
        let log = std::fs::File::create(self.dir().join("krb5kdc.out"))?;
        let mut command = gateway.command("krb5kdc");
        command.args(["-n", "-r", REALM]).envs(self.environment());
        self.kdc = Some(self.scratch.spawn(command.stdout(log.try_clone()?).stderr(log))?);
        let address = SocketAddr::from((GATEWAY_V4, PORT));
        wait::until("the KDC to listen", Duration::from_secs(10), || gateway.connect(address).ok()).map(drop)
    }

    /// Stops the KDC; the database stays.
    pub fn stop_kdc(&mut self) {
        self.kdc = None;
    }

    /// The client library's configuration.
    #[must_use]
    pub fn krb5_conf(&self) -> PathBuf {
        self.dir().join("krb5.conf")
    }

    /// Adds a person.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn add_user(&self, name: &str, password: &str) -> Result<()> {
        self.kadmin(&format!("addprinc -pw {password} {name}"))
    }

    /// Adds a service such as `HTTP/proxy.example.test`, and its key to a keytab.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn add_service(&self, principal: &str, keytab: &Path) -> Result<()> {
        self.kadmin(&format!("addprinc -randkey {principal}\nktadd -k {} {principal}", keytab.display()))
    }

    /// Gives a service a new key, and adds that to a keytab.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn renew_service(&self, principal: &str, keytab: &Path) -> Result<()> {
        self.kadmin(&format!("ktadd -k {} {principal}", keytab.display()))
    }

    /// Gives a service a new key that no keytab gets.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn roll_service(&self, principal: &str) -> Result<()> {
        self.kadmin(&format!("cpw -randkey {principal}"))
    }

    /// Removes a service.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn remove_service(&self, principal: &str) -> Result<()> {
        self.kadmin(&format!("delprinc -force {principal}"))
    }

    /// Has a principal prove itself before it gets a ticket, as Active Directory asks of everybody.
    ///
    /// # Errors
    /// When there is no such principal.
    pub fn require_preauthentication(&self, principal: &str) -> Result<()> {
        self.kadmin(&format!("modprinc +requires_preauth {principal}"))
    }

    /// Has a service's password expire: it cannot log in any more, as with Active Directory, while others get tickets to it.
    ///
    /// # Errors
    /// When there is no such service.
    pub fn expire_password(&self, principal: &str) -> Result<()> {
        self.kadmin(&format!("modprinc -pwexpire yesterday {principal}"))
    }

    /// Has clients look for the KDC at another address from now on.
    ///
    /// # Errors
    /// When the configuration cannot be written.
    pub fn look_for_kdc_at(&self, address: Ipv4Addr) -> Result<()> {
        let config = std::fs::read_to_string(self.krb5_conf())?;
        let config = config.replace(&format!("kdc = {GATEWAY_V4}:"), &format!("kdc = {address}:"));
        Ok(std::fs::write(self.krb5_conf(), config)?)
    }

    /// Logs a person in on a host of the lab; returns the credential cache's file.
    ///
    /// # Errors
    /// When the KDC refuses.
    pub fn kinit(&self, host: &Ns, user: &str, password: &str) -> Result<PathBuf> {
        let cache = self.scratch.unused(&format!("ccache-{user}"));
        let mut command = host.command("kinit");
        command.arg("-c").arg(format!("FILE:{}", cache.display())).arg(user).envs(self.environment());
        finish(&mut command, format!("{password}\n").as_bytes())?;
        Ok(cache)
    }

    /// The variables that make a program use this realm.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![("KRB5_CONFIG", self.krb5_conf()), ("KRB5_KDC_PROFILE", self.dir().join("kdc.conf"))]
    }

    fn dir(&self) -> PathBuf {
        self.scratch.join("realm")
    }

    /// A program that works on the database itself.
    fn local(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.envs(self.environment());
        command
    }

    /// Runs lines in `kadmin.local`, which reports errors only in words.
    fn kadmin(&self, lines: &str) -> Result<()> {
        let mut command = self.local("kadmin.local");
        let output = command.args(["-r", REALM]);
        let said = finish(output, format!("{lines}\n").as_bytes())?;
        for line in lines.lines() {
            let principal = line.rsplit(' ').next().unwrap_or_default();
            let done = ["created", "randomized", "modified", "deleted"];
            anyhow::ensure!(
                done.iter().any(|done| said.contains(&format!("\"{principal}@{REALM}\" {done}")))
                    || said.contains(&format!("Entry for principal {principal}")),
                "kadmin.local {line}: {said}"
            );
        }
        Ok(())
    }
}
