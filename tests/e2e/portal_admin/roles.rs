//! The table of roles: each page and each action of the administration and of who is here, by nobody, a user, a viewer and an
//! administrator.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::client::Reply;
use lab::pages::SETTINGS;
use lab::web::Web;

use super::{FIRST, local_users, operator, orders, setting, user};
use crate::common::{is_let_through, status_without_credentials};

/// What somebody gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// Led to the administration's login, and back afterwards if it was a page.
    Login,
    /// Told that they may not.
    No,
    /// A page or a file.
    Page,
    /// It is done, and they are led on to a page of this path.
    To(&'static str),
}

use Gets::{Login, No, Page, To};

/// A page, or an action with what its form says; and what nobody, a user, a viewer and an administrator get. `CLIENT` is where
/// alice is logged in to the proxy.
struct Row {
    method: &'static str,
    route: &'static str,
    path: &'static str,
    form: &'static [(&'static str, &'static str)],
    gets: [Gets; 4],
}

const fn page(route: &'static str, gets: [Gets; 4]) -> Row {
    Row { method: "get", route, path: route, form: &[], gets }
}

const fn page_at(route: &'static str, path: &'static str, gets: [Gets; 4]) -> Row {
    Row { method: "get", route, path, form: &[], gets }
}

const fn action(route: &'static str, form: &'static [(&'static str, &'static str)], gets: [Gets; 4]) -> Row {
    Row { method: "post", route, path: route, form, gets }
}

/// What may be looked at.
const LOOK: [Gets; 4] = [Login, No, Page, Page];
/// A page that is there for a change alone.
const FORM: [Gets; 4] = [Login, No, No, Page];
/// A stream or a script: it leads nowhere.
const STREAM: [Gets; 4] = [No, No, Page, Page];

/// What a change gets that leads on to this page.
const fn changes(to: &'static str) -> [Gets; 4] {
    [Login, No, No, To(to)]
}

/// In this order: what one makes the next finds.
const TABLE: &[Row] = &[
    page("/status", LOOK),
    page("/status/sessions", LOOK),
    page("/status/hosts", LOOK),
    page("/status/users", LOOK),
    page("/status/sessions.csv", LOOK),
    page("/status/hosts.csv", LOOK),
    page("/status/users.csv", LOOK),
    page("/status/live/sessions", STREAM),
    page("/status/live/hosts", STREAM),
    page("/status/live/users", STREAM),
    // It says nothing of anybody.
    page("/status/live.js", [Page; 4]),
    page_at("/status/session/{address}", "/status/session/CLIENT", LOOK),
    page_at("/status/user/{key}", "/status/user/alice@EXAMPLE.TEST", LOOK),
    page("/admin", [Login, No, To("/status"), To("/status")]),
    page("/admin/login", [Page, Page, To("/status"), To("/status")]),
    page("/admin/local-users", LOOK),
    page("/admin/local-users/add", FORM),
    page_at("/admin/local-users/edit", "/admin/local-users/edit?name=vera", LOOK),
    page_at("/admin/local-users/password", "/admin/local-users/password?name=vera", FORM),
    page_at("/admin/local-users/remove", "/admin/local-users/remove?name=vera", FORM),
    page("/admin/second-factor", LOOK),
    page("/admin/second-factor/errors", LOOK),
    page("/admin/second-factor/errors.csv", LOOK),
    page("/admin/settings", LOOK),
    page_at("/admin/settings/edit", "/admin/settings/edit?key=timeouts.proxy-auth-timeout", LOOK),
    page("/admin/app-passwords", LOOK),
    action(
        "/admin/app-passwords",
        &[("of", "alice@example.test"), ("id", "00000000")],
        changes("/admin/app-passwords"),
    ),
    page("/admin/bans", LOOK),
    page("/admin/events", LOOK),
    page("/admin/events.csv", LOOK),
    page("/admin/history", LOOK),
    page("/admin/history.csv", LOOK),
    page("/admin/certificates", LOOK),
    page("/admin/account", LOOK),
    page("/admin/logout", LOOK),
    action("/admin/confirm", &[("next", "/admin/bans")], changes("/admin/bans")),
    action(
        "/admin/local-users/add",
        &[("name", "otto"), ("role", "user"), ("password", FIRST), ("password-again", FIRST)],
        changes("/admin/local-users/edit"),
    ),
    action(
        "/admin/local-users/password",
        &[("name", "vera"), ("password", FIRST), ("password-again", FIRST)],
        changes("/admin/local-users/edit"),
    ),
    action(
        "/admin/local-users/role",
        &[("name", "vera"), ("role", "viewer")],
        changes("/admin/local-users/edit"),
    ),
    action("/admin/local-users/disable", &[("name", "vera")], changes("/admin/local-users/edit")),
    action("/admin/local-users/enable", &[("name", "vera")], changes("/admin/local-users/edit")),
    action("/admin/local-users/remove", &[("name", "vera")], changes("/admin/local-users")),
    action(
        "/admin/settings/set",
        &[("key", "timeouts.proxy-auth-timeout"), ("value", "7m")],
        changes("/admin/settings/edit"),
    ),
    action(
        "/admin/settings/unset",
        &[("key", "timeouts.proxy-auth-timeout")],
        changes("/admin/settings/edit"),
    ),
    action("/admin/second-factor/reset", &[("user", "vera@local")], changes("/admin/second-factor")),
    action("/admin/bans", &[("of", "BANNED")], changes("/admin/bans")),
    Row {
        method: "post",
        route: "/status/session/{address}/end",
        path: "/status/session/CLIENT/end",
        form: &[],
        gets: [Login, No, No, Page],
    },
    Row {
        method: "post",
        route: "/status/user/{key}/end",
        path: "/status/user/alice@EXAMPLE.TEST/end",
        form: &[],
        gets: [Login, No, No, Page],
    },
    // One's own login: whoever is nobody has none to end.
    action("/admin/account/end-others", &[], [Login, No, To("/admin/account"), To("/admin/account")]),
    action("/admin/login", &[("name", "nobody"), ("password", "at all")], [No; 4]),
    action("/admin/logout", &[], [To("/admin/login"); 4]),
];

/// The methods and paths of all routes under `/status` and `/admin`, as the program's source has them.
fn routes() -> Result<BTreeSet<(String, String)>> {
    fn read(folder: &Path, all: &mut String) -> Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                read(&path, all)?;
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                all.push_str(&fs::read_to_string(path)?);
            }
        }
        Ok(())
    }
    let (mut source, mut found) = (String::new(), BTreeSet::new());
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tracker-user/src/portal"), &mut source)?;
    // Those of other rooms are called by a constant.
    let is_written =
        |route: &&str| ["\"", "&format!(\""].iter().any(|way| route.trim_start().starts_with(way));
    for route in source.split(".route(").skip(1).filter(is_written) {
        let mut quoted = route.split('"');
        let path = quoted.nth(1).context("a path")?;
        if !["/status", "/admin"].iter().any(|begins| path.starts_with(begins)) {
            continue;
        }
        // What is served there, before the next path.
        let (_, served) = route.split_once(path).context("what is served")?;
        let words: &[&str] = if path.contains("{word}") { &["sessions", "hosts", "users"] } else { &[""] };
        let methods: Vec<&str> = ["get", "post", "put", "patch", "delete", "any"]
            .into_iter()
            .filter(|method| served.contains(&format!("{method}(")))
            .collect();
        ensure!(!methods.is_empty(), "{path}: {served}");
        for (word, method) in words.iter().flat_map(|word| methods.iter().map(move |method| (word, method))) {
            found.insert(((*method).to_owned(), path.replace("{word}", word)));
        }
    }
    Ok(found)
}

#[test]
fn the_table_has_every_route_there_is() -> Result<()> {
    let told: BTreeSet<(String, String)> =
        TABLE.iter().map(|row| (row.method.to_owned(), row.route.to_owned())).collect();
    let there = routes()?;
    ensure!(there.len() > 40, "{there:#?}");
    assert_eq!(told, there, "what the table tells, and what the portal serves");
    Ok(())
}

/// Somebody at the pages, and a token that is good for their forms.
struct Visitor<'a> {
    web: Web<'a>,
    client: usize,
    /// A page with a form.
    forms: &'static str,
}

impl Visitor<'_> {
    fn ask(&self, lab: &Lab, row: &Row) -> Result<Reply> {
        let path = row.path.replace("CLIENT", &lab.address(0));
        if row.method == "get" {
            if !row.path.starts_with("/status/live/") {
                return self.web.get(&path);
            }
            // A stream does not end; what it begins with is enough.
            let jar = self.web.jar().display().to_string();
            let curl = lab.curl(self.client).direct().arg("--insecure").arg("--cookie").arg(&jar);
            return curl.limit(Duration::from_secs(3)).get(&Web::url(&path));
        }
        let form = self.web.get(self.forms)?;
        let banned = lab.address(2);
        let fields: Vec<(&str, &str)> = row
            .form
            .iter()
            .map(|(name, value)| (*name, if *value == "BANNED" { banned.as_str() } else { value }))
            .collect();
        self.web.post(&form, &path, &fields)
    }
}

/// Whether that is what they got.
fn is_what_they_get(reply: &Reply, row: &Row, gets: Gets) -> bool {
    let to = reply.header("location").concat();
    let path = to.split('?').next().unwrap_or_default();
    match gets {
        Login if row.method == "get" => reply.code == 302 && to.starts_with("/admin/login?next=/"),
        Login => reply.code == 303 && to == "/admin/login",
        No => reply.code == 403 && to.is_empty(),
        Page => reply.code == 200,
        To(wanted) => matches!(reply.code, 302 | 303) && path == wanted,
    }
}

/// Has the table's rows asked for by somebody, the `column` of it, and says what they should not have got.
fn ask_all(lab: &Lab, visitor: &Visitor<'_>, column: usize) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for row in TABLE {
        let (reply, gets) = (visitor.ask(lab, row)?, row.gets[column]);
        if !is_what_they_get(&reply, row, gets) {
            let to = reply.header("location").concat();
            faults.push(format!("{} {}: {} {to}, not {gets:?}", row.method, row.route, reply.code));
        }
    }
    Ok(faults)
}

#[test]
fn each_page_and_action_is_for_whom_the_table_says() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, &format!("{SETTINGS}[regulation]\nmax-retries = 2\n"))?;
    lab.login(0, "alice")?;
    // Somebody to be forgiven.
    let banned = Web::new(&lab, 2);
    let form = banned.get("/login")?;
    for wrong in ["wrong", "wrong again"] {
        banned.post(&form, "/login", &[("name", "dora"), ("password", wrong)])?;
    }
    user(&lab, &["add", "vera", "--viewer"], FIRST)?;
    let before = (local_users(&lab)?, setting(&lab, "timeouts.proxy-auth-timeout")?, orders(&lab)?.len());

    let nobody = Visitor { web: Web::new(&lab, 1), client: 1, forms: "/admin/login" };
    let user = Visitor { web: Web::new(&lab, 1), client: 1, forms: "/login" };
    let form = user.web.get("/login")?;
    ensure!(user.web.post(&form, "/login", &[("name", "alice"), ("password", "alice-pw")])?.code == 303);
    let viewer = Visitor { web: operator(&lab, 3, "bob", "bob-pw")?, client: 3, forms: "/admin/logout" };
    for (column, visitor) in [nobody, user, viewer].iter().enumerate() {
        let faults = ask_all(&lab, visitor, column)?;
        ensure!(faults.is_empty(), "{column}: {faults:#?}\n{}", lab.gateway.log());
        assert!(is_let_through(&lab, 0), "{column}: alice is still there");
        let now = (local_users(&lab)?, setting(&lab, "timeouts.proxy-auth-timeout")?, orders(&lab)?.len());
        assert_eq!(now, before, "{column}: nothing was changed");
    }

    let administrator =
        Visitor { web: operator(&lab, 3, "carol", "carol-pw")?, client: 3, forms: "/admin/logout" };
    let faults = ask_all(&lab, &administrator, 3)?;
    ensure!(faults.is_empty(), "{faults:#?}\n{}", lab.gateway.log());
    assert_eq!(status_without_credentials(&lab, 0), 407, "alice's session was ended");
    let names: Vec<String> = local_users(&lab)?.iter().map(|user| user["name"].to_string()).collect();
    assert!(names.iter().any(|name| name == "\"otto\"") && !names.iter().any(|name| name == "\"vera\""));
    Ok(())
}

/// Without TLS there is nothing but the way to the same under it.
#[test]
fn without_tls_there_is_no_administration() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, SETTINGS)?;
    let web = operator(&lab, 3, "carol", "carol-pw")?;
    for row in TABLE.iter().filter(|row| row.route != "/status/live.js") {
        let path = row.path.replace("CLIENT", &lab.address(0));
        let fields = if row.method == "post" { &[("token", "x"), ("name", "admin")][..] } else { &[] };
        let reply = web.ask(&Web::plain_url(&path), fields, &[])?;
        let is_led = reply.code == 302 && reply.header("location") == [Web::url(&path)];
        let is_refused = matches!(reply.code, 302 | 303 | 403) && reply.header("set-cookie").is_empty();
        ensure!(is_led || is_refused, "{} {path}: {reply:?}", row.method);
        ensure!(!reply.text().contains("<input"), "{}", reply.text());
    }
    Ok(())
}

/// A viewer sees what an administrator sees, and not a form of a change.
#[test]
fn a_viewer_sees_no_form_that_changes_anything() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, SETTINGS)?;
    lab.login(0, "alice")?;
    user(&lab, &["add", "vera", "--viewer"], FIRST)?;
    let (viewer, administrator) =
        (operator(&lab, 2, "bob", "bob-pw")?, operator(&lab, 3, "carol", "carol-pw")?);
    let own = ["/admin/account", "/admin/logout"];
    let mut forms = 0;
    for row in TABLE.iter().filter(|row| row.method == "get" && row.gets == LOOK) {
        let path = row.path.replace("CLIENT", &lab.address(0));
        let count = |page: &Reply| page.text().matches("method=\"post\"").count();
        if own.contains(&row.route) {
            continue;
        }
        assert_eq!(count(&viewer.get(&path)?), 0, "{path}");
        forms += count(&administrator.get(&path)?);
    }
    assert!(forms >= 5, "the administrator has them: {forms}");
    Ok(())
}

/// The actions of the table: where each form is sent, and what it says.
pub(super) fn actions(lab: &Lab) -> Vec<(String, Vec<(&'static str, String)>)> {
    let of = |row: &Row| {
        let form = row.form.iter().map(|(name, value)| (*name, value.replace("BANNED", &lab.address(2))));
        (row.path.replace("CLIENT", &lab.address(0)), form.collect())
    };
    TABLE.iter().filter(|row| row.method == "post").map(of).collect()
}
