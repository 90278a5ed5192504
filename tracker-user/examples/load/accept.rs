//! What the library itself costs: `gss_accept_sec_context` in a loop, with a keytab in a file or in memory.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use libgssapi::context::{SecurityContext as _, ServerCtx};
use libgssapi::credential::{Cred, CredUsage};

use crate::kerberos::Kerberos;
use crate::{figures, keytab};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The service's keytab.
    #[arg(long)]
    keytab: PathBuf,
    /// Copy it into memory first.
    #[arg(long)]
    memory: bool,
    /// So many tokens.
    #[arg(long)]
    tokens: usize,
    /// The Kerberos service.
    #[arg(long, default_value = "HTTP@proxy.example.test")]
    service: String,
}

/// Makes the tokens, then accepts them.
pub(crate) fn run(args: &Args) -> Result<()> {
    let name = if args.memory {
        keytab::in_memory(&args.keytab)?
    } else {
        format!("FILE:{}", args.keytab.display())
    };
    keytab::accept_from(&name)?;
    let kerberos = Kerberos::new(&args.service)?;
    let tokens: Vec<Vec<u8>> = (0..args.tokens).map(|_| kerberos.raw()).collect::<Result<_>>()?;
    let cred = Cred::acquire(None, None, CredUsage::Accept, None)?;
    figures::ready()?;
    let begun = Instant::now();
    let mut times = Vec::with_capacity(tokens.len());
    for token in &tokens {
        let one = Instant::now();
        let mut context = ServerCtx::new(Some(cred.clone()));
        context.step(token, None)?;
        ensure!(context.is_complete(), "one leg was not enough");
        times.push(one.elapsed());
    }
    figures::print(begun.elapsed(), times, 0);
    Ok(())
}
