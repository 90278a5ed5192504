//! How users are named: by the configuration, by krb5.conf, and by an operator.

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::answers::list;
use lab::wait::until;

use crate::common::{ORIGIN, SOON, session};

/// Logs a principal with the password `pw` in on client 0; returns the status.
fn login(lab: &Lab, principal: &str) -> Result<u16> {
    let tickets = lab.realm.kinit(&lab.net.gateway, principal, "pw")?;
    Ok(lab.curl(0).tickets(&tickets).get(ORIGIN)?.code)
}

/// Waits until the audit trail has a refusal with these words.
fn is_refused_with(lab: &Lab, words: &[&str]) -> Result<()> {
    until(&format!("a refusal with {words:?}"), SOON, || {
        let events = lab.gateway.events().ok()?;
        let found = events
            .iter()
            .any(|event| event.kind == "refused" && words.iter().all(|word| event.reason.contains(word)));
        found.then_some(())
    })
}

/// Puts lines into the realm's section of krb5.conf, in place of those that were put there before.
fn rules(lab: &Lab, lines: &str) -> Result<()> {
    let path = lab.realm.krb5_conf();
    let text = std::fs::read_to_string(&path)?;
    let text: String = text.split_inclusive('\n').filter(|line| !line.contains("auth_to_local")).collect();
    let (before, after) = text.split_once("  kdc = ").context("krb5.conf names a KDC")?;
    Ok(std::fs::write(path, format!("{before}{lines}  kdc = {after}"))?)
}

#[test]
fn a_user_is_shown_as_configured_and_understood_in_every_form() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[kerberos.domains]\n\"EXAMPLE.TEST\" = \"EXAMPLE\"\n")?;
    lab.login(1, "bob")?;
    for form in ["ALICE", "alice@EXAMPLE.TEST", "Alice@example", "EXAMPLE\\alice", "example.test\\Alice"] {
        lab.login(0, "alice")?;
        let shown = lab.gateway.shown(&["sessions"])?;
        assert!(shown.contains("EXAMPLE\\alice") && shown.contains("EXAMPLE\\bob"), "{shown}");
        let found = lab.gateway.ask(&["history", "--user", form])?;
        let rows = list(&found, "history");
        assert!(!rows.is_empty() && rows.iter().all(|row| row["user"] == "alice"), "{form}: {found:#}");
        assert_eq!((&rows[0]["domain"], &rows[0]["realm"]), (&"EXAMPLE".into(), &"example.test".into()));
        assert_eq!(lab.gateway.ctl(&["logout", "--user", form])?.exit, 0, "{form}");
        assert_eq!(lab.gateway.session(&lab.address(0))?, None, "{form}");
        assert!(session(&lab, 1)?.is_of("bob"), "{form}");
    }
    for nobody in ["alice@OTHER.TEST", "OTHER\\bob", "bob@", "bo"] {
        assert_eq!(lab.gateway.ctl(&["logout", "--user", nobody])?.exit, 1, "{nobody}");
    }
    until("the access log", SOON, || lab.gateway.log().contains(" user=EXAMPLE\\alice ").then_some(()))?;

    lab.gateway.ask(&["set", "keep-domain", "false"])?;
    lab.login(1, "bob")?;
    assert!(
        lab.gateway.shown(&["sessions"])?.contains("EXAMPLE\\bob"),
        "a session keeps the name it began with"
    );
    lab.gateway.ctl(&["logout", "--all"])?;
    lab.login(1, "bob")?;
    let shown = lab.gateway.shown(&["sessions"])?;
    assert!(shown.contains(" bob ") && !shown.contains("EXAMPLE"), "{shown}");
    let shown = lab.gateway.shown(&["session", &lab.address(1)])?;
    assert!(shown.contains("bob, of example.test"), "{shown}");
    assert_eq!(lab.gateway.ctl(&["logout", "--user", "bob@EXAMPLE.TEST"])?.exit, 0);
    Ok(())
}

#[test]
fn the_rules_of_krb5_conf_say_who_a_principal_is() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    for principal in ["a.smith", "carol/admin", "HTTP/robot.example.test", "dave\\@corp"] {
        lab.realm.add_user(principal, "pw")?;
    }
    // Without rules, the principal's own name is the user's.
    assert_eq!(login(&lab, "a.smith")?, 200);
    assert!(session(&lab, 0)?.is_of("a.smith"));
    lab.gateway.ctl(&["logout", "--all"])?;
    for (principal, words) in [
        ("carol/admin", ["carol/admin@EXAMPLE.TEST", "a service or an instance"]),
        ("HTTP/robot.example.test", ["HTTP/robot.example.test@EXAMPLE.TEST", "a service or an instance"]),
        ("dave\\@corp", ["dave", "characters that are not accepted"]),
    ] {
        assert_eq!(login(&lab, principal)?, 407, "{principal}");
        is_refused_with(&lab, &words)?;
    }

    rules(
        &lab,
        "  auth_to_local = RULE:[1:$1@$0](^a\\.smith@EXAMPLE\\.TEST$)s/^.*$/smith/
  auth_to_local = RULE:[2:$1;$2](^.*;admin$)s/;admin$//
",
    )?;
    lab.gateway.ask(&["set", "kerberos.auth-to-local", "true"])?;
    until("the rule to count", SOON, || {
        (login(&lab, "a.smith").ok()? == 200 && session(&lab, 0).ok()?.is_of("smith")).then_some(())
    })?;
    assert_eq!(session(&lab, 0)?.domain, "EXAMPLE.TEST", "the realm stays");
    lab.gateway.ctl(&["logout", "--all"])?;
    assert_eq!(login(&lab, "carol/admin")?, 200);
    assert!(session(&lab, 0)?.is_of("carol"), "a rule may make a user of an instance");
    lab.gateway.ctl(&["logout", "--all"])?;
    assert_eq!(login(&lab, "HTTP/robot.example.test")?, 407, "no rule takes it");
    assert_eq!(lab.curl_as(0, "alice")?.get(ORIGIN)?.code, 407);
    is_refused_with(&lab, &["alice@EXAMPLE.TEST", "no auth_to_local rule", "add one to krb5.conf"])?;

    rules(&lab, "  auth_to_local = DEFAULT\n")?;
    until("the changed rules to count", SOON, || {
        (lab.curl_as(0, "alice").ok()?.get(ORIGIN).ok()?.code == 200).then_some(())
    })?;
    assert!(session(&lab, 0)?.is_of("alice"));
    Ok(())
}
