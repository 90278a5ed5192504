//! Somebody who looks at the pages of a gateway on the rig, on one kept connection under TLS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::PROXY_NAME;
use lab::ns::Ns;
use lab::raw::{Head, Raw};

/// How long a page may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Visitor {
    raw: Raw,
    host: String,
    cookies: BTreeMap<String, String>,
}

impl Visitor {
    /// Connects, without cookies.
    pub(super) fn new(ns: &Ns, portal: SocketAddr) -> Result<Self> {
        let host = format!("{PROXY_NAME}:{}", portal.port());
        Ok(Self { raw: connect(ns, portal)?, host, cookies: BTreeMap::new() })
    }

    /// Another connection of the same browser.
    pub(super) fn again(&self, ns: &Ns, portal: SocketAddr) -> Result<Self> {
        Ok(Self { raw: connect(ns, portal)?, host: self.host.clone(), cookies: self.cookies.clone() })
    }

    /// A page, which must be there.
    pub(super) fn get(&mut self, path: &str) -> Result<String> {
        self.ask(path, "", "")?;
        let (head, body) = self.raw.answer().with_context(|| path.to_owned())?;
        self.keep(&head);
        ensure!(head.code == 200, "{path} is answered {}", head.text);
        Ok(String::from_utf8(body)?)
    }

    /// Sends the form of `page`, filled in.
    pub(super) fn post(&mut self, page: &str, path: &str, fields: &str) -> Result<Head> {
        let (_, token) = page.split_once("name=\"token\" value=\"").context("no form on the page")?;
        let token = token.split('"').next().unwrap_or_default();
        let body = format!("token={token}&{fields}");
        let more = format!(
            "Sec-Fetch-Site: same-origin\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
            body.len()
        );
        self.ask(path, &more, &body)?;
        let (head, _) = self.raw.answer()?;
        self.keep(&head);
        Ok(head)
    }

    /// Begins to listen to what a page is told of changes; [`Self::hear`] is what comes.
    pub(super) fn listen(&mut self, path: &str) -> Result<()> {
        self.ask(path, "Accept: text/event-stream\r\n", "")?;
        let head = self.raw.head()?;
        let kind = head.header("content-type").unwrap_or_default();
        ensure!(head.code == 200 && kind.starts_with("text/event-stream"), "{path}: {}", head.text);
        Ok(())
    }

    /// Waits for the next bytes of a stream.
    pub(super) fn hear(&mut self) -> Result<()> {
        self.raw.line().map(drop)
    }

    fn ask(&mut self, path: &str, more: &str, body: &str) -> Result<()> {
        let method = if body.is_empty() { "GET" } else { "POST" };
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.raw.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) bench\r\nAccept: text/html\r\n\
             Accept-Language: en\r\nCookie: {}\r\n{more}\r\n{body}",
            self.host,
            cookies.join("; ")
        ))
    }

    fn keep(&mut self, head: &Head) {
        let fields = head.text.lines().filter_map(|line| line.split_once(": "));
        let set = fields.filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        for (name, value) in set.filter_map(|(_, cookie)| cookie.split(';').next()?.split_once('=')) {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

fn connect(ns: &Ns, portal: SocketAddr) -> Result<Raw> {
    let raw = Raw::connect(ns, portal)?.secure()?;
    raw.wait_for(PATIENCE)?;
    Ok(raw)
}
