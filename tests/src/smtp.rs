//! A mail server for the gateway: Debian's aiosmtpd, on the lab's origin host, with the faults that it is told to have.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::certificates::{Authority, Certificate, Wish};
use crate::net::ORIGIN_V4;
use crate::ns::Ns;
use crate::scratch::{Process, Scratch};
use crate::wait::until;

/// Its name, as its certificate has it: another one of the origin's host.
pub const NAME: &str = "second.example.test";
/// Its port,
pub const PORT: u16 = 2525;
/// and that under TLS from the beginning.
pub const TLS_PORT: u16 = 2465;
/// Who hands mail over, where somebody has to log in;
pub const USER: &str = "gateway";
/// their password.
pub const PASSWORD: &str = "Briefmarke 17";
/// How long it may take to listen, or a mail to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// What of TLS it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// A certificate that the lab's authority has issued.
    Trusted,
    /// One of another authority's.
    Untrusted,
    /// None.
    None,
}

/// How it is set up.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// TLS,
    pub tls: Tls,
    /// and whether it takes mail from [`USER`] alone.
    pub asks_for_a_password: bool,
}

/// It runs until this is dropped.
#[derive(Debug)]
pub struct Smtp {
    directory: PathBuf,
    authority: PathBuf,
    process: Process,
}

/// A mail that it took.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The envelope's sender,
    pub from: String,
    /// and its receivers.
    pub to: String,
    /// The mail's header fields.
    pub head: String,
    /// What it says, decoded.
    pub text: String,
}

impl Mail {
    /// A header field.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let start = format!("{}:", name.to_lowercase());
        self.head
            .lines()
            .find(|line| line.to_lowercase().starts_with(&start))
            .and_then(|line| line.get(start.len()..))
            .map(str::trim)
    }

    /// What stands in it behind this word, up to the next space.
    ///
    /// # Errors
    /// When the word is not in it.
    pub fn behind(&self, word: &str) -> Result<String> {
        let (_, rest) = self.text.split_once(word).with_context(|| format!("no {word:?}: {}", self.text))?;
        Ok(rest.split_whitespace().next().unwrap_or_default().to_owned())
    }
}

impl Smtp {
    /// Starts one on a host that has the origin's address.
    ///
    /// # Errors
    /// Where it is not installed, or does not listen.
    pub fn start(scratch: &Scratch, ns: &Ns, wishes: Wishes) -> Result<Self> {
        let directory = scratch.unused("mails");
        std::fs::create_dir(&directory)?;
        let trusted = Authority::root(scratch, "Mail Root")?;
        let certificate = match wishes.tls {
            Tls::Trusted => Some(trusted.issue(Wish::names(&format!("DNS:{NAME}")))?),
            Tls::Untrusted => {
                Some(Authority::root(scratch, "Nobody")?.issue(Wish::names(&format!("DNS:{NAME}")))?)
            }
            Tls::None => None,
        };
        let authority = trusted.certificate().to_owned();
        let process = Self::spawn(scratch, ns, &directory, certificate.as_ref(), wishes)?;
        let smtp = Self { directory, authority, process };
        until("the mail server to listen", PATIENCE, || smtp.said().contains("listening").then_some(()))?;
        Ok(smtp)
    }

    fn spawn(
        scratch: &Scratch,
        ns: &Ns,
        directory: &Path,
        certificate: Option<&Certificate>,
        wishes: Wishes,
    ) -> Result<Process> {
        let script = scratch.write("smtp.py", include_str!("smtp.py"))?;
        let wanted = serde_json::json!({
            "directory": directory,
            "address": ORIGIN_V4.to_string(),
            "port": PORT,
            "tls_port": TLS_PORT,
            "certificate": certificate.map(|own| &own.chain),
            "key": certificate.map(|own| &own.key),
            "user": if wishes.asks_for_a_password { USER } else { "" },
            "password": PASSWORD,
        });
        let log = std::fs::File::options().create(true).append(true).open(scratch.join("smtp.log"))?;
        // Debian's own, which has its packages; another one may come before it.
        let mut command = ns.command("/usr/bin/python3");
        command.arg(script).arg(wanted.to_string());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        scratch.spawn(&mut command).context("is python3-aiosmtpd installed?")
    }

    /// The variable by which a program trusts the lab's authority instead of those that this host trusts.
    #[must_use]
    pub fn trust(&self) -> (&'static str, PathBuf) {
        ("SSL_CERT_FILE", self.authority.clone())
    }

    /// What it does from now on: `defer`, `refuse`, `hang`, `close`, `lose` (takes a mail, and its answer is lost), `repeat`
    /// (refuses it in its own words); empty: what it should.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn behave(&self, how: &str) -> Result<()> {
        Ok(std::fs::write(self.directory.join("behaviour"), how)?)
    }

    /// What it did.
    #[must_use]
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.directory.join("said")).unwrap_or_default()
    }

    /// How often a mail was begun.
    #[must_use]
    pub fn tries(&self) -> usize {
        self.said().lines().filter(|line| line.starts_with("rcpt ")).count()
    }

    /// The mails that it took, in order.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn mails(&self) -> Result<Vec<Mail>> {
        let mut names: Vec<PathBuf> = std::fs::read_dir(&self.directory)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
            .collect();
        names.sort();
        names.iter().map(|name| read(&std::fs::read_to_string(name)?)).collect()
    }

    /// Waits until it has so many mails, and returns them.
    ///
    /// # Errors
    /// When they do not come.
    pub fn has(&self, count: usize) -> Result<Vec<Mail>> {
        until(&format!("{count} mails"), PATIENCE, || self.mails().ok().filter(|mails| mails.len() >= count))
            .with_context(|| self.said())
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.pid()
    }
}

fn read(file: &str) -> Result<Mail> {
    let mut parts = file.splitn(3, '\n');
    let mut next = || parts.next().context("a mail without an envelope").map(str::to_owned);
    let (from, to, mail) = (next()?, next()?, next()?);
    let (head, body) = mail.split_once("\r\n\r\n").context("a mail without a header")?;
    Ok(Mail { from, to, head: head.to_owned(), text: decoded(body)? })
}

/// RFC 2045, section 6.7.
fn decoded(body: &str) -> Result<String> {
    let joined = body.replace("=\r\n", "").replace("\r\n", "\n");
    let mut pieces = joined.split('=');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2).context("half a character")?;
        bytes.push(u8::from_str_radix(digits, 16)?);
        bytes.extend(rest.bytes());
    }
    Ok(String::from_utf8(bytes)?)
}
