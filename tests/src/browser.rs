//! A browser at work on a client host: real Chromium by chromedriver, real Firefox by Marionette. Both speak WebDriver (W3C),
//! one in HTTP, the other in messages of its own.
//!
//! The pages of the gateway are asked for directly, everything else through the proxy, as the PAC file of the portal has it.

mod chromium;
mod firefox;
mod passkeys;
mod wire;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::ns::Ns;
use crate::realm::{NO_TICKETS, Realm};
use crate::scratch::{Process, Scratch};
use crate::wait::{self, PAGE};
use crate::{Lab, PROXY_NAME};
use wire::Wire;

pub use self::passkeys::Device;

/// How a reference to an element is named on the wire.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Keys, as WebDriver has them.
pub const TAB: &str = "\u{e004}";
/// See [`TAB`].
pub const ENTER: &str = "\u{e007}";
/// See [`TAB`].
pub const SPACE: &str = " ";

/// A browser with one window. It ends on drop, with all its processes.
#[derive(Debug)]
pub struct Browser {
    wire: Wire,
    _process: Process,
}

/// How it is set up.
#[derive(Clone, Debug)]
#[must_use]
pub struct Wish<'a> {
    ns: &'a Ns,
    scratch: &'a Scratch,
    realm: &'a Realm,
    tickets: std::path::PathBuf,
    language: &'a str,
    proxied: bool,
    all_proxied: bool,
    root: Option<std::path::PathBuf>,
}

impl<'a> Wish<'a> {
    /// With the tickets in this file.
    pub fn tickets(mut self, cache: &Path) -> Self {
        cache.clone_into(&mut self.tickets);
        self
    }

    /// Prefers this language; English, if nothing is said.
    pub const fn language(mut self, language: &'a str) -> Self {
        self.language = language;
        self
    }

    /// Asks everybody directly: pages of this machine.
    pub const fn direct(mut self) -> Self {
        self.proxied = false;
        self
    }

    /// Knows no exception: the gateway's own pages are asked for through the proxy, too.
    pub const fn without_exceptions(mut self) -> Self {
        self.all_proxied = true;
        self
    }

    /// Chromium trusts this authority, and remembers what a server says whose certificate it has signed.
    pub fn trusts(mut self, root: &Path) -> Self {
        self.root = Some(root.to_owned());
        self
    }

    /// Starts Chromium.
    ///
    /// # Errors
    /// Where chromium or chromium-driver are not installed.
    pub fn chromium(&self) -> Result<Browser> {
        chromium::start(self)
    }

    /// Starts Firefox.
    ///
    /// # Errors
    /// Where firefox-esr is not installed.
    pub fn firefox(&self) -> Result<Browser> {
        firefox::start(self)
    }

    fn environment(&self) -> Vec<(&'static str, std::path::PathBuf)> {
        let mut environment = self.realm.environment();
        environment.push(("KRB5CCNAME", self.tickets.clone()));
        environment
    }
}

impl Lab {
    /// A browser on this client host, without tickets.
    pub fn browser(&self, client: usize) -> Wish<'_> {
        Wish {
            ns: &self.net.clients[client].ns,
            scratch: &self.scratch,
            realm: &self.realm,
            tickets: NO_TICKETS.into(),
            language: "en",
            proxied: true,
            all_proxied: false,
            root: None,
        }
    }
}

impl Browser {
    /// Opens a page, and waits until it is loaded.
    ///
    /// # Errors
    /// When it cannot be loaded at all. An answer with an error is a page.
    pub fn open(&mut self, url: &str) -> Result<()> {
        self.wire.ask("Navigate", &json!({ "url": url })).map(drop).with_context(|| url.to_owned())
    }

    /// Opens an address that may lead nowhere.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn try_open(&mut self, url: &str) -> Result<bool> {
        let opened = self.open(url).is_ok();
        self.url().map(|_| opened)
    }

    /// Where it is.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn url(&mut self) -> Result<String> {
        text(self.wire.ask("GetCurrentURL", &json!({}))?)
    }

    /// The page's title.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn title(&mut self) -> Result<String> {
        text(self.wire.ask("GetTitle", &json!({}))?)
    }

    /// The document as it is now, as HTML.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn source(&mut self) -> Result<String> {
        text(self.wire.ask("GetPageSource", &json!({}))?)
    }

    /// What people read on the page.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn text(&mut self) -> Result<String> {
        text(self.script("return document.body ? document.body.innerText : ''", &[])?)
    }

    /// Waits until the page has this text on it.
    ///
    /// # Errors
    /// With what is on it, when that does not happen.
    pub fn reads(&mut self, words: &str) -> Result<()> {
        let read = wait::until(&format!("{words:?} on the page"), PAGE, || {
            self.text().ok().filter(|text| text.contains(words))
        });
        let said = format!("{:?}: {:?}", self.url()?, self.text()?);
        read.map(drop).context(said)
    }

    /// Waits until it is at an address that fits.
    ///
    /// # Errors
    /// With where it is, when that does not happen.
    pub fn arrives(&mut self, fits: impl Fn(&str) -> bool) -> Result<String> {
        let arrived = wait::until("another page", PAGE, || self.url().ok().filter(|url| fits(url)));
        let said = format!("{:?}: {:?}", self.url()?, self.text()?);
        arrived.context(said)
    }

    fn find(&mut self, selector: &str) -> Result<String> {
        let asked = json!({ "using": "css selector", "value": selector });
        let found = self.wire.ask("FindElement", &asked).with_context(|| selector.to_owned())?;
        Ok(found[ELEMENT].as_str().with_context(|| found.to_string())?.to_owned())
    }

    /// Whether the page has such an element.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn has(&mut self, selector: &str) -> Result<bool> {
        Ok(self.script("return document.querySelector(arguments[0]) !== null", &[json!(selector)])? == true)
    }

    /// Types into a field.
    ///
    /// # Errors
    /// When there is none, or it takes nothing.
    pub fn types(&mut self, selector: &str, what: &str) -> Result<()> {
        let id = self.find(selector)?;
        self.wire.ask("ElementSendKeys", &json!({ "id": id, "text": what })).map(drop)
    }

    /// Clicks on something, as a mouse would: it must be in sight.
    ///
    /// # Errors
    /// When there is nothing of the kind.
    pub fn clicks(&mut self, selector: &str) -> Result<()> {
        let id = self.find(selector)?;
        self.wire.ask("ElementClick", &json!({ "id": id })).map(drop).with_context(|| selector.to_owned())
    }

    /// Presses a key, wherever the focus is.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn press(&mut self, key: &str) -> Result<()> {
        let strokes = json!([{ "type": "keyDown", "value": key }, { "type": "keyUp", "value": key }]);
        let actions = json!([{ "type": "key", "id": "keys", "actions": strokes }]);
        self.wire.ask("PerformActions", &json!({ "actions": actions })).map(drop)
    }

    /// Runs a script in the page, the body of a function, and returns what it returns.
    ///
    /// # Errors
    /// When it throws.
    pub fn script(&mut self, script: &str, arguments: &[Value]) -> Result<Value> {
        self.wire.ask("ExecuteScript", &json!({ "script": script, "args": arguments }))
    }

    /// The same for a script that calls its last argument when it is done.
    ///
    /// # Errors
    /// When it throws, or does not.
    pub fn script_async(&mut self, script: &str, arguments: &[Value]) -> Result<Value> {
        self.wire.ask("ExecuteAsyncScript", &json!({ "script": script, "args": arguments }))
    }

    /// The cookies that the browser would send for this page: name and value.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn cookies(&mut self) -> Result<Vec<(String, String)>> {
        let all = self.wire.ask("GetCookies", &json!({}))?;
        let all = all.as_array().context("no cookies")?;
        let part = |cookie: &Value, name: &str| cookie[name].as_str().unwrap_or_default().to_owned();
        Ok(all.iter().map(|cookie| (part(cookie, "name"), part(cookie, "value"))).collect())
    }

    /// Forgets the cookies of this page's site.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn forget_cookies(&mut self) -> Result<()> {
        self.wire.ask("DeleteAllCookies", &json!({})).map(drop)
    }

    /// A picture of the window: PNG.
    ///
    /// # Errors
    /// When the browser is gone.
    pub fn picture(&mut self) -> Result<Vec<u8>> {
        let encoded = text(self.wire.ask("TakeScreenshot", &json!({}))?)?;
        let picture = STANDARD.decode(encoded)?;
        ensure!(picture.starts_with(b"\x89PNG"), "no picture");
        Ok(picture)
    }

    /// A command of the Chrome DevTools protocol.
    ///
    /// # Errors
    /// Where it is not Chromium.
    pub fn devtools(&mut self, command: &str, parameters: &Value) -> Result<Value> {
        self.wire.ask("DevTools", &json!({ "cmd": command, "params": parameters }))
    }

    /// Makes the page this wide and high, which may be less than a window can be.
    ///
    /// # Errors
    /// Where it is not Chromium.
    pub fn size(&mut self, width: u32, height: u32) -> Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &size).map(drop)
    }

    /// What the page is told that people prefer.
    ///
    /// # Errors
    /// Where it is not Chromium.
    pub fn dark(&mut self, dark: bool) -> Result<()> {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features })).map(drop)
    }
}

fn text(value: Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        other => anyhow::bail!("no text: {other}"),
    }
}

impl Wish<'_> {
    /// What a browser's proxy settings leave out: the pages of the gateway, and what the browser asks for by itself.
    fn directly(&self) -> String {
        let pages = if self.all_proxied { String::new() } else { format!("{PROXY_NAME};") };
        format!("{pages}*.googleapis.com;*.google.com;*.gvt1.com")
    }
}
