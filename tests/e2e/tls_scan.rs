//! The proxy's port under TLS, as those see it who look for weaknesses: testssl, and openssl's client version by version.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::PROXY_NAME;
use lab::certificates::{Authority, Certificate, P256, Wish};
use lab::gateway::PROXY_TLS_PORT;
use lab::net::GATEWAY_V4;
use lab::secure::settings;
use serde_json::Value;

/// What is as it should be here: a private authority's certificate has no trust by everybody, no public log and no revocation
/// list; and Mozilla's intermediate profile leaves the order of suites to the client, which knows what its machine does well.
const MEANT: [&str; 6] = [
    "cert_chain_of_trust",
    "cert_revocation",
    "certificate_transparency",
    "cert_crlDistributionPoints",
    "DNS_CAArecord",
    "cipher_order",
];

fn start() -> Result<(Lab, Authority, Certificate)> {
    let mut lab = Lab::prepare(1, &lab::gateway::bin_dir()?)?;
    let root = Authority::root(&lab.scratch, "root")?;
    let certificate = root.issue(Wish { key: P256, ..Wish::names("DNS:proxy.example.test") })?;
    lab.gateway.configure(&settings(&certificate))?;
    // All of it comes from one address, and much of it fails on purpose.
    lab.gateway.configure("[timeouts]\nshared-hosts = [\"10.77.0.11\"]\n")?;
    lab.gateway.start()?;
    Ok((lab, root, certificate))
}

#[test]
fn testssl_finds_nothing_of_weight() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, root, _) = start()?;
    let found = lab.scratch.join("testssl.json");
    let mut testssl = lab.net.clients[0].ns.family("timeout");
    testssl.args([
        "--kill-after=5",
        "540",
        "testssl",
        "--quiet",
        "--color",
        "0",
        "--warnings",
        "off",
        "--fast",
    ]);
    // Protocols, ciphers, forward secrecy, the server's preference and defaults, vulnerabilities. No name is looked up.
    testssl.args(["--nodns", "none", "--ip", &GATEWAY_V4.to_string(), "-p", "-s", "-f", "-P", "-S", "-U"]);
    testssl.arg("--add-ca").arg(root.certificate()).arg("--jsonfile").arg(&found);
    testssl
        .arg(format!("{PROXY_NAME}:{PROXY_TLS_PORT}"))
        .stdin(Stdio::null())
        .env("HOME", lab.scratch.path());
    let output = testssl.output().context("is testssl.sh installed? `cargo xtask setup` installs it")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: Value = serde_json::from_slice(&std::fs::read(found)?).with_context(|| said.clone())?;
    let found = found.as_array().context("no findings")?;
    let by_id = |id: &str| found.iter().find(|one| one["id"] == id).map(|one| one["severity"].clone());
    // It did look.
    for id in ["TLS1", "TLS1_2", "TLS1_3", "heartbleed", "cipherlist_NULL", "PFS"] {
        let severity = by_id(id).with_context(|| format!("nothing of {id}: {said}"))?;
        ensure!(["OK", "INFO"].iter().any(|well| severity == *well), "{id}: {severity}: {said}");
    }
    let grave: Vec<&Value> = found
        .iter()
        .filter(|one| {
            let severity = one["severity"].as_str().unwrap_or_default();
            let id = one["id"].as_str().unwrap_or_default();
            ["MEDIUM", "HIGH", "CRITICAL", "FATAL"].contains(&severity)
                && !MEANT.iter().any(|meant| id.starts_with(meant))
        })
        .collect();
    ensure!(grave.is_empty(), "{grave:#?}\n{said}");
    Ok(())
}

/// What openssl's client says, with this input after the handshake.
fn client(lab: &Lab, root: &Authority, options: &[&str], input: &str) -> Result<String> {
    let mut command = lab.net.clients[0].ns.command("sh");
    // The pauses leave the other side time for what it says after the handshake.
    let script =
        "n=$1; shift; { sleep 0.5; printf \"$n\"; sleep 1; } | timeout 20 openssl s_client \"$@\" 2>&1; true";
    command.args(["-c", script, "sh", input, "-connect", &format!("{PROXY_NAME}:{PROXY_TLS_PORT}")]);
    command.args(["-servername", PROXY_NAME, "-CAfile"]).arg(root.certificate()).args(options);
    Ok(String::from_utf8_lossy(&command.output()?.stdout).into_owned())
}

#[test]
fn versions_and_features_are_those_of_today() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, root, _) = start()?;
    for old in ["-tls1", "-tls1_1"] {
        let said = client(&lab, &root, &[old, "-cipher", "ALL:@SECLEVEL=0"], "")?;
        ensure!(said.contains("SSL alert number") && said.contains("Cipher is (NONE)"), "{old}: {said}");
    }
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = client(&lab, &root, &[version, "-alpn", "http/1.1"], "")?;
        for words in [name, "Verification: OK", "Compression: NONE", "ALPN protocol: http/1.1"] {
            ensure!(said.contains(words), "{version}: no {words:?} in {said}");
        }
        // Sessions are resumed, and not without the certificate that they began with.
        let session = lab.scratch.unused("session").display().to_string();
        let said = client(&lab, &root, &[version, "-sess_out", &session], "")?;
        ensure!(said.contains("New, "), "{version}: {said}");
        let said = client(&lab, &root, &[version, "-sess_in", &session], "")?;
        ensure!(said.contains("Reused, "), "{version}: {said}");
    }
    for weak in
        ["aNULL", "eNULL", "3DES", "RC4", "kRSA", "CAMELLIA", "AES256-SHA", "ECDHE-ECDSA-AES128-SHA256"]
    {
        let cipher = format!("{weak}:@SECLEVEL=0");
        let said = client(&lab, &root, &["-tls1_2", "-cipher", &cipher], "")?;
        let is_refused = said.contains("handshake failure") || said.contains("no cipher match");
        ensure!(
            is_refused && !said.contains("Verification: OK\n---\nNew, TLSv1.2, Cipher is E"),
            "{weak}: {said}"
        );
    }
    // A client that wants to negotiate anew is refused: nothing is served after that.
    let request = "GET http://origin.example.test/ HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n";
    let said = client(&lab, &root, &["-tls1_2", "-crlf"], &format!("R\\n{request}"))?;
    ensure!(said.contains("RENEGOTIATING") && !said.contains("HTTP/1.1 4"), "{said}");
    let said = client(&lab, &root, &["-tls1_2", "-quiet"], request)?;
    ensure!(said.contains("HTTP/1.1 407"), "{said}");
    // Nothing is taken that could be replayed.
    let session = lab.scratch.unused("session").display().to_string();
    client(&lab, &root, &["-tls1_3", "-sess_out", &session], "")?;
    let early = lab.scratch.write("early", "GET / HTTP/1.1\r\n\r\n")?;
    let early = early.display().to_string();
    let said = client(&lab, &root, &["-tls1_3", "-sess_in", &session, "-early_data", &early], "")?;
    ensure!(said.contains("Early data was not sent") || said.contains("Early data was rejected"), "{said}");
    Ok(())
}
