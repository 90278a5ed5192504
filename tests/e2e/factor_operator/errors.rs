//! Codes that were wrong: in the log, the trail, the metrics and on a page of their own; however many there are.

use anyhow::{Result, ensure};
use lab::Lab;
use lab::answers::list;
use lab::web::Web;

use super::settings;
use crate::common::logged;
use crate::factor_codes::{give, password, set_up};

#[test]
fn wrong_codes_are_told_under_stable_names_and_fill_nothing() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(3, &settings())?;
    set_up(&lab, 0, "alice")?;
    let mut wrong = 0;
    // A login has five tries; behind ten of an account each is refused at once, as often as it is tried.
    for _ in 0..12 {
        let web = Web::new(&lab, 1);
        let page = password(&web, "alice")?;
        for _ in 0..5 {
            wrong += usize::from(give(&web, &page, "000000")?.code >= 400);
        }
    }
    assert!(wrong >= 24, "{wrong}");
    let told = lab.gateway.ask(&["events", "--event", "second-factor-refused"])?;
    let told = list(&told, "events");
    let of = |reason: &str| told.iter().filter(|event| event["reason"] == reason).count();
    assert_eq!(of("wrong-code"), 10, "{told:#?}");
    assert!((1..=20).contains(&of("too-many")), "{told:#?}");
    assert!(told.iter().all(|event| event["user"] == "alice" && event["client"] == lab.address(1)));
    logged(&lab, &["event=\"second-factor-refused\"", "user=\"alice\"", "cause=\"wrong-code\""])?;
    let metrics = lab.gateway.metrics()?;
    for line in [
        "tracker_second_factor_attempts_total{result=\"wrong\"} 10",
        "tracker_second_factor_attempts_total{result=\"right\"} 1",
        "tracker_second_factor_attempts_total{result=\"locked\"} 0",
        "tracker_second_factor_users 1",
    ] {
        ensure!(metrics.contains(line), "{line}\n{metrics}");
    }
    ensure!(!metrics.contains("alice"), "{metrics}");

    let web = Web::new(&lab, 2);
    let form = web.get("/admin/login")?;
    ensure!(web.post(&form, "/admin/login", &[("name", "bob"), ("password", "bob-pw")])?.code == 303);
    let page = web.get("/admin/second-factor/errors")?.text();
    ensure!(page.contains("wrong-code") && page.contains("alice@EXAMPLE.TEST"), "{page}");
    ensure!(!page.contains("enrolled"), "errors alone: {page}");
    let both = web.get("/admin/second-factor/errors?kind=")?.text();
    ensure!(both.contains("wrong-code") && both.contains("enrolled"), "{both}");
    ensure!(!both.contains("login;") && !both.contains("admin-login</td>"), "of nothing else: {both}");
    let file = web.get("/admin/second-factor/errors.csv")?.text();
    ensure!(file.lines().skip(1).all(|line| line.contains("second-factor-refused")), "{file}");
    Ok(())
}
