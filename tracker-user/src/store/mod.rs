//! What survives: the embedded database in the state directory.

pub mod embedded;

pub use embedded::{Store, StoreError, StoredSetting};
