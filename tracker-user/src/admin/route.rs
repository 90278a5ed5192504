//! Requests: read, handed to the operation that is meant, and its answer written down.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::application_passwords::{application_password, revoked};
use super::certificates::certificates;
use super::peer::Peer;
use super::respond::{Body, Pace, Refused, line, lines, list, ok};
use super::{query, render, second_factor, wire};
use crate::links;
use crate::ops::{Events, Hypothetical, Ops, Told};
use crate::store::Wanted;
use crate::threads::Threads;
use crate::tracker::Whose;
use crate::types::ClientAddr;

/// No request body is larger.
const BODY_LIMIT: usize = 64 * 1024;
/// No program takes longer to send it.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// So many tenures are answered unless another number is asked for.
const HISTORY: usize = 1_000;

pub(super) async fn answer(
    request: Request<Incoming>,
    ops: &Ops,
    peer: Peer,
    names: &Threads,
) -> Response<Body> {
    route(request, ops, peer, names).await.unwrap_or_else(Into::into)
}

async fn route(
    request: Request<Incoming>,
    ops: &Ops,
    peer: Peer,
    names: &Threads,
) -> Result<Response<Body>, Refused> {
    let path = request.uri().path().to_owned();
    let path: Vec<&str> = path.trim_matches('/').split('/').collect();
    let method = request.method().clone();
    Ok(match (&method, path.as_slice()) {
        (&Method::GET, ["v1", "status"]) => ok(&render::status(ops.status().await?)),
        (&Method::GET, ["v1", "sessions"]) => list(ops.sessions().await?, render::session),
        (&Method::GET, ["v1", "sessions", client]) => {
            ok(&render::detail(&ops.session(address(&query::decode(client))?).await?))
        }
        (&Method::GET, ["v1", "users"]) => list(ops.users().await?, render::user),
        (&Method::GET, ["v1", "hosts"]) => list(ops.hosts().await?, render::host),
        (&Method::POST, ["v1", "logout"]) => {
            let whose = whose(body(request).await?)?;
            ok(&render::logged_out(&ops.logout(whose, peer.actor(names).await).await?))
        }
        (&Method::GET, ["v1", "local-users"]) => list(ops.local_users().await?, render::local_user),
        (&Method::POST, ["v1", "local-users"]) => {
            let new: wire::NewUser = body(request).await?;
            let role = new.role().ok_or_else(|| Refused::wrong("an administrator has no other role"))?;
            let wire::NewUser { name, password, .. } = new;
            let actor = peer.actor(names).await;
            ok(&render::user_changed(ops.add_user(&name, password, role, actor).await?))
        }
        (&Method::PUT, ["v1", "local-users", name, "password"]) => {
            let wire::NewPassword { password } = body(request).await?;
            let (name, actor) = (query::decode(name), peer.actor(names).await);
            ok(&render::user_changed(ops.set_user_password(&name, password, actor).await?))
        }
        (&Method::PUT, ["v1", "local-users", name, "role"]) => {
            let wire::NewRole { role } = body(request).await?;
            let (name, actor) = (query::decode(name), peer.actor(names).await);
            ok(&render::user_changed(ops.set_user_role(&name, role, actor).await?))
        }
        (&Method::PUT, ["v1", "local-users", name, "disabled"]) => {
            let wire::Disabled { disabled } = body(request).await?;
            let (name, actor) = (query::decode(name), peer.actor(names).await);
            let changed = match disabled {
                true => ops.disable_user(&name, actor).await?,
                false => ops.enable_user(&name, actor).await?,
            };
            ok(&render::user_changed(changed))
        }
        (&Method::DELETE, ["v1", "local-users", name]) => {
            let (name, actor) = (query::decode(name), peer.actor(names).await);
            ok(&render::user_changed(ops.remove_user(&name, actor).await?))
        }
        (&Method::GET, ["v1", "bans"]) => list(ops.bans().await?, render::ban),
        (&Method::POST, ["v1", "bans", "lift"]) => {
            let wire::LiftBans { of } = body(request).await?;
            ok(&render::lifted(&ops.lift_bans(of, peer.actor(names).await).await?))
        }
        (&Method::GET, ["v1", "app-passwords"]) => {
            let all = match query::value(request.uri().query(), "user") {
                Some(user) => ops.application_passwords(user.as_str().into()).await?,
                None => ops.all_application_passwords(usize::MAX).0,
            };
            list(all, application_password)
        }
        (&Method::POST, ["v1", "app-passwords", "revoke"]) => {
            let wire::RevokeApplicationPasswords { user, id } = body(request).await?;
            let actor = peer.actor(names).await;
            ok(&revoked(&ops.revoke_application_passwords(user.as_str().into(), id, actor).await?))
        }
        (&Method::GET, ["v1", "settings"]) => list(ops.get(None).await?, render::setting),
        (&Method::GET, ["v1", "settings", key]) => match ops.get(Some(key)).await?.pop() {
            Some(setting) => ok(&render::setting(&setting)),
            None => list(Vec::new(), render::setting),
        },
        (&Method::PUT, ["v1", "settings", key]) => {
            let wire::NewValue { value } = body(request).await?;
            ok(&render::setting(&ops.set(key, &value, peer.actor(names).await).await?))
        }
        (&Method::DELETE, ["v1", "settings", key]) => {
            ok(&render::setting(&ops.unset(key, peer.actor(names).await).await?))
        }
        (&Method::POST, ["v1", "reload"]) => {
            let changed = ops.reload(peer.actor(names).await).await?;
            ok(&wire::Reloaded { changed: changed.iter().map(|key| key.name().to_owned()).collect() })
        }
        (&Method::GET, ["v1", "certificates"]) => ok(&certificates(ops.certificates().await?)),
        (&Method::GET, ["v1", "events"]) => events(ops, request.uri().query()).await?,
        (&Method::GET, ["v1", "explain", client]) => {
            let query = request.uri().query();
            let asked = Hypothetical {
                url: query::value(query, "url"),
                host: query::value(query, "host"),
                user_agent: query::value(query, "user-agent"),
                cookie: query::value(query, "cookie"),
            };
            ok(&render::explanation(ops.explain(address(&query::decode(client))?, asked).await?))
        }
        (&Method::GET, ["v1", "history"]) => {
            list(ops.history(wanted(request.uri().query())?).await?, |entry| {
                wire::PastSession::from(entry.clone())
            })
        }
        (method, ["v1", "second-factor", rest @ ..]) => {
            let answer = second_factor::answer(method, rest, ops, peer, names).await;
            return answer.unwrap_or_else(|| Err(unknown(method, &path)));
        }
        _ => return Err(unknown(&method, &path)),
    })
}

fn unknown(method: &Method, path: &[&str]) -> Refused {
    let text = format!("no such request: {method} /{}", path.join("/"));
    Refused(hyper::StatusCode::NOT_FOUND, text)
}

fn whose(request: wire::Logout) -> Result<Whose, Refused> {
    match request {
        wire::Logout { client: Some(client), user: None, all: false } => Ok(Whose::Client(address(&client)?)),
        wire::Logout { client: None, user: Some(user), all: false } => Ok(Whose::User(user.as_str().into())),
        wire::Logout { client: None, user: None, all: true } => Ok(Whose::All),
        _ => Err(Refused::wrong("exactly one of client, user and all is needed")),
    }
}

fn wanted(query: Option<&str>) -> Result<Wanted, Refused> {
    let most = match query::value(query, "limit") {
        None => HISTORY,
        Some(text) => text.parse().map_err(|_| Refused::wrong(format!("{text:?} is not a number")))?,
    };
    Ok(Wanted {
        client: query::value(query, "client").map(|text| address(&text)).transpose()?,
        user: query::value(query, "user").map(|text| text.as_str().into()),
        at: query::value(query, "at").map(|text| moment(&text)).transpose()?,
        most,
    })
}

/// The trail, a JSON document a line; with `since` as far back as the store reaches, with `follow` it goes on until the
/// operator leaves. If it is cut short, its last line says why.
async fn events(ops: &Ops, query: Option<&str>) -> Result<Response<Body>, Refused> {
    let follow = query::value(query, "follow").is_some_and(|value| value == "1");
    let since = query::value(query, "since").map(|text| moment(&text)).transpose()?;
    let events = ops.events(since, follow).await?;
    let pace = if follow { Pace::Follows } else { Pace::Lines };
    Ok(lines(
        pace,
        futures_util::stream::unfold(events, async |mut events: Events| {
            let told = events.next().await?;
            Some((told_line(told), events))
        }),
    ))
}

fn told_line(told: Result<Told, crate::ops::OpsError>) -> Bytes {
    match told {
        Ok(Told::Event(entry)) => line(&wire::Event::from(&*entry)),
        Ok(Told::Stored(event)) => line(&wire::Event::from(*event)),
        Ok(Told::Lost(lost)) => {
            line(&wire::Problem { error: format!("{lost} events were lost: the reader is too slow") })
        }
        Err(error) => line(&wire::Problem { error: error.to_string() }),
    }
}

fn address(text: &str) -> Result<ClientAddr, Refused> {
    links::parse(text).map_err(|error| Refused::wrong(format!("{text:?} is {error}")))
}

fn moment(text: &str) -> Result<Timestamp, Refused> {
    text.parse().map_err(|_| Refused::wrong(format!("{text:?} is not an RFC 3339 time")))
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refused> {
    let bad = |error: &dyn std::fmt::Display| Refused::wrong(format!("the request body: {error}"));
    let read = Limited::new(request.into_body(), BODY_LIMIT).collect();
    let Ok(read) = timeout(BODY_TIMEOUT, read).await else {
        return Err(bad(&format!("it has not come within {} s", BODY_TIMEOUT.as_secs())));
    };
    let body = read.map_err(|error| bad(&error))?.to_bytes();
    let read = serde_json::from_slice(&body).map_err(|error| bad(&error));
    // It may have been a password: what is ours of it is overwritten.
    if let Ok(mut ours) = body.try_into_mut() {
        ours.fill(0);
    }
    read
}
