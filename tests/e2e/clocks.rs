//! Clocks that disagree, and tickets whose time is not now.

use anyhow::Result;
use lab::clock;
use lab::kerberos::Client;
use lab::raw::credentials;
use lab::spnego::encode;
use lab::{Lab, PROXY_NAME};

use crate::common::{
    ORIGIN, becomes_stale, is_let_through, is_refused_for, session, status_without_credentials,
};

/// A clock that is right.
const NOW: &str = "+0";

/// The proxy's principal.
fn principal() -> String {
    format!("HTTP/{PROXY_NAME}")
}

/// What a client is told who submits a token.
fn submit(lab: &Lab, client: usize, token: &[u8]) -> Result<u16> {
    let mut raw = lab.raw(client)?;
    raw.get(ORIGIN, &credentials(&encode(token)))?;
    Ok(raw.answer()?.0.code)
}

#[test]
fn a_client_whose_clock_is_off_by_more_than_five_minutes_is_refused() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, "")?;
    let cache = lab.tickets("alice")?;
    // The ticket is got at the right time: the library corrects a clock by the KDC's when it gets one.
    lab.realm.fetch(&lab.net.gateway, &cache, &principal())?;
    let told = |client, clock| -> Result<u16> {
        Ok(lab.curl(client).tickets(&cache).environment(clock::off_by(clock)?).get(ORIGIN)?.code)
    };
    // Half a minute more than is looked for: the token is on its way for a moment.
    assert_eq!(told(0, "+630s")?, 407);
    is_refused_for(&lab, 0, &["clock", "10 min", "ahead of"])?;
    // curl's library sends no ticket that begins in its own future, others do.
    assert_eq!(submit(&lab, 1, &lab.kerberos(1, "alice")?.token_of_any_ticket(&principal(), "-630s")?)?, 407);
    is_refused_for(&lab, 1, &["clock", "10 min", "behind"])?;
    assert_eq!(lab.gateway.sessions()?, []);
    for (client, clock) in [(2, "+4m"), (3, "-4m")] {
        assert_eq!(told(client, clock)?, 200, "{clock}\n{}", lab.gateway.log());
        assert!(session(&lab, client)?.is_of("alice"));
    }
    Ok(())
}

#[test]
fn a_ticket_that_has_run_out_or_is_not_yet_valid_is_refused() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(3, "")?;
    // A KDC whose clock is wrong: its tickets are valid for ten hours at most, by that clock.
    for (client, clock, words) in [
        (0, "+2h", ["not yet valid", "the ticket begins at"]),
        (1, "-11h", ["expired", "the ticket ended at"]),
    ] {
        lab.realm.restart_kdc_at(&lab.net.gateway, clock)?;
        let cache = lab.realm.kinit(&lab.net.gateway, "alice", "alice-pw")?;
        lab.realm.fetch(&lab.net.gateway, &cache, &principal())?;
        let host = &lab.net.clients[client].ns;
        let token =
            Client::new(&lab.scratch, host, &lab.realm, &cache)?.token_of_any_ticket(&principal(), NOW)?;
        assert_eq!(submit(&lab, client, &token)?, 407, "{clock}");
        is_refused_for(&lab, client, &words)?;
    }
    assert_eq!(lab.gateway.sessions()?, []);

    // The same by a KDC whose clock is right: the ticket's time was all that was wrong with those.
    lab.realm.restart_kdc_at(&lab.net.gateway, NOW)?;
    lab.realm.fetch(&lab.net.gateway, &lab.tickets("alice")?, &principal())?;
    let token = lab.kerberos(2, "alice")?.token_of_any_ticket(&principal(), NOW)?;
    assert_eq!(submit(&lab, 2, &token)?, 200, "{}", lab.gateway.log());
    assert!(session(&lab, 2)?.is_of("alice"));
    Ok(())
}

/// In a time namespace the daemon's clock is not the kernel side's: with its records every timeout would be wrong by the
/// difference.
#[test]
fn a_daemon_in_a_time_namespace_does_not_use_the_kernels_records() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(2, &lab::gateway::bin_dir()?)?;
    for offset in ["86400", "-30"] {
        lab.gateway.run_under(["unshare", "--time", "--boottime", offset]);
        lab.gateway.configure("[observer]\nmode = \"ebpf\"\n")?;
        lab.gateway.start_unready()?;
        assert_ne!(lab.gateway.wait()?.code(), Some(0), "{offset}");
        let log = lab.gateway.log();
        let told = log
            .lines()
            .any(|line| line.contains("time namespace") && line.contains(&format!("by {offset} s")));
        assert!(told, "{log}");
    }
    lab.gateway.configure("[observer]\nmode = \"auto\"\n[timeouts]\nproxy-auth-timeout = \"2s\"\n")?;
    lab.gateway.start()?;
    let status = lab.gateway.ask(&["status"])?;
    assert_eq!(status["observer"]["mode"], "proxy", "{status}");
    assert!(status["warnings"].to_string().contains("time namespace"), "{status}");
    // And by its own eyes it keeps time.
    lab.login(0, "alice")?;
    assert!(is_let_through(&lab, 0));
    becomes_stale(&lab, 0)?;

    // Outside, where the same boot has another time, nobody gets time as a present.
    lab.gateway.stop()?;
    lab.gateway.run_under(Vec::<String>::new());
    lab.gateway.start()?;
    assert_eq!(lab.gateway.ask(&["status"])?["observer"]["mode"], "ebpf");
    assert_eq!(status_without_credentials(&lab, 0), 407);
    Ok(())
}
