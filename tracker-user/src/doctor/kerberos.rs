//! The keytab: whether it can be read, and what stands in it.

use std::collections::BTreeMap;
use std::path::Path;

use super::account::Known;
use super::{Check, Entries, is_root, listed};
use crate::admin::wire::{self, Status};
use crate::auth::kerberos::negotiate::{self, KeytabEntry, KeytabProblem, ReplayProblem};
use crate::auth::kerberos::{enctype, kdc_probe};

const KEYTAB: &str = "keytab";
const REPLAY: &str = "replay-cache";
const NO_FILE: &str =
    "KRB5RCACHENAME names no file: whether used tokens are noted, so that each is good once, is not known";
/// No more services are asked for than these: a keytab may have many.
const SERVICES: usize = 8;

/// The services that clients may ask the KDC for, to reach this gateway.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Services {
    /// Their principals, with the realm.
    pub(super) principals: Vec<String>,
    /// How many more there are, which are not looked at.
    pub(super) left_out: usize,
    /// The host names in them, and those that clients use by the configuration.
    pub(super) hosts: Vec<String>,
}

/// The services of a keytab: the principals `HTTP/...`, or, where there are none, `HOST/...`, which stands for them with Active
/// Directory; then the names that clients use by the configuration, in the first one's realm.
pub(super) fn services(entries: &Entries, spns: &[String]) -> Services {
    let entries = entries.as_deref().unwrap_or_default();
    let mut principals = of_kind(entries, "HTTP/");
    if principals.is_empty() {
        principals = of_kind(entries, "HOST/");
    }
    let realm =
        principals.first().and_then(|first| first.rsplit_once('@')).map(|(_, realm)| realm.to_owned());
    let mut hosts: Vec<String> = principals.iter().filter_map(|name| host_of(name)).collect();
    hosts.dedup();
    for spn in spns {
        if hosts.contains(spn) {
            continue;
        }
        hosts.push(spn.clone());
        if let Some(realm) = &realm {
            principals.push(format!("HTTP/{spn}@{realm}"));
        }
    }
    let left_out = principals.len().saturating_sub(SERVICES);
    principals.truncate(SERVICES);
    hosts.truncate(SERVICES);
    Services { principals, left_out, hosts }
}

/// The principals that begin so, in any case, each once.
fn of_kind(entries: &[KeytabEntry], kind: &str) -> Vec<String> {
    let mut principals = Vec::new();
    for KeytabEntry { principal, .. } in entries {
        let fits = principal.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind));
        if fits && !principals.contains(principal) {
            principals.push(principal.clone());
        }
    }
    // A keytab in memory has its entries backwards, and nobody minds theirs being sorted.
    principals.sort();
    principals
}

/// `proxy.example.test` of `HTTP/proxy.example.test@EXAMPLE.TEST`, in lower case.
fn host_of(principal: &str) -> Option<String> {
    let (_, rest) = principal.split_once('/')?;
    let host = rest.split(['@', ':', '/']).next().filter(|host| !host.is_empty())?;
    Some(host.to_ascii_lowercase())
}

pub(super) fn checks(entries: &Entries, keytab: Option<&Path>, account: Option<&Known>) -> Vec<Check> {
    let path = negotiate::file_meant(keytab);
    let path = path.map_or_else(|| "the keytab of KRB5_KTNAME".to_owned(), |path| path.display().to_string());
    let mut checks = match entries {
        Ok(entries) => contents(&path, entries, &kdc_probe::permitted().unwrap_or_default()),
        Err(problem) => vec![unreadable(problem)],
    };
    checks.extend(rights(keytab, account));
    checks
}

/// Whether the gateway may read the keytab, and nobody else: judged for the account that it runs as.
fn rights(keytab: Option<&Path>, known: Option<&Known>) -> Vec<Check> {
    let account = known.map(|known| &known.account);
    let mut checks = Vec::new();
    if let Some(exposure) = negotiate::exposure(keytab, account) {
        checks.push(Check::warning(KEYTAB, exposure.finding, exposure.remedy));
    }
    match known {
        Some(Known { account, how }) => {
            if let Some(withheld) = negotiate::withheld(keytab, account) {
                checks.push(Check::failed(KEYTAB, format!("{}; {how}", withheld.finding), withheld.remedy));
            }
        }
        None => checks.push(Check::skipped(
            KEYTAB,
            "as which user trackerd will run is not known (it does not run, there is no unit trackerd.service with an account of \
             its own, and no state directory): whether that user can read the keytab is not judged",
        )),
    }
    checks
}

/// The record of used tokens: by the daemon's own word, else as it would be in this environment.
pub(super) fn replay_cache(status: Option<&Status>, account: Option<&Known>) -> Check {
    if let Some(wire::ReplayCache { file, problem }) = status.map(|status| &status.replay_cache) {
        return match (problem, file) {
            (Some(problem), _) => Check::failed(REPLAY, problem.clone(), ReplayProblem::REMEDY),
            (None, Some(file)) => Check::ok(REPLAY, format!("used tokens are noted in {file}")),
            (None, None) => Check::warning(REPLAY, NO_FILE, "unset KRB5RCACHENAME for trackerd"),
        };
    }
    let ours = nix::unistd::geteuid().as_raw();
    if account.is_some_and(|known| known.account.uid != ours) {
        return Check::skipped(
            REPLAY,
            "only trackerd's own user can tell: start trackerd, or ask as that user",
        );
    }
    match negotiate::replay_file() {
        None => Check::warning(REPLAY, NO_FILE, "unset KRB5RCACHENAME for trackerd"),
        Some(file) => match negotiate::replay_problem(&file) {
            Some(problem) => Check::failed(REPLAY, problem.finding, ReplayProblem::REMEDY),
            None => Check::ok(
                REPLAY,
                format!(
                    "used tokens can be noted in {}, where trackerd has this environment",
                    file.display()
                ),
            ),
        },
    }
}

fn unreadable(problem: &KeytabProblem) -> Check {
    let finding = problem.finding();
    match problem {
        // It is for the gateway's user, which is not whoever asks.
        KeytabProblem::Unreadable { .. } if !is_root() => {
            Check::warning(KEYTAB, finding, "run trackerctl as root, or as the gateway's user")
        }
        _ => {
            let remedy = problem.remedy().unwrap_or_else(|| "export it again (ktadd, ktpass)".into());
            Check::failed(KEYTAB, finding, remedy)
        }
    }
}

/// What stands in a keytab, principal by principal. `permitted`: the encryption types that are used here; empty if unknown.
fn contents(path: &str, entries: &[KeytabEntry], permitted: &[i32]) -> Vec<Check> {
    let mut by_principal: BTreeMap<&str, BTreeMap<u32, Vec<i32>>> = BTreeMap::new();
    for KeytabEntry { principal, version, enctype: number } in entries {
        let enctypes = by_principal.entry(principal).or_default().entry(*version).or_default();
        if !enctypes.contains(number) {
            enctypes.push(*number);
            enctypes.sort_by_key(|number| (enctype::is_weak(*number), -number));
        }
    }
    let keys = entries.len();
    let mut checks = vec![Check::ok(
        KEYTAB,
        format!("{path} can be read; {keys} key{}", if keys == 1 { "" } else { "s" }),
    )];
    for (principal, versions) in &by_principal {
        checks.push(principal_check(principal, versions, permitted));
    }
    let is_service = |kind: &str| !of_kind(entries, kind).is_empty();
    if !is_service("HTTP/") && !is_service("HOST/") {
        checks.push(Check::failed(
            KEYTAB,
            "no key of a service HTTP/<name>: clients ask for that one, so that none of their tickets can be opened",
            "export the key of HTTP/<the proxy's name>@<REALM> into it (kadmin: ktadd; Active Directory: setspn -S, ktpass)",
        ));
    }
    checks
}

fn principal_check(principal: &str, versions: &BTreeMap<u32, Vec<i32>>, permitted: &[i32]) -> Check {
    let words = |enctypes: &[i32]| {
        listed(&enctypes.iter().map(|number| enctype::in_words(*number)).collect::<Vec<_>>())
    };
    let listing: Vec<String> = versions
        .iter()
        .rev()
        .map(|(version, enctypes)| format!("version {version}: {}", words(enctypes)))
        .collect();
    let finding = format!("{principal}, {}", listing.join("; "));
    let newest: &[i32] = versions.last_key_value().map_or(&[], |(_, enctypes)| enctypes);
    let usable = |number: &i32| permitted.is_empty() || permitted.contains(number);
    if !newest.iter().any(usable) {
        return Check::failed(
            KEYTAB,
            format!("{finding}: none of the newest key's encryption types is permitted on this host"),
            format!(
                "export it again with {}, or widen permitted_enctypes in krb5.conf",
                words(permitted.get(..1).unwrap_or_default())
            ),
        );
    }
    if newest.iter().all(|number| enctype::is_weak(*number)) {
        return Check::warning(
            KEYTAB,
            format!(
                "{finding}: no strong encryption type; today's KDCs and clients refuse weak ones by default"
            ),
            "enable AES for the account, give it a new password, and export the key again (ktpass -crypto AES256-SHA1)",
        );
    }
    Check::ok(KEYTAB, finding)
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn entry(principal: &str, version: u32, enctype: i32) -> KeytabEntry {
        KeytabEntry { principal: principal.into(), version, enctype }
    }

    const PROXY: &str = "HTTP/proxy.example.test@EXAMPLE.TEST";

    #[test]
    fn services_are_those_that_browsers_ask_for() {
        let entries = Ok(vec![
            entry("GATE$@EXAMPLE.TEST", 2, 18),
            entry(PROXY, 2, 18),
            entry(PROXY, 2, 17),
            entry("host/proxy.example.test@EXAMPLE.TEST", 2, 18),
        ]);
        let found = services(&entries, &["proxy.example.test".into(), "web.example.test".into()]);
        assert_eq!(found.principals, [PROXY, "HTTP/web.example.test@EXAMPLE.TEST"]);
        assert_eq!(found.hosts, ["proxy.example.test", "web.example.test"]);

        let host = Ok(vec![entry("host/Proxy.example.test@EXAMPLE.TEST", 2, 18)]);
        assert_eq!(services(&host, &[]).hosts, ["proxy.example.test"]);

        let unread = Err(KeytabProblem::Missing("/k".into()));
        let unread = services(&unread, &["proxy.example.test".into()]);
        assert_eq!((unread.principals.len(), unread.hosts.len()), (0, 1));

        let many = Ok((0..12).map(|n| entry(&format!("HTTP/p{n}@R"), 1, 18)).collect());
        let many = services(&many, &[]);
        assert_eq!((many.principals.len(), many.left_out), (SERVICES, 4));
    }

    #[test]
    fn each_principal_is_told_with_its_versions_and_enctypes() {
        let entries = [entry(PROXY, 2, 18), entry(PROXY, 3, 17), entry(PROXY, 3, 18)];
        let checks = contents("/k", &entries, &[18, 17]);
        assert!(checks.iter().all(|check| check.state == State::Ok), "{checks:?}");
        assert_eq!(checks[0].finding, "/k can be read; 3 keys");
        assert_eq!(
            checks[1].finding,
            format!(
                "{PROXY}, version 3: aes256-cts-hmac-sha1-96 and aes128-cts-hmac-sha1-96; version 2: \
                 aes256-cts-hmac-sha1-96"
            )
        );
    }

    #[test]
    fn what_is_missing_or_weak_is_named() {
        let state = |entries: &[KeytabEntry], permitted: &[i32]| {
            let checks = contents("/k", entries, permitted);
            assert!(checks.iter().all(|c| (c.state <= State::Ok) == c.remedy.is_none()), "{checks:?}");
            super::super::Report::new(checks).worst
        };
        assert_eq!(state(&[entry(PROXY, 1, 18)], &[18]), State::Ok);
        assert_eq!(state(&[entry(PROXY, 1, 18)], &[]), State::Ok);
        assert_eq!(state(&[entry("HOST/proxy@R", 1, 18)], &[]), State::Ok);
        assert_eq!(state(&[entry(PROXY, 1, 23)], &[23]), State::Warning);
        // An old strong key does not help: tickets are made with the newest.
        assert_eq!(state(&[entry(PROXY, 1, 18), entry(PROXY, 2, 23)], &[]), State::Warning);
        assert_eq!(state(&[entry(PROXY, 1, 23)], &[18, 17]), State::Failed);
        assert_eq!(state(&[entry("GATE$@R", 1, 18)], &[]), State::Failed);
    }

    #[test]
    fn problems_come_apart_into_finding_and_remedy() {
        let missing = unreadable(&KeytabProblem::Missing("/k".into()));
        assert_eq!(missing.finding, "the keytab /k does not exist");
        assert!(missing.remedy.unwrap().starts_with("export the keys of HTTP/"));
        let unusable = KeytabProblem::Unusable { path: "/k".into(), why: "Odd: very odd".into() };
        assert_eq!(unreadable(&unusable).finding, unusable.to_string());
    }
}
