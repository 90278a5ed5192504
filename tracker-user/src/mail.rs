//! Mail that the gateway sends: codes that reset a second factor, and notices of what was done to one.
//!
//! A mail is on disk, sealed, before anything is told of it, and stays there until a mail server has taken it or its own time is
//! over: it is sent at least once, and twice only where the server's answer, or the note of it, was lost. One task of its own
//! speaks to the server ([`Mailer::run`]), so that a slow one stalls nobody.
//!
//! The conversation ([`smtp`]) is written here rather than taken from a crate: passwords and codes in it are wiped, what a server
//! may say is bounded before it is kept, and nothing that came before TLS counts after it (RFC 3207, section 6).

mod letter;
mod mailer;
mod notices;
mod password;
mod probe;
mod queue;
mod server;
mod smtp;
mod stats;
mod words;

pub use self::letter::{About, Letter};
pub use self::mailer::{Mailer, Outgoing, Parts, StartError};
pub use self::notices::{House, Notices};
pub use self::probe::{Found, probe};
pub use self::server::{Server, Settings};
pub use self::words::Notice;
