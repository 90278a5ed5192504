//! A real realm for tests of this crate: MIT's KDC on the loopback, in a directory of its own.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// A realm with a service, `HTTP/proxy.example.test`, whose key is in [`Self::keytab`]. Its KDC is stopped on drop.
pub(in crate::auth) struct TestRealm {
    dir: PathBuf,
    name: &'static str,
    port: u16,
    kdc: Option<Child>,
}

impl TestRealm {
    /// Starts it; `None` where there are no programs for it, which only a machine of developers may lack.
    pub(in crate::auth) fn start(dir: &Path, name: &'static str) -> Option<Self> {
        if !Path::new("/usr/sbin/krb5kdc").exists() {
            assert!(std::env::var_os("TRACKER_REQUIRE_PRIVILEGED").is_none(), "krb5-kdc is missing");
            println!("skipped: no krb5-kdc");
            return None;
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let at = dir.display();
        let kdc = format!(
            "[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n {name} = {{\n  \
             database_name = {at}/principal\n  key_stash_file = {at}/stash\n  acl_file = {at}/acl\n }}\n[logging]\n \
             kdc = FILE:{at}/log\n"
        );
        std::fs::write(dir.join("kdc.conf"), kdc).unwrap();
        let mut realm = Self { dir: dir.to_owned(), name, port, kdc: None };
        realm.configure(&[&realm]);
        realm.run(&["kdb5_util", "create", "-s", "-P", "throw-away", "-r", name]);
        realm.kadmin("addprinc -randkey HTTP/proxy.example.test");
        realm.kadmin(&format!("ktadd -k {at}/keytab HTTP/proxy.example.test"));
        realm.start_kdc();
        Some(realm)
    }

    /// Writes a krb5.conf that knows these realms; the first is the default.
    pub(in crate::auth) fn configure(&self, realms: &[&Self]) {
        let sections: Vec<String> = realms
            .iter()
            .map(|Self { name, port, .. }| format!(" {name} = {{\n  kdc = 127.0.0.1:{port}\n }}\n"))
            .collect();
        let krb5 = format!(
            "[libdefaults]\n default_realm = {}\n dns_canonicalize_hostname = false\n rdns = false\n \
             dns_lookup_kdc = false\n dns_uri_lookup = false\n permitted_enctypes = aes256-cts-hmac-sha1-96\n\
             [realms]\n{}[domain_realm]\n example.test = R.TEST\n .example.test = R.TEST\n",
            realms.first().map_or("", |realm| realm.name),
            sections.concat()
        );
        std::fs::write(self.dir.join("krb5.conf"), krb5).unwrap();
    }

    /// Starts the KDC, and waits until it answers.
    pub(in crate::auth) fn start_kdc(&mut self) {
        let mut kdc = self.command("krb5kdc");
        self.kdc = Some(kdc.args(["-n", "-r", self.name]).stdout(Stdio::null()).spawn().unwrap());
        for _ in 0..200 {
            if std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("the KDC does not listen");
    }

    pub(in crate::auth) fn stop_kdc(&mut self) {
        if let Some(mut kdc) = self.kdc.take() {
            let _ = kdc.kill();
            let _ = kdc.wait();
        }
    }

    /// Has the KDC neither answer nor refuse: it is stopped, and somebody else has its port.
    pub(in crate::auth) fn silence_kdc(&mut self) -> Silence {
        self.stop_kdc();
        let address = (Ipv4Addr::LOCALHOST, self.port);
        Silence {
            _udp: std::net::UdpSocket::bind(address).unwrap(),
            _tcp: TcpListener::bind(address).unwrap(),
        }
    }

    /// The service's keytab.
    pub(in crate::auth) fn keytab(&self) -> PathBuf {
        self.dir.join("keytab")
    }

    /// A user alice, whose ticket is in the cache that [`Self::command`] names.
    pub(in crate::auth) fn log_in_alice(&self) {
        let key = self.dir.join("alice").display().to_string();
        self.kadmin("addprinc -randkey alice");
        self.kadmin(&format!("ktadd -k {key} alice"));
        self.run(&["kinit", "-k", "-t", &key, "alice"]);
    }

    /// Has kadmin.local do this.
    pub(in crate::auth) fn kadmin(&self, query: &str) {
        let output = self.command("kadmin.local").args(["-r", self.name, "-q", query]).output().unwrap();
        // It succeeds whatever it says.
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let complaint = said.lines().find(|line| !line.contains("no policy") && !line.contains("assigning"));
        assert!(output.status.success() && complaint.is_none(), "{query}: {output:?}");
    }

    fn run(&self, words: &[&str]) {
        let [program, arguments @ ..] = words else { return };
        let done = self.command(program).args(arguments).stdout(Stdio::null()).status().unwrap();
        assert!(done.success(), "{words:?}");
    }

    /// A program that uses this realm.
    pub(in crate::auth) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, file) in
            [("KRB5_CONFIG", "krb5.conf"), ("KRB5_KDC_PROFILE", "kdc.conf"), ("KRB5CCNAME", "tickets")]
        {
            command.env(name, self.dir.join(file));
        }
        command.env("KRB5RCACHEDIR", &self.dir).env_remove("KRB5_KTNAME");
        command
    }
}

/// What keeps a port without saying anything there.
pub(in crate::auth) struct Silence {
    _udp: std::net::UdpSocket,
    _tcp: TcpListener,
}

impl Drop for TestRealm {
    fn drop(&mut self) {
        self.stop_kdc();
    }
}
