//! A token proves somebody once: whoever sends it again is refused, at the same moment, later, and after a restart.

use std::sync::Barrier;

use anyhow::Result;
use lab::Lab;

use crate::common::{ORIGIN, SOON};

/// What clients 0, 1, ... are told who submit the same credentials, all at once.
fn submit(lab: &Lab, clients: usize, credentials: &str) -> Result<Vec<u16>> {
    let connections = (0..clients).map(|client| lab.raw(client)).collect::<Result<Vec<_>>>()?;
    let start = &Barrier::new(clients);
    std::thread::scope(|scope| {
        let submits = connections.into_iter().map(|mut raw| {
            scope.spawn(move || {
                start.wait();
                raw.get(ORIGIN, credentials)?;
                Ok(raw.answer()?.0.code)
            })
        });
        let threads: Vec<_> = submits.collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn of_many_who_submit_a_token_at_once_one_is_let_in() -> Result<()> {
    const CLIENTS: usize = 6;
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(CLIENTS, "")?;
    for (round, credentials) in lab.many_credentials(0, "alice", 20)?.iter().enumerate() {
        let mut told = submit(&lab, CLIENTS, credentials)?;
        told.sort_unstable();
        assert_eq!(told, [200, 407, 407, 407, 407, 407], "round {round}");
        let sessions = lab.gateway.sessions()?;
        assert!(sessions.len() == 1 && sessions[0].is_of("alice"), "{sessions:?}");
        lab.gateway.ctl(&["logout", "--all"])?;
    }
    Ok(())
}

#[test]
fn a_used_token_is_worthless_after_a_restart_and_after_a_crash() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(2, "")?;
    let credentials = lab.credentials(0, "alice")?;
    let mut raw = lab.raw(0)?;
    raw.get(ORIGIN, &credentials)?;
    assert_eq!(raw.answer()?.0.code, 200);
    for crash in [false, true] {
        if crash {
            lab.gateway.kill();
            lab.gateway.start()?;
        } else {
            lab.gateway.restart()?;
        }
        let mut raw = lab.raw(1)?;
        raw.get(ORIGIN, &credentials)?;
        assert_eq!(raw.answer()?.0.code, 407);
        let refused = || {
            let events = lab.gateway.events().ok()?;
            events.into_iter().find(|event| event.client == lab.address(1) && event.text.contains("replay"))
        };
        lab::wait::until("the refusal and its reason in the audit trail", SOON, refused)?;
    }
    assert_eq!(lab.gateway.sessions()?.len(), 1);
    Ok(())
}
