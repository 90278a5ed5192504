//! `revalidate = "on-reopen"`: whoever comes after everything was closed is asked, however fast the one before has left.

use std::time::Duration;

use anyhow::Result;
use lab::Lab;
use lab::raw::Raw;
use lab::wait::silence;

use crate::common::{ORIGIN, session, status_without_credentials};

/// So many logins, each with a reset right behind it.
const TRIES: usize = 25;

/// A request with these credentials, and the connection is reset.
fn login_and_reset(lab: &Lab, credentials: &str) -> Result<()> {
    let mut raw: Raw = lab.raw(0)?;
    raw.get(ORIGIN, credentials)?;
    raw.reset()
}

/// Somebody else comes after each of these pauses.
fn a_reset_right_behind_the_login(observer: &str, pauses: &[Duration]) -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&format!("[timeouts]\nrevalidate = \"on-reopen\"\n{observer}"))?;
    let mut unasked = 0;
    for credentials in lab.many_credentials(0, "alice", TRIES)? {
        login_and_reset(&lab, &credentials)?;
        for pause in pauses {
            silence(*pause);
            unasked += usize::from(status_without_credentials(&lab, 0) != 407);
        }
        lab.gateway.ctl(&["logout", &lab.address(0)])?;
    }
    assert_eq!(unasked, 0, "of {TRIES} who came right after a login and its reset, so many were not asked");
    lab.login(0, "alice")?;
    assert!(session(&lab, 0)?.is_of("alice"), "whoever waits for the answer is logged in");
    Ok(())
}

#[test]
fn a_reset_right_behind_the_login_is_a_closing_after_it() -> Result<()> {
    // At once, and when the login has certainly been decided about.
    a_reset_right_behind_the_login("", &[Duration::ZERO, Duration::from_millis(30)])
}

#[test]
fn a_reset_right_behind_the_login_is_a_closing_after_it_without_the_kernel_side() -> Result<()> {
    // The proxy's own eyes see a closing when the proxy next looks at the connection.
    a_reset_right_behind_the_login("[observer]\nmode = \"proxy\"\n", &[Duration::from_millis(200)])
}
