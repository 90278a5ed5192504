//! The gateway's own pages, as the proxy knows them: by their address. People are led there who have to log in, and whoever
//! asks the proxy for these pages is brought to them before anybody is asked who they are.

mod address;
mod dial;

pub use self::address::{OwnPages, Way};
pub(super) use self::dial::dial;
