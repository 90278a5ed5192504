//! Where mail is handed over, and by whom.

use std::net::IpAddr;
use std::path::PathBuf;

use lettre::Address;

use crate::config;

/// The port of SMTP (RFC 5321, section 4.5.4.2),
const SMTP: u16 = 25;
/// and of submission under TLS from the beginning (RFC 8314, section 7.3).
const SUBMISSIONS: u16 = 465;

/// What mail is sent by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Where mail is handed over; `None`: none is sent.
    pub server: Option<Server>,
    /// Whose mail it is.
    pub from: Option<Address>,
    /// Their name.
    pub name: Option<String>,
    /// How the gateway calls itself to the server (RFC 5321, section 4.1.1.1).
    pub helo: String,
}

impl Settings {
    /// Those of a configuration; `name`: whose gateway it is, `host`: its own name.
    #[must_use]
    pub fn of(mail: &config::Mail, name: Option<String>, host: String) -> Self {
        let server = mail.smtp.as_deref().and_then(|url| Server::parse(url, mail.password_file.clone()));
        let from = mail.from.as_deref().and_then(|from| from.parse().ok());
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        // Where the host has no name of its own, this one says so.
        let helo = if !host.is_empty() && host.chars().all(is_name) { host } else { "localhost".to_owned() };
        Self { server, from, name, helo }
    }
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name, which its certificate must be for, or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Under TLS from the beginning. Otherwise TLS begins by STARTTLS, which a server that is not this host itself must offer.
    pub is_smtps: bool,
    /// The user who hands mail over; `None`: nobody logs in.
    pub user: Option<String>,
    /// The file with their password.
    pub password_file: Option<PathBuf>,
}

impl Server {
    /// The server of a URL, `smtp://` or `smtps://`.
    #[must_use]
    pub fn parse(url: &str, password_file: Option<PathBuf>) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let is_smtps = match scheme {
            "smtp" => false,
            "smtps" => true,
            _ => return None,
        };
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(decoded(user)?).filter(|user| !user.is_empty()), place),
            None => (None, rest),
        };
        let port = if is_smtps { SUBMISSIONS } else { SMTP };
        let (host, port) = match place.rsplit_once(':') {
            // Of an IPv6 address, what stands in the brackets is no port.
            Some((host, given)) if !given.ends_with(']') => (host, given.parse().ok()?),
            _ => (place, port),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (!host.is_empty()).then(|| Self { host: host.to_owned(), port, is_smtps, user, password_file })
    }

    /// Its address, if it is named by one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl std::fmt::Display for Server {
    /// `host:port`, as operators are told of it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A user's name as URLs have it (RFC 3986, section 2.1); `None` where it is none.
fn decoded(text: &str) -> Option<String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_server_and_a_user() {
        for (url, host, port, is_smtps, user) in [
            ("smtp://mail.test", "mail.test", 25, false, None),
            ("smtps://mail.test", "mail.test", 465, true, None),
            ("smtp://[::1]:2525", "::1", 2525, false, None),
            ("smtp://[::1]", "::1", 25, false, None),
            ("smtp://gw@mail.test:587", "mail.test", 587, false, Some("gw")),
            ("smtp://gw@a.test@mail.test", "mail.test", 25, false, Some("gw@a.test")),
            ("smtp://gw%40a.test@mail.test", "mail.test", 25, false, Some("gw@a.test")),
            ("smtp://@mail.test", "mail.test", 25, false, None),
        ] {
            let server = Server::parse(url, None).unwrap();
            assert_eq!(
                (&*server.host, server.port, server.is_smtps, server.user.as_deref()),
                (host, port, is_smtps, user),
                "{url}"
            );
        }
        for wrong in
            ["mail.test", "http://mail.test", "smtp://", "smtp://m:x", "smtp://a%0d%0a@m", "smtp://%4@m"]
        {
            assert_eq!(Server::parse(wrong, None), None, "{wrong}");
        }
    }
}
