//! What a configuration would do to the passkeys that there are, before it counts.

use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::admin::client::Client;
use crate::admin::server::SOCKET;
use crate::admin::wire;
use crate::auth::factors::RelyingParty;
use crate::config::Config;

/// So long a daemon is waited for that has the passkeys.
const PATIENCE: Duration = Duration::from_secs(2);

/// A warning where passkeys stop because the portal has another host under this configuration. The daemon that runs knows the
/// passkeys; where none does, nothing is known before the start.
#[must_use]
pub fn check_passkeys(config: &Config) -> Option<String> {
    let runtime = Builder::new_current_thread().enable_all().build().ok()?;
    let client = Client::new(&config.run_dir.join(SOCKET));
    let status = runtime.block_on(async { timeout(PATIENCE, client.get("/v1/status")).await.ok()?.ok() })?;
    let status: wire::Status = serde_json::from_value(status).ok()?;
    let host = config.portal.host.clone().or_else(super::certificate::own_name)?;
    let known = status.passkeys.iter().map(|(host, count)| (host.as_str(), *count));
    RelyingParty::of(&host, known).warning()
}
