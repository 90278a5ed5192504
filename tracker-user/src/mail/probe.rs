//! Whether mail could be handed over now: for whoever asks, without any mail.

use super::server::Settings;
use super::smtp::open;
use crate::threads::{Size, Threads};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Mail could be handed over.
    Good {
        /// Whether under TLS.
        is_secure: bool,
        /// Who logged in, if anybody had to.
        user: Option<String>,
    },
    /// It could not: why, and what to do.
    Bad(String),
    /// There is no server.
    Off,
}

/// Begins a conversation, as far as mail could be handed over in it, and ends it. Takes a few minutes at most.
pub async fn probe(settings: &Settings) -> Found {
    let Some(server) = &settings.server else { return Found::Off };
    let threads = match Threads::start("mail", Size { least: 1, most: 1, queue: 1 }) {
        Ok(threads) => threads,
        Err(error) => return Found::Bad(format!("no thread can be started: {error}")),
    };
    match open(server, &settings.helo, &threads).await {
        Ok(conversation) => {
            let is_secure = conversation.is_secure;
            conversation.close().await;
            Found::Good { is_secure, user: server.user.clone() }
        }
        Err(failure) => Found::Bad(failure.to_string()),
    }
}
