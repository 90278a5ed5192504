//! What the portal goes by. All of it may change while it runs.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::auth::kerberos::Conditions;
use crate::pages::Brand;
use crate::types::UserQuery;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// This host's name in redirects: `portal.host`, or the host's own name.
    pub host: String,
    /// The names that clients may reach the pages by, in lower case: the host's, the certificate's, those of `spns`.
    pub names: Vec<String>,
    /// The port of the pages without TLS; `None`: there are none.
    pub http_port: Option<u16>,
    /// The port under TLS.
    pub https_port: Option<u16>,
    /// Who says in `X-Forwarded-For` for whom it asks.
    pub trusted_proxies: Vec<IpNet>,
    /// For so long after a logout nobody is logged in silently from its address.
    pub logout_hold: Duration,
    /// Realm users who may administer,
    pub administrators: Vec<UserQuery>,
    /// and those who may look.
    pub viewers: Vec<UserQuery>,
    /// When Kerberos is offered.
    pub conditions: Arc<Conditions>,
    /// The cookie by which a browser opts out of Kerberos.
    pub opt_out_cookie: Option<String>,
    /// What the PAC file lists, in its order: `PROXY host:port`, `HTTPS host:port`.
    pub proxies: Vec<String>,
    /// Whom the gateway belongs to.
    pub brand: Arc<Brand>,
}

impl Settings {
    /// Where the pages under TLS are, without a path: `https://gateway.example.test:4081`.
    #[must_use]
    pub fn secure_origin(&self) -> Option<String> {
        let port = self.https_port?;
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        Some(if port == 443 { format!("https://{host}") } else { format!("https://{host}:{port}") })
    }

    /// Whether browsers may be told to ask this host by TLS alone (HSTS, RFC 6797, section 8.3). They do so at every port of its
    /// name, and go to the very port that an address has, but for 80: the pages without TLS would be found no more elsewhere.
    #[must_use]
    pub fn may_demand_tls(&self) -> bool {
        self.https_port == Some(443) && matches!(self.http_port, None | Some(80))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_demanded_only_where_nothing_is_lost_by_it() {
        for (http_port, https_port, may) in [
            (Some(80), Some(443), true),
            (None, Some(443), true),
            (Some(4080), Some(4081), false),
            (Some(4080), Some(443), false),
            (Some(80), Some(4081), false),
            (None, Some(4081), false),
            (Some(80), None, false),
        ] {
            let settings = Settings { http_port, https_port, ..Settings::default() };
            assert_eq!(settings.may_demand_tls(), may, "{http_port:?} {https_port:?}");
        }
    }
}
