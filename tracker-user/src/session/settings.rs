//! What an operator can tune about sessions: plain values, checked by whoever fills them in (`config`).
//!
//! The names, ranges and defaults are those of FortiOS' explicit proxy, so that its operators find what they know:
//! `proxy-auth-timeout`, `proxy-re-authentication-mode`, `proxy-auth-lifetime`, `proxy-auth-lifetime-timeout`.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

use crate::types::ClientAddr;

const MINUTE: Duration = Duration::from_secs(60);

/// 10 minutes, FortiOS' default of `proxy-auth-timeout`.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// The shortest timeout. FortiOS starts at one minute; seconds are for tests and for kiosks.
pub const TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// The longest timeout: 10000 minutes, as FortiOS from 7.6.3 on.
pub const TIMEOUT_MAX: Duration = MINUTE.saturating_mul(10_000);

/// 480 minutes, a working day: FortiOS' default of `proxy-auth-lifetime-timeout`.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(480 * 60);
/// The shortest lifetime, as FortiOS has it (which looks only every five minutes; this gateway is exact).
pub const LIFETIME_MIN: Duration = Duration::from_secs(5 * 60);
/// The shortest lifetime where it is written in seconds on purpose.
pub const LIFETIME_MIN_IN_SECONDS: Duration = Duration::from_secs(1);
/// The longest lifetime: 65535 minutes, as FortiOS has it.
pub const LIFETIME_MAX: Duration = MINUTE.saturating_mul(65_535);

/// An enum whose values are single words, in the file, on the command line and in logs alike.
pub trait Word: Copy + PartialEq + fmt::Display + 'static {
    /// All values, in the order of the documentation.
    const ALL: &'static [Self];

    /// The value's word.
    fn word(self) -> &'static str;

    /// The value of a word, spelt exactly.
    ///
    /// # Errors
    /// When no value has this word.
    fn from_word(text: &str) -> Result<Self, UnknownWord> {
        let known = Self::ALL.iter().copied().find(|value| value.word() == text);
        known.ok_or_else(|| UnknownWord {
            given: text.to_owned(),
            words: Self::ALL.iter().map(|value| value.word()).collect(),
        })
    }
}

/// A word that none of the values has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    /// What was written.
    pub given: String,
    /// What could have been written.
    pub words: Vec<&'static str>,
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is none of {}", self.given, self.words.join(", "))
    }
}

impl std::error::Error for UnknownWord {}

/// Defines an enum together with its words: [`Word`], `Display` and `FromStr` all from one list.
macro_rules! words {
    ($(#[$outer:meta])* pub enum $name:ident { $($(#[$inner:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$inner])* $variant,)+ }

        impl $crate::session::settings::Word for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad($crate::session::settings::Word::word(*self))
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::session::settings::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::session::settings::Word::from_word(text)
            }
        }
    };
}
pub(crate) use words;

words! {
    /// Where the timeout counts from: `proxy-re-authentication-mode`.
    pub enum Mode {
        /// From the closing of the client's last connection.
        #[default]
        Session = "session",
        /// From the last new data.
        Traffic = "traffic",
        /// From the creation or renewal of the session, whatever happens in between.
        Absolute = "absolute",
    }
}

words! {
    /// Whose data keeps a session alive in mode `traffic`.
    pub enum TrafficDirection {
        /// Data in either direction.
        #[default]
        Both = "both",
        /// Only what the client sends.
        Client = "client",
    }
}

words! {
    /// What becomes of the open connections of a session whose timeout ran out.
    pub enum OnTimeout {
        /// They stay; only the next request has to authenticate.
        #[default]
        Keep = "keep",
        /// They are closed.
        Close = "close",
    }
}

words! {
    /// When a client has to prove itself again inside the timeout.
    pub enum Revalidate {
        /// Not before the timeout ran out, as the vendors have it.
        #[default]
        OnTimeout = "on-timeout",
        /// On its first connection after its last one was closed.
        OnReopen = "on-reopen",
    }
}

words! {
    /// What happens when another device shows up behind a client's address.
    pub enum DeviceChange {
        /// Nothing, as the vendors have it.
        Ignore = "ignore",
        /// The session ends at once.
        #[default]
        Reauthenticate = "reauthenticate",
    }
}

/// The settings of the session core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a session may be closed, silent or old, as `mode` says.
    pub timeout: Duration,
    /// Where `timeout` counts from.
    pub mode: Mode,
    /// Whether `lifetime_timeout` applies.
    pub lifetime_enabled: bool,
    /// How long any session can last from its creation on; read it through [`Timeouts::lifetime`].
    pub lifetime_timeout: Duration,
    /// Whose data counts in mode `traffic`.
    pub traffic_direction: TrafficDirection,
    /// What becomes of open connections when the timeout ran out.
    pub on_timeout: OnTimeout,
    /// When a client has to prove itself again inside the timeout.
    pub revalidate: Revalidate,
    /// What a new device behind an address means.
    pub device_change: DeviceChange,
    /// Addresses that many users share: each connection proves itself, and has a session of its own.
    pub shared_hosts: Vec<IpNet>,
}

impl Timeouts {
    /// The cap over all modes, counted from the creation of a session; `None` where there is none.
    #[must_use]
    pub fn lifetime(&self) -> Option<Duration> {
        self.lifetime_enabled.then_some(self.lifetime_timeout)
    }

    /// Whether many users share this address.
    #[must_use]
    pub fn is_shared(&self, client: ClientAddr) -> bool {
        !self.shared_hosts.is_empty() && self.shared_hosts.iter().any(|net| net.contains(&client.ip()))
    }

    /// Whether another device at a client's address ends its session.
    #[must_use]
    pub fn judges_devices(&self) -> bool {
        self.device_change == DeviceChange::Reauthenticate
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            mode: Mode::default(),
            lifetime_enabled: false,
            lifetime_timeout: DEFAULT_LIFETIME,
            traffic_direction: TrafficDirection::default(),
            on_timeout: OnTimeout::default(),
            revalidate: Revalidate::default(),
            device_change: DeviceChange::default(),
            shared_hosts: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_word_reads_back<T: Word + fmt::Debug>() {
        for value in T::ALL {
            assert_eq!(T::from_word(&value.to_string()), Ok(*value));
        }
    }

    #[test]
    fn words_read_back_as_what_they_were() {
        every_word_reads_back::<Mode>();
        every_word_reads_back::<TrafficDirection>();
        every_word_reads_back::<OnTimeout>();
        every_word_reads_back::<Revalidate>();
        every_word_reads_back::<DeviceChange>();
    }

    #[test]
    fn a_wrong_word_is_told_the_right_ones() {
        let error = "idle".parse::<Mode>().unwrap_err();
        assert_eq!(error.to_string(), r#""idle" is none of session, traffic, absolute"#);
    }

    #[test]
    fn the_lifetime_counts_only_where_it_is_enabled() {
        let mut timeouts = Timeouts::default();
        assert_eq!(timeouts.lifetime(), None);
        timeouts.lifetime_enabled = true;
        assert_eq!(timeouts.lifetime(), Some(Duration::from_secs(8 * 3600)));
    }
}
