//! What strangers write is bounded and does nothing, wherever it is shown: log, audit trail, explain, status.

use anyhow::Result;
use lab::Lab;
use lab::raw::credentials;
use lab::spnego::{encode, ticket_for};
use lab::wait::until;

use crate::common::{ORIGIN, SOON, is_refused_for, url};

/// What turns the direction of writing, and what clears a terminal.
const ODD: &str = "\u{202e}gnp.exe\u{1b}[2J";

/// No line of the log is longer than this, in bytes, whatever is asked for.
const LONGEST_LINE: usize = 3 * 1024;

fn longest_line(lab: &Lab) -> usize {
    lab.gateway.log().lines().map(str::len).max().unwrap_or_default()
}

#[test]
fn a_ticket_for_a_name_of_47_kib_costs_few_words() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    for (name, words) in [
        ("x".repeat(47 * 1024), "a name of 4"),
        // Short enough for the library, which repeats it between its own words.
        (format!("{ODD}{}", "y".repeat(800)), "\\u{202e}"),
    ] {
        let mut raw = lab.raw(0)?;
        raw.get(ORIGIN, &credentials(&encode(&ticket_for(name.as_bytes()))))?;
        assert_eq!(raw.answer()?.0.code, 407, "{}", lab.gateway.log());
        is_refused_for(&lab, 0, &[words])?;
        is_refused_for(&lab, 0, &["ktadd"])?;
    }
    let events = lab.gateway.events()?;
    assert!(events.iter().all(|event| event.reason.len() < 1_200), "{events:#?}");
    let explained = lab.gateway.ctl(&["explain", &lab.address(0)])?;
    assert!(explained.stdout.len() < 16 * 1024 && !explained.stdout.contains(ODD), "{explained:?}");
    let shown = [lab.gateway.shown(&["explain", &lab.address(0)])?, lab.gateway.shown(&["events"])?].concat();
    assert!(!shown.contains(['\u{202e}', '\u{1b}']) && shown.contains("\\u{202e}"), "{shown}");
    until("both refusals in the log", SOON, || {
        (lab.gateway.log().matches("event=\"refused\"").count() == 2).then_some(())
    })?;
    let log = lab.gateway.log();
    assert!(longest_line(&lab) < LONGEST_LINE && !log.contains(['\u{202e}', '\u{1b}']), "{log}");
    Ok(())
}

#[test]
fn an_access_line_is_short_whatever_is_asked_for() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    let long = url(&format!("status/404/{}", "\u{fc}".repeat(30 * 1024)));
    let odd = url("status/404/\u{202e}gnp.exe");
    let mut raw = lab.raw(0)?;
    for target in [&long, &odd] {
        raw.get(target, &format!("User-Agent: {}\r\n", "z".repeat(20 * 1024)))?;
        raw.answer()?;
    }
    let method = "M".repeat(20 * 1024);
    raw.send(format!("{method} {ORIGIN} HTTP/1.1\r\nHost: x\r\n\r\n"))?;
    raw.answer()?;
    until("a line for each", SOON, || {
        (lab.gateway.log().matches(" access: client=").count() >= 4).then_some(())
    })?;
    let log = lab.gateway.log();
    assert!(longest_line(&lab) < LONGEST_LINE, "{} {log}", longest_line(&lab));
    assert!(log.contains("\u{fc}\u{2026}\"") && log.contains("\\u{202e}gnp.exe"), "{log}");
    assert!(log.contains("method=MMMM") && !log.contains('\u{202e}'), "{log}");
    Ok(())
}
