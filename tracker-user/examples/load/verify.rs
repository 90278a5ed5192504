//! What the gateway's verifier costs: token in, identity out, with the queue, names, counters and everything else on the way.

use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tracker::auth::kerberos::TicketVerifier;
use tracker::auth::kerberos::negotiate::{Counters, Options};
use tracker::auth::{Channel, Context, Credentials, Outcome, Schemes, Verifier};
use tracker::clock::boot_now;

use crate::figures;
use crate::kerberos::Kerberos;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service's keytab.
    #[arg(long)]
    keytab: PathBuf,
    /// So many tokens.
    #[arg(long)]
    tokens: usize,
    /// So many under way at a time.
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// The Kerberos service.
    #[arg(long, default_value = "HTTP@proxy.example.test")]
    service: String,
}

/// Makes the tokens, then has them verified.
pub(crate) fn run(args: &Args) -> Result<()> {
    let kerberos = Kerberos::new(&args.service)?;
    let tokens: Vec<Vec<u8>> = (0..args.tokens).map(|_| kerberos.raw()).collect::<Result<_>>()?;
    let options = Options { keytab: Some(args.keytab.clone()), ..Options::default() };
    let verifier = Verifier::new(TicketVerifier::start(options, Counters::hidden()?)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    figures::ready()?;
    let begun = Instant::now();
    let times = runtime.block_on(async {
        let tokens = RefCell::new(tokens.into_iter());
        let one_after_another = || async {
            let mut times = Vec::new();
            loop {
                let token = tokens.borrow_mut().next();
                let Some(token) = token else { return Ok(times) };
                let one = Instant::now();
                let context = Context {
                    client: std::net::Ipv4Addr::LOCALHOST.into(),
                    accepts: Schemes::NEGOTIATE,
                    handshake: None,
                    channel: Channel::Plain,
                    arrival: boot_now(),
                };
                match verifier.verify(Credentials::Negotiate(token), context).await {
                    Outcome::Proved(_) => times.push(one.elapsed()),
                    other => bail!("a good token was not accepted: {other:?}"),
                }
            }
        };
        let mut under_way: FuturesUnordered<_> = (0..args.at_once).map(|_| one_after_another()).collect();
        let mut times: Vec<Duration> = Vec::with_capacity(args.tokens);
        while let Some(part) = under_way.next().await {
            times.extend(part?);
        }
        Ok::<_, anyhow::Error>(times)
    })?;
    figures::print(begun.elapsed(), times, 0);
    Ok(())
}
