//! No secret of a second factor stands in the clear: not in the store, the log, a backup; nor in memory, once it was used.

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::secrets::{in_memory, written};

use super::{gets_in, settings};
use crate::factor_codes::set_up;

/// A secret in base32 (RFC 4648, section 6) as bytes.
fn decoded(base32: &str) -> Result<Vec<u8>> {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for letter in base32.bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == letter);
        held = held << 5 | u32::try_from(value.context("not base32")?)?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits & 0xff)?);
        }
    }
    Ok(bytes)
}

#[test]
fn no_secret_stands_in_the_clear() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(1, &settings())?;
    let (_, own, codes) = set_up(&lab, 0, "alice")?;
    assert!(gets_in(&lab, 0, "alice", &own)?);
    let secret = decoded(own.secret())?;
    // As it is, as people read it, and as JSON has it; also but for its end, as a buffer that grew would leave it.
    let numbers: Vec<String> = secret.iter().map(u8::to_string).collect();
    let numbers = numbers.join(",");
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut wanted: Vec<&[u8]> =
        vec![&secret[..12], &own.secret().as_bytes()[..16], &numbers.as_bytes()[..24], &hex.as_bytes()[..24]];
    wanted.extend(codes.iter().map(String::as_bytes));
    // Whoever looks finds: what is known to stand there.
    ensure!(!written(&lab, &[b"second-factors"])?.is_empty(), "the search finds nothing");
    assert_eq!(written(&lab, &wanted)?, [""; 0]);
    lab.gateway.restart()?;
    assert_eq!(written(&lab, &wanted)?, [""; 0]);
    for _ in 0..2 {
        assert!(gets_in(&lab, 0, "alice", &own)?);
    }
    lab.gateway.ask(&["second-factor", "show", "alice"])?;
    lab.gateway.ask(&["second-factor", "rotate-key"])?;
    assert_eq!(in_memory(&lab, &[b"alice@EXAMPLE.TEST"])?, [0], "the search finds nothing");
    assert_eq!(in_memory(&lab, &wanted)?, [0; 0], "{wanted:?}");
    assert_eq!(written(&lab, &wanted)?, [""; 0]);
    Ok(())
}
