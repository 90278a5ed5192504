//! `trackerctl events`: the audit trail, of some kinds, clients and users, or of all.

use std::collections::VecDeque;

use serde_json::Value;

use super::args::{Args, Command};
use super::list::{Colour, Screen};
use super::run::{Failure, write_line};
use super::show;
use crate::admin::client::Client;
use crate::admin::{query, wire};
use crate::links;
use crate::outside;
use crate::types::{ClientAddr, UserQuery};

/// Which events.
struct Wanted<'a> {
    kind: &'a [String],
    client: Option<ClientAddr>,
    user: Option<UserQuery>,
    filter: Vec<String>,
}

impl Wanted<'_> {
    fn holds(&self, value: &Value) -> bool {
        let field = |name| value.get(name).and_then(Value::as_str);
        let Some(kind) = field("event") else {
            // Events that were lost are nobody's.
            return true;
        };
        let of_kind =
            self.kind.is_empty() || self.kind.iter().any(|wanted| wanted.eq_ignore_ascii_case(kind));
        let client = || field("client").and_then(|text| links::parse(text).ok());
        let of_client = self.client.is_none_or(|wanted| client() == Some(wanted));
        let of_user = self.user.as_ref().is_none_or(|wanted| {
            let domain = field("domain").unwrap_or_default();
            field("user").is_some_and(|user| wanted.means(user, field("realm").unwrap_or(domain), domain))
        });
        let line = || show::event(value).to_lowercase();
        of_kind && of_client && of_user && self.filter.iter().all(|text| line().contains(text.as_str()))
    }
}

/// Prints the trail.
pub(super) async fn events(args: &Args, client: &Client) -> Result<(), Failure> {
    let Command::Events { follow, since, kind, client: of, user, filter, limit } = &args.command else {
        return Ok(());
    };
    let wanted = Wanted {
        kind,
        client: *of,
        user: user.as_deref().map(UserQuery::from),
        filter: filter.iter().map(|text| text.to_lowercase()).collect(),
    };
    let paint = Screen::stdout(args.color).paint;
    let line = |event: &Value| {
        if args.json {
            return outside::json(&event.to_string()).into_owned();
        }
        paint.paint(&outside::lines(&show::event(event)), colour(event))
    };
    let mut path = format!("/v1/events?follow={}", u8::from(*follow));
    if let Some(since) = since {
        path.push_str(&format!("&since={}", query::encode(&since.to_string())));
    }
    let most = limit.unwrap_or(usize::MAX);
    let mut failed = None;
    if *follow {
        // JSON is a document a line: there is no end to close a list at.
        let each = |event: Value| {
            if wanted.holds(&event) {
                failed = write_line(&line(&event)).err();
            }
            failed.is_none()
        };
        client.lines(&path, true, each).await?;
        return failed.map_or(Ok(()), |error| Err(error.into()));
    }
    let mut kept: VecDeque<Value> = VecDeque::new();
    let each = |event: Value| {
        if wanted.holds(&event) {
            kept.push_back(event);
            if kept.len() > most {
                kept.pop_front();
            }
        }
        true
    };
    client.lines(&path, false, each).await?;
    if args.json {
        return super::run::print(args, &Value::Array(kept.into()), |_: Value| String::new());
    }
    let lines: Vec<String> = kept.iter().map(line).collect();
    Ok(write_line(&lines.join("\n"))?)
}

fn colour(event: &Value) -> Option<Colour> {
    let event = serde_json::from_value::<wire::Event>(event.clone()).ok()?;
    match event.event.as_str() {
        "refused" | "banned" | "replaced" => Some(Colour::Red),
        "stale" | "licences" => Some(Colour::Yellow),
        "ended" if event.reason.as_deref() == Some("kicked") => Some(Colour::Yellow),
        _ => None,
    }
}
