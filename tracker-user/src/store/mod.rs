//! What survives: the embedded database in the state directory, the journal that writes it, and the mark that revokes it.

pub mod embedded;
pub mod journal;
pub mod revocation;
pub mod sessions;

pub use embedded::{Store, StoreError, StoredSetting};
pub use journal::{Answer, Entry, Journal};
pub use revocation::Revocation;
pub use sessions::StoredSession;
