//! Files as operators have them, right and wrong.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519,
};
use tempfile::TempDir;

use super::*;

struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// A pair for these names, self-signed.
    fn pair(&self, names: &[&str]) -> (PathBuf, PathBuf) {
        let (certificate, key) = pair(names);
        (self.write("chain.pem", certificate), self.write("key.pem", key))
    }
}

fn pair(names: &[&str]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "one of many");
    params.distinguished_name.push(DnType::OrganizationName, key_id(&key));
    let certificate = params.self_signed(&key).unwrap();
    (certificate_pem(&certificate), key_pem(&key))
}

fn key_id(key: &KeyPair) -> String {
    key.public_key_raw().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn certificate_pem(certificate: &rcgen::Certificate) -> String {
    pem::encode("CERTIFICATE", certificate.der()).to_string()
}

fn key_pem(key: &KeyPair) -> String {
    pem::encode("PRIVATE KEY", &key.serialize_der()).to_string()
}

fn finding(chain: &Path, key: &Path) -> Finding {
    let error = load(chain, key).unwrap_err();
    assert!(error.to_string().contains("; "), "a remedy: {error}");
    error.finding
}

#[test]
fn what_a_certificate_says() {
    let files = Files::new();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let mut params =
        CertificateParams::new(["Gw.Example.Test".into(), "*.example.test".into(), "192.0.2.7".into()])
            .unwrap();
    params.distinguished_name.push(DnType::CommonName, "gw\u{1b}[31m");
    params.not_before = rcgen::date_time_ymd(2026, 1, 2);
    params.not_after = rcgen::date_time_ymd(2027, 1, 2);
    params.serial_number = Some(vec![1, 0xAB].into());
    let made = params.self_signed(&key).unwrap();
    let (chain, key) = (files.write("c", certificate_pem(&made)), files.write("k", key_pem(&key)));
    let certificate = load(&chain, &key).unwrap();
    let facts = certificate.facts();
    assert_eq!(facts.names(), ["gw.example.test", "*.example.test", "192.0.2.7"]);
    assert!(!facts.common_name.as_ref().unwrap().contains('\u{1b}'), "{facts:?}");
    assert_eq!(facts.not_before.to_string(), "2026-01-02T00:00:00Z");
    assert_eq!(facts.not_after.to_string(), "2027-01-02T00:00:00Z");
    assert_eq!(
        (facts.key.as_str(), facts.signature.as_str(), facts.serial.as_str(), facts.self_signed),
        ("ECDSA P-384", "ecdsa-with-SHA384", "01:AB", true)
    );
    assert_eq!(facts.fingerprint.len(), 32 * 3 - 1);
    assert!(certificate.warnings().is_empty() && certificate.chain().len() == 1);
    let standing = |at: &str| certificate.standing(at.parse().unwrap());
    assert_eq!(standing("2026-01-01T23:59:59Z"), Standing::NotYet);
    assert_eq!(standing("2026-01-02T00:00:00Z"), Standing::Valid);
    assert_eq!(standing("2027-01-02T00:00:00Z"), Standing::Valid);
    assert_eq!(standing("2027-01-02T00:00:01Z"), Standing::Expired);
}

#[test]
fn a_name_is_matched_whole_or_by_its_left_most_label() {
    let files = Files::new();
    let (chain, key) = files.pair(&["gw.example.test", "*.pool.test", "192.0.2.7", "*.top"]);
    let certificate = load(&chain, &key).unwrap();
    let facts = certificate.facts();
    for name in ["gw.example.test", "GW.Example.TEST", "gw.example.test.", "a.pool.test", "A.POOL.test"] {
        assert!(facts.is_for(name), "{name}");
    }
    for name in
        ["", "example.test", "x.gw.example.test", "pool.test", ".pool.test", "a.b.pool.test", "x.top", "*"]
    {
        assert!(!facts.is_for(name), "{name}");
    }
    assert!(facts.is_for_address("192.0.2.7".parse().unwrap()));
    assert!(facts.is_for_address("::ffff:192.0.2.7".parse().unwrap()));
    assert!(!facts.is_for_address("192.0.2.8".parse().unwrap()) && !facts.is_for("192.0.2.7"));
}

#[test]
fn every_mistake_has_its_sentence() {
    let files = Files::new();
    let (chain, key) = files.pair(&["gw.test"]);
    let at = |name: &str| files.directory.path().join(name);
    assert_eq!(finding(&at("none"), &key), Finding::Missing);
    assert_eq!(finding(&chain, &at("none")), Finding::Missing);
    assert_eq!(finding(&at("chain.pem/x"), &key), Finding::Missing);
    assert_eq!(finding(files.directory.path(), &key), Finding::NoFile);
    nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(finding(&at("pipe"), &key), Finding::NoFile);
    assert_eq!(
        finding(&files.write("large", vec![b'\n'; 1 << 21]), &key),
        Finding::TooLarge { most: 1 << 20 }
    );
    assert_eq!(finding(&files.write("empty", ""), &key), Finding::NoCertificate);
    assert_eq!(finding(&key, &key), Finding::NoCertificate);
    assert_eq!(finding(&chain, &chain), Finding::NoKey);
    let whole = std::fs::read_to_string(&chain).unwrap();
    let der = load(&chain, &key).unwrap().chain()[0].to_vec();
    assert_eq!(finding(&files.write("der", der), &key), Finding::Binary);
    let half = files.write("half", &whole[..whole.len() / 2]);
    assert!(matches!(finding(&half, &key), Finding::NotPem(_)));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let second = files.write("second", format!("{whole}{garbage}"));
    assert!(matches!(finding(&second, &key), Finding::Unreadable { number: 2, .. }));
    let encrypted = files.write(
        "encrypted",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    assert_eq!(finding(&chain, &encrypted), Finding::Encrypted);
    let (_, other) = pair(&["gw.test"]);
    assert_eq!(finding(&chain, &files.write("other", other)), Finding::OtherKey { chain: chain.clone() });
    let (another, _) = pair(&["other.test"]);
    assert_eq!(
        finding(&files.write("wrong", format!("{another}{whole}")), &key),
        Finding::NotFirst { position: 2 }
    );
    let many = files.write("many", whole.repeat(33));
    assert!(matches!(finding(&many, &key), Finding::NotPem(_)));
}

#[test]
fn a_key_never_stands_in_an_error() {
    let files = Files::new();
    let (chain, key) = files.pair(&["gw.test"]);
    let text = std::fs::read_to_string(&key).unwrap();
    let secret = text.lines().nth(1).unwrap();
    for broken in [
        text.replace("-----END PRIVATE KEY-----", ""),
        text.replace("-----BEGIN PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY "),
        text.replace(secret, &secret.replace('M', "!")),
        text.replace(secret, &secret[1..]),
    ] {
        let error = load(&chain, &files.write("broken", &broken)).unwrap_err();
        assert!(!error.to_string().contains(&secret[4..12]), "{error}");
    }
}

#[test]
fn what_is_probably_not_meant_is_told_and_used() {
    let files = Files::new();
    let (chain, key) = files.pair(&["gw.test"]);
    for (mode, is_told) in [(0o600, false), (0o640, false), (0o644, true), (0o660, true), (0o400, false)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(!load(&chain, &key).unwrap().warnings().is_empty(), is_told, "{mode:o}");
    }
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let whole = std::fs::read_to_string(&chain).unwrap();
    let (stray, _) = pair(&["other.test"]);
    let certificate = load(&files.write("stray", format!("{whole}{stray}")), &key).unwrap();
    assert!(certificate.warnings()[0].contains("out of order"), "{:?}", certificate.warnings());
}

#[test]
fn a_chain_is_shown_as_it_stands_and_both_may_be_in_one_file() {
    let files = Files::new();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    root.distinguished_name.push(DnType::CommonName, "Root");
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let own = CertificateParams::new(["gw.test".to_owned()]).unwrap().signed_by(&key, &root).unwrap();
    let one = files
        .write("one.pem", [key_pem(&key), certificate_pem(&own), certificate_pem(root.as_ref())].concat());
    let certificate = load(&one, &one).unwrap();
    assert_eq!(certificate.chain().len(), 2);
    assert!(certificate.warnings().is_empty());
    let facts = certificate.facts();
    assert!(!facts.self_signed && facts.issuer.contains("Root"), "{facts:?}");
    assert_eq!((facts.key.as_str(), facts.signature.as_str()), ("Ed25519", "ecdsa-with-SHA256"));
}
