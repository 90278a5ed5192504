//! Devices that make passkeys: chromedriver's virtual authenticators (WebAuthn, level 2, section 11).

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Browser;

/// A device beside a browser; it is there until it is unplugged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device(String);

impl Browser {
    /// Plugs one in that finds its passkeys by itself, and whose user touches it whenever they are asked. Whether it makes sure of
    /// its user, `verifies` says.
    ///
    /// # Errors
    /// Where it is not Chromium.
    pub fn plug_in(&mut self, verifies: bool) -> Result<Device> {
        let options = json!({
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": true,
            "hasUserVerification": true,
            "isUserConsenting": true,
            "isUserVerified": verifies,
        });
        let id = self.wire.ask("AddVirtualAuthenticator", &options)?;
        Ok(Device(id.as_str().with_context(|| id.to_string())?.to_owned()))
    }

    /// Takes it away.
    ///
    /// # Errors
    /// When it is not there.
    pub fn unplug(&mut self, device: &Device) -> Result<()> {
        self.wire.ask("RemoveVirtualAuthenticator", &json!({ "device": device.0 })).map(drop)
    }

    /// The passkeys in it, with their private keys.
    ///
    /// # Errors
    /// When it is not there.
    pub fn passkeys(&mut self, device: &Device) -> Result<Vec<Value>> {
        let all = self.wire.ask("GetCredentials", &json!({ "device": device.0 }))?;
        all.as_array().cloned().with_context(|| all.to_string())
    }

    /// Puts a passkey into it, as [`Browser::passkeys`] gives it.
    ///
    /// # Errors
    /// When it does not take it.
    pub fn put_passkey(&mut self, device: &Device, passkey: &Value) -> Result<()> {
        let mut passkey = passkey.clone();
        passkey["device"] = json!(device.0);
        self.wire.ask("AddCredential", &passkey).map(drop)
    }

    /// Whether it makes sure of its user from now on.
    ///
    /// # Errors
    /// When it is not there.
    pub fn verifies(&mut self, device: &Device, verifies: bool) -> Result<()> {
        self.wire.ask("SetUserVerified", &json!({ "device": device.0, "isUserVerified": verifies })).map(drop)
    }
}
