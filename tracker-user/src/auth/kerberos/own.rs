//! Which of the keytab's services stands for this gateway where a KDC has to prove itself.

use super::credential::KeytabEntry;

/// So many are tried: a keytab may have names in it that the KDC does not know any more.
const MOST: usize = 4;

/// The principals of the keytab whose keys a KDC of `realm` must know, the likeliest first: those of the realm itself, else
/// those of `default`, which trusts it, else any; among them the service that browsers ask for, then other services, then
/// the machine's account.
#[must_use]
pub fn own_services<'a>(entries: &'a [KeytabEntry], realm: &str, default: Option<&str>) -> Vec<&'a str> {
    let nearness = |principal: &str| match principal.rsplit_once('@') {
        Some((_, theirs)) if theirs == realm => 0,
        Some((_, theirs)) if Some(theirs) == default => 1,
        _ => 2,
    };
    let kind = |principal: &str| {
        let begins =
            |kind: &str| principal.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind));
        match principal.contains('/') {
            _ if begins("HTTP/") => 0,
            _ if begins("host/") => 1,
            true => 2,
            false => 3,
        }
    };
    let mut ranked: Vec<(u8, u8, &str)> = entries
        .iter()
        .map(|entry| (nearness(&entry.principal), kind(&entry.principal), entry.principal.as_str()))
        .collect();
    ranked.sort_unstable();
    ranked.dedup();
    let nearest = ranked.first().map_or(0, |(nearness, ..)| *nearness);
    ranked.retain(|(nearness, ..)| *nearness == nearest);
    ranked.into_iter().take(MOST).map(|(.., principal)| principal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_realms_own_service_comes_first_and_other_realms_only_without_one() {
        let entries: Vec<KeytabEntry> = [
            "GATE$@A.TEST",
            "host/proxy@A.TEST",
            "HTTP/proxy@A.TEST",
            "HTTP/proxy@A.TEST",
            "HTTP/proxy@B.TEST",
            "cifs/proxy@A.TEST",
            "HTTP/proxy@a.test",
        ]
        .into_iter()
        .map(|principal| KeytabEntry { principal: principal.into(), version: 1, enctype: 18 })
        .collect();
        let own = |realm, default| own_services(&entries, realm, default);
        let of_a = ["HTTP/proxy@A.TEST", "host/proxy@A.TEST", "cifs/proxy@A.TEST", "GATE$@A.TEST"];
        assert_eq!(own("A.TEST", Some("B.TEST")), of_a);
        assert_eq!(own("B.TEST", Some("A.TEST")), ["HTTP/proxy@B.TEST"]);
        assert_eq!(own("C.TEST", Some("A.TEST")), of_a, "a realm that is trusted");
        assert_eq!(own("C.TEST", None).len(), MOST);
        assert_eq!(own_services(&[], "A.TEST", None), [""; 0]);
    }
}
