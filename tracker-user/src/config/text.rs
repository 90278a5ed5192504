//! The forms that texts in the configuration have: paths, addresses, names, URLs. Each says what is wrong and what is right.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::codec::Text;
use super::problem::Refusal;
use super::values::AllowedDestination;
use crate::types::{AddressPattern, LOCAL_DOMAIN, is_host_name, parse_stars, show_network};

type Parsed<T> = Result<T, Refusal>;

pub(super) const PATH: Text<PathBuf> = Text {
    parse: |text| {
        if !Path::new(text).is_absolute() {
            let message = format!("{text:?} is a relative path, and a daemon's directory is anybody's guess");
            return Err(Refusal::new(message, "write the path from the root, with / in front"));
        }
        Ok(text.into())
    },
    show: |path| path.display().to_string(),
    wants: "absolute path",
    example: "/var/lib/tracker",
};

pub(super) const KEYTAB: Text<PathBuf> = Text {
    parse: |text| match text.strip_prefix("FILE:") {
        Some(path) => {
            let message = format!("{text:?} is a keytab name, not a path");
            Err(Refusal::new(message, format!("write the path only: {path:?}")))
        }
        None => (PATH.parse)(text),
    },
    example: "/etc/tracker/http.keytab",
    ..PATH
};

pub(super) const LISTEN: Text<SocketAddr> = Text {
    parse: |text| {
        text.parse().map_err(|_| {
            let remedy = if text.trim_start_matches(':').parse::<u16>().is_ok() {
                "write the address too: 0.0.0.0 is all of IPv4, [::] is all of IPv6"
            } else if text.parse::<IpAddr>().is_ok() {
                "write the port too, like \"127.0.0.1:3128\" or \"[::1]:3128\""
            } else {
                "write a numeric address and a port from 0 to 65535, like \"127.0.0.1:3128\" or \"[::1]:3128\""
            };
            Refusal::new(format!("{text:?} is not an address with a port"), remedy)
        })
    },
    show: ToString::to_string,
    wants: "ADDRESS:PORT",
    example: "127.0.0.1:3128",
};

pub(super) const NETWORK: Text<IpNet> = Text {
    parse: |text| network(text).unwrap_or_else(|| Err(not_a_network(text))),
    show: show_network,
    wants: "address or network (CIDR)",
    example: "10.1.0.0/16",
};

pub(super) const DESTINATION: Text<AllowedDestination> = Text {
    parse: |text| match network(text) {
        Some(network) => network.map(AllowedDestination::Network),
        None if text.contains(['/', ':']) => Err(not_a_network(text)),
        None => host(text).map(AllowedDestination::Host),
    },
    show: ToString::to_string,
    wants: "network (CIDR), address or host name",
    example: "10.1.0.0/16",
};

pub(super) const PATTERN: Text<AddressPattern> = Text {
    parse: |text| match (parse_stars(text), network(text)) {
        (Some(stars), _) => Ok(stars),
        (None, Some(network)) => network.map(AddressPattern::Network),
        (None, None) => Err(Refusal::new(
            format!("{text:?} is not a set of addresses"),
            "write it like \"192.168.*.*\" (four parts), \"192.168.0.0/16\" or \"2001:db8::/32\"",
        )),
    },
    show: ToString::to_string,
    wants: "192.168.*.*, address or network (CIDR)",
    example: "192.168.*.*",
};

pub(super) const HOST: Text<String> =
    Text { parse: host, show: Clone::clone, wants: "host name", example: "gateway.example.test" };

pub(super) const HOST_OR_ADDRESS: Text<String> = Text {
    parse: |text| match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => host(text),
    },
    wants: "host name or address",
    ..HOST
};

/// A name of this host as clients use it; `PortalGuard` forbids service and port here as well.
pub(super) const SPN: Text<String> = Text {
    parse: |text| match text.split_once('/') {
        Some((service, name)) => {
            let message = format!("{text:?} names the service {service:?} too");
            Err(Refusal::new(message, format!("write the host name only: {name:?}")))
        }
        None => host(text),
    },
    wants: "host name without service and port",
    ..HOST
};

/// `HOST:PORT`, as a URL has it (RFC 3986, section 3.2).
pub(super) const AUTHORITY: Text<String> = Text {
    parse: |text| {
        let wrong = || {
            let message = format!("{text:?} is not a host with a port");
            Refusal::new(message, "write both, like \"gateway2.example.test:3128\"")
        };
        let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_host = match bare {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_host_name(name),
        };
        if is_port && is_host { Ok(text.to_ascii_lowercase()) } else { Err(wrong()) }
    },
    show: Clone::clone,
    wants: "HOST:PORT",
    example: "gateway2.example.test:3128",
};

/// A user of a realm; who is meant is said as on the command line.
pub(super) const USER: Text<String> = Text {
    parse: |text| {
        let parts =
            text.rsplit_once('@').or_else(|| text.split_once('\\').map(|(domain, user)| (user, domain)));
        match parts {
            Some((user, domain)) if !user.is_empty() && !domain.is_empty() => Ok(text.to_owned()),
            _ => Err(Refusal::new(
                format!("{text:?} does not say of which domain"),
                "write user@REALM or DOMAIN\\user; the gateway's own users get their role by `trackerctl user`",
            )),
        }
    },
    show: Clone::clone,
    wants: "user@REALM or DOMAIN\\user",
    example: "alice@EXAMPLE.TEST",
};

/// The longest text of an operator's that pages show.
const WORDS_MOST: usize = 200;

/// A line of text that pages show.
pub(super) const WORDS: Text<String> = Text {
    parse: |text| {
        if text.chars().any(char::is_control) || text.chars().count() > WORDS_MOST {
            let message = format!("the text is not one line of at most {WORDS_MOST} characters");
            return Err(Refusal::new(message, "write it in one short line"));
        }
        Ok(text.trim().to_owned())
    },
    show: Clone::clone,
    wants: "text",
    example: "Help desk, phone 4711",
};

pub(super) const COLOUR: Text<String> = Text {
    parse: |text| {
        let digits = text.strip_prefix('#').unwrap_or_default();
        if digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(text.to_ascii_lowercase());
        }
        Err(Refusal::new(format!("{text:?} is not a colour"), "write it as HTML does, like \"#1a5fb4\""))
    },
    show: Clone::clone,
    wants: "#rrggbb",
    example: "#1a5fb4",
};

pub(super) const REALM: Text<String> =
    Text { parse: name, show: Clone::clone, wants: "realm", example: "EXAMPLE.TEST" };

pub(super) const DOMAIN: Text<String> = Text {
    parse: |text| {
        if text.eq_ignore_ascii_case(LOCAL_DOMAIN) {
            let message = format!("{text:?} is what the gateway's own users have for a domain");
            return Err(Refusal::new(message, "give the realm another short name"));
        }
        name(text)
    },
    wants: "short domain name",
    example: "EXAMPLE",
    ..REALM
};

pub(super) const COOKIE: Text<String> = Text {
    parse: |text| {
        // RFC 6265 takes the name to be a token of RFC 2616.
        let token =
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if token {
            return Ok(text.to_owned());
        }
        let message = format!("{text:?} is not the name of a cookie");
        Err(Refusal::new(message, "write letters, digits, - and _ only"))
    },
    show: Clone::clone,
    wants: "name of a cookie",
    example: "PstarNoKerberos",
};

pub(super) const REGEX: Text<String> = Text {
    parse: |text| match regex::Regex::new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            // The error draws the pattern over several lines; its last line says what is wrong.
            let error = error.to_string();
            let what = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let message = format!("{text:?} is no regular expression: {what}");
            Err(Refusal::new(message, "write a backslash before characters that are meant as they are"))
        }
    },
    show: Clone::clone,
    wants: "regular expression",
    example: "^/updates/",
};

pub(super) const USER_AGENT: Text<String> = Text {
    parse: |text| Ok(text.to_owned()),
    show: Clone::clone,
    wants: "part of User-Agent, or *",
    example: "*",
};

pub(super) const MAIL_ADDRESS: Text<String> = Text {
    parse: |text| {
        let parts = text.split_once('@').filter(|(user, _)| {
            !user.is_empty() && !text.contains(|c: char| " <>".contains(c) || c.is_control())
        });
        let sound = parts.is_some_and(|(_, domain)| host(domain).is_ok());
        if sound {
            return Ok(text.to_owned());
        }
        Err(Refusal::new(
            format!("{text:?} is not a mail address"),
            "write the bare address, like \"gateway@example.test\"",
        ))
    },
    show: Clone::clone,
    wants: "mail address",
    example: "gateway@example.test",
};

pub(super) const MAIL_DOMAIN: Text<String> =
    Text { parse: host, show: Clone::clone, wants: "mail domain", example: "example.com" };

/// What a setting is stands in the log, in the audit trail and on pages: a password does not belong there.
pub(super) const SMTP: Text<String> = Text {
    parse: |text| {
        let url = url(text, &["smtp", "smtps"], SMTP.example, str::is_empty)?;
        let user = url.rsplit_once('@').map_or("", |(before, _)| before);
        if user.split_once("://").is_some_and(|(_, user)| user.contains(':')) {
            return Err(Refusal::new(
                "has a password in it, which would be shown with the settings",
                "write it into a file, name that in mail.password-file, and leave here smtp://USER@HOST:PORT",
            ));
        }
        Ok(url)
    },
    show: Clone::clone,
    wants: "smtp:// or smtps:// URL",
    example: "smtp://127.0.0.1:25",
};

pub(super) const REDIS: Text<String> = Text {
    parse: |text| {
        url(text, &["redis", "rediss"], REDIS.example, |path| {
            path.strip_prefix('/').unwrap_or(path).bytes().all(|byte| byte.is_ascii_digit())
        })
    },
    show: Clone::clone,
    wants: "redis:// or rediss:// URL",
    example: "redis://127.0.0.1:6379/0",
};

/// RFC 8555 knows ACME under TLS only.
pub(super) const DIRECTORY: Text<String> = Text {
    parse: |text| url(text, &["https"], DIRECTORY.example, |_| true),
    show: Clone::clone,
    wants: "https:// URL",
    example: "https://acme-v02.api.letsencrypt.org/directory",
};

/// The network that `text` is, unless it is none at all; one that is written misleadingly is refused.
fn network(text: &str) -> Option<Parsed<IpNet>> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().ok()?,
    };
    if let IpAddr::V6(address) = network.addr()
        && let Some(v4) = address.to_ipv4_mapped()
    {
        let message = format!("{text:?} is an IPv4 address in IPv6 notation, and would match nothing");
        return Some(Err(Refusal::new(message, format!("write it as IPv4: {v4}"))));
    }
    if network != network.trunc() {
        let message = format!("{text:?} names a host and a whole network at once");
        let remedy =
            format!("write \"{}\" for the network or \"{}\" for the host", network.trunc(), network.addr());
        return Some(Err(Refusal::new(message, remedy)));
    }
    Some(Ok(network))
}

fn not_a_network(text: &str) -> Refusal {
    Refusal::new(
        format!("{text:?} is not an address or network"),
        "write it like \"10.1.2.3\", \"10.1.0.0/16\" or \"2001:db8::/32\"",
    )
}

/// A host name in lower case, without a final dot.
fn host(text: &str) -> Parsed<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let has_bare_ends = |label: &str| !label.starts_with('-') && !label.ends_with('-');
    // A last label of digits only is somebody's notation of an IPv4 address.
    let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if is_host_name(text) && name.split('.').all(has_bare_ends) && !numeric {
        return Ok(name);
    }
    let remedy = if !text.is_ascii() {
        "write the name as DNS has it, with xn--"
    } else if text.contains(':') {
        "leave out the port and anything else but the name"
    } else if text.contains('*') {
        "write each name in full"
    } else {
        "write it like \"gateway.example.test\""
    };
    Err(Refusal::new(format!("{text:?} is not a host name"), remedy))
}

/// A realm or the short name of a domain.
fn name(text: &str) -> Parsed<String> {
    match text.chars().find(|c| c.is_whitespace() || ['@', '/', '\\', '=', ','].contains(c)) {
        None => Ok(text.to_owned()),
        Some(bad) => Err(Refusal::new(
            format!("{text:?} is not the name of a realm or domain: it has {bad:?} in it"),
            "write the name alone, like \"EXAMPLE.TEST\" or \"EXAMPLE\"",
        )),
    }
}

/// `SCHEME://[USER[:PASSWORD]@]HOST[:PORT]`, then a path that `path` accepts. Messages never repeat it: it may hold a password.
fn url(text: &str, schemes: &[&str], example: &str, path: fn(&str) -> bool) -> Parsed<String> {
    let wrong = |what: &str| Err(Refusal::new(what.to_owned(), format!("write it like {example:?}")));
    let Some((scheme, rest)) = text.split_once("://") else { return wrong("is not a URL") };
    if !schemes.contains(&scheme) {
        return wrong(&format!("has the scheme {scheme:?}, not {}", schemes.join(" or ")));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some((authority, tail)) = rest.split_at_checked(end) else { return wrong("is not a URL") };
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (name, port) = match place.rfind(']') {
        Some(end) => place.split_at_checked(end + 1).unwrap_or((place, "")),
        None => place.find(':').and_then(|end| place.split_at_checked(end)).unwrap_or((place, "")),
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if host(name).is_err() && !address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6() == name.starts_with('['))
    {
        return wrong("has no proper host in it");
    }
    if !port.is_empty()
        && !port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    {
        return wrong("has no proper port in it");
    }
    if text.contains(char::is_whitespace) || !path(tail) {
        return wrong("has something behind the host that does not belong there");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts<T>(form: &Text<T>, text: &str, shown: &str) {
        match (form.parse)(text) {
            Ok(value) => assert_eq!((form.show)(&value), shown, "{text}"),
            Err(refusal) => panic!("{text}: {refusal:?}"),
        }
    }

    fn refuses<T>(form: &Text<T>, texts: &[&str]) {
        for text in texts {
            assert!((form.parse)(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_and_networks() {
        accepts(&LISTEN, "[::]:3128", "[::]:3128");
        refuses(&LISTEN, &["3128", ":3128", "localhost:3128", "127.0.0.1", "::1:3128", "127.0.0.1:65536"]);
        accepts(&NETWORK, "10.0.0.0/8", "10.0.0.0/8");
        accepts(&NETWORK, "10.0.0.1", "10.0.0.1");
        accepts(&NETWORK, "2001:DB8::/32", "2001:db8::/32");
        refuses(
            &NETWORK,
            &["10.0.0.1/8", "10.0.0.0/33", "::ffff:10.0.0.0/104", "intranet", "10.0/8", "010.0.0.1"],
        );
        accepts(&PATTERN, "10.*.*.*", "10.*.*.*");
        accepts(&PATTERN, "10.0.0.0/8", "10.0.0.0/8");
        refuses(&PATTERN, &["10.*", "*", "wiki", "2001:*"]);
    }

    #[test]
    fn destinations_are_networks_or_names() {
        accepts(&DESTINATION, "127.0.0.1", "127.0.0.1");
        accepts(&DESTINATION, "Wiki.Example.Test.", "wiki.example.test");
        refuses(
            &DESTINATION,
            &["127.1", "0x7f.0.0.1.2", "wiki:80", "http://wiki/", "*.example.test", "-x", "a..b", "müller"],
        );
    }

    #[test]
    fn names_have_nothing_around_them() {
        accepts(&SPN, "Gateway", "gateway");
        refuses(&SPN, &["HTTP/gateway", "gateway:3128"]);
        refuses(&REALM, &["alice@EXAMPLE", "A B", "A\\B"]);
        refuses(&COOKIE, &["a b", "a=b", "a;"]);
        accepts(&MAIL_ADDRESS, "a@b.test", "a@b.test");
        refuses(&MAIL_ADDRESS, &["a", "@b", "a@", "A <a@b.test>"]);
    }

    #[test]
    fn urls() {
        for text in [
            "smtp://127.0.0.1:25",
            "smtp://mail",
            "smtps://[::1]:465",
            "smtp://user@example.test@mail.test:587",
        ] {
            accepts(&SMTP, text, text);
        }
        refuses(
            &SMTP,
            &[
                "mail:25",
                "http://mail",
                "smtp://",
                "smtp://mail:0",
                "smtp://mail:x",
                "smtp://mail/x",
                "smtp://::1",
                "smtp://user:pa@ss@mail.test:25",
            ],
        );
        accepts(&REDIS, "redis://h:6379/0", "redis://h:6379/0");
        refuses(&REDIS, &["redis://h/table", "redis://h:6379/0?x"]);
        refuses(&DIRECTORY, &["http://acme/directory", "https:///directory"]);
    }
}
