//! A token proves somebody once: whoever sends it again is refused, at the same moment, later, and after a restart.

use std::sync::Barrier;

use anyhow::Result;
use lab::Lab;

use crate::common::{ORIGIN, SOON, is_for_people};

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

/// A directory that is missing, a file in its place, one that is read-only: nobody's fault but the gateway's.
#[test]
fn a_record_of_used_tokens_that_cannot_be_used_is_not_blamed_on_users() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(2, &lab::gateway::bin_dir()?)?;
    let directory = lab.scratch.join("used-tokens");
    let read_only = "mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" && exec \"$@\"";
    for state in ["missing", "a file", "read-only"] {
        let _ = std::fs::remove_dir_all(&directory);
        let under = match state {
            "a file" => {
                std::fs::write(&directory, "")?;
                Vec::new()
            }
            // In a mount namespace of its own, so that nothing is left behind.
            "read-only" => {
                std::fs::remove_file(&directory)?;
                std::fs::create_dir(&directory)?;
                let directory = directory.display().to_string();
                ["unshare", "--mount", "sh", "-c", read_only, &directory].map(str::to_owned).to_vec()
            }
            _ => Vec::new(),
        };
        let env = ["env".to_owned(), format!("KRB5RCACHEDIR={}", directory.display())];
        lab.gateway.run_under(under.into_iter().chain(env));
        lab.gateway.start()?;
        let reply = lab.curl_as(0, "alice")?.get(ORIGIN)?;
        assert_eq!(reply.code, 503, "{state}: {reply:?}");
        assert!(
            reply.header("retry-after").len() == 1 && reply.text().contains("cannot verify"),
            "{reply:?}"
        );
        assert!(!reply.text().contains("used-tokens"), "the operator's words: {}", reply.text());
        is_for_people(&lab, &reply.text())?;
        let events = lab.gateway.events()?;
        assert!(events.iter().any(|event| event.text.contains(r#""cause":"unavailable""#)), "{events:?}");
        assert!(!events.iter().any(|event| event.text.contains(r#""cause":"other""#)), "{events:?}");
        let metrics = lab.gateway.metrics()?;
        assert!(metrics.contains("tracker_negotiate_replay_cache_errors_total 1"), "{metrics}");
        assert!(metrics.contains("tracker_negotiate_refused_total{cause=\"other\"} 0"), "{metrics}");
        let status = lab.gateway.ask(&["status"])?;
        let warned = status["warnings"].to_string();
        assert!(warned.contains("replay cache") && warned.contains("KRB5RCACHEDIR"), "{state}: {warned}");
        let report = lab.gateway.ctl(&["doctor", "--config", lab.gateway.config().to_str().unwrap()])?.json;
        let checks = report["checks"].as_array().cloned().unwrap_or_default();
        let failed = checks.iter().find(|check| check["name"] == "replay-cache").unwrap();
        assert_eq!(failed["state"], "failed", "{state}: {failed}");
        assert!(failed["remedy"].as_str().unwrap().contains("KRB5RCACHEDIR"), "{failed}");
        if state == "missing" {
            // Mended, it works with the next login, and nobody is warned any more.
            std::fs::create_dir(&directory)?;
            lab.login(0, "alice")?;
            assert!(!lab.gateway.ask(&["status"])?["warnings"].to_string().contains("replay cache"));
        }
        lab.gateway.stop()?;
    }
    Ok(())
}
