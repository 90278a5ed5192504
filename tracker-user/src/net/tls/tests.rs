//! Handshakes with a real client: which certificate it gets, and what is resumed.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use ring::digest;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12Resumption};
use rustls::client::{Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, HandshakeKind, NamedGroup, RootCertStore, SignatureScheme, SupportedProtocolVersion,
    version,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::*;
use crate::net::testing::{accepted, connect_by, of_der, server};
use crate::net::{ClientStream, Connections};

type Far = tokio_rustls::client::TlsStream<TcpStream>;

/// Both ends of a connection by this version, and the certificate that was shown on it.
async fn pair(version: &'static SupportedProtocolVersion) -> (ClientStream, Far) {
    let (server, certificate) = server();
    let (near, far) = accepted(&Arc::new(Connections::new(None))).await;
    let handshake = near.secure(&server).unwrap();
    let (near, far) = tokio::join!(handshake, connect_by(far, &certificate, version));
    (near.unwrap(), far)
}

#[tokio::test]
async fn both_ends_name_the_channel_alike() {
    for (version, has_exporter) in [(&version::TLS13, true), (&version::TLS12, false)] {
        let (near, far) = pair(version).await;
        let session = far.get_ref().1;
        let shown = &session.peer_certificates().unwrap()[0];
        assert_eq!(binding_of(&near), end_point_of(shown));
        let exported =
            session.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).unwrap();
        let exporter = has_exporter.then(|| [&b"tls-exporter:"[..], &exported].concat());
        let found = near.channel_binding(ChannelBindingType::TlsExporter);
        assert_eq!(found.map(|found| found.application_data().to_vec()), exporter);
        assert!(!near.is_resumed());
    }
}

#[tokio::test]
async fn a_plain_channel_has_no_name() {
    let (near, _far) = accepted(&Arc::new(Connections::new(None))).await;
    for kind in [ChannelBindingType::TlsServerEndPoint, ChannelBindingType::TlsExporter] {
        assert_eq!(near.channel_binding(kind), None);
    }
}

fn binding_of(near: &ClientStream) -> Vec<u8> {
    let found = near.channel_binding(ChannelBindingType::TlsServerEndPoint).unwrap();
    found.application_data().to_vec()
}

fn end_point_of(certificate: &CertificateDer<'_>) -> Vec<u8> {
    [b"tls-server-end-point:", digest::digest(&digest::SHA256, certificate).as_ref()].concat()
}

fn certificate_by(names: &[&str], algorithm: &'static SignatureAlgorithm) -> Certificate {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let made = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    of_der(made.der(), &key)
}

fn certificate(names: &[&str]) -> Certificate {
    certificate_by(names, &rcgen::PKCS_ECDSA_P256_SHA256)
}

/// A client that trusts these, and keeps the sessions of all hosts as if they were one's: it offers them to any.
fn client(
    trusted: &[&Certificate],
    version: &'static SupportedProtocolVersion,
    tickets: bool,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.chain()[0].clone()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let kind = if tickets { Tls12Resumption::SessionIdOrTickets } else { Tls12Resumption::SessionIdOnly };
    config.resumption =
        Resumption::store(Arc::new(OneForAll(ClientSessionMemoryCache::new(32)))).tls12_resumption(kind);
    Arc::new(config)
}

/// A handshake, after which both ends have heard each other.
async fn meet(server: &TlsServer, client: &Arc<ClientConfig>, name: &'static str) -> (ClientStream, Far) {
    let (near, far) = accepted(&Arc::new(Connections::new(None))).await;
    let handshake = near.secure(server).unwrap();
    let connect = TlsConnector::from(Arc::clone(client)).connect(ServerName::try_from(name).unwrap(), far);
    let (near, far) = tokio::join!(handshake, connect);
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    near.write_all(b"x").await.unwrap();
    near.flush().await.unwrap();
    // Tickets come with it.
    far.read_exact(&mut [0; 1]).await.unwrap();
    (near, far)
}

/// Which of these was shown, and whether the session was resumed; both ends agree on it.
fn outcome(near: &ClientStream, far: &Far, all: &[&Certificate]) -> (usize, bool) {
    let session = far.get_ref().1;
    let shown = &session.peer_certificates().unwrap()[0];
    assert_eq!(binding_of(near), end_point_of(shown));
    let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
    assert_eq!(resumed, near.is_resumed());
    (all.iter().position(|one| one.chain()[0] == *shown).unwrap(), resumed)
}

#[tokio::test]
async fn the_name_chooses_the_certificate() {
    let first = certificate(&["first.test", "192.0.2.7"]);
    let second = certificate(&["second.test", "*.pool.test"]);
    let all = [&first, &second];
    let server = TlsServer::new(&[first.clone(), second.clone()]).unwrap();
    for version in [&version::TLS13, &version::TLS12] {
        for (name, expected) in
            [("first.test", 0), ("second.test", 1), ("SECOND.test", 1), ("a.pool.test", 1), ("192.0.2.7", 0)]
        {
            let (near, far) = meet(&server, &client(&all, version, true), name).await;
            assert_eq!(outcome(&near, &far, &all), (expected, false), "{name}");
        }
    }
    // A name of nobody's gets the first; this client does not take it.
    let (near, far) = accepted(&Arc::new(Connections::new(None))).await;
    let handshake = near.secure(&server).unwrap();
    let connect = TlsConnector::from(client(&all, &version::TLS13, true))
        .connect(ServerName::try_from("other.test").unwrap(), far);
    let (near, far) = tokio::join!(handshake, connect);
    assert!(far.is_err());
    assert!(matches!(near.unwrap_err(), HandshakeError::Refused(_)));
}

#[tokio::test]
async fn of_two_for_one_name_a_client_gets_one_that_it_can_use() {
    let (large, usual) = (certificate_by(&["gw.test"], &rcgen::PKCS_ED25519), certificate(&["gw.test"]));
    let all = [&large, &usual];
    let server = TlsServer::new(&[large.clone(), usual.clone()]).unwrap();
    let (near, far) = meet_any(&server, &client(&all, &version::TLS13, true)).await;
    assert!(far.get_ref().1.peer_certificates().unwrap()[0] == large.chain()[0] && !near.is_resumed());
    // One that has no Ed25519.
    let mut provider = default_provider();
    let known = provider.signature_verification_algorithms;
    let p256 = known.mapping.iter().find(|(scheme, _)| *scheme == SignatureScheme::ECDSA_NISTP256_SHA256);
    let p256 = std::slice::from_ref(p256.unwrap());
    provider.signature_verification_algorithms = WebPkiSupportedAlgorithms { all: p256[0].1, mapping: p256 };
    let mut roots = RootCertStore::empty();
    roots.add(usual.chain()[0].clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (near, far) = meet(&server, &Arc::new(config), "gw.test").await;
    assert_eq!(outcome(&near, &far, &all), (1, false));
}

/// The same without a look at the binding: not every certificate has one.
async fn meet_any(server: &TlsServer, client: &Arc<ClientConfig>) -> (ClientStream, Far) {
    meet(server, client, "gw.test").await
}

/// A session is resumed under its own certificate or not at all: with tickets, with session numbers, by either version.
#[tokio::test]
async fn a_session_is_never_resumed_under_another_certificate() {
    for (version, tickets) in [(&version::TLS13, true), (&version::TLS12, true), (&version::TLS12, false)] {
        let (first, second) = (certificate(&["a.test"]), certificate(&["b.test", "a.test"]));
        let all = [&first, &second];
        let server = TlsServer::new(&[first.clone(), second.clone()]).unwrap();
        let config = client(&all, version, tickets);
        let say = async |name| {
            let (near, far) = meet(&server, &config, name).await;
            outcome(&near, &far, &all)
        };
        assert_eq!(say("a.test").await, (0, false));
        assert_eq!(say("a.test").await, (0, true));
        // It offers the other's session.
        assert_eq!(say("b.test").await, (1, false));
        assert_eq!(say("b.test").await, (1, true));
        // The same pair, read again, goes on with its sessions; a new one does not take them over.
        server.show(&[second.clone(), first.clone()]).unwrap();
        assert_eq!(say("b.test").await, (1, true));
        server.show(&[first.clone()]).unwrap();
        assert_eq!(say("a.test").await, (0, false));
        assert_eq!(say("a.test").await, (0, true));
        server.show(&[second.clone()]).unwrap();
        assert_eq!(say("a.test").await, (1, false));
        assert!(server.show(&[]).is_err());
        assert_eq!(say("a.test").await, (1, true), "nothing has changed");
    }
}

/// Keeps sessions without asking whose they are.
#[derive(Debug)]
struct OneForAll(ClientSessionMemoryCache);

fn any() -> ServerName<'static> {
    ServerName::try_from("any.test").unwrap()
}

impl ClientSessionStore for OneForAll {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(any(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&any())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(any(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&any())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&any());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(any(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&any())
    }
}
