//! The fields of a head, as places in the buffer they were read into, with a number for each name that matters here.

use std::cell::RefCell;

use zeroize::Zeroize as _;

use super::schemes;

/// A part of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// Where `part` lies in `whole`, of which it must be a part.
    pub(in crate::proxy) fn find(part: &[u8], whole: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        // Heads are far smaller than 4 GiB.
        Self { start: start as u32, end: (start + part.len()) as u32 }
    }

    /// What lies there.
    pub(in crate::proxy) fn of(self, head: &[u8]) -> &[u8] {
        head.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

macro_rules! names {
    ($($length:literal: $($variant:ident $name:literal)*;)*) => {
        /// The names that mean something to a proxy.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(in crate::proxy) enum Name {
            $($(#[doc = $name] $variant,)*)*
            /// Any other.
            Other,
        }

        impl Name {
            /// The one that is written so, in any case. Lengths differ most: they decide for nearly every name, without a
            /// comparison of letters.
            pub(in crate::proxy) fn of(name: &[u8]) -> Self {
                match name.len() {
                    $($length => {
                        $(if name.eq_ignore_ascii_case($name.as_bytes()) {
                            return Self::$variant;
                        })*
                        Self::Other
                    })*
                    _ => Self::Other,
                }
            }
        }

        // A name under another's length would never be found.
        $($(const _: () = assert!($name.len() == $length);)*)*
    };
}

names! {
    2: Te "TE";
    3: Via "Via";
    4: Host "Host";
    6: Cookie "Cookie" Expect "Expect";
    7: Trailer "Trailer" Upgrade "Upgrade";
    10: Connection "Connection" KeepAlive "Keep-Alive" UserAgent "User-Agent";
    12: MaxForwards "Max-Forwards";
    13: Authorization "Authorization" ProxySupport "Proxy-Support";
    14: ContentLength "Content-Length" Http2Settings "HTTP2-Settings";
    16: ProxyConnection "Proxy-Connection" WwwAuthenticate "WWW-Authenticate";
    17: TransferEncoding "Transfer-Encoding";
    18: ProxyAuthenticate "Proxy-Authenticate";
    19: ProxyAuthorization "Proxy-Authorization";
    25: ProxyAuthenticationInfo "Proxy-Authentication-Info";
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
    known: Name,
}

thread_local! {
    static LISTS: RefCell<Vec<Vec<Field>>> = const { RefCell::new(Vec::new()) };
}

/// How many unused lists a thread keeps.
const STOCK: usize = 64;

/// The fields of one head.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Fields {
    list: Vec<Field>,
    /// `Connection` says more than whether the connection goes on: it may name fields.
    names_fields: bool,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Line<'a> {
    pub(in crate::proxy) known: Name,
    pub(in crate::proxy) name: &'a [u8],
    pub(in crate::proxy) value: &'a [u8],
}

impl Fields {
    /// The fields with these names and values, which lie in `head`.
    pub(in crate::proxy) fn of<'a>(
        parsed: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        head: &'a [u8],
    ) -> Self {
        let mut list = LISTS.with_borrow_mut(Vec::pop).unwrap_or_default();
        list.extend(parsed.map(|(name, value)| Field {
            name: Span::find(name, head),
            value: Span::find(value.trim_ascii(), head),
            known: Name::of(name),
        }));
        let names_fields = list
            .iter()
            .filter(|field| field.known == Name::Connection)
            .flat_map(|field| tokens(field.value.of(head)))
            .any(|token| !is_about_the_connection(token));
        Self { list, names_fields }
    }

    /// All of them, in their order. `head` is what they were read from.
    pub(in crate::proxy) fn iter<'a>(&'a self, head: &'a [u8]) -> impl Iterator<Item = Line<'a>> {
        self.list.iter().map(|field| Line {
            known: field.known,
            name: field.name.of(head),
            value: field.value.of(head),
        })
    }

    /// The values of one name.
    pub(in crate::proxy) fn all<'a>(&'a self, head: &'a [u8], known: Name) -> impl Iterator<Item = &'a [u8]> {
        self.list.iter().filter(move |field| field.known == known).map(|field| field.value.of(head))
    }

    /// Overwrites the values of one name.
    pub(in crate::proxy) fn wipe(&self, head: &mut [u8], known: Name) {
        for field in self.list.iter().filter(|field| field.known == known) {
            let Span { start, end } = field.value;
            head.get_mut(start as usize..end as usize).unwrap_or_default().zeroize();
        }
    }

    /// The members of a comma-separated field, over all its lines.
    pub(in crate::proxy) fn tokens<'a>(
        &'a self,
        head: &'a [u8],
        known: Name,
    ) -> impl Iterator<Item = &'a [u8]> {
        self.all(head, known).flat_map(tokens)
    }

    /// Whether such a member is there, in any case.
    pub(in crate::proxy) fn has_token(&self, head: &[u8], known: Name, token: &str) -> bool {
        self.tokens(head, known).any(|own| own.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether `Connection` makes this field one for this hop only. What a message is framed and addressed by cannot be
    /// taken away so: it would lose its meaning.
    pub(in crate::proxy) fn is_named(&self, head: &[u8], line: &Line<'_>) -> bool {
        (self.names_fields || is_about_the_connection(line.name))
            && !matches!(line.known, Name::Host | Name::ContentLength | Name::Trailer | Name::Via)
            && self.tokens(head, Name::Connection).any(|token| token.eq_ignore_ascii_case(line.name))
    }

    /// Whether the client may be authenticating the connection to the origin, not its request alone.
    pub(in crate::proxy) fn credentials_bind(&self, head: &[u8]) -> bool {
        let mut all = self.all(head, Name::Authorization);
        match (all.next(), all.next()) {
            (None, _) => false,
            (Some(only), None) => !schemes::are_credentials_of_the_message(only),
            (Some(_), Some(_)) => true,
        }
    }

    /// Whether the origin asks for something that may authenticate the connection.
    pub(in crate::proxy) fn challenge_binds(&self, head: &[u8]) -> bool {
        self.all(head, Name::WwwAuthenticate).any(|value| !schemes::is_challenge_of_the_message(value))
    }

    /// The protocol to change to, if it may pass: other versions of HTTP, and TLS, would take what follows out of the
    /// proxy's sight.
    pub(in crate::proxy) fn upgrade<'a>(&'a self, head: &'a [u8]) -> Option<&'a [u8]> {
        let value = self.all(head, Name::Upgrade).next()?;
        let unsafe_to_pass = |protocol: &[u8]| {
            let name = protocol.split(|&b| b == b'/').next().unwrap_or_default().trim_ascii();
            ["h2c", "h2", "h3", "http", "tls"].iter().any(|no| name.eq_ignore_ascii_case(no.as_bytes()))
        };
        let is_meant = self.has_token(head, Name::Connection, "upgrade");
        (is_meant && !self.tokens(head, Name::Upgrade).any(unsafe_to_pass)).then_some(value)
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        let mut list = std::mem::take(&mut self.list);
        if list.capacity() == 0 {
            return;
        }
        list.clear();
        let _ = LISTS.try_with(|lists| {
            let mut lists = lists.borrow_mut();
            if lists.len() < STOCK {
                lists.push(list);
            }
        });
    }
}

/// Whether this member of `Connection` says whether the connection goes on, as nearly all do.
fn is_about_the_connection(token: &[u8]) -> bool {
    match token.len() {
        5 => token.eq_ignore_ascii_case(b"close"),
        10 => token.eq_ignore_ascii_case(b"keep-alive"),
        _ => false,
    }
}

/// The members of one line.
pub(in crate::proxy) fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(lines: &str, look: impl FnOnce(&Fields, &[u8]) -> T) -> T {
        let parsed = lines.lines().map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.as_bytes(), value.as_bytes())
        });
        look(&Fields::of(parsed, lines.as_bytes()), lines.as_bytes())
    }

    #[test]
    fn names_are_known_in_any_case() {
        for (name, known) in [
            ("host", Name::Host),
            ("TRANSFER-encoding", Name::TransferEncoding),
            ("te", Name::Te),
            ("Proxy-Authentication-Info", Name::ProxyAuthenticationInfo),
            ("X-Host", Name::Other),
            ("hosts", Name::Other),
        ] {
            assert_eq!(Name::of(name.as_bytes()), known, "{name}");
        }
    }

    #[test]
    fn only_protocols_that_the_proxy_may_not_see_into_pass() {
        let upgrade = |lines: &str| with(lines, |fields, head| fields.upgrade(head).map(<[u8]>::to_vec));
        let websocket = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
        assert_eq!(upgrade(websocket).as_deref(), Some(&b"websocket"[..]));
        assert_eq!(upgrade("Upgrade: websocket\r\n"), None, "not meant for this hop");
        for protocol in ["h2c", "H2C, websocket", "TLS/1.0", "HTTP/2.0"] {
            assert_eq!(
                upgrade(&format!("Connection: upgrade\r\nUpgrade: {protocol}\r\n")),
                None,
                "{protocol}"
            );
        }
    }

    #[test]
    fn what_binds_the_connection_to_the_origin() {
        for (lines, binds) in [
            ("", false),
            ("Authorization: Basic YQ==\r\n", false),
            ("Authorization: NTLM YQ==\r\n", true),
            ("Authorization:\r\n", true),
            ("Authorization: Basic YQ==\r\nauthorization: Basic YQ==\r\n", true),
            ("Proxy-Authorization: NTLM YQ==\r\n", false),
        ] {
            assert_eq!(with(lines, Fields::credentials_bind), binds, "{lines}");
        }
        for (lines, binds) in [
            ("", false),
            ("WWW-Authenticate: Basic realm=x\r\nWWW-Authenticate: Bearer\r\n", false),
            ("WWW-Authenticate: Basic realm=x\r\nWWW-Authenticate: NTLM\r\n", true),
            ("WWW-Authenticate: Basic realm=x, Negotiate\r\n", true),
        ] {
            assert_eq!(with(lines, Fields::challenge_binds), binds, "{lines}");
        }
    }

    #[test]
    fn what_connection_names_but_not_what_frames() {
        let lines = "Connection: close, X-Own\r\nConnection: Host, content-length, bad name\r\nX-Own: 1\r\nHost: h\r\nContent-Length: 3\r\nX: 1\r\n";
        let named = with(lines, |fields, head| {
            let named = fields.iter(head).filter(|line| fields.is_named(head, line));
            named.map(|line| String::from_utf8_lossy(line.name).into_owned()).collect::<Vec<_>>()
        });
        assert_eq!(named, ["X-Own"]);
        // What says whether the connection goes on is also the name of a field, where there is one.
        let lines = "Connection: Close\r\nclose: 1\r\nX-Own: 1\r\n";
        with(lines, |fields, head| {
            let named: Vec<bool> = fields.iter(head).map(|line| fields.is_named(head, &line)).collect();
            assert_eq!(named, [false, true, false]);
        });
    }
}
