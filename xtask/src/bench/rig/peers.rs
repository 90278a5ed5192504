//! What people run today, each at its fastest, from Debian's packages.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::{FAR_END, ORIGIN, Rig, Subject};
use crate::{setup, sh};

const SQUID_PORT: u16 = 3129;
const SQUID_LOG_PORT: u16 = 3130;
const SQUID_NEGOTIATE_PORT: u16 = 3131;
const HAPROXY_PORT: u16 = 3132;
const HAPROXY_SPLICE_PORT: u16 = 3133;
const HAPROXY_COPY_PORT: u16 = 3134;
const TINYPROXY_PORT: u16 = 3135;
const APACHE_PORT: u16 = 3136;
const SQUID_TLS_PORT: u16 = 3137;
const HAPROXY_TLS_PORT: u16 = 3138;
const HAPROXY_TLS_TUNNEL_PORT: u16 = 3139;

/// What the realm calls the proxy's service.
const SERVICE: &str = "HTTP/proxy.example.test";
/// Squid's helper for Negotiate.
const HELPER: &str = "/usr/lib/squid/negotiate_kerberos_auth";
const HELPERS: u32 = 5;
/// By default these hold `%>A`, and squid asks for the name of every client, though nobody uses it: with no name server
/// the questions pile up, and it searches all of them for each new one.
const NO_NAMES: &str = "url_rewrite_extras \"%>a/- %un %>rm\"\nstore_id_extras \"%>a/- %un %>rm\"\n";

/// How squid is to work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Squid {
    /// It only forwards.
    Plain,
    /// It also writes its access log.
    Logging,
    /// Every connection proves itself by Kerberos.
    Negotiate,
    /// It only forwards, under TLS.
    Tls,
}

impl Rig {
    /// Squid.
    pub(crate) fn squid(&self, how: Squid) -> Result<Subject> {
        let log = self.lab.scratch.join("squid-access.log");
        let (name, port) = match how {
            Squid::Plain => ("squid", SQUID_PORT),
            Squid::Logging => ("squid, log", SQUID_LOG_PORT),
            Squid::Negotiate => ("squid, Negotiate", SQUID_NEGOTIATE_PORT),
            Squid::Tls => ("squid", SQUID_TLS_PORT),
        };
        let listen = match how {
            Squid::Tls => format!("https_port {port} tls-cert={}", self.readable_pem()?.display()),
            Squid::Plain | Squid::Logging | Squid::Negotiate => format!("http_port {port}"),
        };
        let logging = match how {
            Squid::Logging => {
                // The log's daemon gives up root.
                fs::write(&log, "")?;
                fs::set_permissions(&log, PermissionsExt::from_mode(0o666))?;
                format!("daemon:{}", log.display())
            }
            Squid::Plain | Squid::Negotiate | Squid::Tls => "none".to_owned(),
        };
        let access = match how {
            Squid::Plain | Squid::Logging | Squid::Tls => "http_access allow all\n".to_owned(),
            Squid::Negotiate => format!(
                "auth_param negotiate program {HELPER} -k {} -s {SERVICE}@{}\n\
                 auth_param negotiate children {HELPERS} startup={HELPERS} idle={HELPERS}\n\
                 auth_param negotiate keep_alive on\n\
                 acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n",
                self.readable_keytab()?.display(),
                lab::realm::REALM
            ),
        };
        let conf = format!(
            "{listen}\nvisible_hostname {proxy}\n{NO_NAMES}{access}cache deny all\naccess_log {logging}\ncache_log /dev/null\n\
             pid_filename none\ncoredump_dir /tmp\nworkers 1\nvia off\nforwarded_for delete\nmax_filedescriptors 20000\n\
             acl SSL_ports port {0} {1}\nserver_persistent_connections on\nclient_persistent_connections on\n\
             client_idle_pconn_timeout 10 minutes\nshutdown_lifetime 0 seconds\ncache_effective_user proxy\n\
             host_verify_strict off\n",
            ORIGIN.port(),
            FAR_END.port(),
            proxy = lab::PROXY_NAME
        );
        let conf = self.lab.scratch.write(&format!("squid-{port}.conf"), conf)?;
        let asked = sh::ask("squid", &["-v"]).unwrap_or_default();
        let version = asked.lines().next().unwrap_or_default().replace("Squid Cache: Version", "squid");
        let what = match how {
            Squid::Plain => "no cache, no log, no authentication".to_owned(),
            Squid::Tls => "https_port, no cache, no log, no authentication".to_owned(),
            Squid::Logging => "no cache, no authentication, access log by its log daemon".to_owned(),
            Squid::Negotiate => {
                format!("no cache, no log, {HELPERS} helpers negotiate_kerberos_auth with replay cache")
            }
        };
        // A name of its own, or it stumbles over the shared memory of another.
        let service = format!("tracker{}p{port}", std::process::id());
        let arguments = ["-N", "-n", &service, "-f"].map(OsStr::new);
        let arguments = [&arguments[..], &[conf.as_os_str()]].concat();
        self.start(name, port, format!("{version}: {what}"), "squid", &arguments)
    }

    /// haproxy as a proxy for requests, which only knows one origin.
    pub(crate) fn haproxy(&self) -> Result<Subject> {
        let conf = format!(
            "global\n nbthread 1\n maxconn 5000\ndefaults\n mode http\n timeout connect 5s\n timeout client 600s\n \
             timeout server 600s\n timeout http-keep-alive 600s\n http-reuse always\nfrontend p\n bind :::{HAPROXY_PORT} v4v6\n \
             http-request set-uri %[path]\n default_backend o\nbackend o\n server o {ORIGIN}\n"
        );
        self.haproxy_with("haproxy", HAPROXY_PORT, &conf, "one thread, http-reuse always, one fixed origin")
    }

    /// haproxy passing connections on to the far end: with `splice` forced in both directions, or copying.
    pub(crate) fn haproxy_tcp(&self, splice: bool) -> Result<Subject> {
        let (name, port, option, note) = if splice {
            let option = " option splice-request\n option splice-response\n";
            ("haproxy, splice", HAPROXY_SPLICE_PORT, option, "mode tcp, forced splice both ways")
        } else {
            ("haproxy, copy", HAPROXY_COPY_PORT, "", "mode tcp, copying by its default buffers of 16 KiB")
        };
        let conf = format!(
            "global\n nbthread 1\n maxconn 5000\n maxpipes 100\ndefaults\n mode tcp\n timeout connect 5s\n \
             timeout client 600s\n timeout server 600s\n{option}frontend p\n bind :::{port} v4v6\n \
             default_backend o\nbackend o\n server o {FAR_END}\n"
        );
        self.haproxy_with(name, port, &conf, note).map(Subject::plain)
    }

    /// haproxy under TLS as a proxy for requests, which only knows one origin.
    pub(crate) fn haproxy_tls(&self) -> Result<Subject> {
        let conf = format!(
            "global\n nbthread 1\n maxconn 5000\ndefaults\n mode http\n timeout connect 5s\n timeout client 600s\n \
             timeout server 600s\n timeout http-keep-alive 600s\n http-reuse always\nfrontend p\n \
             bind :::{HAPROXY_TLS_PORT} v4v6 ssl crt {pem} ssl-min-ver TLSv1.2\n \
             http-request set-uri %[path]\n default_backend o\nbackend o\n server o {ORIGIN}\n",
            pem = self.readable_pem()?.display()
        );
        let note = "bind ssl, one thread, http-reuse always, one fixed origin";
        self.haproxy_with("haproxy", HAPROXY_TLS_PORT, &conf, note)
    }

    /// haproxy under TLS, passing connections on to the far end.
    pub(crate) fn haproxy_tls_tcp(&self) -> Result<Subject> {
        let conf = format!(
            "global\n nbthread 1\n maxconn 5000\ndefaults\n mode tcp\n timeout connect 5s\n \
             timeout client 600s\n timeout server 600s\nfrontend p\n \
             bind :::{HAPROXY_TLS_TUNNEL_PORT} v4v6 ssl crt {pem} ssl-min-ver TLSv1.2\n \
             default_backend o\nbackend o\n server o {FAR_END}\n",
            pem = self.readable_pem()?.display()
        );
        let note = "bind ssl, mode tcp, by its default buffers of 16 KiB";
        self.haproxy_with("haproxy, tcp", HAPROXY_TLS_TUNNEL_PORT, &conf, note).map(Subject::plain)
    }

    /// A self-signed certificate for all of them with its key, in two files: made once a run. It is worth nothing.
    pub(crate) fn certificate(&self) -> Result<(PathBuf, PathBuf)> {
        let (chain, key) = (self.lab.scratch.join("tls.pem"), self.lab.scratch.join("tls.key"));
        if !key.exists() {
            let mut openssl = Command::new("openssl");
            openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
            openssl.args(["-days", "30", "-subj", "/CN=proxy.example.test"]);
            openssl.args(["-addext", "subjectAltName=DNS:proxy.example.test"]);
            openssl.arg("-out").arg(&chain).arg("-keyout").arg(&key);
            sh::quiet_step("making a certificate", &mut openssl)?;
        }
        Ok((chain, key))
    }

    /// The same in one file, for peers that have given up root.
    fn readable_pem(&self) -> Result<PathBuf> {
        let (chain, key) = self.certificate()?;
        let both = [fs::read(chain)?, fs::read(key)?].concat();
        let pem = self.lab.scratch.write("peers.pem", both)?;
        fs::set_permissions(&pem, PermissionsExt::from_mode(0o644))?;
        Ok(pem)
    }

    fn haproxy_with(&self, name: &str, port: u16, conf: &str, note: &str) -> Result<Subject> {
        let conf = self.lab.scratch.write(&format!("haproxy-{port}.cfg"), conf)?;
        let asked = sh::ask("haproxy", &["-v"]).unwrap_or_default();
        let version = asked.split_whitespace().nth(2).unwrap_or_default().to_owned();
        let note = format!("haproxy {version}: {note}");
        self.start(name, port, note, "haproxy", &["-db".as_ref(), "-f".as_ref(), conf.as_os_str()])
    }

    /// tinyproxy, which closes every connection after one request.
    pub(crate) fn tinyproxy(&self) -> Result<Subject> {
        let conf = format!(
            "Port {TINYPROXY_PORT}\nListen 0.0.0.0\nUser nobody\nGroup nogroup\nTimeout 600\nMaxClients 10000\n\
             LogLevel Critical\nLogFile \"/dev/null\"\nDisableViaHeader Yes\n"
        );
        let conf = self.lab.scratch.write("tinyproxy.conf", conf)?;
        let version = sh::ask("tinyproxy", &["-v"]).unwrap_or_default();
        let note = format!("{}: no log, no Via", version.trim());
        let arguments = ["-d".as_ref(), "-c".as_ref(), conf.as_os_str()];
        self.start("tinyproxy", TINYPROXY_PORT, note, "tinyproxy", &arguments)
    }

    /// Apache as an explicit proxy that asks for Kerberos.
    pub(crate) fn apache(&self) -> Result<Subject> {
        setup::install(&["apache2", "libapache2-mod-auth-gssapi"])?;
        let root = self.lab.scratch.join("apache");
        fs::create_dir_all(&root)?;
        let modules: String =
            ["mpm_event", "authn_core", "authz_core", "authz_user", "proxy", "proxy_http", "auth_gssapi"]
                .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
                .concat();
        let conf = format!(
            "ServerRoot {root}\nDefaultRuntimeDir {root}\nPidFile {root}/pid\nServerName {name}\nListen {APACHE_PORT}\n\
             {modules}User www-data\nGroup www-data\nErrorLog {root}/error.log\nLogLevel crit\n\
             ServerLimit 1\nStartServers 1\nThreadsPerChild 64\nMaxRequestWorkers 64\n\
             KeepAlive On\nMaxKeepAliveRequests 0\nKeepAliveTimeout 60\n\
             ProxyRequests On\nProxyVia Off\n\
             <Proxy \"http://{ORIGIN}/\">\n ProxySet enablereuse=on keepalive=on\n</Proxy>\n\
             <Proxy \"*\">\n AuthType GSSAPI\n AuthName proxy\n GssapiCredStore keytab:{keytab}\n Require valid-user\n</Proxy>\n",
            root = root.display(),
            name = lab::PROXY_NAME,
            keytab = self.readable_keytab()?.display()
        );
        let conf = self.lab.scratch.write("apache.conf", conf)?;
        let asked = sh::ask("apache2", &["-v"]).unwrap_or_default();
        let version = asked.split_whitespace().nth(2).unwrap_or_default().to_owned();
        let module = sh::ask("dpkg-query", &["-W", "-f", "${Version}", "libapache2-mod-auth-gssapi"]);
        let note = format!(
            "{version} as forward proxy, mpm_event with 64 threads, mod_auth_gssapi {}, no log, origin connections kept",
            module.unwrap_or_default()
        );
        let arguments = ["-D".as_ref(), "FOREGROUND".as_ref(), "-f".as_ref(), conf.as_os_str()];
        self.start("apache", APACHE_PORT, note, "apache2", &arguments)
    }

    /// A copy of the keytab that peers can read after they have given up root. It is worth nothing outside of this lab.
    fn readable_keytab(&self) -> Result<PathBuf> {
        let copy = self.lab.scratch.join("peers.keytab");
        fs::copy(&self.lab.keytab, &copy).context("copying the keytab")?;
        fs::set_permissions(&copy, PermissionsExt::from_mode(0o644))?;
        Ok(copy)
    }
}
