//! Fresh tokens for the proxy's service, from the tickets in the credentials cache (KRB5CCNAME).

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use libgssapi::context::{ClientCtx, CtxFlags};
use libgssapi::credential::{Cred, CredUsage};
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE};

/// Tickets for one service.
pub(crate) struct Kerberos {
    cred: Cred,
    service: Name,
}

impl Kerberos {
    /// `service` is host-based, as `HTTP@proxy.example.test`.
    pub(crate) fn new(service: &str) -> Result<Self> {
        let cred = Cred::acquire(None, None, CredUsage::Initiate, None)?;
        Ok(Self { cred, service: Name::new(service.as_bytes(), Some(GSS_NT_HOSTBASED_SERVICE))? })
    }

    /// A token, as the library makes it.
    pub(crate) fn raw(&self) -> Result<Vec<u8>> {
        let service = self.service.duplicate()?;
        let mut context =
            ClientCtx::new(Some(self.cred.clone()), service, CtxFlags::empty(), Some(GSS_MECH_SPNEGO));
        Ok(context.step(None, None)?.context("no token")?.to_vec())
    }

    /// A token as it stands in a header.
    pub(crate) fn token(&self) -> Result<String> {
        Ok(BASE64_STANDARD.encode(self.raw()?))
    }
}
