//! `trackerctl second-factor`: what users have set up, taking that away, another key.

mod offline;

use hyper::Method;

pub(super) use self::offline::OfflineError;
use super::args::{Args, SecondFactor};
use super::run::{Failure, print};
use super::show::{age, moment, name, plain, right, text};
use crate::admin::client::{Client, ClientError};
use crate::admin::{query, wire};

/// A step of an authenticator's time.
const STEP: i64 = 30;

/// Carries a command out.
pub(super) async fn carry_out(args: &Args, client: &Client, wanted: &SecondFactor) -> Result<(), Failure> {
    match wanted {
        SecondFactor::Show { user: None } => {
            let value = client.get("/v1/second-factor").await?;
            print(args, &value, |all: Vec<wire::SecondFactor>| table(&all))
        }
        SecondFactor::Show { user: Some(user) } => {
            let value = client.get(&format!("/v1/second-factor/{}", query::encode(user))).await?;
            print(args, &value, |found: Vec<wire::SecondFactor>| {
                found.iter().map(one).collect::<Vec<_>>().join("\n\n")
            })
        }
        SecondFactor::Reset { user, offline, config } => {
            let path = format!("/v1/second-factor/{}", query::encode(user));
            let asked = if *offline { None } else { Some(client.delete(&path).await) };
            let value = match asked {
                Some(Ok(value)) => value,
                Some(Err(error @ ClientError::Unreachable { .. })) if offline::may() => {
                    let done = offline::reset(config.as_deref(), user);
                    let done = done.map_err(|cause| cause.behind(&error))?;
                    serde_json::to_value(done).unwrap_or_default()
                }
                Some(Err(error @ ClientError::Unreachable { .. })) => {
                    return Err(OfflineError::Unreachable {
                        error: error.to_string(),
                        cause: "with trackerd down, root can do it".into(),
                    }
                    .into());
                }
                Some(Err(error)) => return Err(error.into()),
                None => serde_json::to_value(offline::reset(config.as_deref(), user)?).unwrap_or_default(),
            };
            print(args, &value, |reset: wire::FactorsReset| was_reset(&reset))
        }
        SecondFactor::RotateKey => {
            let none = serde_json::Value::Null;
            let value = client.send_json(Method::POST, "/v1/second-factor/rotate-key", &none).await?;
            print(args, &value, |rotated: wire::KeyRotated| was_rotated(&rotated))
        }
    }
}

fn table(all: &[wire::SecondFactor]) -> String {
    if all.is_empty() {
        return "nobody has set up a second factor".into();
    }
    let mut table = plain();
    table.set_header(["USER", "DEMAND", "STATE", "AUTHENTICATOR", "PASSKEYS", "RECOVERY", "CODES LEFT"]);
    for of in all {
        table.add_row([
            name(&of.user, &of.domain),
            of.demand.clone(),
            state(of).into(),
            of.authenticator.map_or_else(|| "-".into(), |of| format!("used {} ago", age(Some(of.used)))),
            of.passkeys.len().to_string(),
            of.recovery_address.clone().unwrap_or_else(|| "-".into()),
            of.recovery_codes.to_string(),
        ]);
    }
    right(&mut table, &[4, 6]);
    text(&table)
}

const fn state(of: &wire::SecondFactor) -> &'static str {
    match of {
        wire::SecondFactor { readable: false, .. } => "unreadable",
        wire::SecondFactor { locked: true, .. } => "locked",
        wire::SecondFactor { authenticator: None, passkeys, .. } if passkeys.is_empty() => "not set up",
        _ => "set up",
    }
}

fn one(of: &wire::SecondFactor) -> String {
    let mut lines = vec![("user", name(&of.user, &of.domain)), ("demand", of.demand.clone())];
    let state = match state(of) {
        "unreadable" => "unreadable: put second-factor.key back from the backup, or reset it".to_owned(),
        "locked" => format!("locked: {} codes were wrong since one was right; reset it", of.wrong),
        state => state.to_owned(),
    };
    lines.push(("state", state));
    if of.readable {
        lines.push(("authenticator", of.authenticator.as_ref().map_or_else(|| "-".into(), authenticator)));
        for key in &of.passkeys {
            let used =
                key.used.map_or_else(|| "never used".into(), |used| format!("last used {}", moment(used)));
            lines.push(("passkey", format!("{}, since {}, {used}", key.name, moment(key.since))));
        }
        lines.push(("recovery address", of.recovery_address.clone().unwrap_or_else(|| "-".into())));
        lines.push(("recovery codes left", of.recovery_codes.to_string()));
        lines.push(("wrong codes since the last right one", of.wrong.to_string()));
    }
    lines.iter().map(|(what, value)| format!("{what}: {value}")).collect::<Vec<_>>().join("\n")
}

fn authenticator(of: &wire::Authenticator) -> String {
    let drift = match of.drift {
        0 => "its clock was right".to_owned(),
        ahead @ 1.. => format!("its clock was about {} s ahead", ahead.saturating_mul(STEP)),
        behind => format!("its clock was about {} s behind", behind.saturating_neg().saturating_mul(STEP)),
    };
    format!("since {}, last used {}, {drift}", moment(of.since), moment(of.used))
}

fn was_reset(of: &wire::FactorsReset) -> String {
    let mut lines = vec![format!("the second factor of {} was reset", name(&of.user, &of.domain))];
    if of.offline {
        lines.push("trackerd was not running: it was done in its database".into());
    }
    lines.extend(of.warning.as_ref().map(|warning| format!("WARNING: {warning}")));
    lines.join("\n")
}

fn was_rotated(of: &wire::KeyRotated) -> String {
    let mut lines =
        vec![format!("key {} is in force, and key {} is gone: make a new backup", of.after, of.before)];
    if of.unreadable > 0 {
        lines.push(format!(
            "WARNING: the second factor of {} users can be read under neither key: put second-factor.key back from the backup that \
             they were sealed under, or reset them",
            of.unreadable
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn people_are_told_what_is_set_up_and_what_helps() {
        let at = Timestamp::UNIX_EPOCH;
        let bare = wire::SecondFactor {
            user: "alice".into(),
            domain: "EXAMPLE.TEST".into(),
            realm: None,
            demand: "required".into(),
            readable: true,
            authenticator: None,
            passkeys: Vec::new(),
            recovery_address: None,
            recovery_codes: 0,
            wrong: 0,
            locked: false,
        };
        assert_eq!(state(&bare), "not set up");
        let authenticator = Some(wire::Authenticator { since: at, used: at, drift: -1 });
        let passkeys = vec![wire::Passkey { name: "phone".into(), since: at, used: None }];
        let full = wire::SecondFactor {
            authenticator,
            passkeys,
            recovery_address: Some("a…@example.org".into()),
            recovery_codes: 9,
            ..bare.clone()
        };
        let shown = one(&full);
        for line in [
            "user: alice@EXAMPLE.TEST",
            "state: set up",
            "its clock was about 30 s behind",
            "passkey: phone, since",
            "never used",
            "recovery address: a…@example.org",
            "recovery codes left: 9",
        ] {
            assert!(shown.contains(line), "{line}: {shown}");
        }
        let locked = one(&wire::SecondFactor { locked: true, wrong: 100, ..full.clone() });
        assert!(locked.contains("locked: 100 codes"), "{locked}");
        let unreadable = wire::SecondFactor { readable: false, ..bare };
        assert!(one(&unreadable).contains("reset it") && !one(&unreadable).contains("codes left"));
        assert!(table(&[full, unreadable]).contains("unreadable"));
        assert_eq!(table(&[]), "nobody has set up a second factor");
    }
}
