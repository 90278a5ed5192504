//! What credentials came through, as far as they can be bound to it.

use std::sync::Arc;

/// The channel that credentials came through (RFC 5929, `tls-server-end-point`: it is named by the certificate that the
/// client was shown on it).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Channel {
    /// TCP without TLS: there is nothing to bind to.
    #[default]
    Plain,
    /// TLS, by a certificate that has no such name: whether credentials were made for it cannot be checked.
    Unnamed,
    /// TLS, and its name as channel bindings have it.
    Named(Arc<[u8]>),
}
