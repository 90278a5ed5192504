//! Answers of origins, on their way to the client.

use crate::proxy::http1::ResponseHead;

/// An origin's answer, with what the gateway adds to it.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Answer<'a> {
    pub(in crate::proxy) head: ResponseHead<'a>,
    /// Our name in `Via`.
    pub(in crate::proxy) via: &'a str,
    /// The origin asks for something that may authenticate the connection. The connection is kept for this client then.
    pub(in crate::proxy) binds_connection: bool,
    /// The gateway's own proof (RFC 4559, section 5), the value of `Proxy-Authenticate`.
    pub(in crate::proxy) mutual_auth: Option<&'a str>,
}

impl Answer<'_> {
    /// Calls `put` with the name of each field that the client gets, and the parts of its value. Those of framing and of the
    /// client's connection are not among them: they are the front's.
    pub(in crate::proxy) fn each_field(&self, mut put: impl FnMut(&[u8], &[&[u8]])) {
        for line in self.head.end_to_end() {
            put(line.name, &[line.value]);
        }
        put(b"Via", &[self.head.version().number(), b" ", self.via.as_bytes()]);
        if self.binds_connection {
            // RFC 4559, section 6: the client may go on with its handshake, this connection stays its own.
            put(b"Proxy-Support", &[b"Session-Based-Authentication"]);
        }
        if let Some(token) = self.mutual_auth {
            put(b"Proxy-Authenticate", &[token.as_bytes()]);
        }
    }
}
