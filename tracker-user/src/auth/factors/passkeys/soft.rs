//! A device that makes passkeys, for tests: what a browser would send for it.

use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use super::Asked;

/// A passkey in it.
pub(crate) struct SoftKey {
    pair: EcdsaKeyPair,
    pub(crate) id: Vec<u8>,
    pub(crate) handle: Vec<u8>,
    pub(crate) counter: u32,
    /// Whether the device counts at all.
    pub(crate) counts: bool,
    /// Whether it makes sure of its user.
    pub(crate) verifies: bool,
}

fn base64(bytes: &[u8]) -> String {
    data_encoding::BASE64URL_NOPAD.encode(bytes)
}

impl Asked {
    pub(crate) fn number(&self) -> &str {
        &self.id
    }

    pub(crate) fn options(&self) -> &Value {
        &self.options
    }
}

impl SoftKey {
    /// A new one for whoever these options are of.
    pub(crate) fn new(asked: &Asked, id: &[u8]) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap();
        let handle = asked.options["user"]["id"].as_str().unwrap_or_default();
        let handle = data_encoding::BASE64URL_NOPAD.decode(handle.as_bytes()).unwrap();
        Self { pair, id: id.to_vec(), handle, counter: 1, counts: true, verifies: true }
    }

    fn data(&self, host: &str, more: u8) -> Vec<u8> {
        let flags = 0b0000_0001 | if self.verifies { 0b0000_0100 } else { 0 } | more;
        let counter = if self.counts { self.counter } else { 0 };
        [digest(&SHA256, host.as_bytes()).as_ref(), &[flags], &counter.to_be_bytes()].concat()
    }

    fn client(asked: &Asked, what: &str, origin: &str) -> String {
        let challenge = asked.options["challenge"].as_str().unwrap();
        json!({ "type": what, "challenge": challenge, "origin": origin, "crossOrigin": false }).to_string()
    }

    /// What a browser says of the new one.
    pub(crate) fn made(&self, asked: &Asked, host: &str, origin: &str) -> Value {
        let public = self.pair.public_key().as_ref();
        let key =
            [b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20", &public[1..33], b"\x22\x58\x20", &public[33..]]
                .concat();
        self.made_with(asked, host, origin, &key)
    }

    /// The same with this public key (RFC 9052, section 7).
    pub(crate) fn made_with(&self, asked: &Asked, host: &str, origin: &str, key: &[u8]) -> Value {
        let id = [&u16::try_from(self.id.len()).unwrap().to_be_bytes()[..], &self.id].concat();
        let data = [&self.data(host, 0b0100_0000)[..], &[0; 16], &id, key].concat();
        let length = u16::try_from(data.len()).unwrap().to_be_bytes();
        let object = [b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59", &length[..], &data].concat();
        json!({
            "id": base64(&self.id),
            "rawId": base64(&self.id),
            "type": "public-key",
            "response": {
                "attestationObject": base64(&object),
                "clientDataJSON": base64(Self::client(asked, "webauthn.create", origin).as_bytes()),
            },
            "clientExtensionResults": { "credProps": { "rk": true } },
        })
    }

    /// What a browser says when it is shown; its counter goes on.
    pub(crate) fn shown(&mut self, asked: &Asked, host: &str, origin: &str) -> Value {
        self.counter += 1;
        let client = Self::client(asked, "webauthn.get", origin);
        let data = self.data(host, 0);
        let signed = [&data[..], digest(&SHA256, client.as_bytes()).as_ref()].concat();
        let signature = self.pair.sign(&SystemRandom::new(), &signed).unwrap();
        json!({
            "id": base64(&self.id),
            "rawId": base64(&self.id),
            "type": "public-key",
            "response": {
                "authenticatorData": base64(&data),
                "clientDataJSON": base64(client.as_bytes()),
                "signature": base64(signature.as_ref()),
                "userHandle": base64(&self.handle),
            },
            "clientExtensionResults": {},
        })
    }
}
