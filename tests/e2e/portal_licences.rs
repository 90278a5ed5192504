//! Licences: who takes one, who is refused and what they and the operator are told, guests, alarms, and a limit that changes live.

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::wait::until;
use lab::web::{Web, token};
use serde_json::{Value, json};

use crate::common::{
    ORIGIN, SOON, becomes_stale, is_for_people, is_let_through, mode, session, status_without_credentials,
};

/// The events of a kind, oldest first.
fn events(lab: &Lab, kind: &str) -> Result<Vec<Value>> {
    let all = lab.gateway.ask(&["events"])?.as_array().cloned().context("a list")?;
    Ok(all.into_iter().filter(|event| event["event"] == kind).collect())
}

/// Waits until so many licences are in use, of so many.
fn in_use(lab: &Lab, used: u32, max: u32) -> Result<()> {
    let wanted = json!({"used": used, "max": max});
    let is_so = || (lab.gateway.ask(&["status"]).ok()?["licences"] == wanted).then_some(());
    until(&format!("{used} of {max} licences in use"), SOON, is_so)
        .with_context(|| format!("{:#?}", lab.gateway.ask(&["status"])))
}

/// The alarms so far: level, in use, and of how many.
fn alarms(lab: &Lab) -> Result<Vec<(String, u64, u64)>> {
    let told = events(lab, "licences")?.into_iter().map(|event| {
        let word = event["reason"].as_str().unwrap_or_default().to_owned();
        (word, event["used"].as_u64().unwrap_or_default(), event["max"].as_u64().unwrap_or_default())
    });
    Ok(told.collect())
}

/// Waits until these are the alarms so far.
fn alarmed(lab: &Lab, wanted: &[(&str, u64, u64)]) -> Result<()> {
    let wanted: Vec<_> = wanted.iter().map(|(word, used, max)| ((*word).to_owned(), *used, *max)).collect();
    until(&format!("the alarms {wanted:?}"), SOON, || (alarms(lab).ok()? == wanted).then_some(()))
        .with_context(|| format!("{:#?}", alarms(lab)))
}

/// A login that is refused for want of a licence.
fn is_refused(lab: &Lab, client: usize, user: &str) -> Result<()> {
    let reply = lab.curl_as(client, user)?.get(ORIGIN)?;
    assert_eq!(reply.code, 403, "{user} from {client}: {reply:?}\n{}", lab.gateway.log());
    assert!(reply.text().contains("has licences for"), "{reply:?}");
    is_for_people(lab, &reply.text())
}

fn set(lab: &Lab, key: &str, value: &str) -> Result<()> {
    let done = lab.gateway.ctl(&["set", key, value])?;
    assert_eq!(done.exit, 0, "{done:?}");
    Ok(())
}

fn warnings(lab: &Lab) -> Result<String> {
    Ok(lab.gateway.ask(&["status"])?["warnings"].to_string())
}

/// Two devices are one licence, the third takes another; at the limit each refusal has its line, and whoever is in stays in.
#[test]
fn a_licence_covers_a_users_devices_and_the_next_address_takes_another() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(5, "[licences]\nmax-users = 2\ndevices-per-user = 2\n")?;
    lab.login(0, "alice")?;
    lab.login(1, "alice")?;
    in_use(&lab, 1, 2)?;
    lab.login(2, "alice")?;
    in_use(&lab, 2, 2)?;
    alarmed(&lab, &[("exhausted", 2, 2)])?;
    assert!(warnings(&lab)?.contains("2 of 2 licences are in use"), "{}", warnings(&lab)?);
    assert!(lab.gateway.log().contains("2 of 2 licences are in use"), "{}", lab.gateway.log());

    for _ in 0..8 {
        is_refused(&lab, 3, "bob")?;
    }
    // Five would be told of another kind of refusal: each of these stands.
    let refused =
        || events(&lab, "refused").map(|all| all.into_iter().filter(|event| event["cause"] == "licences"));
    let all = || Some(refused().ok()?.collect::<Vec<Value>>()).filter(|all| all.len() == 8);
    let told = until("eight refusals", SOON, all)?;
    for event in &told {
        assert_eq!((&event["user"], &event["client"]), (&"bob".into(), &lab.address(3).into()), "{event}");
        assert!(event["method"] == "kerberos" && event.get("count").is_none(), "{event}");
    }
    assert_eq!(lab.gateway.metric("tracker_licences_refused_total")?, Some(8.0));
    assert_eq!(lab.gateway.metric("tracker_licences_used")?, Some(2.0));
    assert_eq!(lab.gateway.metric("tracker_licences_max")?, Some(2.0));
    assert_eq!(lab.gateway.session(&lab.address(3))?, None);

    // The fourth device is covered by what alice has; and whoever takes an address over has what it frees.
    lab.login(4, "alice")?;
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(4)])?.exit, 0);
    lab.login(2, "bob")?;
    in_use(&lab, 2, 2)?;
    assert!((0..3).all(|client| is_let_through(&lab, client)), "nobody who is in is harmed");
    // A logout frees it for the next one, before it is answered.
    assert_eq!(lab.gateway.ctl(&["logout", "--user", "alice"])?.exit, 0);
    lab.login(3, "alice")?;
    in_use(&lab, 2, 2)
}

/// Who is away takes none; and is refused when they come back to find all of them taken.
#[test]
fn a_stale_session_holds_no_licence_and_is_renewed_only_while_there_is_one() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&(mode("absolute") + "[licences]\nmax-users = 1\n"))?;
    lab.login(0, "alice")?;
    in_use(&lab, 1, 1)?;
    let waiting = becomes_stale(&lab, 0)?;
    in_use(&lab, 0, 1)?;
    set(&lab, "proxy-auth-timeout", "10m")?;
    lab.login(1, "bob")?;
    in_use(&lab, 1, 1)?;
    is_refused(&lab, 0, "alice")?;
    assert_eq!(session(&lab, 0)?.state, "stale", "it waits on");
    assert!(is_let_through(&lab, 1));
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(1)])?.exit, 0);
    lab.login(0, "alice")?;
    let renewed = session(&lab, 0)?;
    assert_eq!((renewed.state.as_str(), &renewed.id), ("active", &waiting.id), "the same session goes on");
    in_use(&lab, 1, 1)
}

/// Addresses of guests take none, whoever is logged in there; what that covers changes live.
#[test]
fn guests_take_no_licence_from_the_moment_on_that_the_list_says_so() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(4, "[licences]\nmax-users = 1\ndevices-per-user = 1\n")?;
    lab.login(0, "alice")?;
    is_refused(&lab, 1, "bob")?;
    set(&lab, "licences.guests", &lab.address(1))?;
    lab.login(1, "bob")?;
    in_use(&lab, 1, 1)?;
    let users = lab.gateway.ask(&["users"])?;
    let of = |users: &Value, name: &str| -> Option<Value> {
        users.as_array()?.iter().find(|user| user["user"] == name).map(|user| user["licences"].clone())
    };
    assert_eq!((of(&users, "alice"), of(&users, "bob")), (Some(1.into()), Some(0.into())), "{users}");
    // A guest no more: nobody is logged out, and nobody else comes in.
    set(&lab, "licences.guests", "")?;
    in_use(&lab, 2, 1)?;
    assert!(is_let_through(&lab, 0) && is_let_through(&lab, 1));
    is_refused(&lab, 2, "alice")?;
    // The list outlives the daemon, and what it gives is counted before anybody is let in.
    set(&lab, "licences.guests", &format!("{}, {}", lab.address(0), lab.address(1)))?;
    in_use(&lab, 0, 1)?;
    lab.gateway.kill();
    lab.gateway.start()?;
    in_use(&lab, 0, 1)?;
    lab.login(2, "bob")?;
    in_use(&lab, 1, 1)?;
    is_refused(&lab, 3, "alice")?;
    assert!(is_let_through(&lab, 0) && is_let_through(&lab, 1));
    let setting = lab.gateway.ask(&["get", "licences.guests"])?;
    assert!(setting.to_string().contains(&lab.address(1)), "{setting}");
    Ok(())
}

/// The operator is told once when they become scarce and once when they run out, however people come and go around it.
#[test]
fn alarms_are_told_once_for_each_crossing_and_a_limit_that_is_lowered_harms_nobody() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(5, "[licences]\nmax-users = 5\ndevices-per-user = 1\n")?;
    for client in 0..3 {
        lab.login(client, "alice")?;
    }
    assert_eq!(alarms(&lab)?, [], "three of five are no reason");
    assert!(!warnings(&lab)?.contains("licences"), "{}", warnings(&lab)?);
    lab.login(3, "alice")?;
    alarmed(&lab, &[("scarce", 4, 5)])?;
    assert!(warnings(&lab)?.contains("4 of 5 licences are in use"), "{}", warnings(&lab)?);
    lab.login(4, "bob")?;
    alarmed(&lab, &[("scarce", 4, 5), ("exhausted", 5, 5)])?;

    // Lowered: whoever is in stays in and is served, whoever has to log in is refused until enough have left.
    set(&lab, "max-users", "2")?;
    in_use(&lab, 5, 2)?;
    assert!((0..5).all(|client| is_let_through(&lab, client)));
    lab.login(4, "bob")?;
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(4)])?.exit, 0);
    is_refused(&lab, 4, "bob")?;
    assert_eq!(status_without_credentials(&lab, 4), 407, "whoever is not logged in is asked, as ever");
    alarmed(&lab, &[("scarce", 4, 5), ("exhausted", 5, 5)])?;
    // Without a limit, there is nothing to run out.
    set(&lab, "max-users", "0")?;
    alarmed(&lab, &[("scarce", 4, 5), ("exhausted", 5, 5), ("available", 4, 0)])?;
    lab.login(4, "bob")?;
    assert_eq!(lab.gateway.ask(&["status"])?["licences"], json!({"used": 5, "max": null}));
    let shown = lab.gateway.shown(&["events"])?;
    assert!(shown.contains("licences  scarce  4 of 5 in use"), "{shown}");
    Ok(())
}

/// By the form it is the same: a page that says so, no name on it, no cookie, and a line in the trail.
#[test]
fn the_form_says_so_too_and_the_address_stays_as_it_was() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[licences]\nmax-users = 1\n")?;
    lab.login(0, "alice")?;
    for (language, says) in [("en", "has licences for"), ("de", "wie dieser Proxy Lizenzen hat")] {
        let language = format!("Accept-Language: {language}");
        let web = Web::new(&lab, 1);
        let form = web.ask(&Web::url("/login"), &[], &[&language])?;
        let token = token(&form)?;
        let fields = [("token", token.as_str()), ("name", "bob"), ("password", "bob-pw")];
        let page = web.ask(&Web::url("/login"), &fields, &[&language, "Sec-Fetch-Site: same-origin"])?;
        assert_eq!(page.code, 403, "{page:?}");
        let text = page.text();
        assert!(text.contains(says), "{text}");
        assert!(!text.contains("alice"), "{text}");
        is_for_people(&lab, &text)?;
        assert_eq!(lab.gateway.session(&lab.address(1))?, None);
        assert_eq!(status_without_credentials(&lab, 1), 407);
    }
    let refused =
        || events(&lab, "refused").map(|all| all.into_iter().filter(|event| event["cause"] == "licences"));
    let all = || Some(refused().ok()?.collect::<Vec<Value>>()).filter(|all| all.len() == 2);
    for event in until("both refusals", SOON, all)? {
        assert_eq!((&event["user"], &event["client"]), (&"bob".into(), &lab.address(1).into()), "{event}");
        assert_eq!(event["method"], "password", "{event}");
    }
    assert_eq!(lab.gateway.metric("tracker_licences_refused_total")?, Some(2.0));
    // Whoever takes alice's address over has her licence.
    let web = Web::new(&lab, 0);
    let form = web.get("/login")?;
    assert_eq!(web.post(&form, "/login", &[("name", "bob"), ("password", "bob-pw")])?.code, 303);
    assert!(session(&lab, 0)?.is_of("bob"));
    in_use(&lab, 1, 1)
}
