//! Application passwords, from what operations answer to what the API says.

use super::wire;
use crate::auth::application_passwords::View;
use crate::links::shown;
use crate::ops::Revoked;
use crate::types::show_network;

pub(super) fn application_password(of: &View) -> wire::ApplicationPassword {
    let View { id, owner, name, created, expires, networks, used } = of;
    wire::ApplicationPassword {
        id: id.clone(),
        user: owner.user().into(),
        domain: owner.domain().into(),
        realm: owner.hidden_realm().map(Into::into),
        name: name.clone(),
        created: *created,
        expires: *expires,
        networks: networks.iter().map(show_network).collect(),
        last_used: used.map(|(at, _)| at),
        last_client: used.map(|(_, from)| shown(from).to_string()),
    }
}

pub(super) fn revoked(revoked: &Revoked) -> wire::RevokedApplicationPasswords {
    let Revoked { passwords, ended, warning } = revoked;
    wire::RevokedApplicationPasswords {
        revoked: passwords.iter().map(application_password).collect(),
        sessions_ended: *ended,
        warning: warning.clone(),
    }
}
