//! Firefox, which is driven without anything beside it.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;

use super::wire::{Marionette, Wire};
use super::{Browser, Wish};
use crate::PROXY_NAME;
use crate::firefox;
use crate::gateway::PROXY_PORT;
use crate::wait::{self, PAGE};

/// Where it listens on the client's own address, one for each client host.
const PORT: u16 = 2828;

pub(super) fn start(wish: &Wish<'_>) -> Result<Browser> {
    let profile = wish.scratch.unused("firefox");
    std::fs::create_dir_all(&profile)?;
    let mut settings = format!(
        "user_pref(\"marionette.port\", {PORT});\nuser_pref(\"intl.accept_languages\", \"{}\");\n\
         user_pref(\"network.negotiate-auth.trusted-uris\", \"{PROXY_NAME}\");\n",
        wish.language
    );
    if wish.proxied {
        settings += &format!(
            "user_pref(\"network.proxy.type\", 1);\nuser_pref(\"network.proxy.http\", \"{PROXY_NAME}\");\n\
             user_pref(\"network.proxy.http_port\", {PROXY_PORT});\nuser_pref(\"network.proxy.ssl\", \"{PROXY_NAME}\");\n\
             user_pref(\"network.proxy.ssl_port\", {PROXY_PORT});\nuser_pref(\"network.proxy.no_proxies_on\", \"{}\");\n",
            wish.directly().replace(';', ",").replace("*.", ".")
        );
    }
    let (ns, scratch, realm) = (wish.ns, wish.scratch, wish.realm);
    let process = firefox::start_driven(scratch, ns, realm, &wish.tickets, &profile, &settings)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    let stream = wait::until("Firefox to listen", PAGE, || ns.connect(address).ok())?;
    let marionette = Marionette::new(stream)?;
    Ok(Browser { wire: Wire::Marionette(marionette), _process: process })
}
