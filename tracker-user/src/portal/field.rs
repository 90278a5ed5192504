//! A field of a form whose fields are not known beforehand: wiped unless somebody takes it, as it may be a secret.

use std::collections::BTreeMap;

use serde::de::value::{Error, MapDeserializer, StringDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// See the module.
#[derive(Default)]
pub(super) struct Field(pub(super) Zeroizing<String>);

/// What such a form says, by the names of its fields.
pub(super) type Fields = BTreeMap<String, Field>;

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(Zeroizing::new(String::deserialize(from)?)))
    }
}

impl<'de> IntoDeserializer<'de, Error> for Field {
    type Deserializer = StringDeserializer<Error>;

    fn into_deserializer(mut self) -> Self::Deserializer {
        std::mem::take(&mut *self.0).into_deserializer()
    }
}

/// The form, if its fields say that.
pub(super) fn read<T: DeserializeOwned>(fields: Fields) -> Option<T> {
    T::deserialize(MapDeserializer::<_, Error>::new(fields.into_iter())).ok()
}
