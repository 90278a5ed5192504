//! Bans, for people.

use super::show::{age, moment, name, plain, right, text, until};
use crate::admin::wire;

pub(super) fn table(bans: &[wire::Ban]) -> String {
    if bans.is_empty() {
        return "nobody is banned".into();
    }
    let mut table = plain();
    table.set_header(["BANNED", "ADDRESS", "USER", "SINCE", "UNTIL", "TRIES", "LAST TRY"]);
    for ban in bans {
        table.add_row([
            ban.scope.clone(),
            ban.client.clone().unwrap_or_else(|| "-".into()),
            user(ban).unwrap_or_else(|| "-".into()),
            moment(ban.since),
            format!("{} ({})", moment(ban.until), until(ban.until)),
            ban.tries.to_string(),
            format!("{} ago", age(Some(ban.last_try))),
        ]);
    }
    right(&mut table, &[5]);
    text(&table)
}

/// Those that concern a client, a line each.
pub(super) fn lines(bans: &[wire::Ban]) -> String {
    let line =
        |ban: &wire::Ban| format!("{}: nothing is looked at until {}", subject(ban), moment(ban.until));
    bans.iter().map(line).collect::<Vec<_>>().join("\n")
}

pub(super) fn lifted(lifted: &wire::LiftedBans) -> String {
    let mut lines: Vec<String> =
        lifted.lifted.iter().map(|ban| format!("lifted: the ban of {}", subject(ban))).collect();
    lines.extend(lifted.warning.as_ref().map(|warning| format!("WARNING: {warning}")));
    lines.join("\n")
}

/// What a ban stands on.
fn subject(ban: &wire::Ban) -> String {
    match (user(ban), &ban.client) {
        (Some(user), Some(client)) => format!("{user} from {client}"),
        (Some(user), None) => format!("{user} from everywhere"),
        (None, Some(client)) => client.clone(),
        (None, None) => ban.scope.clone(),
    }
}

/// The user that a ban names, or that it names one whom nobody knows.
fn user(ban: &wire::Ban) -> Option<String> {
    let known = ban.user.as_ref().map(|user| name(user, ban.domain.as_deref().unwrap_or_default()));
    known.or_else(|| (ban.scope != "address").then(|| "unknown name".into()))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_ban_says_what_it_stands_on_and_names_nobody_who_is_not_known() {
        let at = Timestamp::UNIX_EPOCH;
        let ban = |scope: &str, client: Option<&str>, user: Option<&str>| wire::Ban {
            scope: scope.into(),
            client: client.map(Into::into),
            user: user.map(Into::into),
            domain: user.map(|_| "EXAMPLE.TEST".into()),
            realm: None,
            since: at,
            until: at,
            tries: 3,
            last_try: at,
        };
        for (scope, client, user, said) in [
            ("pair", Some("192.0.2.1"), Some("alice"), "alice@EXAMPLE.TEST from 192.0.2.1"),
            ("pair", Some("192.0.2.1"), None, "unknown name from 192.0.2.1"),
            ("user", None, Some("alice"), "alice@EXAMPLE.TEST from everywhere"),
            ("user", None, None, "unknown name from everywhere"),
            ("address", Some("2001:db8::/64"), None, "2001:db8::/64"),
        ] {
            assert_eq!(subject(&ban(scope, client, user)), said);
        }
        assert_eq!(table(&[]), "nobody is banned");
        let shown = table(&[ban("address", Some("192.0.2.1"), None)]);
        assert!(shown.contains("192.0.2.1") && !shown.contains("unknown name"), "{shown}");
    }
}
