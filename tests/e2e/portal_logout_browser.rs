//! Logging out with a real browser: by a bookmark, which works in one go; and not by a page elsewhere, whatever it tries.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::certificates::{Authority, Wish};
use lab::chromium::Chromium;
use lab::gateway::{PORTAL_PORT, PORTAL_TLS_PORT};
use lab::wait::until;
use lab::web::Web;
use lab::{Lab, gateway};

use crate::common::{ORIGIN, SOON, has_ended, is_let_through};

const GREETING: &str = "the origin greets you";
const DONE: &str = "Nobody is logged in from this computer any more";
const ASKED: &str = "Do you want to log out?";
/// Everything by the proxy but the pages of the gateway itself, as the documents say.
const PAC: &str = "function FindProxyForURL(url, host) { \
                   return host == 'proxy.example.test' ? 'DIRECT' : 'PROXY proxy.example.test:3128'; }";
const FOREIGN_PORT: u16 = 8080;

fn browser(lab: &Lab) -> Chromium<'_> {
    lab.chromium(0).pac(PAC)
}

#[test]
fn a_bookmark_logs_out_in_one_go() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    for path in ["/logout", "/internal/logout"] {
        for url in [Web::plain_url(path), Web::url(path)] {
            lab.login(0, "alice")?;
            let page = browser(&lab).dom(&url)?;
            ensure!(page.dom.contains(DONE), "{url}: {page:?}\n{}", lab.gateway.log());
            ensure!(!is_let_through(&lab, 0) && has_ended(&lab, 0, "logout"), "{url}");
        }
    }
    Ok(())
}

/// A browser remembers what a host with a good certificate has demanded of it (HSTS), at all of its ports.
#[test]
fn a_bookmark_without_tls_works_after_the_pages_under_tls_were_seen() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(1, &gateway::bin_dir()?)?;
    let root = Authority::root(&lab.scratch, "root")?;
    lab.gateway.configure(&root.issue(Wish::names("DNS:proxy.example.test"))?.settings())?;
    lab.gateway.start()?;
    lab.login(0, "alice")?;
    let mut visitor = lab.browser(0).trusts(root.certificate()).chromium()?;
    visitor.open(&Web::url("/assets/icon.svg"))?;
    for path in ["/assets/icon.svg", "/logout"] {
        let opened = visitor.try_open(&Web::plain_url(path))?;
        ensure!(opened, "{path}: {}\n{}", visitor.url()?, lab.gateway.log());
    }
    visitor.reads(DONE)?;
    ensure!(!is_let_through(&lab, 0));
    Ok(())
}

#[test]
fn without_pages_under_tls_a_browser_is_told_and_a_script_acts() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[portal]\nhttps = \"\"\n")?;
    lab.login(0, "alice")?;
    let page = browser(&lab).dom(&Web::plain_url("/logout"))?;
    ensure!(
        page.dom.contains("Your browser cannot log you out here") && !page.dom.contains("<form"),
        "{page:?}"
    );
    ensure!(is_let_through(&lab, 0));
    ensure!(lab.curl(0).direct().get(&Web::plain_url("/logout"))?.code == 200 && !is_let_through(&lab, 0));
    Ok(())
}

#[test]
fn a_hold_keeps_a_browser_with_a_ticket_out_until_it_is_over() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[portal]\nlogout-hold = \"1h\"\n")?;
    let with_ticket = || Ok::<_, anyhow::Error>(lab.chromium_as(0, "alice")?.pac(PAC));
    ensure!(with_ticket()?.dom(ORIGIN)?.dom.contains(GREETING));
    let page = browser(&lab).dom(&Web::plain_url("/logout"))?;
    ensure!(page.dom.contains(DONE) && page.dom.contains("without typing a password until"), "{page:?}");
    let page = with_ticket()?.dom(ORIGIN)?;
    ensure!(!page.dom.contains(GREETING) && lab.gateway.sessions()?.is_empty(), "{page:?}");
    lab.gateway.ctl(&["set", "portal.logout-hold", "0s"])?;
    ensure!(with_ticket()?.dom(ORIGIN)?.dom.contains(GREETING), "{}", lab.gateway.log());
    ensure!(lab.gateway.sessions()?.len() == 1);
    Ok(())
}

/// What a page elsewhere does to have its visitor logged out without their noticing: each of these, on each port and path.
fn attack(url: &str) -> String {
    format!(
        "<img src='{url}?img' referrerpolicy='no-referrer'>\
         <img src='{url}?img-with-referrer'>\
         <iframe src='{url}?frame' referrerpolicy='no-referrer'></iframe>\
         <iframe srcdoc=\"<meta http-equiv='refresh' content='0;url={url}?refresh'>\"></iframe>\
         <iframe sandbox='allow-scripts' src='{url}?sandbox' referrerpolicy='no-referrer'></iframe>\
         <link rel='prefetch' href='{url}?prefetch'>\
         <link rel='stylesheet' href='{url}?style'><script src='{url}?script'></script>\
         <iframe name='got'></iframe><form target='got' action='{url}' rel='noreferrer'><input name='get' value='1'></form>\
         <iframe name='sent'></iframe><form target='sent' method='post' action='{url}'><input name='token' value='1'></form>\
         <script>\
         fetch('{url}?fetch', {{mode: 'no-cors', credentials: 'include', referrerPolicy: 'no-referrer'}}).catch(() => 0);\
         fetch('{url}?post', {{mode: 'no-cors', method: 'POST', body: new URLSearchParams({{token: 1}})}}).catch(() => 0);\
         navigator.sendBeacon('{url}?beacon');\
         </script>"
    )
}

fn targets() -> Vec<String> {
    let ports = [("http", PORTAL_PORT), ("https", PORTAL_TLS_PORT)];
    let both = |(scheme, port)| {
        ["/logout", "/internal/logout"].map(|path| format!("{scheme}://proxy.example.test:{port}{path}"))
    };
    ports.into_iter().flat_map(both).collect()
}

/// A web site elsewhere: `/` tries everything, and is not loaded before it has had the time; `/go?N` goes to the address itself.
fn serve(stream: TcpStream) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    while line.trim() != "" {
        line.clear();
        stream.read_line(&mut line).ok()?;
    }
    let path = path
        .strip_prefix("http://")
        .and_then(|rest| rest.find('/').map(|at| rest[at..].to_owned()))
        .unwrap_or(path);
    let body = match path.strip_prefix("/go?") {
        Some(number) => {
            let url = &targets()[number.parse::<usize>().ok()?];
            format!(
                "<meta name='referrer' content='no-referrer'><meta http-equiv='refresh' content='0;url={url}'>"
            )
        }
        None if path == "/hold" => {
            thread::sleep(Duration::from_secs(5));
            String::new()
        }
        None => {
            let all: String = targets().iter().map(|url| attack(url)).collect();
            format!(
                "<!DOCTYPE html><body>{all}<script>for (const form of document.forms) form.submit();</script><img src='/hold'>all sent"
            )
        }
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all((head + &body).as_bytes()).ok()
}

/// How many requests the pages have had, this one included: each says its number.
fn count(lab: &Lab) -> Result<u64> {
    let page = Web::new(lab, 1).get("/logout")?.text();
    let (_, rest) = page.split_once("<code>").context("no number")?;
    let number = rest.split('<').next().and_then(|number| number.rsplit_once('-'));
    Ok(number.context("no number")?.1.parse()?)
}

#[test]
fn nothing_on_a_page_elsewhere_logs_its_visitor_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let listener = lab.net.origin.listen(SocketAddr::from(([0, 0, 0, 0], FOREIGN_PORT)))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(|| serve(stream));
        }
    });
    lab.login(0, "alice")?;
    let mut visitor = lab.browser(0).chromium()?;
    // One that is of the gateway's own domain for a browser (same-site), and one that is not.
    for site in ["origin.example.test", "10.78.0.2"] {
        let before = count(&lab)?;
        let page = browser(&lab).dom(&format!("http://{site}:{FOREIGN_PORT}/"))?;
        ensure!(page.dom.contains("all sent"), "{page:?}");
        let came = count(&lab)? - before - 1;
        // Of those to 4080 each comes twice, as it is sent on.
        ensure!(came >= 40, "the attacks from {site} reach the pages: {came}\n{}", page.dom);
        ensure!(is_let_through(&lab, 0), "{site}");
        for (number, target) in targets().iter().enumerate() {
            // Whoever is led there sees what is asked of them.
            visitor.open(&format!("http://{site}:{FOREIGN_PORT}/go?{number}"))?;
            visitor.arrives(|url| url.starts_with(&Web::url("/")))?;
            visitor.reads(ASKED).with_context(|| target.clone())?;
            ensure!(is_let_through(&lab, 0), "{site}, {target}");
        }
    }
    ensure!(!has_ended(&lab, 0, "logout"), "not even for a moment");
    // The same browser, by its user: that works.
    let page = browser(&lab).dom(&Web::plain_url("/logout"))?;
    ensure!(page.dom.contains(DONE), "{page:?}");
    until("alice to be logged out", SOON, || (!is_let_through(&lab, 0)).then_some(()))
}
