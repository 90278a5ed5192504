//! Where a passkey is asked for, and what comes of it in a form.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::auth::factors::{Asking, PasskeyRefused};
use crate::clock::boot_now;
use crate::portal::field::Fields;
use crate::portal::visit::Visit;
use crate::types::ClientAddr;

/// The field of what the device has signed, on the page in between that asks for a factor,
const SIGNED: &str = "factor-passkey";
/// and of what it was asked. In other forms they are `passkey` and `passkey-number`.
const NUMBER: &str = "factor-passkey-number";

/// The page of a visit, as passkeys see it.
pub(in crate::portal::second_factor) struct Place {
    client: ClientAddr,
    origin: String,
    host: String,
    browser: String,
}

impl Place {
    pub(in crate::portal::second_factor) fn of(visit: &Visit) -> Self {
        // What forms carry is known to this browser alone, and another one after each login.
        let browser = visit.form_token();
        Self { client: visit.client(), origin: visit.origin(), host: visit.host().to_owned(), browser }
    }

    pub(in crate::portal::second_factor) fn asking(&self) -> Asking<'_> {
        let Self { client, origin, host, browser } = self;
        Asking { client: *client, origin, host, browser, at: boot_now() }
    }
}

/// What a form says that the script has filled in.
#[derive(Default, Deserialize)]
pub(in crate::portal) struct Signed {
    /// The number of what was asked.
    #[serde(default, rename = "passkey-number")]
    pub(in crate::portal::second_factor) number: String,
    /// The answer, as JSON.
    #[serde(default, rename = "passkey")]
    answer: String,
}

impl Signed {
    /// Takes it out of what the page in between adds to a form; `None` where it is not there.
    pub(in crate::portal) fn take(fields: &mut Fields) -> Option<Self> {
        let (number, answer) = (fields.remove(NUMBER)?, fields.remove(SIGNED)?);
        Some(Self { number: number.0.as_str().to_owned(), answer: answer.0.as_str().to_owned() })
    }

    /// The answer. One that cannot be read answers nothing.
    pub(in crate::portal::second_factor) fn answer<T: DeserializeOwned>(&self) -> Result<T, PasskeyRefused> {
        serde_json::from_str(&self.answer).map_err(|_| PasskeyRefused::Late)
    }
}
