//! All keys of the configuration: what is in force, where it comes from, and setting those that may be set while the gateway runs.

mod caution;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use self::caution::caution;
use super::access::Viewing;
use super::answer::{Asked, see_other, status_of, url};
use super::fresh::Change;
use super::notice::refused;
use super::show::moment;
use crate::config::Key;
use crate::ops::{OpsError, Setting, Source};
use crate::portal::page::{Page, answer};
use crate::portal::site::Site;
use crate::portal::visit::Visit;

const PATH: &str = "/admin/settings";
const EDIT: &str = "/admin/settings/edit";
/// No value that is set here is longer, in bytes.
const VALUE_MOST: usize = 8 * 1024;

#[derive(Template)]
#[template(path = "admin/settings.html")]
struct Settings {
    page: Page,
    wanted: String,
    groups: Vec<Group>,
    shown: usize,
    all: usize,
}

/// The keys of one table.
struct Group {
    table: &'static str,
    rows: Vec<Row>,
}

struct Row {
    key: &'static Key,
    href: String,
    value: String,
    source: Source,
    file: Option<String>,
    by: Option<String>,
    at: Option<String>,
    caution: Option<&'static str>,
}

impl Row {
    fn new(setting: Setting) -> Self {
        let Setting { key, value, source, file, set } = setting;
        let (by, at) = set.map_or((None, None), |set| (set.by, set.at));
        Self {
            key,
            href: url(EDIT, &[("key", key.name())]),
            value,
            source,
            file,
            by: by.map(|by| by.to_string()),
            at: at.map(moment),
            caution: caution(key.name()),
        }
    }

    /// Where the value in force comes from.
    const fn source(&self) -> &'static str {
        match self.source {
            Source::Default => "default",
            Source::File => "file",
            Source::Set => "set",
        }
    }

    const fn is_set(&self) -> bool {
        matches!(self.source, Source::Set)
    }

    /// Whether one of these words, in lower case, is said of it.
    fn is_about(&self, words: &str) -> bool {
        let about = [self.key.name(), self.key.help(), &self.value].join(" ").to_lowercase();
        words.split_whitespace().all(|word| about.contains(word))
    }
}

#[derive(Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    q: String,
}

pub(super) async fn list(
    State(site): State<Site>,
    Viewing(visit): Viewing,
    Asked(Search { q }): Asked<Search>,
) -> Response {
    let settings = match site.parts().ops.get(None).await {
        Ok(settings) => settings,
        Err(error) => return refused(&visit, &error, "/status"),
    };
    let (all, words) = (settings.len(), q.to_lowercase());
    let rows = settings.into_iter().map(Row::new).filter(|row| row.is_about(&words));
    let (mut groups, mut shown): (Vec<Group>, usize) = (Vec::new(), 0);
    for row in rows {
        shown += 1;
        match groups.last_mut() {
            Some(group) if group.table == row.key.table() => group.rows.push(row),
            _ => groups.push(Group { table: row.key.table(), rows: vec![row] }),
        }
    }
    answer(&visit, StatusCode::OK, &Settings { page: visit.page(), wanted: q, groups, shown, all })
}

#[derive(Template)]
#[template(path = "admin/setting.html")]
struct One {
    page: Page,
    row: Row,
    may_change: bool,
    /// What stands in the field.
    typed: String,
    wants: String,
    problem: Option<String>,
    /// What has just been done.
    done: Option<&'static str>,
}

/// Which key, and what has just been done to it, as the page before tells.
#[derive(Deserialize)]
pub(super) struct Which {
    key: String,
    #[serde(default)]
    done: String,
}

pub(super) async fn show(
    State(site): State<Site>,
    Viewing(visit): Viewing,
    Asked(Which { key, done }): Asked<Which>,
) -> Response {
    let done = match done.as_str() {
        "set" => Some("It is set, on disk and in force."),
        "unset" => Some("What was set is taken back, on disk and in force."),
        _ => None,
    };
    one(&site, &visit, StatusCode::OK, &key, Said { done, ..Said::default() }).await
}

#[derive(Deserialize)]
pub(super) struct Set {
    key: String,
    #[serde(default)]
    value: String,
}

pub(super) async fn set(State(site): State<Site>, change: Change<Set>) -> Response {
    let Change { visit, actor, who, form: Set { key, value } } = change;
    let outcome = if value.len() > VALUE_MOST {
        Err(OpsError::BadValue(format!("{key}: a value has at most {VALUE_MOST} bytes here")))
    } else {
        site.parts().ops.set_administering(&key, &value, actor, who).await
    };
    changed(&site, &visit, &key, "set", Some(value), outcome).await
}

#[derive(Deserialize)]
pub(super) struct Unset {
    key: String,
}

pub(super) async fn unset(State(site): State<Site>, change: Change<Unset>) -> Response {
    let Change { visit, actor, who, form: Unset { key } } = change;
    let outcome = site.parts().ops.unset_administering(&key, actor, who).await;
    changed(&site, &visit, &key, "unset", None, outcome).await
}

async fn changed(
    site: &Site,
    visit: &Visit,
    key: &str,
    done: &'static str,
    typed: Option<String>,
    outcome: Result<Setting, OpsError>,
) -> Response {
    match outcome {
        Ok(setting) => see_other(visit, &url(EDIT, &[("key", setting.key.name()), ("done", done)])),
        Err(error) => {
            let said = Said { problem: Some(error.to_string()), typed, done: None };
            one(site, visit, status_of(&error), key, said).await
        }
    }
}

/// What a page of a key says besides.
#[derive(Default)]
struct Said {
    typed: Option<String>,
    problem: Option<String>,
    done: Option<&'static str>,
}

async fn one(site: &Site, visit: &Visit, status: StatusCode, key: &str, said: Said) -> Response {
    let setting = match site.parts().ops.get(Some(key)).await {
        Ok(mut found) if !found.is_empty() => found.remove(0),
        Ok(_) => return refused(visit, &OpsError::UnknownKey(format!("there is no key {key:?}")), PATH),
        Err(error) => return refused(visit, &error, PATH),
    };
    let Said { typed, problem, done } = said;
    let row = Row::new(setting);
    let page = One {
        page: visit.page(),
        may_change: visit.role().may_change(),
        typed: typed.unwrap_or_else(|| row.value.clone()),
        wants: row.key.wants(),
        row,
        problem,
        done,
    };
    answer(visit, status, &page)
}
