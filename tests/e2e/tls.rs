//! The proxy under TLS, with real clients: who is served, and which certificate is shown.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::client::Curl;
use lab::net::GATEWAY_V4;
use lab::origin::ECHO_PORT;
use lab::scratch::Process;
use lab::wait::until;
use lab::{Lab, PROXY_NAME};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::common::{ORIGIN, SOON, session};

/// The proxy's port under TLS.
const PORT: u16 = 3129;
/// How long a pair that does not fit may take to be spoken of, and more than a loaded machine is late.
const SPOKEN_OF: Duration = Duration::from_secs(30);

/// Certificate and key, and the certificate's fingerprint.
struct Pair {
    chain: String,
    key: String,
}

/// Makes a pair for this name, self-signed, by openssl.
fn pair(lab: &Lab, name: &str) -> Result<Pair> {
    let (chain, key) = (lab.scratch.unused("crt"), lab.scratch.unused("key"));
    let alternative = format!("subjectAltName=DNS:{name}");
    let words = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 60 -subj /CN={name} -addext \
         {alternative} -out {} -keyout {}",
        chain.display(),
        key.display()
    );
    lab.net.gateway.run(&words.split_whitespace().collect::<Vec<_>>())?;
    Ok(Pair { chain: std::fs::read_to_string(chain)?, key: std::fs::read_to_string(key)? })
}

impl Pair {
    fn fingerprint(&self, lab: &Lab) -> Result<String> {
        let file = lab.scratch.write("looked-at.crt", &self.chain)?;
        fingerprint(lab, &format!("openssl x509 -in {}", file.display()))
    }
}

/// The fingerprint of what a command prints.
fn fingerprint(lab: &Lab, command: &str) -> Result<String> {
    let line = format!("{command} </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256");
    let told = lab.net.clients[0].ns.run(&["sh", "-c", &line])?;
    let (_, found) = told.trim().split_once('=').with_context(|| told.clone())?;
    Ok(found.to_owned())
}

/// The fingerprint of the certificate that a client gets.
fn shown(lab: &Lab, arguments: &str) -> Result<String> {
    fingerprint(lab, &format!("openssl s_client -connect {GATEWAY_V4}:{PORT} {arguments}"))
}

fn file(lab: &Lab, name: &str) -> PathBuf {
    lab.scratch.join(name)
}

/// Writes a file as it is done where care is taken.
fn replace(lab: &Lab, name: &str, content: &str) -> Result<()> {
    let aside = lab.scratch.write(&format!("{name}.aside"), content)?;
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o600))?;
    Ok(std::fs::rename(aside, file(lab, name))?)
}

fn settings(lab: &Lab) -> String {
    let [chain, key] = ["gw.crt", "gw.key"].map(|name| file(lab, name).display().to_string());
    format!("[tls]\nproxy-listen = [\"0.0.0.0:{PORT}\"]\ncertificate = \"{chain}\"\nkey = \"{key}\"\n")
}

/// A lab whose proxy listens under TLS with this pair.
fn start(name: &str) -> Result<(Lab, Pair)> {
    let mut lab = Lab::prepare(2, &lab::gateway::bin_dir()?)?;
    let pair = pair(&lab, name)?;
    replace(&lab, "gw.crt", &pair.chain)?;
    replace(&lab, "gw.key", &pair.key)?;
    let settings = settings(&lab);
    lab.gateway.configure(&settings)?;
    lab.gateway.start()?;
    Ok((lab, pair))
}

/// curl to the proxy under TLS, which trusts only these certificates.
fn curl<'a>(lab: &'a Lab, client: usize, trusted: &str) -> Curl<'a> {
    let proxy = format!("https://{PROXY_NAME}:{PORT}");
    lab.curl(client).arg("--proxy").arg(&proxy).arg("--proxy-cacert").arg(trusted)
}

fn certificates(lab: &Lab) -> Result<Value> {
    lab.gateway.ask(&["certificate"])
}

/// Waits until clients get this certificate.
fn is_shown(lab: &Lab, expected: &str) -> Result<()> {
    until("the certificate to be shown", SOON + SOON, || {
        shown(lab, "").ok().filter(|found| found == expected).map(drop)
    })
}

/// A tunnel through the proxy under TLS, held by `openssl s_client`.
struct Tunnel {
    process: Process,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Tunnel {
    /// To the echo of the origin. The client has a session already.
    fn open(lab: &Lab, client: usize) -> Result<Self> {
        let mut command = lab.net.clients[client].ns.command("openssl");
        command.args(["s_client", "-quiet", "-connect", &format!("{GATEWAY_V4}:{PORT}")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = lab.scratch.spawn(&mut command)?;
        let child = process.child().context("openssl has ended")?;
        let (input, output) = (child.stdin.take().context("a pipe")?, child.stdout.take().context("a pipe")?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut tunnel = Self { process, input, lines };
        let to = format!("origin.example.test:{ECHO_PORT}");
        write!(tunnel.input, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n")?;
        let head = tunnel.line()?;
        ensure!(head.contains(" 200 "), "{head}\n{}", lab.gateway.log());
        while !tunnel.line()?.trim().is_empty() {}
        Ok(tunnel)
    }

    fn line(&self) -> Result<String> {
        Ok(self.lines.recv_timeout(SOON + SOON)?)
    }

    fn echoes(&mut self, text: &str) -> Result<()> {
        writeln!(self.input, "{text}")?;
        self.input.flush()?;
        let back = self.line()?;
        ensure!(back == text, "{back}");
        ensure!(self.process.ended().is_none(), "the tunnel has ended");
        Ok(())
    }
}

#[test]
fn requests_and_tunnels_are_served_under_tls_as_on_the_plain_port() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, pair) = start(PROXY_NAME)?;
    let _https = lab::tls::start(&lab.scratch, &lab.net.origin)?;
    let trusted = file(&lab, "gw.crt").display().to_string();
    let reply = curl(&lab, 0, &trusted).get(ORIGIN)?;
    assert_eq!(reply.code, 407, "{reply:?}");
    let reply = curl(&lab, 0, &trusted).tickets(&lab.tickets("alice")?).get(ORIGIN)?;
    assert_eq!((reply.code, reply.text().as_str()), (200, "the origin greets you\n"), "{reply:?}");
    assert!(session(&lab, 0)?.is_of("alice"));
    let reply = curl(&lab, 1, &trusted)
        .tickets(&lab.tickets("bob")?)
        .arg("--insecure")
        .get("https://origin.example.test/")?;
    assert_eq!((reply.connect_code, reply.code), (200, 200), "{reply:?}");
    assert!(session(&lab, 1)?.is_of("bob"));
    // The session is the address's, by whichever port it came.
    assert_eq!(curl(&lab, 1, &trusted).get(ORIGIN)?.code, 200);
    assert_eq!(lab.curl(1).get(ORIGIN)?.code, 200);

    // Who does not trust the certificate does not come in, and whoever speaks plain HTTP here is told.
    let stranger = self::pair(&lab, PROXY_NAME)?;
    let other = lab.scratch.write("other.crt", &stranger.chain)?.display().to_string();
    assert_eq!(curl(&lab, 0, &other).get(ORIGIN)?.exit, 60);
    let plain = lab.curl(0).arg("--proxy").arg(&format!("http://{PROXY_NAME}:{PORT}")).get(ORIGIN)?;
    assert!(plain.code == 400 && plain.text().contains("speaks TLS"), "{plain:?}");
    let metrics = lab.gateway.metrics()?;
    let count = |outcome: &str| -> u32 {
        let name = format!("tracker_tls_handshakes_total{{outcome=\"{outcome}\"}} ");
        let found = metrics.lines().find_map(|line| line.strip_prefix(&name));
        found.and_then(|count| count.parse().ok()).unwrap_or_default()
    };
    assert!(count("full") >= 4 && count("refused") == 1 && count("plain") == 1, "{metrics}");
    let expiry = "tracker_tls_certificate_expiry_timestamp_seconds{position=\"1\"} ";
    let expiry: i64 =
        metrics.lines().find_map(|line| line.strip_prefix(expiry)).context("expiry")?.parse()?;

    let all = certificates(&lab)?;
    let first = &all["certificates"][0];
    assert_eq!(first["fingerprint"], pair.fingerprint(&lab)?);
    assert_eq!((&first["names"][0], &first["state"]), (&PROXY_NAME.into(), &"valid".into()), "{all}");
    assert!(first["next_renewal"].is_null() && first["last_error"].is_null(), "{all}");
    let expires =
        lab.net.gateway.run(&["date", "-d", first["expires"].as_str().context("expires")?, "+%s"])?;
    assert_eq!(expires.trim().parse::<i64>()?, expiry);
    let text = lab.gateway.shown(&["certificate"])?;
    for word in
        ["names", PROXY_NAME, "issuer", "expires", "next renewal", "last error", "none", "fingerprint"]
    {
        assert!(text.contains(word), "{word}: {text}");
    }
    Ok(())
}

#[test]
fn a_certificate_is_exchanged_under_a_running_tunnel_and_a_bad_one_is_not() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, first) = start(PROXY_NAME)?;
    lab.login(0, "alice")?;
    let mut tunnel = Tunnel::open(&lab, 0)?;
    tunnel.echoes("one")?;
    is_shown(&lab, &first.fingerprint(&lab)?)?;

    let second = pair(&lab, PROXY_NAME)?;
    let expected = second.fingerprint(&lab)?;
    replace(&lab, "gw.crt", &second.chain)?;
    replace(&lab, "gw.key", &second.key)?;
    is_shown(&lab, &expected)?;
    tunnel.echoes("two")?;
    let named = format!("fingerprint={expected}");
    assert!(lab.gateway.log().contains(&named), "{}", lab.gateway.log());

    // The key is not the certificate's: told when it stays so.
    let third = pair(&lab, PROXY_NAME)?;
    replace(&lab, "gw.crt", &third.chain)?;
    let told = until("the pair to be spoken of", SPOKEN_OF, || {
        let all = certificates(&lab).ok()?;
        all["certificates"][0]["last_error"]["error"].as_str().map(str::to_owned)
    })?;
    assert!(told.contains("gw.key holds a private key that is not the one of the certificate in"), "{told}");
    assert!(told.contains("; name the pair"), "a remedy: {told}");
    let status = lab.gateway.ask(&["status"])?;
    assert!(status["warnings"].to_string().contains("the earlier one stays"), "{status}");
    assert_eq!(status["certificates"][0]["fingerprint"], expected);
    assert!(lab.gateway.log().contains("the earlier one stays"), "{}", lab.gateway.log());
    is_shown(&lab, &expected)?;
    // Whoever asks for it is told at once.
    replace(&lab, "gw.key", "nothing")?;
    lab.gateway.signal(Signal::SIGHUP)?;
    until("the key to be spoken of", SOON, || {
        lab.gateway.log().contains("gw.key holds no private key").then_some(())
    })?;
    is_shown(&lab, &expected)?;
    tunnel.echoes("three")?;

    replace(&lab, "gw.key", &third.key)?;
    is_shown(&lab, &third.fingerprint(&lab)?)?;
    let status = lab.gateway.ask(&["status"])?;
    assert!(!status["warnings"].to_string().contains("certificate"), "{status}");
    assert!(certificates(&lab)?["certificates"][0]["last_error"].is_null());
    let metrics = lab.gateway.metrics()?;
    assert!(metrics.contains("tracker_tls_certificate_reloads_total{result=\"exchanged\"} 2"), "{metrics}");
    assert!(metrics.contains("tracker_tls_certificate_reloads_total{result=\"failed\"} 2"), "{metrics}");

    // Another file, by a live setting.
    let fourth = pair(&lab, PROXY_NAME)?;
    let both =
        lab.scratch.write("both.pem", format!("{}{}", fourth.key, fourth.chain))?.display().to_string();
    for key in ["tls.key", "tls.certificate"] {
        let answer = lab.gateway.ctl(&["set", key, &both])?;
        assert_eq!(answer.exit, 0, "{answer:?}");
    }
    assert_eq!(shown(&lab, "")?, fourth.fingerprint(&lab)?, "at once");
    tunnel.echoes("four")?;
    Ok(())
}

#[test]
fn a_certificate_that_is_set_and_goes_does_not_keep_the_gateway_from_starting() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, first) = start(PROXY_NAME)?;
    // What is no certificate is refused as it would be in the file.
    let answer = lab.gateway.ctl(&["set", "tls.certificate", "/nowhere.pem"])?;
    assert!(answer.exit == 64 && answer.stderr.contains("/nowhere.pem does not exist"), "{answer:?}");
    assert_eq!(lab.gateway.ask(&["get", "tls.certificate"])?["source"], "file");

    let other = pair(&lab, PROXY_NAME)?;
    let both = lab.scratch.write("both.pem", format!("{}{}", other.key, other.chain))?;
    let shown_path = both.display().to_string();
    for key in ["tls.key", "tls.certificate"] {
        assert_eq!(lab.gateway.ctl(&["set", key, &shown_path])?.exit, 0, "{key}");
    }
    lab.gateway.stop()?;
    std::fs::remove_file(&both)?;
    lab.gateway.start()?;
    is_shown(&lab, &first.fingerprint(&lab)?)?;
    let status = lab.gateway.ask(&["status"])?;
    assert!(status["warnings"].to_string().contains("both.pem does not exist"), "{status}");
    lab.scratch.write("both.pem", format!("{}{}", other.key, other.chain))?;
    is_shown(&lab, &other.fingerprint(&lab)?)?;

    // Everything is read again by order, too.
    let reloaded = lab.gateway.ask(&["reload"])?;
    assert_eq!(reloaded, serde_json::json!({ "changed": [] }));
    assert_eq!(lab.gateway.shown(&["reload"])?.trim(), "read again: no setting has changed");
    Ok(())
}

#[test]
fn the_name_that_a_client_asks_for_chooses_among_several_certificates() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, first) = start(PROXY_NAME)?;
    let second = pair(&lab, "*.old.test")?;
    replace(&lab, "old.crt", &second.chain)?;
    replace(&lab, "old.key", &second.key)?;
    let [one, two] = ["gw", "old"].map(|name| file(&lab, name).display().to_string());
    lab.gateway.configure(&format!(
        "[tls]\ncertificate = [\"{one}.crt\", \"{two}.crt\"]\nkey = [\"{one}.key\", \"{two}.key\"]\n"
    ))?;
    let (first, second) = (first.fingerprint(&lab)?, second.fingerprint(&lab)?);
    until("both to be there", SOON, || {
        (certificates(&lab).ok()?["certificates"].as_array()?.len() == 2).then_some(())
    })?;
    for (arguments, expected) in [
        ("-servername gw.old.test", &second),
        ("-servername GW.OLD.TEST -tls1_2", &second),
        ("-servername a.b.old.test", &first),
        ("-servername proxy.example.test", &first),
        ("-servername nobody.test", &first),
        ("-noservername", &first),
    ] {
        assert_eq!(&shown(&lab, arguments)?, expected, "{arguments}");
    }
    assert_eq!(lab.gateway.ask(&["get", "tls.certificate"])?["value"], format!("{one}.crt, {two}.crt"));
    Ok(())
}

#[test]
fn where_no_certificate_is_configured_one_is_made_and_stays() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start(&format!("[tls]\nproxy-listen = [\"0.0.0.0:{PORT}\"]\n"))?;
    let all = certificates(&lab)?;
    let made = &all["certificates"][0];
    let fingerprint = made["fingerprint"].as_str().context("a fingerprint")?.to_owned();
    assert!(made["self_signed"] == true && made["next_renewal"].is_string(), "{all}");
    assert!(made["certificate_file"].is_null(), "{all}");
    let names = made["names"].to_string();
    for name in [PROXY_NAME, &GATEWAY_V4.to_string(), "localhost"] {
        assert!(names.contains(name), "{name}: {names}");
    }
    assert!(lab.gateway.log().contains(&format!("fingerprint=\"{fingerprint}\"")), "{}", lab.gateway.log());
    assert!(lab.gateway.shown(&["status"])?.contains(&fingerprint));
    assert_eq!(shown(&lab, "")?, fingerprint);
    // Trusted, it serves.
    let trusted = lab.scratch.join("state/self-signed.pem").display().to_string();
    let reply = curl(&lab, 0, &trusted).tickets(&lab.tickets("alice")?).get(ORIGIN)?;
    assert_eq!(reply.code, 200, "{reply:?}");
    lab.gateway.restart()?;
    assert_eq!(shown(&lab, "")?, fingerprint);
    assert_eq!(certificates(&lab)?["certificates"][0]["fingerprint"], fingerprint);
    Ok(())
}

#[test]
fn a_bad_certificate_is_no_start_and_says_why() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(1, &lab::gateway::bin_dir()?)?;
    let (one, other) = (pair(&lab, PROXY_NAME)?, pair(&lab, PROXY_NAME)?);
    replace(&lab, "gw.crt", &one.chain)?;
    let settings = settings(&lab);
    lab.gateway.configure(&settings)?;
    for (key, sentence) in [
        (None, "gw.key does not exist; put the file there"),
        (Some(&one.chain), "gw.key holds no private key; "),
        (Some(&other.key), "gw.key holds a private key that is not the one of the certificate in "),
    ] {
        if let Some(key) = key {
            replace(&lab, "gw.key", key)?;
        }
        for arguments in [&["--check-config"][..], &[]] {
            let output = lab.gateway.trackerd().args(arguments).output()?;
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{output:?}");
            assert!(told.contains(sentence), "{told}");
        }
    }
    replace(&lab, "gw.key", &one.key)?;
    let output = lab.gateway.trackerd().arg("--check-config").output()?;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    lab.gateway.start()?;
    assert_eq!(shown(&lab, "")?, one.fingerprint(&lab)?);
    Ok(())
}
