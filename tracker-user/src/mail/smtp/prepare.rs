//! What blocks, before a conversation begins: names are resolved, files are read. On a thread of its own.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::Failure;
use crate::mail::password;
use crate::mail::server::Server;
use crate::threads::Threads;

/// So long a name server may take.
const RESOLVE: Duration = Duration::from_secs(20);

/// The cryptography: *ring*'s, said here, so that nothing is asked for a default that nobody has set.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(default_provider()));

/// What a conversation needs.
pub(super) struct Prepared {
    /// Where the server is.
    pub(super) addresses: Vec<SocketAddr>,
    /// Trusts whom this host trusts; `None`: it trusts nobody.
    pub(super) tls: Option<TlsConnector>,
    /// Of the user, if there is one.
    pub(super) password: Option<Zeroizing<String>>,
}

/// All of it.
///
/// # Errors
/// When something of it is not to be had.
pub(super) async fn prepare(server: Server, threads: &Threads) -> Result<Prepared, Failure> {
    let name = server.to_string();
    let late = || Failure::Unreachable(format!("the address of the mail server {name} is not known in time"));
    let asked = threads.run(move || gather(&server)).map_err(|_| late())?;
    match timeout(RESOLVE, asked).await {
        Ok(Ok(prepared)) => prepared,
        _ => Err(late()),
    }
}

fn gather(server: &Server) -> Result<Prepared, Failure> {
    let password = match (&server.user, &server.password_file) {
        (None, _) => None,
        (Some(user), None) => {
            return Err(Failure::Unusable(format!(
                "mail.smtp names the user {user}, and no file has their password: set mail.password-file"
            )));
        }
        (Some(_), Some(path)) => Some(read(path)?),
    };
    let addresses = (server.host.as_str(), server.port).to_socket_addrs().map_err(|error| {
        Failure::Unreachable(format!("the mail server {server} has no address that can be found: {error}"))
    })?;
    Ok(Prepared { addresses: addresses.collect(), tls: connector(), password })
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    password::read(path).map_err(|error| {
        let path = path.display();
        Failure::Unusable(format!("mail.password-file, {path}, cannot be used: {error}"))
    })
}

/// Trusts the authorities that this host trusts now.
fn connector() -> Option<TlsConnector> {
    let mut roots = RootCertStore::empty();
    // What is broken among them is left out, as by every other program.
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        return None;
    }
    let config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Some(TlsConnector::from(Arc::new(config)))
}
