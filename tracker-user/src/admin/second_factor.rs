//! Further factors: what is asked and ordered of them, and how it is written down.

use hyper::{Method, Response};

use super::peer::Peer;
use super::respond::{Body, Refused, list, ok};
use super::{query, wire};
use crate::ops::{FactorsReset, KeyRotated, Ops, SecondFactor, SetUp};
use crate::session::Demand;
use crate::threads::Threads;

/// Answers `/v1/second-factor/…`; `None`: there is no such request.
pub(super) async fn answer(
    method: &Method,
    rest: &[&str],
    ops: &Ops,
    peer: Peer,
    names: &Threads,
) -> Option<Result<Response<Body>, Refused>> {
    Some(match (method, rest) {
        (&Method::GET, []) => ops.second_factors().await.map_err(Into::into).map(|all| list(all, told)),
        (&Method::GET, [user]) => {
            let found = ops.second_factor(&query::decode(user)).await;
            found.map_err(Into::into).map(|found| list(found, told))
        }
        (&Method::DELETE, [user]) => {
            let actor = peer.actor(names).await;
            let reset = ops.reset_second_factor(&query::decode(user), actor).await;
            reset.map_err(Into::into).map(|reset| ok(&was_reset(&reset)))
        }
        (&Method::POST, ["rotate-key"]) => {
            let rotated = ops.rotate_second_factor_key(peer.actor(names).await).await;
            rotated.map_err(Into::into).map(|KeyRotated { before, after, unreadable }| {
                ok(&wire::KeyRotated { before, after, unreadable })
            })
        }
        _ => return None,
    })
}

fn told(of: &SecondFactor) -> wire::SecondFactor {
    let SetUp { authenticator, passkeys, recovery_address, recovery_codes, wrong, is_locked } =
        of.set_up.clone().unwrap_or_default();
    let demand = match of.demand {
        None => "off",
        Some(Demand::IfEnrolled) => "optional",
        Some(Demand::Always) => "required",
    };
    let passkey =
        |of: crate::ops::PasskeyView| wire::Passkey { name: of.name, since: of.since, used: of.used };
    wire::SecondFactor {
        user: of.identity.user().into(),
        domain: of.identity.domain().into(),
        realm: of.identity.hidden_realm().map(Into::into),
        demand: demand.into(),
        readable: of.set_up.is_some(),
        authenticator: authenticator.map(|of| wire::Authenticator {
            since: of.since,
            used: of.used,
            drift: of.drift,
        }),
        passkeys: passkeys.into_iter().map(passkey).collect(),
        recovery_address,
        recovery_codes,
        wrong,
        locked: is_locked,
    }
}

fn was_reset(FactorsReset { identity, warning }: &FactorsReset) -> wire::FactorsReset {
    wire::FactorsReset {
        user: identity.user().into(),
        domain: identity.domain().into(),
        realm: identity.hidden_realm().map(Into::into),
        offline: false,
        warning: warning.clone(),
    }
}
