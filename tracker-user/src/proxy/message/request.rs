//! A request's head.

use std::borrow::Cow;

use super::Version;
use super::fields::{Fields, Line, Name, Span};
use crate::outside;
use crate::proxy::buffer::Buffer;

/// A request's method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) enum Method {
    Connect,
    Delete,
    #[default]
    Get,
    Head,
    Options,
    Patch,
    Post,
    Put,
    Trace,
    /// One that means nothing special to a proxy.
    Other,
}

impl Method {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Connect, "CONNECT"),
        (Self::Delete, "DELETE"),
        (Self::Get, "GET"),
        (Self::Head, "HEAD"),
        (Self::Options, "OPTIONS"),
        (Self::Patch, "PATCH"),
        (Self::Post, "POST"),
        (Self::Put, "PUT"),
        (Self::Trace, "TRACE"),
    ];

    /// The method of this name.
    pub(in crate::proxy) fn of(name: &[u8]) -> Self {
        Self::ALL.iter().find(|(_, own)| own.as_bytes() == name).map_or(Self::Other, |(method, _)| *method)
    }

    /// Its name, if it is one of the known ones.
    pub(in crate::proxy) fn name(self) -> Option<&'static str> {
        Self::ALL.iter().find(|(method, _)| *method == self).map(|(_, name)| *name)
    }

    /// Whether it asks for nothing to be changed (RFC 9110, section 9.2.1).
    pub(in crate::proxy) const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }
}

/// The content that a request announces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) enum Content {
    /// None is announced.
    #[default]
    None,
    /// This many bytes.
    Length(u64),
    /// Some. It says itself where it ends.
    Unknown,
}

/// What is asked for: the places of its parts in the bytes of the head.
///
/// They are those of a URI in absolute form (RFC 9112, section 3.2.2), or the authority alone for CONNECT. HTTP/2 has a
/// pseudo-field for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Target {
    /// Empty for CONNECT, and where the target is no URI in absolute form.
    pub(in crate::proxy) scheme: Span,
    pub(in crate::proxy) authority: Span,
    /// With the query, without a fragment. Empty where there are none.
    pub(in crate::proxy) path: Span,
}

/// What a request's head says before its fields, and what it announces.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::proxy) struct RequestLine {
    pub(in crate::proxy) method: Method,
    /// Where the method's name is.
    pub(in crate::proxy) name: Span,
    pub(in crate::proxy) target: Target,
    pub(in crate::proxy) version: Version,
    pub(in crate::proxy) content: Content,
    /// The client waits for 100 before it sends the content.
    pub(in crate::proxy) expects: bool,
}

impl RequestLine {
    /// Whether content follows the head.
    pub(in crate::proxy) const fn has_content(&self) -> bool {
        matches!(self.content, Content::Unknown | Content::Length(1..))
    }
}

/// A request's head: its bytes, and what lies where in them.
///
/// The bytes are the block that they were read into, taken out of the connection's buffer. So nothing is copied for most
/// requests, and a head can outlive what is done with the connection meanwhile. Drop it before a wait: the block is large.
#[derive(Debug)]
pub(in crate::proxy) struct RequestHead {
    bytes: Buffer,
    line: RequestLine,
    fields: Fields,
}

impl RequestHead {
    /// A head whose parts lie in `bytes`.
    pub(in crate::proxy) const fn new(bytes: Buffer, line: RequestLine, fields: Fields) -> Self {
        Self { bytes, line, fields }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.unread()
    }

    /// How many bytes it takes.
    pub(in crate::proxy) fn length(&self) -> usize {
        self.bytes().len()
    }

    /// What stands before the fields. It stays when the head is dropped.
    pub(in crate::proxy) const fn line(&self) -> &RequestLine {
        &self.line
    }

    pub(in crate::proxy) const fn method(&self) -> Method {
        self.line.method
    }

    /// The method's name as it was sent.
    pub(in crate::proxy) fn raw_method(&self) -> &[u8] {
        self.line.name.of(self.bytes())
    }

    /// The method's name as it may be shown.
    pub(in crate::proxy) fn method_name(&self) -> Cow<'static, str> {
        match self.line.method.name() {
            Some(known) => Cow::Borrowed(known),
            None => Cow::Owned(outside::shown_bytes(self.raw_method(), outside::WORD)),
        }
    }

    /// The scheme of what is asked for; see [`Target`].
    pub(in crate::proxy) fn scheme(&self) -> &[u8] {
        self.line.target.scheme.of(self.bytes())
    }

    /// The host, and the port if there is one.
    pub(in crate::proxy) fn authority(&self) -> &[u8] {
        self.line.target.authority.of(self.bytes())
    }

    /// The path and the query; empty where there are none.
    pub(in crate::proxy) fn path(&self) -> &[u8] {
        self.line.target.path.of(self.bytes())
    }

    /// All fields, in their order, with those that concern the connection only.
    pub(in crate::proxy) fn fields(&self) -> impl Iterator<Item = Line<'_>> {
        self.fields.iter(self.bytes())
    }

    /// The value of a field, if there is exactly one; the first, if there are more.
    pub(in crate::proxy) fn field(&self, name: Name) -> Option<&[u8]> {
        self.fields.all(self.bytes(), name).next()
    }

    /// The value of a field that means nothing to a proxy by itself; its name in lower case. The first, if there are more.
    pub(in crate::proxy) fn field_named(&self, name: &[u8]) -> Option<&[u8]> {
        let mut fields = self.fields().filter(|line| line.known == Name::Other);
        fields.find(|line| line.name.eq_ignore_ascii_case(name)).map(|line| line.value)
    }

    /// Overwrites the values of a field where they are secrets that have been read: the memory goes on to other messages.
    pub(in crate::proxy) fn wipe(&mut self, name: Name) {
        self.fields.wipe(self.bytes.unread_mut(), name);
    }

    /// What is kept of it takes no more memory than it needs: it will have to wait.
    pub(in crate::proxy) fn settle(&mut self) {
        self.bytes.settle();
    }

    /// Whether a field is there more than once.
    pub(in crate::proxy) fn repeats(&self, name: Name) -> bool {
        self.fields.all(self.bytes(), name).nth(1).is_some()
    }

    /// Whether a comma-separated field has this member, in any case.
    pub(in crate::proxy) fn has_token(&self, name: Name, token: &str) -> bool {
        self.fields.has_token(self.bytes(), name, token)
    }

    /// Whether `Connection` makes this field one for this hop only.
    pub(in crate::proxy) fn is_hop_by_hop(&self, line: &Line<'_>) -> bool {
        self.fields.is_named(self.bytes(), line)
    }

    /// Whether the proxy that calls itself `own` has seen the request before.
    pub(in crate::proxy) fn is_loop(&self, own: &str) -> bool {
        // Via: 1.1 name (comment)
        self.fields.tokens(self.bytes(), Name::Via).any(|hop| {
            let mut words = hop.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            words.nth(1).is_some_and(|name| name.eq_ignore_ascii_case(own.as_bytes()))
        })
    }

    /// Whether the client may be authenticating the connection to the origin, not the request alone.
    pub(in crate::proxy) fn binds_connection(&self) -> bool {
        self.fields.credentials_bind(self.bytes())
    }

    /// The protocol that the client wants to change to, if it may pass.
    pub(in crate::proxy) fn upgrade(&self) -> Option<&[u8]> {
        self.fields.upgrade(self.bytes()).filter(|_| self.line.version == Version::Http11)
    }

    /// `Max-Forwards`, where it counts: OPTIONS and TRACE can be addressed to a proxy on the way (RFC 9110, 7.6.2).
    pub(in crate::proxy) fn max_forwards(&self) -> Option<u32> {
        if !matches!(self.line.method, Method::Options | Method::Trace) {
            return None;
        }
        std::str::from_utf8(self.field(Name::MaxForwards)?).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::http1::Request;

    #[test]
    fn what_was_secret_is_overwritten_where_it_lay() {
        let text =
            "GET http://a.test/ HTTP/1.1\r\nProxy-Authorization: Basic c2VjcmV0\r\nX-Other: c2VjcmV0\r\n\r\n";
        let mut input: Buffer = text.as_bytes().into();
        let mut head = Request::take(&mut input).unwrap().unwrap().head;
        assert_eq!(head.field(Name::ProxyAuthorization), Some(&b"Basic c2VjcmV0"[..]));
        head.wipe(Name::ProxyAuthorization);
        assert_eq!(head.field(Name::ProxyAuthorization), Some(&[0; 14][..]));
        let expected = text.replacen("Basic c2VjcmV0", &"\0".repeat(14), 1);
        assert_eq!(head.bytes(), expected.as_bytes(), "and nothing else");
        head.settle();
        assert_eq!((head.authority(), head.bytes()), (&b"a.test"[..], expected.as_bytes()));
    }
}
