//! `trackerctl app-password`: which there are, and taking them away.

use hyper::Method;

use super::args::{AppPassword, Args};
use super::run::{Failure, print};
use super::show::{age, moment, name, plain, text, until};
use crate::admin::client::Client;
use crate::admin::{query, wire};

pub(super) async fn carry_out(args: &Args, client: &Client, wanted: &AppPassword) -> Result<(), Failure> {
    match wanted {
        AppPassword::List { user } => {
            let path = match user {
                Some(user) => format!("/v1/app-passwords?user={}", query::encode(user)),
                None => "/v1/app-passwords".into(),
            };
            let value = client.get(&path).await?;
            print(args, &value, |all: Vec<wire::ApplicationPassword>| table(&all))
        }
        AppPassword::Revoke { user, id } => {
            let wanted = wire::RevokeApplicationPasswords { user: user.clone(), id: id.clone() };
            let value = client.send_json(Method::POST, "/v1/app-passwords/revoke", &wanted).await?;
            print(args, &value, |revoked: wire::RevokedApplicationPasswords| done(&revoked))
        }
    }
}

fn table(all: &[wire::ApplicationPassword]) -> String {
    if all.is_empty() {
        return "there is no application password".into();
    }
    let mut table = plain();
    table.set_header(["ID", "USER", "NAME", "CREATED", "EXPIRES", "NETWORKS", "LAST USED", "FROM"]);
    for one in all {
        table.add_row([
            one.id.clone(),
            name(&one.user, &one.domain),
            one.name.clone(),
            moment(one.created),
            one.expires.map_or_else(|| "never".into(), |at| format!("{} ({})", moment(at), until(at))),
            if one.networks.is_empty() { "everywhere".into() } else { one.networks.join(" ") },
            one.last_used.map_or_else(|| "never".into(), |at| format!("{} ago", age(Some(at)))),
            one.last_client.clone().unwrap_or_else(|| "-".into()),
        ]);
    }
    text(&table)
}

fn done(revoked: &wire::RevokedApplicationPasswords) -> String {
    let line = |one: &wire::ApplicationPassword| {
        format!("revoked: {} of {} ({})", one.id, name(&one.user, &one.domain), one.name)
    };
    let mut lines: Vec<String> = revoked.revoked.iter().map(line).collect();
    match revoked.sessions_ended {
        0 => {}
        1 => lines.push("1 session ended".into()),
        count => lines.push(format!("{count} sessions ended")),
    }
    lines.extend(revoked.warning.as_ref().map(|warning| format!("WARNING: {warning}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_is_not_said_has_a_word() {
        let at = Timestamp::UNIX_EPOCH;
        let one = wire::ApplicationPassword {
            id: "0123abcd".into(),
            user: "alice".into(),
            domain: "EXAMPLE".into(),
            realm: None,
            name: "git".into(),
            created: at,
            expires: None,
            networks: Vec::new(),
            last_used: None,
            last_client: None,
        };
        let shown = table(std::slice::from_ref(&one));
        assert!(shown.contains("everywhere") && shown.contains("never"), "{shown}");
        assert_eq!(table(&[]), "there is no application password");
        let revoked = wire::RevokedApplicationPasswords {
            revoked: vec![one],
            sessions_ended: 1,
            warning: Some("the disk is full".into()),
        };
        let lines = "revoked: 0123abcd of EXAMPLE\\alice (git)\n1 session ended\nWARNING: the disk is full";
        assert_eq!(done(&revoked), lines);
    }
}
