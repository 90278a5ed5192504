//! The conditions under which Kerberos is offered, with real requests; the truth table is in the unit tests.

use anyhow::Result;
use lab::Lab;
use lab::wait::until;

use crate::common::{ORIGIN, SOON, is_let_through, logged};

#[test]
fn where_kerberos_is_not_offered_there_is_no_challenge_and_no_login() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let conditions = "[kerberos.conditions]\nbrowsers = [\"Firefox/\"]\nurl-deny = [\"^/status/\"]\n";
    let lab = Lab::start(conditions)?;

    let reply = lab.curl(0).get(ORIGIN)?;
    assert_eq!(reply.code, 403, "{reply:?}");
    assert!(reply.header("proxy-authenticate").is_empty(), "{reply:?}");
    let page = reply.text();
    assert!(page.contains("(browser)") && !page.contains("browsers"), "no setting's name on a page: {page}");

    // A ticket that nobody asked for is not looked at.
    assert_eq!(lab.curl_as(0, "alice")?.get(ORIGIN)?.code, 403);
    assert_eq!(lab.gateway.sessions()?, []);

    let firefox = "User-Agent: Mozilla/5.0 FIREFOX/153.0";
    assert_eq!(lab.curl(0).header(firefox).get(ORIGIN)?.code, 407);
    assert_eq!(lab.curl(0).header(firefox).get(&format!("{ORIGIN}status/200"))?.code, 403);
    let cookie = "Cookie: a=b; PstarNoKerberos=1";
    assert_eq!(lab.curl(0).header(firefox).header(cookie).get(ORIGIN)?.code, 403);

    // A session needs no conditions.
    assert_eq!(lab.curl_as(0, "alice")?.header(firefox).get(ORIGIN)?.code, 200);
    assert!(is_let_through(&lab, 0));
    Ok(())
}

#[test]
fn a_change_of_the_conditions_counts_when_the_file_is_saved() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    assert_eq!(lab.curl(0).get(ORIGIN)?.code, 407);
    let address = lab.address(0);
    lab.gateway
        .configure(&format!("[kerberos.conditions]\nip-deny = [\"{address}\"]\ndebugging = true\n"))?;
    until("the denied address to be refused", SOON, || {
        (lab.curl(0).get(ORIGIN).ok()?.code == 403).then_some(())
    })?;
    assert_eq!(lab.curl(1).get(ORIGIN)?.code, 407, "others are asked as before");
    // Debugging tells every step.
    logged(&lab, &["the address is on the deny list"])?;
    Ok(())
}
