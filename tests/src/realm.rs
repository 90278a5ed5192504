//! Throw-away Kerberos realms: `EXAMPLE.TEST`, and on demand `OTHER.TEST`, which it trusts. Each has MIT's own KDC, in the
//! gateway's namespace, and a directory in the lab's.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::clock;
use crate::net::GATEWAY_V4;
use crate::ns::{Ns, finish};
use crate::scratch::{Process, Scratch};
use crate::wait;

/// The realm of the lab.
pub const REALM: &str = "EXAMPLE.TEST";
/// `KRB5CCNAME` of those who have no tickets. Not `/dev/null`: MIT's library may crash on an empty cache.
pub const NO_TICKETS: &str = "/nonexistent";
/// The realm that it trusts, where there is one.
pub const OTHER_REALM: &str = "OTHER.TEST";
/// The KDC's port in the gateway's namespace; the other realm's is the next.
const PORT: u16 = 88;
/// What the key is made of by which one realm knows the other.
const TRUST: &str = "throw-away";

/// A realm. Its KDC is stopped on drop.
#[derive(Debug)]
pub struct Realm {
    scratch: Scratch,
    name: &'static str,
    dir: PathBuf,
    port: u16,
    kdc: Option<Process>,
}

impl Realm {
    /// Makes the database and starts the KDC on the gateway. There are no principals yet but the realm's own.
    ///
    /// # Errors
    /// Where krb5-kdc and krb5-admin-server are not installed.
    pub fn new(scratch: &Scratch, gateway: &Ns) -> Result<Self> {
        let conf = format!(
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
        );
        let dir = scratch.join("realm");
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("krb5.conf"), conf)?;
        Self::make(scratch, gateway, REALM, dir, PORT)
    }

    /// Makes the other realm, whose people are trusted by the services of this one, and starts its KDC.
    ///
    /// # Errors
    /// When there is one already.
    pub fn trusted(&self, gateway: &Ns) -> Result<Self> {
        let dir = self.scratch.join("other-realm");
        std::fs::create_dir(&dir)?;
        let port = self.port + 1;
        // The library takes sections of one name for one section.
        let old = std::fs::read_to_string(self.krb5_conf())?;
        let conf = format!("{old}[realms]\n {OTHER_REALM} = {{\n  kdc = {GATEWAY_V4}:{port}\n }}\n");
        std::fs::write(self.krb5_conf(), conf)?;
        let other = Self::make(&self.scratch, gateway, OTHER_REALM, dir, port)?;
        for realm in [self, &other] {
            realm.kadmin(&format!("addprinc -pw {TRUST} krbtgt/{REALM}@{OTHER_REALM}"))?;
        }
        Ok(other)
    }

    /// Starts another KDC of this realm in this one's place, which has been stopped: it has other keys, and knows nobody. It is
    /// stopped on drop.
    ///
    /// # Errors
    /// When this one runs, or there was another before.
    pub fn false_one(&self, gateway: &Ns) -> Result<Self> {
        anyhow::ensure!(self.kdc.is_none(), "the true KDC runs");
        let dir = self.scratch.join("false-realm");
        std::fs::create_dir(&dir)?;
        Self::make(&self.scratch, gateway, self.name, dir, self.port)
    }

    fn make(scratch: &Scratch, gateway: &Ns, name: &'static str, dir: PathBuf, port: u16) -> Result<Self> {
        let at = dir.display();
        let conf = format!(
            "[kdcdefaults]
 kdc_listen = {port}
 kdc_tcp_listen = {port}
[realms]
 {name} = {{
  database_name = {at}/principal
  key_stash_file = {at}/stash
  acl_file = {at}/kadm5.acl
  max_life = 10h
  max_renewable_life = 7d
 }}
[logging]
 kdc = FILE:{at}/kdc.log
"
        );
        std::fs::write(dir.join("kdc.conf"), conf)?;
        let mut realm = Self { scratch: scratch.clone(), name, dir, port, kdc: None };
        finish(realm.local("kdb5_util").args(["create", "-s", "-P", "throw-away", "-r", name]), &[])
            .context("is krb5-kdc installed? `cargo xtask setup` installs it")?;
        realm.start_kdc(gateway)?;
        Ok(realm)
    }

    /// Starts the KDC if it does not run.
    ///
    /// # Errors
    /// When it does not answer soon.
    pub fn start_kdc(&mut self, gateway: &Ns) -> Result<()> {
        let command = gateway.command("krb5kdc");
        self.start(command, gateway)
    }

    /// Starts the KDC anew, with a clock that is off by so much.
    ///
    /// # Errors
    /// When it does not answer soon, or libfaketime is not installed.
    pub fn restart_kdc_at(&mut self, gateway: &Ns, offset: &str) -> Result<()> {
        self.stop_kdc();
        let mut command = gateway.command("krb5kdc");
        command.envs(clock::off_by(offset)?);
        self.start(command, gateway)
    }

    fn start(&mut self, mut command: Command, gateway: &Ns) -> Result<()> {
        if self.kdc.is_some() {
            return Ok(());
        }
        let log = std::fs::File::create(self.dir.join("krb5kdc.out"))?;
        command.args(["-n", "-r", self.name]).envs(self.environment());
        self.kdc = Some(self.scratch.spawn(command.stdout(log.try_clone()?).stderr(log))?);
        let address = SocketAddr::from((GATEWAY_V4, self.port));
        wait::until("the KDC to listen", Duration::from_secs(10), || gateway.connect(address).ok()).map(drop)
    }

    /// Stops the KDC; the database stays.
    pub fn stop_kdc(&mut self) {
        self.kdc = None;
    }

    /// The client library's configuration, which knows all realms of the lab.
    #[must_use]
    pub fn krb5_conf(&self) -> PathBuf {
        self.scratch.join("realm").join("krb5.conf")
    }

    /// Adds a person.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn add_user(&self, name: &str, password: &str) -> Result<()> {
        self.kadmin(&format!("addprinc -pw {password} {name}"))
    }

    /// Adds a person with more options of kadmin's: `+requires_preauth`, `-allow_tix`, `-pwexpire yesterday`.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn add_user_with(&self, options: &str, name: &str, password: &str) -> Result<()> {
        self.kadmin(&format!("addprinc {options} -pw {password} {name}"))
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

    /// Makes a keytab with a key that the KDC does not know, under a service's name and that version.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn forge_key(&self, principal: &str, version: u32, keytab: &Path) -> Result<()> {
        let name = format!("{principal}@{}", self.name);
        let lines = format!(
            "addent -password -p {name} -k {version} -e aes256-cts-hmac-sha1-96\nforged\nwkt {}\n",
            keytab.display()
        );
        finish(&mut self.local("ktutil"), lines.as_bytes()).map(drop)
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
        let cache = self.scratch.unused(&format!("ccache-{}", user.replace('/', "-")));
        let mut command = host.command("kinit");
        command.arg("-c").arg(&cache).arg(format!("{user}@{}", self.name)).envs(self.environment());
        finish(&mut command, format!("{password}\n").as_bytes())?;
        Ok(cache)
    }

    /// Gets a service's ticket into a credential cache, unless it is there.
    ///
    /// # Errors
    /// When the KDC refuses.
    pub fn fetch(&self, host: &Ns, cache: &Path, service: &str) -> Result<()> {
        let mut command = host.command("kvno");
        command.args(["-q", "-c"]).arg(cache).arg(service).envs(self.environment());
        finish(&mut command, &[]).map(drop)
    }

    /// The variables that make a program use this realm.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![("KRB5_CONFIG", self.krb5_conf()), ("KRB5_KDC_PROFILE", self.dir.join("kdc.conf"))]
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
        let output = command.args(["-r", self.name]);
        let said = finish(output, format!("{lines}\n").as_bytes())?;
        for line in lines.lines() {
            let principal = line.rsplit(' ').next().unwrap_or_default();
            // An '@' that is quoted belongs to the name.
            let has_realm = principal.replace("\\@", "").contains('@');
            let realm = if has_realm { String::new() } else { format!("@{}", self.name) };
            let done = ["created", "randomized", "modified", "deleted"];
            anyhow::ensure!(
                done.iter().any(|done| said.contains(&format!("\"{principal}{realm}\" {done}")))
                    || said.contains(&format!("Entry for principal {principal}")),
                "kadmin.local {line}: {said}"
            );
        }
        Ok(())
    }
}
