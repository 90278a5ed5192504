//! By what credentials are known again without being kept.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;

/// By what the value of a field with credentials is known again without being kept. Made with keys of this process that nobody
/// is told, so that no other value can be made to have the same.
#[derive(Clone, Copy, Debug)]
pub struct Fingerprint([u64; 2]);

impl Fingerprint {
    /// Of this value.
    #[must_use]
    pub fn of(field: &[u8]) -> Self {
        static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(|| [RandomState::new(), RandomState::new()]);
        Self(KEYS.each_ref().map(|key| key.hash_one(field)))
    }
}

impl PartialEq for Fingerprint {
    /// Takes as long whatever is compared.
    fn eq(&self, other: &Self) -> bool {
        let ([a, b], [c, d]) = (self.0, other.0);
        (a ^ c) | (b ^ d) == 0
    }
}

impl Eq for Fingerprint {}
