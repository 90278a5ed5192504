//! The files by which browsers find the proxy: a script that says for each address whether to ask the proxy for it, and which.
//! Whoever is new has no session and perhaps no name for this host but `wpad`: they are for everybody.

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::settings::Settings;
use super::site::Site;
use super::visit::Visit;

pub(super) fn routes() -> Router<Site> {
    Router::new().route("/proxy.pac", get(pac)).route("/wpad.dat", get(pac))
}

/// Whether a page is for those, too, who call this host by the name under which browsers look for the file (WPAD).
pub(super) fn is_for_whoever_looks_by(host: &str, path: &str) -> bool {
    is_wpad(host) && matches!(path, "/proxy.pac" | "/wpad.dat")
}

fn is_wpad(host: &str) -> bool {
    host == "wpad" || host.starts_with("wpad.")
}

async fn pac(visit: Visit) -> Response {
    let fields = [(CONTENT_TYPE, "application/x-ns-proxy-autoconfig"), (CACHE_CONTROL, "max-age=300")];
    (fields, script(visit.settings(), visit.host())).into_response()
}

/// The script. It uses no function that browsers have different ideas of. `asked` is the name by which it was asked for.
fn script(settings: &Settings, asked: &str) -> String {
    let Settings { host, names, proxies, .. } = settings;
    let mut direct: Vec<&str> = proxies.iter().filter_map(|proxy| host_of(proxy)).collect();
    let ours = names.iter().map(String::as_str).chain([host.as_str(), asked]);
    direct.extend(ours.map(bare).filter(|name| is_host(name) && !is_wpad(name)));
    let mut direct: Vec<String> = direct.into_iter().map(str::to_ascii_lowercase).collect();
    direct.sort_unstable();
    direct.dedup();
    let through = if proxies.is_empty() { "DIRECT".to_owned() } else { proxies.join("; ") };
    let (direct, through) = (
        serde_json::to_string(&direct).unwrap_or_else(|_| "[]".into()),
        serde_json::to_string(&through).unwrap_or_else(|_| "\"DIRECT\"".into()),
    );
    format!(
        r#"function FindProxyForURL(url, host) {{
  var name = host.toLowerCase().replace(/^\[|\]$|\.$/g, "");
  var direct = {direct};
  if (name.indexOf(".") < 0 && name.indexOf(":") < 0) return "DIRECT";
  if (name == "::1" || /^127(\.\d+){{3}}$/.test(name) || /\.localhost$/.test(name)) return "DIRECT";
  for (var i = 0; i < direct.length; i++) if (name == direct[i]) return "DIRECT";
  return {through};
}}
"#
    )
}

/// The host of `PROXY host:port`.
fn host_of(proxy: &str) -> Option<&str> {
    let (_, place) = proxy.split_once(' ')?;
    let (host, _) = place.rsplit_once(':')?;
    Some(bare(host)).filter(|host| is_host(host))
}

/// An address without its brackets.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn settings(host: &str, proxies: &[&str]) -> Settings {
        let proxies = proxies.iter().map(|&proxy| proxy.to_owned()).collect();
        Settings { host: host.to_owned(), proxies, ..Settings::default() }
    }

    /// What a browser would do for each of these, by a real engine for JavaScript.
    fn run(script: &str, hosts: &[&str]) -> Option<Vec<String>> {
        let calls: Vec<String> = hosts
            .iter()
            .map(|host| format!("console.log(FindProxyForURL('http://{host}/', '{host}'))"))
            .collect();
        let output =
            Command::new("node").arg("-e").arg(format!("{script}\n{}", calls.join("\n"))).output().ok()?;
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
    }

    #[test]
    fn what_goes_where() {
        let proxies =
            ["PROXY gw.example.test:3128", "HTTPS gw.example.test:3130", "PROXY [2001:db8::2]:3128"];
        let through = proxies.join("; ");
        let script = script(&settings("gw.example.test", &proxies), "10.0.0.1");
        let (direct, through) = ("DIRECT", through.as_str());
        let table = [
            ("www.example.org", through),
            ("WWW.Example.ORG", through),
            ("192.0.2.7", through),
            ("2001:db8::7", through),
            ("localhost.example.org", through),
            ("127.example.org", through),
            ("xgw.example.test", through),
            ("gw.example.test.evil.test", through),
            ("intranet", direct),
            ("localhost", direct),
            ("a.localhost", direct),
            ("127.0.0.1", direct),
            ("127.9.9.9", direct),
            ("::1", direct),
            ("[::1]", direct),
            ("gw.example.test", direct),
            ("GW.Example.Test", direct),
            ("gw.example.test.", direct),
            ("10.0.0.1", direct),
            ("2001:db8::2", direct),
            ("[2001:db8::2]", direct),
        ];
        // Without node, as on a developer's machine, it is at least written.
        let Some(found) = run(&script, &table.map(|(host, _)| host)) else { return };
        for ((host, expected), found) in table.into_iter().zip(found) {
            assert_eq!(found, expected, "{host}\n{script}");
        }
    }

    #[test]
    fn what_somebody_calls_this_host_is_no_program() {
        for asked in ["\"];alert(1)//", "</script>", "a b", "wpad", "wpad.example.test", ""] {
            let script = script(&settings("gw.test", &["PROXY gw.test:3128"]), asked);
            assert!(script.contains("var direct = [\"gw.test\"];"), "{asked}: {script}");
        }
        let alone = script(&settings("2001:db8::1", &[]), "[2001:db8::1]");
        assert!(alone.contains("[\"2001:db8::1\"]") && alone.contains("return \"DIRECT\";\n}"), "{alone}");
    }
}
