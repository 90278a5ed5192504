//! Certificates, made by openssl: authorities, and what they sign, in order or not.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::clock;
use crate::ns::finish;
use crate::scratch::Scratch;

/// A key of an elliptic curve, as openssl is asked for one.
pub const P256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
/// One whose signatures have no hash function of their own: no channel binding is defined for it.
pub const ED25519: &[&str] = &["ed25519"];
/// One that is too short today.
pub const RSA_1024: &[&str] = &["rsa:1024"];

/// A certificate with what is needed to show it.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate and what is between it and the root, PEM.
    pub chain: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl Certificate {
    /// Settings: this certificate.
    #[must_use]
    pub fn settings(&self) -> String {
        format!("[tls]\ncertificate = \"{}\"\nkey = \"{}\"\n", self.chain.display(), self.key.display())
    }

    /// Its `tls-server-end-point` binding, for a signature with SHA-256.
    ///
    /// # Errors
    /// When openssl cannot read it.
    pub fn end_point(&self) -> Result<Vec<u8>> {
        Ok([b"tls-server-end-point:", &*unhex(&self.fingerprint()?)].concat())
    }

    /// The SHA-256 of it, in hexadecimal digits without anything between them.
    ///
    /// # Errors
    /// When openssl cannot read it.
    pub fn fingerprint(&self) -> Result<String> {
        let said = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", path(&self.chain)], "+0")?;
        let (_, digits) = said.trim().split_once('=').context("openssl shows no fingerprint")?;
        Ok(digits.replace(':', "").to_lowercase())
    }

    /// The SHA-256 of its public key in base64, by which Chromium can be told to trust it.
    ///
    /// # Errors
    /// When openssl cannot read it.
    pub fn spki(&self) -> Result<String> {
        let script = "openssl x509 -noout -pubkey -in \"$0\" | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64";
        let digest = finish(Command::new("sh").args(["-ec", script]).arg(&self.chain), &[])?;
        Ok(digest.trim().to_owned())
    }
}

/// What is asked of a certificate.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// `DNS:name,IP:address`, or nothing at all.
    pub names: &'a str,
    /// The kind of its key.
    pub key: &'a [&'a str],
    /// How far the clock of its maker is off, as [`clock::off_by`] takes it.
    pub made: &'a str,
    /// How many days it is good, from then on.
    pub days: u32,
    /// `sha256` or another.
    pub hash: &'a str,
}

impl<'a> Wish<'a> {
    /// A good one for these names.
    #[must_use]
    pub const fn names(names: &'a str) -> Self {
        Self { names, key: P256, made: "-1h", days: 90, hash: "sha256" }
    }
}

/// Somebody who signs certificates.
#[derive(Clone, Debug)]
pub struct Authority {
    name: String,
    scratch: Scratch,
    own: Certificate,
    /// What it adds to the chains of what it signs.
    chain: Vec<PathBuf>,
}

impl Authority {
    /// A root of this name.
    ///
    /// # Errors
    /// Where openssl is missing.
    pub fn root(scratch: &Scratch, name: &str) -> Result<Self> {
        let (crt, key) = (scratch.unused(name), scratch.unused(name));
        let subject = format!("/CN={name}");
        let mut words = vec!["req", "-x509", "-nodes", "-days", "3650", "-subj", &subject, "-newkey"];
        words.extend(P256);
        words.extend(["-addext", "keyUsage=critical,keyCertSign", "-out", path(&crt), "-keyout", path(&key)]);
        openssl(&words, "-30d")?;
        let own = Certificate { chain: crt, key };
        Ok(Self { name: name.to_owned(), scratch: scratch.clone(), own, chain: Vec::new() })
    }

    /// Another authority below this one.
    ///
    /// # Errors
    /// When openssl refuses.
    pub fn intermediate(&self, name: &str) -> Result<Self> {
        let extensions =
            "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n";
        let wish = Wish { days: 3650, made: "-30d", ..Wish::names("") };
        let own = self.sign(name, wish, extensions)?;
        let chain = [std::slice::from_ref(&own.chain), &*self.chain].concat();
        Ok(Self { name: name.to_owned(), scratch: self.scratch.clone(), own, chain })
    }

    /// The authority's own certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.own.chain
    }

    /// A certificate of a server, with the chain that leads to the root.
    ///
    /// # Errors
    /// When openssl refuses.
    pub fn issue(&self, wish: Wish<'_>) -> Result<Certificate> {
        let alone = self.issue_alone(wish)?;
        let mut pem = std::fs::read(&alone.chain)?;
        for between in &self.chain {
            pem.extend(std::fs::read(between)?);
        }
        std::fs::write(&alone.chain, pem)?;
        Ok(alone)
    }

    /// The same without the chain, as who forgets it installs it.
    ///
    /// # Errors
    /// When openssl refuses.
    pub fn issue_alone(&self, wish: Wish<'_>) -> Result<Certificate> {
        let mut extensions = "basicConstraints=critical,CA:false\nextendedKeyUsage=serverAuth\n".to_owned();
        if !wish.names.is_empty() {
            extensions.push_str(&format!("subjectAltName={}\n", wish.names));
        }
        self.sign("server", wish, &extensions)
    }

    fn sign(&self, name: &str, wish: Wish<'_>, extensions: &str) -> Result<Certificate> {
        let unused = |what: &str| self.scratch.unused(&format!("{}-{name}.{what}", self.name));
        let (request, crt, key, ext) = (unused("csr"), unused("crt"), unused("key"), unused("ext"));
        std::fs::write(&ext, extensions)?;
        let subject = format!("/CN={name}");
        let mut words = vec!["req", "-new", "-nodes", "-subj", &subject, "-newkey"];
        words.extend(wish.key);
        words.extend(["-out", path(&request), "-keyout", path(&key)]);
        openssl(&words, wish.made)?;
        let (days, hash) = (wish.days.to_string(), format!("-{}", wish.hash));
        let mut words = vec!["x509", "-req", "-in", path(&request), "-days", &days, "-extfile", path(&ext)];
        words.extend([
            "-CA",
            path(&self.own.chain),
            "-CAkey",
            path(&self.own.key),
            "-out",
            path(&crt),
            &hash,
        ]);
        openssl(&words, wish.made)?;
        Ok(Certificate { chain: crt, key })
    }
}

/// A certificate that nobody but itself has signed.
///
/// # Errors
/// When openssl refuses.
pub fn self_signed(scratch: &Scratch, wish: Wish<'_>) -> Result<Certificate> {
    let (crt, key) = (scratch.unused("self.crt"), scratch.unused("self.key"));
    let (days, names) = (wish.days.to_string(), format!("subjectAltName={}", wish.names));
    let mut words = vec!["req", "-x509", "-nodes", "-subj", "/CN=server", "-days", &days, "-newkey"];
    words.extend(wish.key);
    words.extend(["-addext", &names, "-addext", "basicConstraints=critical,CA:false"]);
    words.extend(["-out", path(&crt), "-keyout", path(&key)]);
    openssl(&words, wish.made)?;
    Ok(Certificate { chain: crt, key })
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn openssl(words: &[&str], made: &str) -> Result<String> {
    let mut command = Command::new("openssl");
    command.args(words);
    if made != "+0" {
        command.envs(clock::off_by(made)?);
    }
    finish(&mut command, &[]).context("is openssl installed? `cargo xtask setup` installs it")
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len())
        .step_by(2)
        .filter_map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
        .collect()
}
