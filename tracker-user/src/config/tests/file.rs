//! Files, good and bad.

use std::time::Duration;

use proptest::prelude::*;

use crate::config::{Config, ConfigError, keys};
use crate::session::settings::Mode;

fn good(text: &str) -> Config {
    Config::parse(text, "t").unwrap_or_else(|error| panic!("{text}\n{error}"))
}

fn lines(text: &str) -> Vec<String> {
    match Config::parse(text, "t") {
        Ok(_) => Vec::new(),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

/// `expected` is what each line of the error begins with.
fn check(text: &str, expected: &[&str]) {
    let lines = lines(text);
    let same = lines.len() == expected.len()
        && lines.iter().zip(expected).all(|(line, start)| line.starts_with(start));
    assert!(same, "of\n{text}\nexpected\n{}\ngot\n{}", expected.join("\n"), lines.join("\n"));
}

#[test]
fn an_empty_file_is_all_defaults() {
    for text in ["", "\n# nothing\n", "\u{feff}", "[proxy]\n[timeouts]\n"] {
        assert_eq!(good(text), Config::default(), "{text:?}");
    }
}

#[test]
fn a_file_changes_what_it_names_and_nothing_else() {
    let config = good(
        r#"
        run-dir = "/tmp/t"
        kerberos.domains = { "EXAMPLE.TEST" = "EXAMPLE" }
        [proxy]
        listen = ["[::1]:0", "127.0.0.1:8080"]
        allow-destinations = ["10.0.0.0/8", "Wiki.Example.Test."]
        [timeouts]
        proxy-auth-timeout = 5
        proxy-re-authentication-mode = "traffic"
        proxy-auth-lifetime = "enable"
        proxy-auth-lifetime-timeout = "8h"
        "#,
    );
    assert_eq!(config.timeouts.timeout, Duration::from_secs(300));
    assert_eq!(config.timeouts.mode, Mode::Traffic);
    assert_eq!(config.timeouts.lifetime(), Some(Duration::from_secs(8 * 3600)));
    let changed: Vec<_> = config.differences(&Config::default()).iter().map(|key| key.name()).collect();
    // The lifetime is 480m either way.
    let expected = [
        "run-dir",
        "proxy.listen",
        "proxy.allow-destinations",
        "timeouts.proxy-auth-timeout",
        "timeouts.proxy-re-authentication-mode",
        "timeouts.proxy-auth-lifetime",
        "kerberos.domains",
    ];
    assert_eq!(changed, expected);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    check(
        r#"state-dir = "var"
flavour = 1
proxy-auth-timeout = 5
[proxy]
listen = ["127.0.0.1:1", "nonsense",
  "127.0.0.1:1"]
connect-ports = 443
baisc = "never"
[timeouts]
proxy-auth-timeout = 0
proxy-re-authentication-mode = "trafic"
[licence]
max-users = 5
"#,
        &[
            r#"t:1: state-dir: "var" is a relative path, and a daemon's directory is anybody's guess; write the path from the root"#,
            "t:2: flavour: there is no such key; remove it",
            "t:3: proxy-auth-timeout: there is no such key; proxy-auth-timeout belongs below [timeouts]",
            r#"t:5: proxy.listen: "nonsense" is not an address with a port; write a numeric address"#,
            r#"t:6: proxy.listen: "127.0.0.1:1" is there twice; remove one of the two"#,
            "t:7: proxy.connect-ports: wants list: port or \"FROM-TO\", 1 to 65535, not the number 443; write it like [443]",
            "t:8: proxy.baisc: there is no such key; did you mean proxy.basic?",
            "t:10: timeouts.proxy-auth-timeout: 0 minutes is too short: 1s to 10000m; write at least \"1s\"",
            r#"t:11: timeouts.proxy-re-authentication-mode: wants session, traffic or absolute, not "trafic"; did you mean "traffic"?"#,
            "t:12: licence: there is no such table; did you mean licences?",
        ],
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_refused_by_its_line() {
    for (text, message) in [
        ("[proxy]\nlisten = []", "t:2: proxy.listen: is empty: nobody could reach the proxy;"),
        ("[proxy]\nlisten = [3128]", "t:2: proxy.listen: wants ADDRESS:PORT, not the number 3128;"),
        (
            "[proxy]\nconnect-ports = [\"443\"]",
            "t:2: proxy.connect-ports: wants port or \"FROM-TO\", 1 to 65535, not the text",
        ),
        (
            "[proxy]\nconnect-ports = [70000]",
            "t:2: proxy.connect-ports: 70000 is out of range: wants port or \"FROM-TO\", 1 to 65535;",
        ),
        ("[proxy]\nconnect-ports = [0]", "t:2: proxy.connect-ports: 0 is out of range"),
        ("[proxy]\nforward-ports = [\"9-8\"]", "t:2: proxy.forward-ports: 9-8 is out of range"),
        ("[proxy]\nforward-ports = [\"web-https\"]", "t:2: proxy.forward-ports: wants port or"),
        ("proxy = 1", "t:1: proxy: is a table, not a value; write [proxy] and its keys below"),
        ("[[proxy]]", "t:1: proxy: is a table, not a value"),
        ("\"proxy.listen\" = []", "t:1: proxy.listen: there is no such key"),
        (
            "[kerberos]\nkeep-domain = \"true\"",
            "t:2: kerberos.keep-domain: wants true or false, not the text \"true\";",
        ),
        (
            "[kerberos]\nkeytab = \"FILE:/etc/krb5.keytab\"",
            "t:2: kerberos.keytab: \"FILE:/etc/krb5.keytab\" is a keytab name, not a path; write the path only: \"/etc/krb5.keytab\"",
        ),
        ("[kerberos]\nkeytab = \"http.keytab\"", "t:2: kerberos.keytab: \"http.keytab\" is a relative path"),
        ("[kerberos.domains]\n\"A B\" = \"X\"", "t:2: kerberos.domains: \"A B\" is not the name of a realm"),
        ("[kerberos.domains]\nA = \"X\"\na = \"Y\"", "t:3: kerberos.domains: \"a\" is there twice;"),
        ("[licences]\ndevices-per-user = 0", "t:2: licences.devices-per-user: 0 is out of range"),
        ("[licences]\nmax-users = -1", "t:2: licences.max-users: -1 is out of range"),
        ("[licences]\nmax-users = 99999999999999999999999999999999999999999999", "t:2: licences.max-users: "),
        (
            "[timeouts]\nproxy-auth-timeout = 1.5",
            "t:2: timeouts.proxy-auth-timeout: wants 1s to 10000m, not a number with a fraction;",
        ),
        (
            "[timeouts]\nproxy-auth-timeout = -1",
            "t:2: timeouts.proxy-auth-timeout: -1 is not a length of time;",
        ),
        (
            "[timeouts]\nproxy-auth-timeout = \"2d\"",
            "t:2: timeouts.proxy-auth-timeout: \"2d\" has the unknown unit \"d\";",
        ),
        (
            "[timeouts]\nproxy-auth-lifetime = true",
            "t:2: timeouts.proxy-auth-lifetime: wants enable or disable, not true; write it like \"enable\"",
        ),
        (
            "[timeouts]\nshared-hosts = [\"10.0.0.5/8\"]",
            "t:2: timeouts.shared-hosts: \"10.0.0.5/8\" names a host and a whole network at once; write \"10.0.0.0/8\" for the network or \"10.0.0.5\" for the host",
        ),
        (
            "[second-factor.domains]\nA = \"on\"",
            "t:2: second-factor.domains: wants off, optional or required, not \"on\"",
        ),
        ("state-dir = \"/a\\u0000b\"", "t:1: state-dir: \"/a\\0b\" has the control character"),
        ("state-dir = \"\"", "t:1: state-dir: is empty;"),
        ("[store]\nshared = \"redis://:secret@/0\"", "t:2: store.shared: has no proper host in it;"),
    ] {
        check(text, &[message]);
    }
}

#[test]
fn values_that_do_not_go_together_are_refused() {
    for (text, message) in [
        (
            "[metrics]\nlisten = \"127.0.0.1:3128\"",
            "t:2: metrics.listen: 127.0.0.1:3128 and 0.0.0.0:3128 (proxy.listen) are in each other's way;",
        ),
        (
            "[proxy]\nlisten = [\"127.0.0.1:4080\"]",
            "t:2: proxy.listen: 0.0.0.0:4080 and 127.0.0.1:4080 (proxy.listen)",
        ),
        ("[tls]\ncertificate = \"/c\"", "t:2: tls.certificate: is of no use without its private key;"),
        (
            "[acme]\ndirectory = \"https://acme.test/d\"",
            "t:2: acme.directory: there is nothing to have certified;",
        ),
        (
            "[mail]\nfrom = \"a@b.test\"\nsmtp = \"smtp://gw@mail.test\"",
            "t:3: mail.smtp: names a user without a password;",
        ),
        ("[mail]\nsmtp = \"smtp://127.0.0.1:25\"", "t:2: mail.smtp: mail would have no sender;"),
        (
            &format!("run-dir = \"/{}\"", "d".repeat(100)),
            "t:1: run-dir: the path of the admin socket in it has 112 bytes",
        ),
    ] {
        check(text, &[message]);
    }
    // Two free ports are never the same, and the families have their own.
    good("[proxy]\nlisten = [\"127.0.0.1:0\", \"[::]:4080\"]\n[metrics]\nlisten = \"127.0.0.1:0\"");
    // Nothing is said about a value that is not the one that was meant.
    check("[proxy]\nlisten = [\"x\"]\n[metrics]\nlisten = \"0.0.0.0:3128\"", &["t:2: proxy.listen: \"x\""]);
}

#[test]
fn a_syntax_error_is_one_problem_and_hides_no_bad_value() {
    check("[proxy\nlisten = [\"127.0.0.1:1\"]\n", &["t:1: is not TOML: "]);
    check("a = \n", &["t:1: is not TOML: "]);
    check(
        "[proxy]\nbasic = \"never\"\nbasic = \"always\"\n",
        &["t:3: is not TOML: duplicate key; keep one of the two"],
    );
    check(
        "run-dir = \"relative\"\n[metrics]\nlisten = 127.0.0.1:1\n",
        &["t:1: run-dir: \"relative\" is a relative path", "t:3: is not TOML: "],
    );
}

#[test]
fn the_vendors_ranges_hold_at_their_edges() {
    let timeout = |value: &str| lines(&format!("[timeouts]\nproxy-auth-timeout = {value}")).is_empty();
    let lifetime =
        |value: &str| lines(&format!("[timeouts]\nproxy-auth-lifetime-timeout = {value}")).is_empty();
    for value in ["1", "10000", "\"1s\"", "\"600000s\"", "\"10000m\"", "\"166h\"", "\"10\""] {
        assert!(timeout(value), "{value}");
    }
    for value in
        ["0", "10001", "\"0s\"", "\"600001s\"", "\"10001m\"", "\"167h\"", "\"\"", "9223372036854775807"]
    {
        assert!(!timeout(value), "{value}");
    }
    for value in ["5", "65535", "\"5m\"", "\"299s\"", "\"1s\"", "\"3932100s\"", "\"1092h\""] {
        assert!(lifetime(value), "{value}");
    }
    for value in ["4", "65536", "\"4m\"", "\"0s\"", "\"0h\"", "\"3932101s\"", "\"1093h\""] {
        assert!(!lifetime(value), "{value}");
    }
}

#[test]
fn warnings_name_what_is_probably_not_meant() {
    let warnings = |text: &str| good(text).warnings();
    assert_eq!(Config::default().warnings(), Vec::<String>::new());
    for (text, start) in [
        (
            "[timeouts]\nproxy-auth-lifetime = \"enable\"\nproxy-auth-lifetime-timeout = \"90s\"",
            "timeouts.proxy-auth-lifetime-timeout: 90s is shorter than proxy-auth-timeout, 10m",
        ),
        ("[proxy]\nconnect-ports = []", "proxy.connect-ports: "),
        ("[proxy]\nallow-destinations = [\"::/0\"]", "proxy.allow-destinations: ::/0 "),
        ("[proxy]\nbasic = \"always\"", "proxy.basic: "),
        ("[proxy]\nproxy-protocol = [\"0.0.0.0/0\"]", "proxy.proxy-protocol: 0.0.0.0/0 "),
        ("[proxy]\nproxy-protocol = [\"10.0.0.1\", \"::/0\"]", "proxy.proxy-protocol: ::/0 "),
        (
            "[proxy]\nproxy-protocol = [\"10.0.0.0/28\"]\n[timeouts]\nshared-hosts = [\"10.0.0.0/8\", \"10.0.0.3\"]",
            "timeouts.shared-hosts: 10.0.0.3/32 has no effect",
        ),
        ("[kerberos]\nkeep-domain = false\ndomains = { A = \"X\", B = \"Y\" }", "kerberos.keep-domain: "),
        ("[tls]\nkey = \"/k\"", "tls.key: is not used"),
        ("[kerberos.domains]\nA = \"X\"\nB = \"x\"", "kerberos.domains: several realms are called \"x\""),
    ] {
        let found = warnings(text);
        assert!(found.len() == 1 && found[0].starts_with(start), "{text}\n{found:?}");
    }
}

#[test]
fn what_is_not_built_yet_is_named_where_it_is_set() {
    assert_eq!(Config::default().not_in_effect_warnings(), Vec::<String>::new());
    let config = good(
        "[acme]\ncontact = \"a@b.test\"\n[timeouts]\non-timeout = \"close\"\n[metrics]\nlisten = \"\"\n[store]\nshared = \"redis://127.0.0.1\"",
    );
    let told = config.not_in_effect_warnings();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("acme.contact is set") && told[1].starts_with("store.shared is set"),
        "{told:?}"
    );
}

#[test]
fn reading_tells_missing_from_unreadable_from_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tracker.toml");
    let missing = Config::read(&path).unwrap_err();
    assert!(missing.is_missing() && missing.problems().is_empty());
    assert!(!Config::read(dir.path()).unwrap_err().is_missing());
    // A pipe that nobody writes into would stall the daemon, and a device fill its memory.
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [pipe.as_path(), std::path::Path::new("/dev/zero")] {
        let error = Config::read(path).unwrap_err();
        assert!(error.to_string().contains("it is no file"), "{error}");
    }
    let large = dir.path().join("large");
    std::fs::write(&large, vec![b'#'; (4 << 20) + 1]).unwrap();
    assert!(Config::read(&large).unwrap_err().to_string().contains("more than 4 MiB"));
    std::fs::write(&path, b"# fine\n\xff\n").unwrap();
    let error = Config::read(&path).unwrap_err();
    assert!(matches!(&error, ConfigError::Invalid { problems, .. } if problems[0].line == 2), "{error}");
    std::fs::write(&path, "[licences]\nmax-users = 7\n").unwrap();
    assert_eq!(Config::read(&path).unwrap().licences.max_users, 7);
}

#[test]
fn nesting_without_end_is_an_error_like_any_other() {
    for text in [
        "[".repeat(100_000),
        format!("a = {}", "[".repeat(100_000)),
        "a = {b = ".repeat(50_000),
        "a.".repeat(50_000),
        format!("{}b = 1", "a.".repeat(50_000)),
        format!("[{}b]", "a.".repeat(50_000)),
        format!("[proxy.listen.{}b]", "a.".repeat(50_000)),
    ] {
        assert!(!lines(&text).is_empty());
    }
}

fn anything() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        "\\PC*".prop_map(|text| format!("{text:?}")),
        "[0-9]{0,25}[smhd]?".prop_map(|text| format!("\"{text}\"")),
        "[0-9.:*/a-f\\[\\]]{0,20}".prop_map(|text| format!("[\"{text}\", \"{text}\"]")),
        "[a-z]{1,5}://[a-z0-9@:/\\[\\]]{0,20}".prop_map(|text| format!("\"{text}\"")),
        "\\PC*",
    ];
    let name = proptest::sample::select(keys::all()).prop_map(|key| key.name().to_owned());
    let name = prop_oneof![4 => name, 1 => "[a-z.\"-]{0,20}"];
    let line = (name, value).prop_map(|(name, value)| format!("{name} = {value}\n"));
    prop_oneof![proptest::collection::vec(line, 0..8).prop_map(|lines| lines.concat()), any::<String>()]
}

proptest! {
    #[test]
    fn no_text_is_too_bad_to_be_answered(text in anything()) {
        if let Err(error) = Config::parse(&text, "t") {
            prop_assert!(!error.problems().is_empty());
            let lines = 1 + text.matches('\n').count();
            for problem in error.problems() {
                prop_assert!(problem.line <= lines, "{error}");
                prop_assert!(!problem.message.is_empty() && !problem.remedy.is_empty(), "{error}");
            }
        }
    }
}
