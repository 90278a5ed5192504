//! What the proxy does for the portal: people are led there, and brought there through the proxy, each as themselves; its own
//! pages in the house style; the PAC file.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use lab::client::{Curl, Reply};
use lab::gateway::{Gateway, METRICS_PORT, PORTAL_PORT, PORTAL_TLS_PORT, PROXY_PORT};
use lab::haproxy::{Haproxy, Way};
use lab::net::GATEWAY_V4;
use lab::raw::Raw;
use lab::wait::until;
use lab::web::{USER_AGENT, Web, token};
use lab::{Lab, PROXY_NAME, gateway};

use crate::common::{ORIGIN, SOON, is_for_people, is_let_through, session, status_without_credentials, url};

/// Nobody is offered anything on a plain connection.
const NO_OFFER: &str = "[kerberos.conditions]\ndisabled = true\n";
/// A page behind the proxy.
const LOGIN: &str = "https://proxy.example.test:4081/login";

/// curl on a client with these header lines, through the proxy and without credentials.
fn ask(lab: &Lab, client: usize, method: &str, headers: &str, to: &str) -> Result<Reply> {
    let curl = lab.curl(client).header("Accept:");
    let curl = if method == "HEAD" { curl.arg("--head") } else { curl.method(method) };
    headers.lines().fold(curl, |curl, header| curl.header(header)).get(to)
}

#[test]
fn pages_lead_to_the_portal_and_everything_else_is_told_where_to_log_in() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start(NO_OFFER)?;
    let table = [
        ("GET", "Accept: text/html,application/xhtml+xml,*/*;q=0.8", 302),
        ("HEAD", "Accept: text/html", 302),
        ("GET", "Sec-Fetch-Mode: navigate\nSec-Fetch-Dest: document", 302),
        ("GET", "Sec-Fetch-Mode: navigate\nAccept: */*", 302),
        ("GET", "Accept: */*", 403),
        ("GET", "", 403),
        ("GET", "Accept: image/avif,image/webp,*/*", 403),
        ("GET", "Accept: text/html\nSec-Fetch-Mode: cors", 403),
        ("GET", "Accept: text/html\nSec-Fetch-Mode: no-cors", 403),
        ("GET", "Accept: text/html\nSec-Fetch-Site: none", 403),
        ("POST", "Accept: text/html", 403),
        ("PUT", "Sec-Fetch-Mode: navigate", 403),
    ];
    for (method, headers, code) in table {
        let reply = ask(&lab, 0, method, headers, &url("a?b=c"))?;
        assert_eq!(reply.code, code, "{method} {headers}: {reply:?}\n{}", lab.gateway.log());
        let location = reply.header("location").pop().unwrap_or_default();
        assert_eq!(location.starts_with(&format!("{LOGIN}?to=")), code == 302, "{headers}: {location}");
        assert!(!location.contains("origin"), "the target is kept: {location}");
        if method != "HEAD" {
            assert!(reply.text().contains(&format!("<a href=\"{LOGIN}")), "{}", reply.text());
            is_for_people(&lab, &reply.text())?;
        }
    }
    assert_eq!(lab.origin.requests(), 0);

    // Where something is offered, it is; and who presses Cancel reads where else to go.
    lab.gateway.configure("[kerberos.conditions]\ndisabled = false\n")?;
    until("Kerberos to be offered", SOON, || (status_without_credentials(&lab, 0) == 407).then_some(()))?;
    for (method, headers, code) in table {
        let reply = ask(&lab, 0, method, headers, ORIGIN)?;
        assert_eq!(reply.code, 407, "{method} {headers}: {reply:?}");
        let kept = reply.text().contains(&format!("<a href=\"{LOGIN}?to="));
        assert_eq!(kept, code == 302 && method != "HEAD", "{method} {headers}: {}", reply.text());
    }
    assert_eq!(ask(&lab, 0, "CONNECT", "Accept: text/html", ORIGIN)?.code, 400, "a target of another form");

    // Nobody can log in for an address of many, and where there is no page, nobody is led.
    lab.gateway.configure(&format!("{NO_OFFER}[timeouts]\nshared-hosts = [\"10.77.0.11/32\"]\n"))?;
    let page = "Accept: text/html";
    until("the shared host to be told so", SOON, || {
        ask(&lab, 0, "GET", page, ORIGIN).ok().filter(|reply| reply.code == 403).map(drop)
    })?;
    let told = ask(&lab, 0, "GET", page, ORIGIN)?;
    assert!(told.code == 403 && !told.text().contains("<a "), "{told:?}");
    assert_eq!(ask(&lab, 1, "GET", page, ORIGIN)?.code, 302);
    Ok(())
}

#[test]
fn without_pages_under_tls_nobody_is_led_anywhere() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, &format!("{NO_OFFER}[portal]\nhttps = \"\"\n"))?;
    let told = ask(&lab, 0, "GET", "Accept: text/html", ORIGIN)?;
    assert!(told.code == 403 && !told.text().contains("<a "), "{told:?}");
    Ok(())
}

/// A person at a client who asks for the gateway's pages through a proxy, with a browser of their own.
struct Visitor<'a> {
    lab: Place<'a>,
    client: usize,
    user: &'static str,
    proxy: String,
    jar: PathBuf,
}

/// What of a lab several threads may use.
#[derive(Clone, Copy)]
struct Place<'a> {
    net: &'a lab::net::Net,
    scratch: &'a lab::scratch::Scratch,
    realm: &'a lab::realm::Realm,
}

impl<'a> Visitor<'a> {
    fn new(lab: &'a Lab, client: usize, user: &'static str, proxy: &str) -> Self {
        let place = Place { net: &lab.net, scratch: &lab.scratch, realm: &lab.realm };
        Self { lab: place, client, user, proxy: proxy.to_owned(), jar: lab.scratch.unused("jar") }
    }

    fn curl(&self) -> Curl<'_> {
        let Place { net, scratch, realm } = self.lab;
        Curl::new(&net.clients[self.client].ns, scratch, realm, &self.proxy)
    }

    /// A page under TLS, by a tunnel; a form with fields.
    fn page(&self, path: &str, fields: &[(&str, &str)]) -> Result<Reply> {
        let jar = self.jar.display().to_string();
        let curl = self.curl().arg("--insecure").arg("--cookie").arg(&jar).arg("--cookie-jar").arg(&jar);
        let curl = curl.arg("--user-agent").arg(USER_AGENT);
        let curl = fields
            .iter()
            .fold(curl, |curl, (name, value)| curl.arg("--data-urlencode").arg(&format!("{name}={value}")));
        curl.get(&Web::url(path))
    }

    /// Logs in by the form, looks whether the pages know who it is, and logs out by a plain request as a script would.
    fn comes_and_goes(&self) -> Result<()> {
        let form = self.page("/login", &[])?;
        ensure!(form.connect_code == 200, "{form:?}");
        let token = token(&form)?;
        let password = format!("{}-pw", self.user);
        let done = self.page("/login", &[("token", &token), ("name", self.user), ("password", &password)])?;
        ensure!(done.code == 303, "{done:?}");
        let own = self.page("/", &[])?;
        ensure!(own.text().contains(&format!("<strong>{}", self.user)), "{own:?}");
        let served = self.curl().get(ORIGIN)?;
        ensure!(served.code == 200, "{served:?}");
        let out = self.curl().header("User-Agent: logoff").get(&Web::plain_url("/internal/logout"))?;
        ensure!(out.code == 200, "{out:?}");
        let asked = self.curl().get(ORIGIN)?;
        ensure!(asked.code == 407, "{asked:?}");
        Ok(())
    }
}

/// Both come and go at once, so often; then the trail is read.
fn come_and_go(lab: &Lab, visitors: &[Visitor<'_>], times: usize) -> Result<()> {
    std::thread::scope(|scope| {
        let all: Vec<_> = visitors
            .iter()
            .map(|visitor| scope.spawn(move || (0..times).try_for_each(|_| visitor.comes_and_goes())))
            .collect();
        all.into_iter().try_for_each(|one| one.join().expect("a thread"))
    })
    .with_context(|| lab.gateway.log())?;
    let events = lab.gateway.events()?;
    for visitor in visitors {
        let client = lab.address(visitor.client);
        let own: Vec<_> = events.iter().filter(|event| event.client == client).collect();
        let logins: Vec<_> = own.iter().filter(|event| event.kind == "login").collect();
        assert_eq!(logins.len(), times, "{own:#?}");
        let others = own.iter().filter(|event| !event.user.is_empty());
        for event in others {
            assert!(lab::answers::same_user(&event.user, visitor.user), "{event:?}");
        }
    }
    Ok(())
}

#[test]
fn through_the_proxy_everybody_is_themselves() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let visitor = |client, user| Visitor::new(&lab, client, user, &Gateway::proxy_url());
    come_and_go(&lab, &[visitor(0, "alice"), visitor(1, "bob")], 50)?;

    // What was asked for stands in the log as the portal's, and is nobody's traffic.
    let portal_lines = |lab: &Lab| {
        let log = lab.gateway.log();
        let lines = log.lines().filter(|line| line.contains(" access: ") && line.contains(" portal=true"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = until("the portal's lines", SOON, || {
        Some(portal_lines(&lab)).filter(|lines| lines.len() == 2 * 50 * 4)
    })?;
    assert!(lines.iter().all(|line| !line.contains(" user=")), "{lines:#?}");
    let metrics = lab.gateway.metrics()?;
    assert!(metrics.contains("tracker_proxy_portal_requests_total 400\n"), "{metrics}");
    Ok(())
}

#[test]
fn behind_a_balancer_too() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 13);
    let mut lab = Lab::prepare(3, &gateway::bin_dir()?)?;
    lab.gateway.configure(&format!("[proxy]\nproxy-protocol = [\"{BALANCER}\"]\n"))?;
    lab.gateway.start()?;
    let (bind, server) =
        (format!("{BALANCER}:{PROXY_PORT}"), format!("{GATEWAY_V4}:{PROXY_PORT} send-proxy-v2 check"));
    let way = Way { name: "v2", bind: &bind, server: &server };
    let _haproxy = Haproxy::start(&lab.scratch, &lab.net.clients[2].ns, &[way])?;
    let proxy = format!("http://{bind}");
    let visitor = |client, user| Visitor::new(&lab, client, user, &proxy);
    come_and_go(&lab, &[visitor(0, "alice"), visitor(1, "bob")], 10)
}

#[test]
fn the_inner_listeners_are_for_nobody_else() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    let found = lab.net.gateway.run(&["ss", "-Hltn", "src", "127.0.0.1"])?;
    let inner: Vec<SocketAddr> = found
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3)?.parse().ok())
        .filter(|at: &SocketAddr| at.port() != METRICS_PORT && at.ip().is_loopback())
        .filter(|at| {
            lab.net
                .gateway
                .run(&["ss", "-Hltnp", &format!("sport = :{}", at.port())])
                .is_ok_and(|who| who.contains("trackerd"))
        })
        .collect();
    assert_eq!(inner.len(), 2, "{found}");
    for at in inner {
        for _ in 0..20 {
            let mut raw = Raw::connect(&lab.net.gateway, at)?;
            // It may be closed before anything can be sent.
            let _ = raw.send(format!(
                "GET / HTTP/1.1\r\nHost: {PROXY_NAME}:{PORTAL_PORT}\r\nX-Forwarded-For: {}\r\n\r\n",
                lab.address(0)
            ));
            assert!(raw.rest().unwrap_or_default().is_empty(), "nobody is answered there");
        }
    }
    // Whoever is announced meanwhile still is who they are.
    let own = lab.curl(0).get(&Web::plain_url("/internal/logout"))?;
    assert_eq!(own.code, 200, "{own:?}");
    assert_eq!(lab.gateway.sessions()?, []);
    Ok(())
}

#[test]
fn nothing_else_of_the_gateway_is_reached_by_it() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&format!(
        "[proxy]\nconnect-ports = [443, {PORTAL_PORT}, {PORTAL_TLS_PORT}, {METRICS_PORT}]\n"
    ))?;
    let at = |host: &str, port: u16| format!("{host}:{port}");
    let tunnel = |to: &str| lab.raw(0)?.tunnel(to, "").map(|head| head.code);
    let closed = [
        at(PROXY_NAME, METRICS_PORT),
        at("127.0.0.1", METRICS_PORT),
        at("127.0.0.1", PORTAL_TLS_PORT),
        at("localhost", PORTAL_PORT),
        at("[::1]", PORTAL_PORT),
        at("10.78.0.2", PORTAL_PORT),
    ];
    let open = [
        at(PROXY_NAME, PORTAL_PORT),
        at(PROXY_NAME, PORTAL_TLS_PORT),
        at("PROXY.example.test.", PORTAL_TLS_PORT),
        at(&GATEWAY_V4.to_string(), PORTAL_TLS_PORT),
        at("[::ffff:10.77.0.1]", PORTAL_TLS_PORT),
    ];
    for (logged_in, refused) in [(false, &[407][..]), (true, &[403, 502])] {
        if logged_in {
            lab.login(0, "alice")?;
        }
        for to in &closed {
            assert!(refused.contains(&tunnel(to)?), "{to}");
        }
        for to in &open {
            assert_eq!(tunnel(to)?, 200, "{to}");
        }
    }
    for path in ["/metrics", "/live", "/ready", "/admin.sock", "/../metrics"] {
        let reply = lab.curl(0).arg("--path-as-is").get(&Web::plain_url(path))?;
        assert!(!reply.text().contains("tracker_proxy_"), "{path}: {reply:?}");
    }
    let plain = lab.curl(0).get(&format!("http://{PROXY_NAME}:{METRICS_PORT}/metrics"))?;
    assert_eq!(plain.code, 403, "{plain:?}");
    Ok(())
}

#[test]
fn chromium_without_exceptions_is_led_to_the_form_and_back() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(NO_OFFER)?;
    let mut chromium = lab.browser(0).without_exceptions().chromium()?;
    chromium.open(ORIGIN)?;
    assert!(chromium.url()?.starts_with(&format!("{LOGIN}?to=")), "{}", chromium.url()?);
    chromium.types("#name", "alice")?;
    chromium.types("#password", "alice-pw")?;
    chromium.clicks("form.login button[type=submit]")?;
    chromium.arrives(|url| url == ORIGIN).with_context(|| lab.gateway.log())?;
    chromium.reads("the origin greets you")?;
    let begun = session(&lab, 0)?;
    assert!(begun.is_of("alice") && is_let_through(&lab, 0), "{begun:?}");
    drop(chromium);
    let tunnel = format!("destination=\"{PROXY_NAME}:{PORTAL_TLS_PORT}\" status=200 ");
    until("the tunnel to the pages in the log", SOON, || {
        let log = lab.gateway.log();
        log.lines().find(|line| line.contains(&tunnel) && line.contains(" portal=true")).map(drop)
    })
}

/// The number that stands on a page.
fn number(page: &Reply) -> Result<String> {
    let text = page.text();
    let (_, rest) = text.split_once("<code>").with_context(|| text.clone())?;
    Ok(rest.split('<').next().unwrap_or_default().to_owned())
}

#[test]
fn the_proxys_pages_are_in_the_house_style_and_found_in_the_log() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(
        1,
        "[portal]\norganisation = \"Muster & Söhne\"\ncontact = \"Durchwahl 17\"\ncolour = \"#aa0000\"\n",
    )?;
    let german = |url: &str| lab.curl(0).header("Accept-Language: de-DE,de;q=0.9,en;q=0.5").get(url);
    let challenge = german(ORIGIN)?;
    lab.login(0, "alice")?;
    let unreachable = german("http://origin.example.test:9/")?;
    let missing = german("http://missing.invalid/")?;
    for (page, code, words) in [
        (&challenge, 407, "Melden Sie sich an"),
        (&unreachable, 403, "lässt dieser Proxy nicht zu"),
        (&missing, 502, "Sein Name lässt sich nicht auflösen"),
    ] {
        let text = page.text();
        assert_eq!(page.code, code, "{page:?}");
        for words in
            [words, "<html lang=\"de\">", "vom Proxy", "Muster &amp; Söhne", "Durchwahl 17", "#aa0000"]
        {
            assert!(text.contains(words), "{words}: {text}");
        }
        let policy = page.header("content-security-policy").concat();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        is_for_people(&lab, &text)?;
        let (number, status) = (number(page)?, format!(" status={code} "));
        let line = until("the page's line", SOON, || {
            let log = lab.gateway.log();
            let own = |line: &&str| line.split(' ').any(|word| word == format!("request={number}"));
            log.lines().find(own).map(str::to_owned)
        })?;
        assert!(line.contains(" access: client=10.77.0.11 ") && line.contains(&status), "{line}");
    }
    let english = lab.curl(0).get("http://missing.invalid/")?;
    assert!(english.text().contains("<html lang=\"en\">"), "{english:?}");
    assert_ne!(number(&english)?, number(&missing)?);
    // Chromium finds nothing that its policy forbids.
    let page = lab.chromium(0).dom("http://missing.invalid/")?;
    assert!(page.dom.contains("502 from the proxy") && !page.stderr.contains("Content Security"), "{page:?}");
    Ok(())
}

#[test]
fn browsers_find_the_proxy_by_the_pac_file() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[portal]\ngateways = [\"other.example.test:3128\"]\n")?;
    lab.net.add_name(GATEWAY_V4.into(), "wpad.example.test")?;
    let plain = lab.curl(0).direct().get(&Web::plain_url("/proxy.pac"))?;
    let secure = Web::new(&lab, 0).get("/proxy.pac")?;
    let wpad = lab.curl(0).direct().get(&format!("http://wpad.example.test:{PORTAL_PORT}/wpad.dat"))?;
    for pac in [&plain, &secure, &wpad] {
        assert_eq!(pac.code, 200, "{pac:?}");
        assert_eq!(pac.header("content-type"), ["application/x-ns-proxy-autoconfig"]);
        let through = "return \"PROXY proxy.example.test:3128; PROXY other.example.test:3128\"";
        assert!(pac.text().contains(through), "{}", pac.text());
    }
    let chromium = lab.chromium_as(0, "alice")?.pac(&plain.text());
    let page = chromium.dom(ORIGIN)?;
    assert!(page.dom.contains("the origin greets you"), "{page:?}");
    assert!(session(&lab, 0)?.is_of("alice"));
    let own = chromium.dom(&Web::url("/"))?;
    assert!(own.dom.contains("<h1>") && !lab.gateway.log().contains(" portal=true"), "directly: {own:?}");
    Ok(())
}
