//! Hosts that have nothing but a link-local address: two links can have a host of the same one.

use anyhow::Result;
use lab::Lab;
use lab::gateway::PROXY_PORT;

use crate::common::{LINK_LOCAL_CLIENT as CLIENT, ORIGIN, lay_cable, logged, raw_by_cable};

fn asks(lab: &Lab, client: usize, headers: &str) -> Result<u16> {
    let mut raw = raw_by_cable(lab, client)?;
    raw.get(ORIGIN, headers)?;
    Ok(raw.answer()?.0.code)
}

#[test]
fn a_host_on_another_link_with_the_same_link_local_address_is_another_client() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    for mode in ["ebpf", "proxy"] {
        let lab = Lab::start(&format!(
            "[proxy]\nlisten = [\"[::]:{PROXY_PORT}\"]\n[observer]\nmode = \"{mode}\"\n"
        ))?;
        (0..2).try_for_each(|client| lay_cable(&lab, client))?;
        assert_eq!(asks(&lab, 0, &lab.credentials(0, "alice")?)?, 200, "{}", lab.gateway.log());
        assert_eq!(asks(&lab, 0, "")?, 200);
        assert_eq!(asks(&lab, 1, "")?, 407, "{mode}: another host was served as alice");
        assert_eq!(asks(&lab, 1, &lab.credentials(1, "bob")?)?, 200);
        let mut sessions = lab.gateway.sessions()?;
        sessions.sort_by(|a, b| a.client.cmp(&b.client));
        let names: Vec<_> = sessions.iter().map(|session| session.client.clone()).collect();
        assert_eq!(names, [format!("{CLIENT}%link0"), format!("{CLIENT}%link1")]);
        assert!(sessions[0].is_of("alice") && sessions[1].is_of("bob"));

        // By name and by number, and never without.
        let shown = lab.gateway.ask(&["session", &format!("{CLIENT}%link1")])?;
        assert_eq!(shown["user"], "bob");
        assert_eq!(lab.gateway.ctl(&["logout", &CLIENT.to_string()])?.exit, 64);
        assert_eq!(lab.gateway.ctl(&["logout", &format!("{CLIENT}%nonesuch")])?.exit, 64);
        assert_eq!(lab.gateway.ctl(&["logout", &format!("{CLIENT}%link0")])?.exit, 0);
        assert_eq!(asks(&lab, 0, "")?, 407);
        assert_eq!(asks(&lab, 1, "")?, 200);
        let past = lab.gateway.ask(&["history", "--client", &format!("{CLIENT}%link0")])?;
        assert_eq!(past.as_array().map(Vec::len), Some(1), "{past}");
        logged(&lab, &[&format!("access: client={CLIENT}%link0 ")])?;
    }
    Ok(())
}
