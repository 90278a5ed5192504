//! Two realms that trust each other, and a person of the same name in each.

use anyhow::Result;
use lab::Lab;
use lab::answers::list;

use crate::common::{ORIGIN, session};

/// How many sessions of this client's were ended by somebody else's login.
fn kicks(lab: &Lab, client: usize) -> Result<usize> {
    let events = lab.gateway.events()?;
    Ok(events.iter().filter(|event| event.client == lab.address(client) && event.reason == "kicked").count())
}

#[test]
fn the_same_name_in_a_trusted_realm_is_another_person() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let other = lab.realm.trusted(&lab.net.gateway)?;
    other.add_user("alice", "another-pw")?;
    let theirs = other.kinit(&lab.net.gateway, "alice", "another-pw")?;
    // What is shown decides nothing: not a short name for a realm, and not that no realm is shown at all.
    for (settings, our_domain, their_domain) in [
        ("", "EXAMPLE.TEST", "OTHER.TEST"),
        ("[kerberos.domains]\n\"EXAMPLE.TEST\" = \"EXAMPLE\"\n", "EXAMPLE", "OTHER.TEST"),
        ("[kerberos.domains]\n\"OTHER.TEST\" = \"EXAMPLE\"\n", "EXAMPLE", "EXAMPLE"),
        ("[kerberos]\nkeep-domain = false\n", "", ""),
    ] {
        lab.gateway.stop()?;
        lab.gateway.configure(settings)?;
        lab.gateway.start()?;
        let log_theirs_in = |client| -> Result<()> {
            let reply = lab.curl(client).tickets(&theirs).get(ORIGIN)?;
            assert_eq!(reply.code, 200, "{settings}: {reply:?}\n{}", lab.gateway.log());
            Ok(())
        };
        let is = |client, domain: &str| -> Result<String> {
            let session = session(&lab, client)?;
            let shown = (session.user.as_str(), session.domain.as_str());
            assert_eq!(shown, ("alice", domain), "{settings}: {session:?}");
            Ok(session.id)
        };
        let before = kicks(&lab, 0)?;
        lab.login(0, "alice")?;
        log_theirs_in(1)?;
        let (ours, others) = (is(0, our_domain)?, is(1, their_domain)?);
        let users = lab.gateway.ask(&["users"])?;
        assert_eq!(list(&users, "users").len(), 2, "{settings}: {users}");

        log_theirs_in(0)?;
        let taken = is(0, their_domain)?;
        assert!(taken != ours && kicks(&lab, 0)? == before + 1, "{settings}: the address changes hands");
        assert_eq!(is(1, their_domain)?, others, "{settings}: on another address nothing happens");
        lab.login(0, "alice")?;
        assert!(is(0, our_domain)? != taken && kicks(&lab, 0)? == before + 2, "{settings}: and back");

        assert_eq!(lab.gateway.ctl(&["logout", "--user", "alice@OTHER.TEST"])?.exit, 0);
        let left = lab.gateway.sessions()?;
        assert!(left.len() == 1 && left[0].client == lab.address(0), "{settings}: {left:?}");
        assert_eq!(lab.gateway.ctl(&["logout", "--all"])?.exit, 0);
    }
    Ok(())
}
