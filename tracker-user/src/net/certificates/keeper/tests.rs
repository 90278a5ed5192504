//! What is shown while files change; time is an argument.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use tempfile::TempDir;

use super::*;
use crate::net::testing::{pem_pair, pem_pair_until};

struct Lab {
    directory: TempDir,
    now: Timestamp,
    boot: BootTime,
}

impl Lab {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), now: wall_now(), boot: boot_now() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn pair(&self, name: &str) -> Pair {
        Pair { chain: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) }
    }

    /// A pair of files for this host.
    fn write(&self, name: &str) -> Pair {
        let pair = self.pair(name);
        write(&pair, &pem_pair(&[name]));
        pair
    }

    fn own(&self) -> Own {
        Own {
            directory: self.directory.path().into(),
            names: Arc::new(|| vec!["gw.test".into(), "192.0.2.7".into()]),
        }
    }

    fn keeper(&self, wanted: &[&Pair]) -> Keeper {
        Keeper::start(wanted.iter().copied().cloned().collect(), self.own()).unwrap()
    }

    /// Looks are a second apart.
    fn looks(&mut self, keeper: &Keeper, count: u32) {
        for _ in 0..count {
            self.later(Duration::from_secs(1));
            keeper.look_at(self.now, self.boot);
        }
    }

    fn later(&mut self, span: Duration) {
        self.now += span;
        self.boot = self.boot.after(span);
    }
}

fn write(pair: &Pair, (chain, key): &(String, String)) {
    replace(&pair.chain, chain);
    replace(&pair.key, key);
}

/// As it is done where care is taken: aside, then renamed.
fn replace(path: &Path, content: &str) {
    let aside = path.with_extension("aside");
    std::fs::write(&aside, content).unwrap();
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(aside, path).unwrap();
}

fn fingerprints(keeper: &Keeper) -> Vec<String> {
    keeper.shown().into_iter().map(|shown| shown.facts.fingerprint).collect()
}

fn problem(keeper: &Keeper) -> Option<String> {
    let of_files = keeper.shown().into_iter().find_map(|shown| shown.problem);
    of_files.or_else(|| keeper.problem()).map(|problem| problem.text)
}

#[test]
fn ones_own_certificate_is_made_once_and_stays() {
    let mut lab = Lab::new();
    let keeper = lab.keeper(&[]);
    let shown = keeper.shown().remove(0);
    assert_eq!(shown.facts.names(), ["gw.test", "192.0.2.7"]);
    assert!(shown.facts.self_signed && shown.files.is_none() && shown.problem.is_none());
    assert_eq!((shown.standing, shown.facts.key.as_str()), (Standing::Valid, "ECDSA P-256"));
    let life = shown.facts.not_after.duration_since(lab.now).as_hours() / 24;
    assert!((364..=366).contains(&life), "{life} days, at most 398 with what lies before");
    let path = lab.path(own::FILE);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!lab.path(own::ASIDE).exists() && keeper.warnings().is_empty());
    // The next run, with other names: the same one, and others may not read it any more.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let first = fingerprints(&keeper);
    let own = Own { names: Arc::new(|| vec!["other.test".into()]), ..lab.own() };
    let keeper = Keeper::start(Vec::new(), own).unwrap();
    assert_eq!(fingerprints(&keeper), first);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // Renewed thirty days before its end, not before.
    lab.later(Duration::from_secs(333 * 86_400));
    lab.looks(&keeper, 2);
    assert_eq!(fingerprints(&keeper), first);
    lab.later(Duration::from_secs(3 * 86_400));
    lab.looks(&keeper, 2);
    let second = fingerprints(&keeper);
    assert_ne!(second, first);
    assert_eq!(fingerprints(&lab.keeper(&[])), second);
    // What is damaged is made anew.
    std::fs::write(&path, "nothing").unwrap();
    assert_ne!(fingerprints(&lab.keeper(&[])), second);
}

#[test]
fn ones_own_certificate_that_cannot_be_kept_is_told() {
    let mut lab = Lab::new();
    let keeper = lab.keeper(&[]);
    let first = fingerprints(&keeper);
    std::fs::create_dir(lab.path(own::ASIDE)).unwrap();
    lab.later(Duration::from_secs(340 * 86_400));
    lab.looks(&keeper, 12);
    assert_eq!(fingerprints(&keeper), first);
    assert!(problem(&keeper).unwrap().contains("cannot be kept"), "{:?}", problem(&keeper));
    std::fs::remove_dir(lab.path(own::ASIDE)).unwrap();
    lab.looks(&keeper, 31);
    assert_ne!(fingerprints(&keeper), first);
    assert_eq!(problem(&keeper), None);
}

#[test]
fn a_changed_pair_is_shown_as_soon_as_it_has_settled() {
    let mut lab = Lab::new();
    let pair = lab.write("gw.test");
    let keeper = lab.keeper(&[&pair]);
    let first = fingerprints(&keeper);
    lab.looks(&keeper, 60);
    assert_eq!((fingerprints(&keeper), keeper.counts()), (first.clone(), (0, 0)));
    lab.write("gw.test");
    lab.looks(&keeper, 2);
    assert_ne!(fingerprints(&keeper), first);
    assert_eq!((problem(&keeper), keeper.counts()), (None, (1, 0)));
}

/// Certificate first, key later: nothing is said meanwhile, unless it stays so.
#[test]
fn a_pair_that_is_half_written_does_not_count_yet() {
    let mut lab = Lab::new();
    let pair = lab.write("gw.test");
    let keeper = lab.keeper(&[&pair]);
    let first = fingerprints(&keeper);
    let (chain, key) = pem_pair(&["gw.test"]);
    replace(&pair.chain, &chain);
    lab.looks(&keeper, 8);
    assert_eq!((fingerprints(&keeper), problem(&keeper)), (first.clone(), None));
    replace(&pair.key, &key);
    lab.looks(&keeper, 2);
    assert_ne!(fingerprints(&keeper), first);
    assert_eq!((problem(&keeper), keeper.counts()), (None, (1, 0)));
    // Written in place, in pieces.
    let second = fingerprints(&keeper);
    let (chain, key) = pem_pair(&["gw.test"]);
    std::fs::write(&pair.chain, &chain[..chain.len() / 2]).unwrap();
    lab.looks(&keeper, 3);
    std::fs::write(&pair.chain, &chain).unwrap();
    lab.looks(&keeper, 20);
    assert_eq!(fingerprints(&keeper), second);
    let told = problem(&keeper).unwrap();
    assert!(told.contains("is not the one of the certificate"), "{told}");
    assert!(keeper.warnings()[0].contains(&told) && keeper.counts() == (1, 1));
    std::fs::write(&pair.key, &key).unwrap();
    lab.looks(&keeper, 2);
    assert_ne!(fingerprints(&keeper), second);
    assert_eq!((problem(&keeper), keeper.counts(), keeper.warnings()), (None, (2, 1), Vec::new()));
}

#[test]
fn what_is_asked_for_is_told_at_once() {
    let lab = Lab::new();
    let pair = lab.write("gw.test");
    let keeper = lab.keeper(&[&pair]);
    let first = fingerprints(&keeper);
    std::fs::remove_file(&pair.key).unwrap();
    keeper.reread();
    assert!(problem(&keeper).unwrap().contains("does not exist"));
    keeper.reread();
    assert_eq!((fingerprints(&keeper), keeper.counts()), (first.clone(), (0, 1)), "told once");
    lab.write("gw.test");
    keeper.reread();
    assert_ne!(fingerprints(&keeper), first);
    assert_eq!(problem(&keeper), None);
}

/// As certbot does it: links in one directory to files in another.
#[test]
fn links_that_are_turned_are_followed() {
    let mut lab = Lab::new();
    let live = lab.pair("live");
    let turn = |version: &str| {
        let to = lab.write(version);
        for (link, to) in [(&live.chain, to.chain), (&live.key, to.key)] {
            let aside = link.with_extension("aside");
            symlink(to, &aside).unwrap();
            std::fs::rename(aside, link).unwrap();
        }
    };
    turn("one.test");
    let keeper = lab.keeper(&[&live]);
    turn("two.test");
    lab.looks(&keeper, 2);
    assert_eq!(keeper.shown()[0].facts.names(), ["two.test"]);
}

#[test]
fn what_has_expired_takes_no_place_of_what_is_valid() {
    let mut lab = Lab::new();
    let pair = lab.write("gw.test");
    let keeper = lab.keeper(&[&pair]);
    let first = fingerprints(&keeper);
    write(&pair, &pem_pair_until(&["gw.test"], 2020));
    lab.looks(&keeper, 15);
    assert_eq!(fingerprints(&keeper), first);
    assert!(problem(&keeper).unwrap().contains("expired on 2020-01-01"), "{:?}", problem(&keeper));
    // At start it is better than nothing, and replaces its like.
    let keeper = lab.keeper(&[&pair]);
    assert!(keeper.warnings()[0].contains("expired on 2020-01-01"));
    write(&pair, &pem_pair_until(&["gw.test"], 2021));
    lab.looks(&keeper, 2);
    assert!(keeper.warnings()[0].contains("expired on 2021-01-01"));
}

#[test]
fn others_are_shown_when_all_of_them_can_be() {
    let mut lab = Lab::new();
    let (a, b) = (lab.write("a.test"), lab.write("b.test"));
    let keeper = lab.keeper(&[&a]);
    let names = |keeper: &Keeper| -> Vec<String> {
        keeper.shown().into_iter().flat_map(|shown| shown.facts.names()).collect()
    };
    keeper.want(vec![b.clone(), a.clone()]);
    lab.looks(&keeper, 2);
    assert_eq!(names(&keeper), ["b.test", "a.test"]);
    let missing = lab.pair("c.test");
    keeper.want(vec![missing.clone(), a.clone()]);
    keeper.reread();
    assert_eq!(names(&keeper), ["b.test", "a.test"]);
    assert!(keeper.problem().unwrap().text.contains("c.test.pem does not exist"));
    lab.write("c.test");
    lab.looks(&keeper, 3);
    assert_eq!((names(&keeper), keeper.problem()), (vec!["c.test".into(), "a.test".into()], None));
    // One of several is changed, another is bad: the first counts.
    let before = fingerprints(&keeper);
    std::fs::write(&a.chain, "nothing").unwrap();
    lab.write("c.test");
    lab.looks(&keeper, 15);
    let after = fingerprints(&keeper);
    assert!(before[0] != after[0] && before[1] == after[1] && problem(&keeper).is_some());
    // None at all is the gateway's own.
    keeper.want(Vec::new());
    keeper.reread();
    assert_eq!((names(&keeper), problem(&keeper)), (vec!["gw.test".into(), "192.0.2.7".into()], None));
    keeper.want(vec![b]);
    keeper.reread();
    assert_eq!(names(&keeper), ["b.test"]);
}

#[test]
fn an_end_that_is_near_is_spoken_of() {
    let lab = Lab::new();
    let pair = lab.pair("gw.test");
    write(&pair, &pem_pair_until(&["gw.test"], 2030));
    let keeper = lab.keeper(&[&pair]);
    for (at, is_told) in [("2029-12-17T00:00:00Z", false), ("2029-12-19T00:00:00Z", true)] {
        let warnings = keeper.warnings_at(at.parse().unwrap());
        assert_eq!(
            warnings.iter().any(|text| text.contains("expires on 2030-01-01")),
            is_told,
            "{warnings:?}"
        );
    }
}

#[test]
fn a_bad_certificate_is_no_start() {
    let lab = Lab::new();
    let pair = lab.write("gw.test");
    std::fs::write(&pair.key, "nothing").unwrap();
    let error = Keeper::start(vec![pair], lab.own()).err().unwrap();
    assert!(error.to_string().contains("gw.test.key holds no private key; "), "{error}");
    let own = Own { directory: lab.path("nowhere"), ..lab.own() };
    assert!(Keeper::start(Vec::new(), own).err().unwrap().to_string().contains("cannot be kept"));
}
