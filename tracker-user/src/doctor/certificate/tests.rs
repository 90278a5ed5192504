//! What is found of certificates that are made here, good and bad.

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, IsCa, KeyPair};

use super::super::State;
use super::*;

fn now() -> Timestamp {
    "2030-06-01T12:00:00Z".parse().unwrap()
}

fn params(name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(2030, 5, 1);
    params.not_after = rcgen::date_time_ymd(2031, 5, 1);
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// A root, an authority below it, and a certificate that this one has issued.
struct Family {
    root: CertificateDer<'static>,
    between: CertificateDer<'static>,
    own: CertificateDer<'static>,
}

impl Family {
    fn new(own: &CertificateParams) -> Self {
        let root = CertifiedIssuer::self_signed(authority("root"), KeyPair::generate().unwrap()).unwrap();
        let between =
            CertifiedIssuer::signed_by(authority("between"), KeyPair::generate().unwrap(), &root).unwrap();
        let own = own.signed_by(&KeyPair::generate().unwrap(), &between).unwrap();
        Self { root: root.der().clone(), between: between.der().clone(), own: own.der().clone() }
    }
}

fn chain(ders: &[&CertificateDer<'static>]) -> Chain {
    Chain::new("chain.pem".into(), true, ders.iter().map(|der| (*der).clone()).collect()).unwrap()
}

fn trusted(chain: &Chain, roots: &[&CertificateDer<'static>]) -> Check {
    let ders = roots.iter().map(|der| (*der).clone()).collect();
    trust::check(chain, &Roots::of("/store.pem", ders), now())
}

/// The state of the only check, which says these words and has a remedy where it is not well.
fn is(checks: &[Check], state: State, words: &str) {
    let [check] = checks else { panic!("{checks:?}") };
    assert!(check.state == state && check.finding.contains(words), "{words}: {check:?}");
    assert_eq!(check.remedy.is_some(), matches!(state, State::Warning | State::Failed), "{check:?}");
}

#[test]
fn chains_are_told_apart_by_where_they_end() {
    let family = Family::new(&params("own", &["proxy.test"]));
    let Family { root, between, own } = &family;
    let whole = chain(&[own, between]);
    is(&[trusted(&whole, &[root])], State::Ok, "leads to a root that this system trusts (/store.pem)");
    is(&[trusted(&chain(&[own, between, root]), &[root])], State::Ok, "leads to a root");
    is(&[trusted(&whole, &[])], State::Warning, "leads to CN=root, a root that this system does not trust");
    is(&[trusted(&chain(&[own, between, root]), &[])], State::Warning, "leads to CN=root, a root that");
    is(
        &[trusted(&chain(&[own]), &[root])],
        State::Warning,
        "CN=between, whose certificate is neither in the file",
    );
    is(&[trusted(&chain(&[own]), &[own])], State::Ok, "itself among what this system trusts");
    // It has been issued for authorities, not for servers.
    is(&[trusted(&chain(&[between]), &[root])], State::Failed, "it is the certificate of an authority");
    let alone = params("alone", &["proxy.test"]).self_signed(&KeyPair::generate().unwrap()).unwrap();
    let alone = chain(&[alone.der()]);
    let check = trusted(&alone, &[root]);
    assert!(check.remedy.as_ref().unwrap().contains(&alone.own().unwrap().fingerprint), "{check:?}");
    is(&[check], State::Warning, "self-signed");
    let nowhere = trust::check(&alone, &Roots::none(), now());
    is(&[nowhere], State::Skipped, "no store of roots");
}

#[test]
fn an_intermediate_that_is_missing_is_known_by_where_it_can_be_had() {
    let mut with_issuer = params("own", &["proxy.test"]);
    // AuthorityInfoAccess: one caIssuers, http://a.test/
    let url = b"http://a.test/";
    let mut access = vec![0x30, 28, 0x30, 26, 0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 2, 0x86, url.len() as u8];
    access.extend_from_slice(url);
    with_issuer
        .custom_extensions
        .push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], access));
    let family = Family::new(&with_issuer);
    let found = trusted(&chain(&[&family.own]), &[&family.root]);
    is(
        &[found],
        State::Warning,
        "an intermediate certificate is missing in chain.pem: its issuer, CN=between",
    );
    is(&[trusted(&chain(&[&family.own, &family.between]), &[&family.root])], State::Ok, "leads to");
}

#[test]
fn dates_are_judged_by_the_days_that_are_left() {
    let family = Family::new(&params("own", &["proxy.test"]));
    let chain = chain(&[&family.own]);
    let end: Timestamp = "2031-05-01T00:00:00Z".parse().unwrap();
    let at = |days: i64| judge::dates(&chain, end - SignedDuration::from_hours(24 * days));
    is(&at(100), State::Ok, "for proxy.test, issued by CN=between, valid for 100 days more");
    is(&at(31), State::Ok, "31 days");
    is(&at(29), State::Warning, "expires in 29 days");
    is(&at(6), State::Warning, "expires in 6 days, on 2031-05-01T00:00:00Z; after that no client");
    is(&at(0), State::Warning, "expires in less than a day");
    is(&at(-2), State::Failed, "expired 2 days ago");
    is(&judge::dates(&chain, "2030-04-30T23:59:59Z".parse().unwrap()), State::Failed, "is not valid before");
    // Of one that is good for six days, two are little.
    let mut short = params("own", &["proxy.test"]);
    short.not_after = rcgen::date_time_ymd(2030, 5, 7);
    let short = super::tests::chain(&[&Family::new(&short).own]);
    let at = |day: &str| judge::dates(&short, format!("2030-05-{day}T00:00:00Z").parse().unwrap());
    is(&at("02"), State::Ok, "5 days");
    is(&at("06"), State::Warning, "expires in 1 day,");
}

#[test]
fn an_intermediate_that_has_expired_is_told_of() {
    let mut own = params("own", &["proxy.test"]);
    own.not_after = rcgen::date_time_ymd(2032, 1, 1);
    let family = Family::new(&own);
    let chain = chain(&[&family.own, &family.between]);
    let later = "2031-06-01T00:00:00Z".parse().unwrap();
    let found = judge::dates(&chain, later);
    assert_eq!(found[0].state, State::Ok, "{found:?}");
    is(&found[1..], State::Failed, "certificate 2 in chain.pem, an intermediate, expired");
}

#[test]
fn names_are_judged_by_what_clients_use() {
    let family = Family::new(&params("own", &["proxy.test", "*.wide.test", "192.0.2.1"]));
    let chains = [chain(&[&family.own])];
    let judged = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        judge::names(&names, &chains)
    };
    is(
        &judged(&["proxy.test", "a.wide.test", "192.0.2.1"]),
        State::Ok,
        "proxy.test, a.wide.test and 192.0.2.1",
    );
    is(&judged(&["proxy.test", "other.test"]), State::Warning, "call the gateway other.test (");
    is(&judged(&["other.test", "192.0.2.2"]), State::Failed, "other.test and 192.0.2.2");
    is(&judged(&[]), State::Skipped, "what clients call the gateway is not known");
    let nameless = [chain(&[&Family::new(&params("proxy.test", &[])).own])];
    is(&judge::names(&["proxy.test".into()], &nameless), State::Failed, "no name in it");
    // Another certificate may be for the rest.
    let second = chain(&[&Family::new(&params("second", &["other.test"])).own]);
    let both = [chain(&[&family.own]), second];
    is(
        &judge::names(&["proxy.test".into(), "other.test".into()], &both),
        State::Ok,
        "proxy.test and other.test",
    );
    assert_eq!(judge::names(&["proxy.test".into()], &[]), []);
}

#[test]
fn weak_keys_and_signatures_are_told_for_the_whole_chain() {
    let family = Family::new(&params("own", &["proxy.test"]));
    let mut whole = chain(&[&family.own, &family.between]);
    assert_eq!(judge::strength(&whole), []);
    whole.facts[1].key = "RSA 1024".into();
    is(&judge::strength(&whole), State::Failed, "certificate 2 in chain.pem has a weak key (RSA 1024)");
    whole.facts[1].key = "RSA 2048".into();
    for weak in ["sha1WithRSAEncryption", "RSA-SHA1", "1.2.840.10045.4.1", "md5WithRSAEncryption"] {
        whole.facts[0].signature = weak.into();
        is(&judge::strength(&whole), State::Failed, "chain.pem has a weak signature");
    }
    whole.facts[0].self_signed = true;
    assert_eq!(judge::strength(&whole), []);
}

#[test]
fn what_is_shown_is_compared_with_the_files() {
    let family = Family::new(&params("own", &["proxy.test"]));
    let seen = |ders: &[&CertificateDer<'static>]| Ok(chain(ders));
    let files = [chain(&[&family.own, &family.between])];
    let judged = |seen, files: &[Chain], is_own| vec![compare("here", seen, files, is_own).0];
    is(
        &judged(seen(&[&family.own, &family.between]), &files, false),
        State::Ok,
        "shows what is in the files (",
    );
    is(&judged(seen(&[&family.own]), &files, false), State::Ok, "with another chain");
    is(&judged(seen(&[&family.between]), &files, false), State::Failed, "shows another certificate");
    is(&judged(seen(&[&family.own]), &[], true), State::Ok, "the gateway's own certificate");
    is(&judged(Err(Unseen::Balanced), &files, false), State::Skipped, "only a balancer");
    is(&judged(Err(Unseen::No("refused".into())), &files, false), State::Failed, "under TLS: refused");
}

/// As a certificate that signs itself by that names its signature.
fn ed25519() -> CertificateFacts {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let made = params("own", &["proxy.test"]).self_signed(&key).unwrap();
    chain(&[made.der()]).facts.remove(0)
}

#[test]
fn bindings_that_cannot_be_had_are_told_of_where_they_are_required() {
    let mut config = Config::default();
    config.proxy.listen = vec!["127.0.0.1:3128".parse().unwrap()];
    let mut own = chain(&[&Family::new(&params("own", &["proxy.test"])).own]);
    own.facts[0] = ed25519();
    let chains = [own];
    assert_eq!(bindings(&config, &chains), []);
    config.kerberos.channel_bindings = ChannelBindings::Require;
    is(&bindings(&config, &chains), State::Failed, "nobody can log in");
    config.proxy.listen = vec!["0.0.0.0:3128".parse().unwrap()];
    is(&bindings(&config, &[]), State::Warning, "says nothing of 0.0.0.0:3128");
}

#[test]
fn what_has_no_certificate_is_not_looked_at() {
    let mut config = Config::default();
    config.portal.https = None;
    let daemon = super::super::Daemon::Silent("it is away".into());
    let mut case = Case { path: None, config, problem: None, daemon };
    is(&checks(&case, &[], None), State::Skipped, "nothing listens under TLS");
    let files =
        "[portal]\nhttps = \"\"\n[tls]\ncertificate = \"/nowhere/chain.pem\"\nkey = \"/nowhere/key.pem\"\n";
    case.config = Config::parse(files, "test").unwrap();
    is(&checks(&case, &[], None), State::Failed, "/nowhere/chain.pem does not exist");
}

#[test]
fn a_key_that_the_gateway_cannot_read_is_told_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let owner = std::fs::metadata(file.path()).unwrap().uid();
    let known = |uid| Known {
        account: crate::auth::kerberos::negotiate::Account { uid, groups: Vec::new() },
        how: "as which trackerd runs",
    };
    assert_eq!(withheld(file.path(), &known(owner)), None);
    let check = withheld(file.path(), &known(owner + 4711)).unwrap();
    is(&[check], State::Failed, "as which trackerd runs");
}

#[test]
fn the_name_that_people_are_led_to_is_looked_at() {
    let of = |name: &str| chain(&[&Family::new(&params(name, &[name])).own]);
    let found = |chains: &[Chain]| Vec::from_iter(judge::pages("gate", 4081, chains));
    is(&found(&[of("proxy.test")]), State::Warning, "https://gate:4081/");
    assert_eq!(found(&[of("proxy.test"), of("gate")]), []);
    assert_eq!(found(&[]), [], "what is shown is not known");
}
