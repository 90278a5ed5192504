//! Requests of one kind, again and again: on kept connections, through tunnels, with fresh tokens.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;

use crate::dialogue::{self, Dialogue, End, Limits, Step, To};
use crate::kerberos::Kerberos;
use crate::{figures, tls};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The proxy.
    #[arg(long)]
    proxy: SocketAddr,
    /// The web server.
    #[arg(long)]
    origin: SocketAddr,
    /// Path of what is asked for.
    #[arg(long, default_value = "/1k")]
    path: String,
    /// There is no proxy: `--proxy` is the web server itself.
    #[arg(long)]
    direct: bool,
    /// The proxy speaks TLS.
    #[arg(long)]
    tls: bool,
    /// A field of each request, as `Name: value`.
    #[arg(long)]
    field: Vec<String>,
    /// So many connections at once.
    #[arg(long, default_value_t = 32)]
    at_once: usize,
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// So many in all at most; 0 is as many as there is time for.
    #[arg(long, default_value_t = 0)]
    count: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Negotiate {
    #[command(flatten)]
    load: Args,
    /// The first client's address; the following ones count up from it.
    #[arg(long)]
    from: Ipv6Addr,
    /// So many tokens are made beforehand; it ends with the last of them.
    #[arg(long)]
    tokens: usize,
    /// The proxy's Kerberos service.
    #[arg(long, default_value = "HTTP@proxy.example.test")]
    service: String,
}

impl Args {
    fn limits(&self) -> Limits {
        let count = if self.count == 0 { u64::MAX } else { self.count };
        Limits { count, time: Duration::from_secs_f64(self.seconds), at_once: self.at_once }
    }

    /// A GET as one asks a proxy, or the server itself; `more` is more header lines.
    fn get(&self, proxied: bool, more: &str) -> Vec<u8> {
        let Self { origin, path, .. } = self;
        let target = if proxied { format!("http://{origin}{path}") } else { path.clone() };
        format!("GET {target} HTTP/1.1\r\nHost: {origin}\r\n{more}\r\n").into_bytes()
    }

    fn run(&self, end: End, next: impl FnMut() -> Option<Dialogue>) -> Result<()> {
        let tls = self.tls.then(|| tls::client(false)).transpose()?;
        let to = To { address: self.proxy, tls };
        figures::ready()?;
        let outcome = dialogue::hold(&to, end, self.limits(), next)?;
        figures::print(outcome.took, outcome.times, outcome.failed);
        Ok(())
    }
}

/// GETs on kept connections.
pub(crate) fn get(args: &Args) -> Result<()> {
    let fields: String = args.field.iter().map(|field| format!("{field}\r\n")).collect();
    let step = Step { request: args.get(!args.direct, &fields), status: 200, bare: false };
    let dialogue = Dialogue { from: None, steps: vec![step] };
    args.run(End::Keep, || Some(dialogue.clone()))
}

/// CONNECT, one GET, the end, which the origin makes: it is asked to close.
pub(crate) fn connect(args: &Args) -> Result<()> {
    let origin = args.origin;
    let tunnel = format!("CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n\r\n").into_bytes();
    let mut steps = vec![Step { request: tunnel, status: 200, bare: true }];
    if args.direct {
        steps.clear();
    }
    steps.push(Step { request: args.get(false, "Connection: close\r\n"), status: 200, bare: false });
    let dialogue = Dialogue { from: None, steps };
    args.run(End::Theirs, || Some(dialogue.clone()))
}

/// A challenge and its answer, each time from another address.
pub(crate) fn negotiate(args: &Negotiate) -> Result<()> {
    let load = &args.load;
    let kerberos = Kerberos::new(&args.service)?;
    let tokens: Vec<String> = (0..args.tokens).map(|_| kerberos.token()).collect::<Result<_>>()?;
    let mut tokens = tokens.into_iter().enumerate();
    let challenged = Step { request: load.get(true, ""), status: 407, bare: false };
    load.run(End::Ours, || {
        let (number, token) = tokens.next()?;
        let from = Ipv6Addr::from(u128::from(args.from) + u128::try_from(number).ok()?);
        let proof = load.get(true, &format!("Proxy-Authorization: Negotiate {token}\r\n"));
        let steps = vec![challenged.clone(), Step { request: proof, status: 200, bare: false }];
        Some(Dialogue { from: Some(IpAddr::V6(from)), steps })
    })
}
