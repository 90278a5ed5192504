//! Who is here, by the pages of those who may look: what they show, and that it is what `trackerctl` says; live; and ended by a form.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::answers::list;
use lab::client::Reply;
use lab::pages::SETTINGS;
use lab::wait::until;
use lab::web::Web;

use crate::common::{ORIGIN, SOON, has_ended, status_without_credentials, url};

/// Alice's page.
const USER: &str = "/status/user/alice%40example.test";

/// Somebody who has logged in to administer, or to look.
fn operator<'a>(lab: &'a Lab, client: usize, user: &str) -> Result<Web<'a>> {
    let web = Web::new(lab, client);
    let form = web.get("/admin/login")?;
    let done = web.post(
        &form,
        "/admin/login",
        &[("name", user), ("password", &format!("{user}-pw")), ("next", "/status")],
    )?;
    ensure!(done.code == 303 && done.header("location") == ["/status"], "{done:?}\n{}", lab.gateway.log());
    Ok(web)
}

/// The rows of a CSV file, each by the names of its columns. No value that the tests look at has a comma in it.
fn rows(file: &Reply) -> Result<Vec<BTreeMap<String, String>>> {
    ensure!(file.code == 200, "{file:?}");
    let text = file.text();
    let fields =
        |line: &str| line.split(',').map(|field| field.trim_matches('"').to_owned()).collect::<Vec<_>>();
    let mut lines = text.split("\r\n").filter(|line| !line.is_empty());
    let head = fields(lines.next().context("a head")?);
    Ok(lines.map(|line| head.iter().cloned().zip(fields(line)).collect()).collect())
}

/// The addresses in the order of a page's rows.
fn order(page: &Reply) -> Vec<String> {
    let text = page.text();
    let rows = text.split("<tr data-row=\"").skip(1);
    let address = |row: &str| {
        let (_, rest) = row.split_once("href=\"/status/session/")?;
        Some(rest.split('"').next()?.to_owned())
    };
    rows.filter_map(address).collect()
}

#[test]
fn nobody_looks_who_may_not() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, SETTINGS)?;
    lab.login(0, "alice")?;
    let address = lab.address(0);
    let paths = [
        "/status",
        "/status/sessions",
        "/status/hosts?sort=sent&order=descending",
        "/status/users",
        "/status/users.csv",
        &format!("/status/session/{address}"),
        USER,
    ];
    let stranger = Web::new(&lab, 1);
    for path in paths {
        let asked = stranger.get(path)?;
        assert_eq!(asked.code, 302, "{path}: {asked:?}");
        let to = asked.header("location").concat();
        assert!(to.starts_with("/admin/login?next=/status"), "{path}: {to}");
    }
    assert_eq!(stranger.get("/status/live/sessions")?.code, 403, "a stream leads nowhere");

    // A user of the proxy is nobody here.
    let user = Web::new(&lab, 2);
    let form = user.get("/login")?;
    assert_eq!(user.post(&form, "/login", &[("name", "alice"), ("password", "alice-pw")])?.code, 303);
    for path in paths {
        let asked = user.get(path)?;
        assert!(asked.code == 302 || asked.code == 403, "{path}: {asked:?}");
        assert!(!asked.text().contains(&address), "{path}: {asked:?}");
    }
    assert_eq!(user.get("/status/live/sessions")?.code, 403);

    // A viewer looks, and ends nothing.
    let viewer = operator(&lab, 3, "bob")?;
    for path in paths {
        assert_eq!(viewer.get(path)?.code, 200, "{path}");
    }
    let page = viewer.get(&format!("/status/session/{address}"))?;
    assert!(page.text().contains("alice") && !page.text().contains("End this session"), "{page:?}");
    let page = viewer.get(USER)?;
    assert!(page.text().contains(&address) && !page.text().contains("End all sessions"), "{page:?}");
    let token_of = viewer.get("/admin/logout")?;
    for path in [format!("/status/session/{address}/end"), format!("{USER}/end")] {
        let refused = viewer.post(&token_of, &path, &[])?;
        assert_eq!(refused.code, 403, "{path}: {refused:?}");
    }
    assert_eq!(status_without_credentials(&lab, 0), 200, "alice is still there");
    Ok(())
}

#[test]
fn tables_say_what_trackerctl_says_sorted_and_filtered() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, SETTINGS)?;
    // Amounts that sort otherwise as text than as numbers.
    for (client, user, bytes) in [(0, "alice", 9_000), (1, "bob", 100_000), (2, "alice", 20_000)] {
        lab.login(client, user)?;
        ensure!(lab.curl(client).get(&url(&format!("/bytes/{bytes}")))?.code == 200);
    }
    let web = operator(&lab, 3, "carol")?;
    let addresses: Vec<String> = (0..3).map(|client| lab.address(client)).collect();

    // The records of closed connections are exact.
    let agreed = until("the pages to say what trackerctl says", SOON, || {
        let told = lab.gateway.ask(&["sessions"]).ok()?;
        let (told, shown) =
            (list(&told, "sessions").len(), rows(&web.get("/status/sessions.csv").ok()?).ok()?);
        (told == 3 && shown.len() == 3 && shown.iter().all(|row| row["connections"] == "0")).then_some(shown)
    })?;
    let told = lab.gateway.ask(&["sessions"])?;
    for session in list(&told, "sessions") {
        let row = agreed.iter().find(|row| session["client"] == row["address"].as_str()).context("a row")?;
        for (field, column) in [("state", "state"), ("mode", "mode"), ("method", "method")] {
            assert_eq!(
                session[field].as_str(),
                row.get(column).map(String::as_str),
                "{field}: {session} {row:?}"
            );
        }
        assert!(row["user"].contains(session["user"].as_str().unwrap_or("?")), "{session} {row:?}");
        let moment = |text: &str| text.get(..16).map(str::to_owned);
        assert_eq!(
            moment(session["created"].as_str().unwrap_or_default()),
            moment(&row["login"]),
            "{session} {row:?}"
        );
    }
    let hosts = rows(&web.get("/status/hosts.csv")?)?;
    let told = lab.gateway.ask(&["hosts"])?;
    for address in &addresses {
        let row = hosts.iter().find(|row| row["address"] == *address).context("a host")?;
        let host = list(&told, "hosts")
            .into_iter()
            .find(|host| host["client"] == address.as_str())
            .context("told")?;
        assert_eq!(row["received"], host["bytes_received"].to_string(), "{host} {row:?}");
        assert_eq!(row["sent"], host["bytes_sent"].to_string(), "{host} {row:?}");
    }
    let users = rows(&web.get("/status/users.csv")?)?;
    assert_eq!(users.len(), 2, "{users:?}");
    let alice = users.iter().find(|row| row["user"].contains("alice")).context("alice")?;
    let own: Vec<&str> = alice["addresses"].split(' ').collect();
    assert_eq!(own, [addresses[0].as_str(), addresses[2].as_str()]);
    assert_eq!(alice["licences"], "1");

    // By the number, not by its text.
    for (order_word, expected) in [("ascending", [0, 2, 1]), ("descending", [1, 2, 0])] {
        let page = web.get(&format!("/status/sessions?sort=sent&order={order_word}"))?;
        assert_eq!(order(&page), expected.map(|client| addresses[client].clone()), "{order_word}");
        assert!(page.text().contains(&format!("aria-sort=\"{order_word}\"")), "{page:?}");
    }
    for (query, expected) in [
        ("?q=bob", vec![1]),
        ("?q=ALICE&sort=address&order=ascending", vec![0, 2]),
        (&format!("?q={}", addresses[1]), vec![1]),
        ("?q=nobody-at-all", vec![]),
        ("?state=stale", vec![]),
        ("?state=active&method=kerberos&sort=address&order=descending", vec![2, 1, 0]),
        ("?method=password", vec![]),
        ("?page=99&sort=address&order=ascending", vec![0, 1, 2]),
    ] {
        let page = web.get(&format!("/status/sessions{query}"))?;
        let expected: Vec<String> =
            expected.into_iter().map(|client: usize| addresses[client].clone()).collect();
        assert_eq!(order(&page), expected, "{query}");
        assert_eq!(
            rows(&web.get(&format!("/status/sessions.csv{query}"))?)?.len(),
            expected.len(),
            "{query}"
        );
    }
    for garbage in ["?sort=password", "?page=0", "?order=sideways", "?state=dead", "?q=1&q=2"] {
        assert_eq!(web.get(&format!("/status/sessions{garbage}"))?.code, 400, "{garbage}");
    }
    let hostile = web.get("/status/sessions?q=%3Cscript%3Ealert(1)%3C%2Fscript%3E")?;
    assert!(hostile.code == 200 && !hostile.text().contains("<script>alert"), "{hostile:?}");
    Ok(())
}

#[test]
fn a_session_is_looked_at_and_ended_on_its_page() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, SETTINGS)?;
    lab.login(0, "alice")?;
    lab.login(1, "alice")?;
    let mut open = lab.raw(0)?;
    open.get(ORIGIN, "")?;
    open.answer()?;
    let web = operator(&lab, 3, "carol")?;
    let path = format!("/status/session/{}", lab.address(0));
    let page = web.get(&path)?;
    for words in ["alice", "End this session", "kerberos", "Connections to the proxy"] {
        assert!(page.text().contains(words), "{words}: {page:?}");
    }

    // Without the form's token nothing happens.
    let forged =
        web.ask(&Web::url(&format!("{path}/end")), &[("token", "0")], &["Sec-Fetch-Site: same-origin"])?;
    assert_eq!(forged.code, 403, "{forged:?}");
    let foreign = web.ask(
        &Web::url(&format!("{path}/end")),
        &[("token", &lab::web::token(&page)?)],
        &["Sec-Fetch-Site: cross-site"],
    )?;
    assert_eq!(foreign.code, 403, "{foreign:?}");
    assert_eq!(status_without_credentials(&lab, 0), 200);

    let ended = web.post(&page, &format!("{path}/end"), &[])?;
    assert!(ended.code == 200 && ended.text().contains("The session has ended"), "{ended:?}");
    assert!(open.ended_within(SOON)?, "its connections are closed");
    assert_eq!(status_without_credentials(&lab, 0), 407);
    assert_eq!(status_without_credentials(&lab, 1), 200, "nobody else is concerned");
    until("the end in the audit trail", SOON, || has_ended(&lab, 0, "admin").then_some(()))?;
    let events = lab.gateway.ask(&["events"])?;
    let end =
        list(&events, "events").into_iter().rfind(|event| event["event"] == "ended").context("an end")?;
    let actor = end["actor"].to_string();
    assert!(actor.contains("carol") && actor.contains(&lab.address(3)), "whose order it was: {end}");

    let after = web.get(&path)?;
    assert!(
        after.text().contains("Nobody is logged in there") && after.text().contains("alice"),
        "{after:?}"
    );
    assert_eq!(web.post(&page, &format!("{path}/end"), &[])?.code, 404, "there is none any more");
    assert_eq!(web.get("/status/session/nonsense")?.code, 404);
    Ok(())
}

#[test]
fn a_user_is_logged_out_everywhere_on_their_page() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, SETTINGS)?;
    for (client, user) in [(0, "alice"), (1, "alice"), (2, "bob")] {
        lab.login(client, user)?;
    }
    let web = operator(&lab, 3, "carol")?;
    let users = web.get("/status/users")?;
    assert!(users.text().contains(&format!("href=\"{USER}\"")), "{users:?}");
    let page = web.get(USER)?;
    assert_eq!(order(&page), [lab.address(0), lab.address(1)], "{page:?}");

    let forged =
        web.ask(&Web::url(&format!("{USER}/end")), &[("token", "0")], &["Sec-Fetch-Site: same-origin"])?;
    assert_eq!(forged.code, 403, "{forged:?}");
    assert_eq!(status_without_credentials(&lab, 0), 200);

    let ended = web.post(&page, &format!("{USER}/end"), &[])?;
    for client in 0..2 {
        assert!(ended.code == 200 && ended.text().contains(&lab.address(client)), "{ended:?}");
        assert_eq!(status_without_credentials(&lab, client), 407);
    }
    assert_eq!(status_without_credentials(&lab, 2), 200, "nobody else is concerned");
    until("that they are gone to show", SOON, || (web.get(USER).ok()?.code == 404).then_some(()))?;
    assert_eq!(web.post(&page, &format!("{USER}/end"), &[])?.code, 404);
    assert_eq!(web.get("/status/user/nobody%40nowhere")?.code, 404);
    Ok(())
}

/// A stream of events, read by curl.
struct Stream {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Stream {
    fn open(lab: &Lab, web: &Web<'_>, client: usize, path: &str) -> Result<Self> {
        let mut command =
            lab.curl(client).direct().arg("--insecure").arg("--no-buffer").command(&Web::url(path));
        command.arg("--cookie").arg(web.jar());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let read = BufReader::new(child.stdout.take().context("a pipe")?);
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || read.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Ok(Self { child, lines })
    }

    /// What has come so far of the next event's data that holds these words.
    fn tells(&self, words: &str) -> Result<()> {
        until(&format!("the stream to tell of {words}"), SOON, || {
            self.lines.try_iter().any(|line| line.starts_with("data:") && line.contains(words)).then_some(())
        })
    }

    fn has_ended(&mut self) -> bool {
        self.lines.try_iter().for_each(drop);
        matches!(self.child.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_table_is_live_until_its_viewer_logs_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, SETTINGS)?;
    let web = operator(&lab, 3, "carol")?;
    let mut stream = Stream::open(&lab, &web, 3, "/status/live/sessions?sort=address&order=ascending")?;
    stream.tells("<tbody>")?;
    lab.login(0, "alice")?;
    stream.tells("alice")?;
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit, 0);
    stream.tells("None")?;

    // Seats are few, and come back.
    let more: Vec<Stream> =
        (0..7).map(|_| Stream::open(&lab, &web, 3, "/status/live/hosts")).collect::<Result<_>>()?;
    for one in &more {
        one.tells("<tbody>")?;
    }
    let beyond = web.get("/status/live/users")?;
    assert_eq!((beyond.code, beyond.header("retry-after")), (503, vec!["30".into()]), "{beyond:?}");
    drop(more);

    let form = web.get("/admin/logout")?;
    let out = web.post(&form, "/admin/logout", &[])?;
    assert!(out.code == 200 || out.code == 303, "{out:?}");
    until("the stream to end with its viewer's login", SOON, || stream.has_ended().then_some(()))
}

/// A figure of the overview: what stands behind its name.
fn figure(page: &Reply, name: &str) -> Option<String> {
    let text = page.text();
    let (_, rest) = text.split_once(&format!("<dt>{name}</dt><dd>"))?;
    Some(rest.split("</dd>").next()?.to_owned())
}

#[test]
fn the_overview_tells_what_there_was_also_after_a_restart() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(4, SETTINGS)?;
    lab.login(0, "alice")?;
    lab.login(1, "bob")?;
    // Bob sits down at alice's computer.
    ensure!(lab.curl_as(0, "bob")?.get(ORIGIN)?.code == 200);
    ensure!(lab.curl(0).get("http://origin.example.test:1/")?.code >= 400);
    {
        let web = operator(&lab, 3, "carol")?;
        let page = web.get("/status")?;
        assert_eq!(page.code, 200, "{page:?}");
        assert_eq!(figure(&page, "Users").as_deref(), Some("1"), "{page:?}");
        assert_eq!(figure(&page, "Active sessions").as_deref(), Some("2"));
        for words in ["role=\"img\"", "Kick-outs", "Refusals by cause", "Latest events"] {
            assert!(page.text().contains(words), "{words}");
        }
        ensure!(
            totals(&page)? == BTreeMap::from([("logins".into(), 3), ("kick-outs".into(), 1)]),
            "{page:?}"
        );
    }
    lab.gateway.restart()?;
    let web = operator(&lab, 3, "carol")?;
    let page = web.get("/status")?;
    ensure!(totals(&page)? == BTreeMap::from([("logins".into(), 3), ("kick-outs".into(), 1)]), "{page:?}");
    Ok(())
}

/// What the charts of the last week say of logins and kick-outs in all.
fn totals(page: &Reply) -> Result<BTreeMap<String, u64>> {
    let text = page.text();
    let total = |measure: &str| {
        let (_, rest) = text.split_once(&format!("<desc id=\"{measure}-week-d\">"))?;
        let (_, rest) = rest.split_once("total ")?;
        rest.split('.').next()?.parse().ok()
    };
    let names = ["logins", "kick-outs"].into_iter();
    names.map(|name| Ok((name.to_owned(), total(name).with_context(|| format!("{name}: {text}"))?))).collect()
}
