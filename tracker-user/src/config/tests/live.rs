//! `get`, `set` and the table of keys.

use proptest::prelude::*;

use crate::config::{Config, Key, keys};

fn set(name: &str, text: &str) -> Result<Config, String> {
    let mut config = Config::default();
    let key = keys::find(name).map_err(|error| error.to_string())?;
    key.set(&mut config, text).map_err(|error| error.to_string())?;
    Ok(config)
}

/// The keys in which `config` differs from `base`, as text for [`Config::with`].
fn changes(config: &Config, base: &Config) -> String {
    config.differences(base).iter().map(|key| format!("{} = {}\n", key.name(), key.toml(config))).collect()
}

/// A configuration in which every key has another value than by default, some of them hard to write.
const EVERYTHING: &str = r##"
state-dir = "/var/lib/with space, and comma/"
run-dir = "/tmp/\"quoted\" "
proxy.listen = ["[::1]:3128", "10.0.0.1:3128"]
proxy.connect-ports = [443, "8443-8449"]
proxy.forward-ports = [80, 25]
proxy.allow-destinations = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.1", "wiki.example.test"]
proxy.basic = "never"
proxy.max-connections = 5000
proxy.max-connections-per-client = 50
proxy.proxy-protocol = ["10.9.0.0/30", "fd00::9"]
observer.mode = "proxy"
observer.cgroup = "/sys/fs/cgroup/system.slice"
observer.pin-dir = "/sys/fs/bpf/other"
observer.watch-ports = [3129]
observer.max-records = 4096
timeouts.proxy-auth-timeout = "90s"
timeouts.proxy-re-authentication-mode = "absolute"
timeouts.proxy-auth-lifetime = "enable"
timeouts.proxy-auth-lifetime-timeout = "240s"
timeouts.traffic-direction = "client"
timeouts.on-timeout = "close"
timeouts.revalidate = "on-reopen"
timeouts.device-change = "ignore"
timeouts.shared-hosts = ["10.0.0.0/24", "10.0.1.7"]
licences.max-users = 4294967295
licences.devices-per-user = 1
licences.guests = ["192.168.9.0/24"]
kerberos.keytab = "/etc/tracker/http.keytab"
kerberos.keep-domain = false
kerberos.domains = { "EXAMPLE.TEST" = "EXAMPLE", "OTHER.TEST" = "OTHER" }
kerberos.auth-to-local = true
kerberos.machine-accounts = "accept"
kerberos.channel-bindings = "require"
kerberos.conditions.disabled = true
kerberos.conditions.debugging = true
kerberos.conditions.opt-out-cookie = "NoKerberos"
kerberos.conditions.ip-allow = ["192.168.*.*", "10.0.0.0/8"]
kerberos.conditions.ip-deny = ["192.168.1.1"]
kerberos.conditions.spns = ["gateway", "gateway.example.test"]
kerberos.conditions.url-deny = ["^/a{1,2} b", "[ab]", '["x"]', "\"", "'"]
kerberos.conditions.browsers = ["Firefox", "Edg/"]
regulation.max-retries = 2
regulation.find-time = "90s"
regulation.ban-time = "1h"
portal.http = "127.0.0.1:80"
portal.https = ""
portal.host = "gateway.example.test"
portal.trusted-proxies = ["192.0.2.7"]
portal.logout-hold = "90s"
portal.administrators = ["alice@EXAMPLE.TEST", 'EXAMPLE\bob']
portal.viewers = ["carol@EXAMPLE.TEST"]
portal.gateways = ["gateway2.example.test:3128", "[2001:db8::1]:3128"]
portal.organisation = "Example Ltd."
portal.contact = "Help desk, phone 4711"
portal.logo = "/etc/tracker/logo.svg"
portal.colour = "#1a5fb4"
portal.languages = "/etc/tracker/languages"
second-factor.domains = { local = "required", "EXAMPLE.TEST" = "optional" }
second-factor.kerberos = "step-up"
second-factor.passkey = "alone"
second-factor.remember = "90s"
second-factor.recovery-delay = "1m"
mail.smtp = "smtp://127.0.0.1:25"
mail.from = "gateway@example.test"
mail.password-file = "/etc/tracker/mail-password"
mail.domains = { local = "example.test", "EXAMPLE.TEST" = "example.com" }
tls.certificate = "/etc/tracker/c.pem"
tls.key = "/etc/tracker/k.pem"
tls.proxy-listen = ["127.0.0.1:3443"]
acme.directory = "https://acme.test/directory"
acme.domains = ["gateway.example.test"]
acme.contact = "admin@example.test"
acme.root = "/etc/tracker/root.pem"
acme.http = "127.0.0.2:80"
store.shared = "redis://:password@127.0.0.1:6379/0"
metrics.listen = ""
"##;

fn everything() -> Config {
    Config::parse(EVERYTHING, "everything").unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_value_comes_back_from_the_command_line_and_from_the_file() {
    let everything = everything();
    for source in [&everything, &Config::default()] {
        for key in keys::all() {
            let shown = key.get(source);
            // The other keys stay as they are, so that nothing clashes.
            let mut config = source.clone();
            key.set(&mut config, &shown).unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert_eq!(&config, source, "{key:?} {shown}");
        }
    }
    let written = changes(&everything, &Config::default());
    assert_eq!(Config::parse(&written, "t").map_err(|error| error.to_string()), Ok(everything), "{written}");
}

#[test]
fn the_example_leaves_no_key_out_and_differences_name_them_all() {
    let differences = everything().differences(&Config::default());
    assert_eq!(differences, keys::all().iter().collect::<Vec<_>>());
    assert_eq!(everything().differences(&everything()), Vec::<&Key>::new());
}

#[test]
fn short_names_are_enough_where_they_are_unique() {
    for (name, found) in [
        ("timeouts.proxy-auth-timeout", Ok("timeouts.proxy-auth-timeout")),
        ("proxy-auth-timeout", Ok("timeouts.proxy-auth-timeout")),
        ("conditions.disabled", Ok("kerberos.conditions.disabled")),
        ("state-dir", Ok("state-dir")),
        ("proxy.listen", Ok("proxy.listen")),
        ("listen", Err("several keys are called \"listen\"; write one of proxy.listen, metrics.listen")),
        (
            "proxy-auth-timout",
            Err("there is no key \"proxy-auth-timout\"; did you mean timeouts.proxy-auth-timeout?"),
        ),
        (
            "timeout.proxy-auth-timeout",
            Err("there is no key \"timeout.proxy-auth-timeout\"; did you mean timeouts.proxy-auth-timeout?"),
        ),
        (
            "timeout",
            Err(
                "there is no key \"timeout\"; did you mean timeouts.proxy-auth-timeout or timeouts.proxy-auth-lifetime-timeout or timeouts.on-timeout?",
            ),
        ),
        ("flavour", Err("there is no key \"flavour\"; `trackerctl get` lists them all")),
        ("", Err("there is no key \"\"; `trackerctl get` lists them all")),
    ] {
        let got = keys::find(name).map(Key::name).map_err(|error| error.to_string());
        assert_eq!(got, found.map_err(str::to_owned), "{name}");
    }
}

#[test]
fn values_can_be_written_as_people_type_them() {
    for (name, text, shown) in [
        ("proxy-auth-timeout", "10", "10m"),
        ("proxy-auth-timeout", "90s", "90s"),
        ("proxy-auth-timeout", "\"2h\"", "2h"),
        ("proxy-auth-lifetime", "enable", "enable"),
        ("proxy-re-authentication-mode", " traffic ", "traffic"),
        ("connect-ports", "443, 8443", "443, 8443"),
        ("connect-ports", "443 8443", "443, 8443"),
        ("connect-ports", "[443,8443]", "443, 8443"),
        ("connect-ports", "443 8000-8009", "443, 8000-8009"),
        ("forward-ports", "[80, \"1025-65535\"]", "80, 1025-65535"),
        ("connect-ports", "", "[]"),
        ("connect-ports", "[]", "[]"),
        ("proxy.listen", "[::1]:1, 127.0.0.1:1", "[::1]:1, 127.0.0.1:1"),
        ("proxy.listen", "[\"[::1]:1\"]", "[::1]:1"),
        ("shared-hosts", "10.0.0.0/8,192.168.0.0/16", "10.0.0.0/8, 192.168.0.0/16"),
        ("keep-domain", "false", "false"),
        ("kerberos.domains", "EXAMPLE.TEST=EXAMPLE B.TEST=B", "B.TEST=B, EXAMPLE.TEST=EXAMPLE"),
        ("kerberos.domains", "{ \"EXAMPLE.TEST\" = \"EXAMPLE\" }", "EXAMPLE.TEST=EXAMPLE"),
        ("kerberos.domains", "{}", "{}"),
        ("max-users", "0", "0"),
        ("keytab", "", ""),
        ("cgroup", "auto", "auto"),
    ] {
        let config = set(name, text).unwrap_or_else(|error| panic!("{name} {text}: {error}"));
        assert_eq!(keys::find(name).unwrap().get(&config), shown, "{name} {text}");
    }
}

#[test]
fn what_a_file_is_refused_for_is_refused_in_the_same_words() {
    for (name, text, message) in [
        (
            "proxy-auth-timeout",
            "0",
            "timeouts.proxy-auth-timeout: 0 minutes is too short: 1s to 10000m; write at least \"1s\"",
        ),
        (
            "proxy-auth-timeout",
            "10001",
            "timeouts.proxy-auth-timeout: 10001 minutes is too long: 1s to 10000m; write at most \"10000m\"",
        ),
        (
            "proxy-auth-lifetime-timeout",
            "4",
            "timeouts.proxy-auth-lifetime-timeout: 4 minutes is too short: 5m to 65535m; from 1s if written in seconds; write at least \"5m\", or \"240s\" if so little is meant",
        ),
        (
            "proxy-auth-lifetime",
            "on",
            "timeouts.proxy-auth-lifetime: wants enable or disable, not \"on\"; write it like \"enable\"",
        ),
        (
            "connect-ports",
            "443, x, 99999",
            "proxy.connect-ports: wants port or \"FROM-TO\", 1 to 65535, not \"x\"; write it like 443\nproxy.connect-ports: 99999 is out of range: wants port or \"FROM-TO\", 1 to 65535; write a whole number from 1 to 65535, or two of them as \"FROM-TO\"",
        ),
        (
            "metrics.listen",
            "127.0.0.1:3128",
            "metrics.listen: 127.0.0.1:3128 and 0.0.0.0:3128 (proxy.listen) are in each other's way; give one of them another port, or an address of its own",
        ),
        ("keep-domain", "yes", "kerberos.keep-domain: wants true or false, not \"yes\"; write it like true"),
        (
            "kerberos.domains",
            "A",
            "kerberos.domains: wants table: realm = short domain name, not \"A\"; write it like { \"EXAMPLE.TEST\" = \"EXAMPLE\" }",
        ),
    ] {
        assert_eq!(set(name, text), Err(message.to_owned()), "{name} {text}");
    }
}

#[test]
fn keys_that_belong_together_can_be_set_one_after_the_other() {
    let mut config = Config::default();
    for (name, text) in [
        ("tls.key", "/k.pem"),
        ("tls.certificate", "/c.pem"),
        ("tls.key", "/k.pem, /other.pem"),
        ("tls.certificate", r#"["/c.pem", "/other.pem"]"#),
        ("tls.certificate", ""),
        ("acme.domains", "gateway.example.test"),
        ("acme.directory", "https://acme.test/directory"),
        ("mail.from", "a@b.test"),
        ("mail.smtp", "smtp://127.0.0.1"),
        ("mail.password-file", "/etc/tracker/mail-password"),
        ("mail.smtp", "smtp://gateway@mail.example.test:587"),
    ] {
        assert_eq!(keys::find(name).unwrap().set(&mut config, text), Ok(()), "{name}");
    }
}

#[test]
fn a_refused_value_changes_nothing() {
    let mut config = Config::default();
    let key = keys::find("metrics.listen").unwrap();
    assert!(key.set(&mut config, "0.0.0.0:4080").is_err());
    assert_eq!(config, Config::default());
}

#[test]
fn settings_go_on_top_of_the_file() {
    let file = Config::parse("[timeouts]\nproxy-auth-timeout = 5\non-timeout = \"close\"", "t").unwrap();
    let mut config = file.clone();
    keys::find("proxy-auth-timeout").unwrap().set(&mut config, "90s").unwrap();
    keys::find("connect-ports").unwrap().set(&mut config, "443 8443").unwrap();
    let text = changes(&config, &file);
    assert_eq!(text, "proxy.connect-ports = [443, 8443]\ntimeouts.proxy-auth-timeout = \"90s\"\n");
    assert_eq!(file.with(&text, "settings").unwrap(), config);
}

#[test]
fn the_table_is_sound() {
    for (index, key) in keys::all().iter().enumerate() {
        assert!(
            keys::all().iter().take(index).all(|other| other.name() != key.name()),
            "{key:?} is there twice"
        );
        assert!(key.help().ends_with('.') && !key.wants().is_empty(), "{key:?}");
        assert_eq!(keys::find(key.name()), Ok(key));
    }
}

proptest! {
    #[test]
    fn no_text_makes_set_panic(key in proptest::sample::select(keys::all()), text in any::<String>()) {
        let mut config = Config::default();
        if key.set(&mut config, &text).is_ok() {
            let shown = key.get(&config);
            let mut again = config.clone();
            prop_assert!(key.set(&mut again, &shown).is_ok(), "{key:?} {shown:?}");
            prop_assert_eq!(again, config);
        }
    }

    #[test]
    fn what_set_takes_get_gives_back(
        key in proptest::sample::select(keys::all()),
        text in "[\\[{\"']?[0-9a-z.:*/@=, \\[\\]{}\"'-]{0,30}",
    ) {
        let mut config = Config::default();
        if key.set(&mut config, &text).is_ok() {
            let shown = key.get(&config);
            let mut again = Config::default();
            prop_assert!(key.set(&mut again, &shown).is_ok(), "{key:?} {shown:?}");
            prop_assert_eq!(again, config);
        }
    }
}
