//! All pages there are: what the browser tests look at, and `cargo xtask shots` makes pictures of.

use anyhow::Result;

use crate::Lab;
use crate::browser::Browser;
use crate::web::Web;

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Nobody who has logged in.
    Nobody,
    /// A user, logged in from this address.
    User,
    /// Somebody who may look.
    Viewer,
    /// Somebody who may change things.
    Administrator,
}

/// One page.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Its name, which is that of its pictures.
    pub name: &'static str,
    /// Its path at the portal, or a whole address.
    pub path: &'static str,
    /// Who sees it.
    pub who: Who,
}

const fn page(who: Who, name: &'static str, path: &'static str) -> Page {
    Page { name, path, who }
}

/// The pages.
pub const ALL: &[Page] = &[
    page(Who::Nobody, "nobody", "/"),
    page(Who::Nobody, "login", "/login"),
    page(Who::Nobody, "password", "/password"),
    page(Who::Nobody, "nothing-there", "/nowhere"),
    page(Who::Nobody, "admin-login", "/admin/login"),
    page(Who::User, "own", "/"),
    page(Who::User, "login-again", "/login"),
    page(Who::User, "second-factor", "/second-factor"),
    page(Who::User, "passkey-add", "/second-factor/passkey/add"),
    page(Who::User, "second-factor-start", "/second-factor/set-up"),
    page(Who::User, "destination", "http://168.63.129.16/"),
    page(Who::User, "unreachable", "http://origin.example.test:9999/"),
    page(Who::Viewer, "viewer", "/status"),
    page(Who::Viewer, "viewer-sessions", "/status/sessions"),
    page(Who::Viewer, "viewer-settings", "/admin/settings"),
    page(Who::Administrator, "status", "/status"),
    page(Who::Administrator, "sessions", "/status/sessions"),
    page(Who::Administrator, "hosts", "/status/hosts"),
    page(Who::Administrator, "users", "/status/users"),
    page(Who::Administrator, "session", "/status/session/10.77.0.12"),
    page(Who::Administrator, "user", "/status/user/alice@EXAMPLE.TEST"),
    page(Who::Administrator, "local-users", "/admin/local-users"),
    page(Who::Administrator, "local-user", "/admin/local-users/edit?name=admin"),
    page(Who::Administrator, "local-user-add", "/admin/local-users/add"),
    page(Who::Administrator, "local-user-password", "/admin/local-users/password?name=admin"),
    page(Who::Administrator, "local-user-remove", "/admin/local-users/remove?name=admin"),
    page(Who::Administrator, "second-factor-users", "/admin/second-factor"),
    page(Who::Administrator, "second-factor-errors", "/admin/second-factor/errors"),
    page(Who::User, "app-passwords", "/app-passwords"),
    page(Who::Administrator, "app-passwords-admin", "/admin/app-passwords"),
    page(Who::Administrator, "settings", "/admin/settings"),
    page(Who::Administrator, "setting", "/admin/settings/edit?key=timeouts.proxy-auth-timeout"),
    page(Who::Administrator, "bans", "/admin/bans"),
    page(Who::Administrator, "events", "/admin/events"),
    page(Who::Administrator, "history", "/admin/history"),
    page(Who::Administrator, "certificates", "/admin/certificates"),
    page(Who::Administrator, "account", "/admin/account"),
    page(Who::Administrator, "admin-logout", "/admin/logout"),
    page(Who::Administrator, "admin-second-factor", "/second-factor"),
];

/// Whose pages they are, and who may look: carol administers, bob looks. Everybody may set up a second factor.
pub const SETTINGS: &str = "[portal]\nadministrators = [\"carol@EXAMPLE.TEST\"]\nviewers = [\"bob@EXAMPLE.TEST\"]\n\
    organisation = \"Example & Sons\"\ncontact = \"help@example.test, extension 4711\"\n\
    [second-factor.domains]\n\"EXAMPLE.TEST\" = \"optional\"\n";

impl Page {
    /// Its whole address.
    #[must_use]
    pub fn url(&self) -> String {
        if self.path.starts_with('/') { Web::url(self.path) } else { self.path.to_owned() }
    }
}

/// The pages that they see.
pub fn of(who: Who) -> impl Iterator<Item = &'static Page> {
    ALL.iter().filter(move |page| page.who == who)
}

/// Fills in the form of a page that asks for a name and a password, and sends it.
///
/// # Errors
/// When there is none.
pub fn log_in(browser: &mut Browser, path: &str, user: &str) -> Result<()> {
    browser.open(&Web::url(path))?;
    browser.types("#name", user)?;
    browser.types("#password", &format!("{user}-pw"))?;
    let form = browser.url()?;
    browser.clicks("main form button[type=submit]")?;
    browser.arrives(|url| url != form).map(drop)
}

/// A browser on this client of the lab that shows what they see.
///
/// # Errors
/// When they cannot log in.
pub fn browser(lab: &Lab, client: usize, who: Who, language: &str) -> Result<Browser> {
    let mut browser = lab.browser(client).language(language).chromium()?;
    match who {
        Who::Nobody => {}
        Who::User => log_in(&mut browser, "/login", "alice")?,
        Who::Viewer => log_in(&mut browser, "/admin/login", "bob")?,
        Who::Administrator => log_in(&mut browser, "/admin/login", "carol")?,
    }
    Ok(browser)
}
