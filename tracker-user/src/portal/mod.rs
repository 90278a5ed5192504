//! The web pages: logging in and out, who is here, administration. A skin of the operator's operations and of what `auth` verifies;
//! it knows nothing of the proxy.
//!
//! It has a runtime of its own, of one thread: whatever is asked of it takes no more than that from the data plane. A request
//! comes in through `server`, which bounds it, finds out whom it comes from ([`visit`]), and hands it to the routes of the
//! modules behind; each of those has the pages of one purpose.

mod admin;
mod app_passwords;
mod assets;
mod csv;
mod field;
mod login;
mod logout;
mod own;
mod pac;
mod page;
mod password;
mod posted;
mod second_factor;
mod server;
mod settings;
mod site;
mod stats;
mod status;
mod visit;
mod web_sessions;

pub use self::server::{InnerListeners, Portal, Running};
pub use self::settings::Settings;
pub use self::site::Parts;
pub use self::stats::Stats;
