//! What curl cannot show of a Kerberos client: a GSSAPI handshake step by step, and tickets that no tool asks for.
//!
//! Done by a C program that is compiled on first use: the library reads its configuration from the environment, which
//! the threads of a test's process share.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::clock;
use crate::ns::{Ns, finish};
use crate::realm::Realm;
use crate::scratch::{Process, Scratch};

/// The program, with the description of what it does.
const SOURCE: &str = include_str!("kerberos.c");

/// A mechanism of GSSAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Kerberos without a wrapper.
    Krb5,
    /// Kerberos in SPNEGO.
    Spnego,
}

/// Who proves themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The client.
    OneWay,
    /// The client and the gateway.
    Mutual,
}

/// A client host with tickets.
#[derive(Clone, Debug)]
pub struct Client<'a> {
    program: PathBuf,
    scratch: &'a Scratch,
    ns: &'a Ns,
    realm: &'a Realm,
    cache: PathBuf,
    environment: Vec<(&'static str, PathBuf)>,
}

impl<'a> Client<'a> {
    /// A client on this host with the tickets in this file.
    ///
    /// # Errors
    /// Where gcc and libkrb5-dev are not installed.
    pub fn new(scratch: &'a Scratch, ns: &'a Ns, realm: &'a Realm, cache: &Path) -> Result<Self> {
        let program = scratch.join("kerberos-client");
        if !program.exists() {
            let source = scratch.write("kerberos.c", SOURCE)?;
            let mut command = Command::new("cc");
            command.args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(source);
            finish(command.args(["-lgssapi_krb5", "-lkrb5"]), &[])
                .context("are gcc and libkrb5-dev installed? `cargo xtask setup` installs them")?;
        }
        Ok(Self { program, scratch, ns, realm, cache: cache.to_owned(), environment: Vec::new() })
    }

    /// With another configuration of the library.
    #[must_use]
    pub fn configured_by(mut self, krb5_conf: &Path) -> Self {
        self.environment.push(("KRB5_CONFIG", krb5_conf.to_owned()));
        self
    }

    /// Begins a handshake with a service, such as `HTTP@proxy.example.test`; the first token is made.
    ///
    /// # Errors
    /// When there is no ticket for it and none can be had.
    pub fn handshake(&self, mechanism: Mechanism, way: Way, service: &str) -> Result<Handshake> {
        self.begin(mechanism, way, service, None)
    }

    /// Begins one in SPNEGO whose tokens are made for a channel (RFC 5929), such as `tls-server-end-point:` and a digest.
    ///
    /// # Errors
    /// When there is no ticket for it and none can be had.
    pub fn bound_handshake(&self, service: &str, channel: &[u8]) -> Result<Handshake> {
        self.begin(Mechanism::Spnego, Way::Mutual, service, Some(channel))
    }

    fn begin(
        &self,
        mechanism: Mechanism,
        way: Way,
        service: &str,
        channel: Option<&[u8]>,
    ) -> Result<Handshake> {
        let mechanism = if mechanism == Mechanism::Krb5 { "krb5" } else { "spnego" };
        let way = if way == Way::Mutual { "mutual" } else { "one-way" };
        let mut command = self.command();
        command.args(["handshake", mechanism, way, service]).args(channel.map(hex));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = self.scratch.spawn(&mut command)?;
        let child = process.child().context("it has just been started")?;
        let (stdin, stdout) =
            (child.stdin.take().context("no pipe")?, child.stdout.take().context("no pipe")?);
        let mut handshake =
            Handshake { stdin, stdout: BufReader::new(stdout), first: Vec::new(), _process: process };
        handshake.first = bytes(&handshake.said()?, "token")?;
        Ok(handshake)
    }

    /// Gets a ticket for a service, such as `HTTP/proxy.example.test`, with this many bytes of authorization data in it, and
    /// puts it into the cache.
    ///
    /// # Errors
    /// When the KDC refuses.
    pub fn large_ticket(&self, service: &str, bytes: usize) -> Result<()> {
        finish(self.command().args(["large", service, &bytes.to_string()]), &[]).map(drop)
    }

    /// A token for a service by the ticket in the cache, whether it is valid or not, made on a clock that is off by so much.
    ///
    /// # Errors
    /// When there is none, or libfaketime is not installed.
    pub fn token_of_any_ticket(&self, service: &str, offset: &str) -> Result<Vec<u8>> {
        let mut command = self.command();
        let said = finish(command.args(["ap-req", service]).envs(clock::off_by(offset)?), &[])?;
        Ok(crate::spnego::kerberos(&bytes(&said, "ap-req")?))
    }

    fn command(&self) -> Command {
        let mut command = self.ns.command(&self.program);
        command
            .envs(self.realm.environment())
            .env("KRB5CCNAME", &self.cache)
            .envs(self.environment.iter().cloned());
        command
    }
}

/// A client between the tokens of its handshake.
#[derive(Debug)]
pub struct Handshake {
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    first: Vec<u8>,
    _process: Process,
}

impl Handshake {
    /// The first token.
    #[must_use]
    pub fn first(&self) -> &[u8] {
        &self.first
    }

    /// Hands the other side's token in. The next one to be sent, or `None` if the handshake is complete: the other side has
    /// proved itself, if that was wanted.
    ///
    /// # Errors
    /// When the library refuses the token, with its words.
    pub fn answer(&mut self, token: &[u8]) -> Result<Option<Vec<u8>>> {
        self.say("answer", token)?;
        match self.said()?.as_str() {
            "complete" => Ok(None),
            said => bytes(said, "token").map(Some),
        }
    }

    /// A checksum of a message under the handshake's key.
    ///
    /// # Errors
    /// When there is no key yet.
    pub fn mic(&mut self, message: &[u8]) -> Result<Vec<u8>> {
        self.say("mic", message)?;
        bytes(&self.said()?, "mic")
    }

    fn say(&mut self, what: &str, bytes: &[u8]) -> Result<()> {
        Ok(writeln!(self.stdin, "{what} {}", hex(bytes))?)
    }

    fn said(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes in `WHAT HEX`.
fn bytes(line: &str, what: &str) -> Result<Vec<u8>> {
    let Some((_, digits)) = line.trim_end().split_once(' ').filter(|(said, _)| *said == what) else {
        bail!("the Kerberos client says no {what} but {line:?}");
    };
    let byte = |at| u8::from_str_radix(digits.get(at..at + 2).unwrap_or_default(), 16);
    Ok((0..digits.len()).step_by(2).map(byte).collect::<Result<_, _>>()?)
}
