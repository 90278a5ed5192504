//! Why a token proves nothing: one word for metrics, a remedy for operators, a sentence for the person at the client.

use std::fmt;

use jiff::Timestamp;

use super::credential::Opened;
use super::names::BadName;
use super::token::BadToken;
use crate::types::UserMessage;

/// Why a token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It is NTLM, or offers nothing but that.
    Ntlm,
    /// It offers mechanisms, but not Kerberos.
    NoKerberos,
    /// There is no token in the field, or nothing that could be one.
    Garbage,
    /// It is larger than any that is looked at.
    TooLarge,
    /// It was used before.
    Replay,
    /// The clocks of client and gateway differ by too much.
    ClockSkew,
    /// The ticket has ended.
    Expired,
    /// The ticket begins in the future.
    NotYetValid,
    /// The ticket is for a name that the keytab does not have.
    UnknownService,
    /// The keytab has the name, but only older versions of its key.
    KeyVersion,
    /// The keytab has the name, but this version of its key no more.
    OldTicket,
    /// The keytab has a key of that version, but it is not the one that the KDC used.
    WrongKey,
    /// The encryption type is not permitted, or the keytab lacks it.
    Enctype,
    /// It came through realms that are not trusted to vouch for its user.
    CrossRealm,
    /// It was made for another TLS channel.
    ChannelBindings,
    /// It says nothing of the TLS channel that it came on, which is required.
    Unbound,
    /// The principal is no user's, or has no name here.
    Name,
    /// The principal is a computer's own.
    MachineAccount,
    /// Anything else that the library dislikes.
    Other,
}

/// Words of the library's text (MIT Kerberos 1.20), and what they mean. The first that is found counts.
const WORDS: &[(&str, Cause)] = &[
    ("Clock skew", Cause::ClockSkew),
    ("replay", Cause::Replay),
    ("Ticket expired", Cause::Expired),
    ("not yet valid", Cause::NotYetValid),
    ("not with enctype", Cause::Enctype),
    ("ticket is likely out of date", Cause::OldTicket),
    ("likely out of date", Cause::KeyVersion),
    ("not found in keytab", Cause::UnknownService),
    ("No key table entry found", Cause::UnknownService),
    ("does not match request ticket server", Cause::UnknownService),
    ("Wrong principal", Cause::UnknownService),
    ("annot decrypt ticket", Cause::WrongKey),
    ("Decrypt integrity check failed", Cause::WrongKey),
    ("ncryption type", Cause::Enctype),
    ("Channel bindings", Cause::ChannelBindings),
    ("channel bindings", Cause::ChannelBindings),
    ("Message Integrity Check", Cause::Garbage),
    ("nvalid token", Cause::Garbage),
    ("token was invalid", Cause::Garbage),
    ("token is invalid", Cause::Garbage),
    ("malformed", Cause::Garbage),
    ("Illegal cross-realm ticket", Cause::CrossRealm),
    ("unsupported mechanism", Cause::NoKerberos),
    ("negotiation mechanism", Cause::NoKerberos),
];

impl Cause {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::Ntlm,
        Self::NoKerberos,
        Self::Garbage,
        Self::TooLarge,
        Self::Replay,
        Self::ClockSkew,
        Self::Expired,
        Self::NotYetValid,
        Self::UnknownService,
        Self::KeyVersion,
        Self::OldTicket,
        Self::WrongKey,
        Self::Enctype,
        Self::CrossRealm,
        Self::ChannelBindings,
        Self::Unbound,
        Self::Name,
        Self::MachineAccount,
        Self::Other,
    ];

    /// What the library's text means.
    pub(super) fn of(text: &str) -> Self {
        WORDS.iter().find(|(words, _)| text.contains(words)).map_or(Self::Other, |(_, cause)| *cause)
    }

    /// As metrics name it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ntlm => "ntlm",
            Self::NoKerberos => "no-kerberos",
            Self::Garbage => "garbage",
            Self::TooLarge => "too-large",
            Self::Replay => "replay",
            Self::ClockSkew => "clock-skew",
            Self::Expired => "expired",
            Self::NotYetValid => "not-yet-valid",
            Self::UnknownService => "unknown-service",
            Self::KeyVersion => "key-version",
            Self::OldTicket => "old-ticket",
            Self::WrongKey => "wrong-key",
            Self::Enctype => "enctype",
            Self::CrossRealm => "cross-realm",
            Self::ChannelBindings => "channel-binding",
            Self::Unbound => "no-channel-binding",
            Self::Name => "name",
            Self::MachineAccount => "machine-account",
            Self::Other => "other",
        }
    }

    /// What probably helps, for operators; empty where nothing is known to.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Ntlm => {
                "the client has no Kerberos ticket for the proxy: check that it is in the domain and reaches its KDC, that it \
                 uses the proxy's full name and not its address, and that the KDC knows HTTP/<that name> exactly once (setspn -Q)"
            }
            Self::NoKerberos => {
                "the client has no Kerberos ticket: check that it reached its KDC and uses the proxy's full name"
            }
            Self::Garbage => {
                "the token is damaged or was meant for something else; trackerctl decode explains tokens"
            }
            Self::TooLarge => {
                "the ticket is larger than any known directory makes it: the user is in too many groups"
            }
            Self::Replay => {
                "the same token was sent twice: check for a client that repeats requests, or for somebody who has captured it"
            }
            Self::ClockSkew => "set the clocks of client, gateway and KDC by the same time service",
            Self::Expired => "the user's ticket ran out: log in again, or run kinit",
            Self::NotYetValid => {
                "the ticket begins in the future: compare the clocks of client, gateway and KDC"
            }
            Self::UnknownService => {
                "no key of the keytab opens a ticket for this name: use the right proxy name, or add it (ktadd; in Active \
                 Directory setspn -S on the keytab's account; if that has it already, its password was changed: export the \
                 key again)"
            }
            Self::KeyVersion => {
                "the keytab is older than the account's present key: export it again, and keep the old key in it"
            }
            Self::OldTicket => {
                "the ticket is older than the keys in the keytab: log in again (klist purge, or kinit); with many such, put \
                 the old key back into the keytab for as long as tickets last"
            }
            Self::WrongKey => {
                "the key in the keytab is not the account's: export it again, and see that no second account has the same \
                 name (setspn -X)"
            }
            Self::Enctype => {
                "the ticket's encryption type is not permitted here, or not in the keytab: enable AES for the account and \
                 export it again, or see permitted_enctypes in krb5.conf"
            }
            Self::CrossRealm => {
                "say in krb5.conf, [capaths], which realms lie between the user's and the gateway's"
            }
            Self::ChannelBindings => {
                "the token was made for a TLS connection by another certificate: somebody stands in between, or a balancer \
                 in front ends TLS by a certificate of its own (give it and the gateway the same one, or set \
                 kerberos.channel-bindings = \"off\")"
            }
            Self::Unbound => {
                "kerberos.channel-bindings = \"require\", and this client binds nothing: no browser on Linux does; Windows \
                 does unless it is told not to (SuppressExtendedProtection)"
            }
            Self::Name => "only users log in: see kerberos.auth-to-local where a principal has another form",
            Self::MachineAccount => {
                "a service or a task on the client sent the computer's own ticket; whoever is to be let in logs in as a user, \
                 or set kerberos.machine-accounts"
            }
            Self::Other => "",
        }
    }

    /// What happened, in a few words for the person at the client.
    #[must_use]
    pub const fn heading(self) -> UserMessage {
        UserMessage::new(match self {
            Self::Ntlm | Self::NoKerberos => "No Kerberos ticket",
            Self::Garbage | Self::TooLarge | Self::Other => "Your login was not understood",
            Self::Replay => "Your login was used before",
            Self::ClockSkew => "Your computer's clock is wrong",
            Self::Expired => "Your ticket has run out",
            Self::NotYetValid => "Your ticket is not valid yet",
            Self::UnknownService | Self::KeyVersion | Self::OldTicket | Self::WrongKey | Self::Enctype => {
                "Your ticket does not fit this proxy"
            }
            Self::CrossRealm => "Your domain is not trusted here",
            Self::ChannelBindings => "Your login came from elsewhere",
            Self::Unbound => "Your login was not made for this connection",
            Self::Name => "You are not a user of this proxy",
            Self::MachineAccount => "A computer is not a user of this proxy",
        })
    }

    /// What happened and what to do, for the person at the client. Names nobody, and nothing of the gateway's inside.
    #[must_use]
    pub const fn user_message(self) -> UserMessage {
        UserMessage::new(match self {
            Self::Ntlm => {
                "Your browser sent an NTLM login, which this proxy does not accept, instead of a Kerberos ticket. That is what \
                 browsers do when your computer has no ticket for this proxy. Log in to your domain (or run kinit) where its \
                 servers can be reached, and use the proxy by its full name, not by its address. A name and password typed \
                 into a box of the browser will not help."
            }
            Self::NoKerberos => {
                "Your browser tried another way to log in than Kerberos. Log in to your domain (or run kinit), and use the \
                 proxy by its full name, so that your computer gets a ticket for it."
            }
            Self::Garbage | Self::TooLarge | Self::Other => {
                "The login that your browser sent could not be understood. Lock and unlock your computer (or run kinit) to get \
                 a new ticket; if that does not help, the proxy's operator finds the reason in its log."
            }
            Self::Replay => {
                "The login that your browser sent was used before, and is good only once. Load the page again."
            }
            Self::ClockSkew => {
                "The clock of your computer differs from the proxy's by too much for a login by Kerberos. Set it right, and \
                 load the page again."
            }
            Self::Expired => {
                "Your Kerberos ticket has run out. Lock and unlock your computer (or run kinit), and load the page again."
            }
            Self::NotYetValid => {
                "Your Kerberos ticket is not valid yet: the clock of your computer or of its domain is probably wrong. Set it \
                 right, and load the page again."
            }
            Self::UnknownService | Self::KeyVersion | Self::OldTicket | Self::WrongKey | Self::Enctype => {
                "Your Kerberos ticket was made for a key that this proxy does not have. Lock and unlock your computer (or run \
                 kinit) to get a new one, and use the proxy by its full name; if that does not help, the proxy's operator has \
                 to renew its keys."
            }
            Self::CrossRealm => {
                "Your Kerberos ticket came through domains that this proxy does not trust to say who you are. Its operator has \
                 to name them."
            }
            Self::ChannelBindings => {
                "Your login was made for another connection than the one it came on. Somebody may stand between you and the \
                 proxy: tell its operator."
            }
            Self::Unbound => {
                "The login that your browser sent does not say which connection it was made for, and this proxy accepts no \
                 other. Use another browser; if you have no other, tell the proxy's operator."
            }
            Self::MachineAccount => {
                "The login is that of the computer itself, not of a person: a service or a task of the system asked for this \
                 page. Log in as yourself, and load the page again."
            }
            Self::Name => {
                "Your Kerberos ticket is good, but its name is not one of a user of this proxy. Log in as yourself, and load \
                 the page again."
            }
        })
    }
}

impl From<&BadToken> for Cause {
    fn from(bad: &BadToken) -> Self {
        match bad {
            BadToken::Empty | BadToken::NotBase64 => Self::Garbage,
            BadToken::TooLarge => Self::TooLarge,
        }
    }
}

impl From<&BadName> for Cause {
    fn from(bad: &BadName) -> Self {
        match bad {
            BadName::Machine(_) => Self::MachineAccount,
            _ => Self::Name,
        }
    }
}

/// Everything that an operator wants to know, in one line: what the library said, what the ticket says, what helps. `opened`
/// is the ticket's inside, where a key fits.
pub(super) fn explain(cause: Cause, text: &str, opened: Option<&Opened>, now: Timestamp) -> String {
    let mut line = text.to_owned();
    if let Some(opened) = opened {
        let starts = opened.ticket.starts.or(opened.ticket.authenticated);
        match (cause, opened.made, starts, opened.ticket.ends) {
            (Cause::ClockSkew, Some(made), ..) => line.push_str(&format!("; {}", Skew::between(made, now))),
            (Cause::Replay, Some(made), ..) => line.push_str(&format!("; the token is from {made}")),
            (Cause::Expired, _, _, Some(ends)) => line.push_str(&format!("; the ticket ended at {ends}")),
            (Cause::NotYetValid, _, Some(starts), _) => {
                line.push_str(&format!("; the ticket begins at {starts}"));
            }
            _ => {}
        }
        line.push_str(&format!(" (a ticket of {})", opened.ticket.client));
    }
    if !cause.remedy().is_empty() {
        line.push_str(": ");
        line.push_str(cause.remedy());
    }
    line
}

/// How far another clock is from ours.
struct Skew {
    seconds: i64,
}

impl Skew {
    fn between(theirs: Timestamp, ours: Timestamp) -> Self {
        Self { seconds: theirs.as_second() - ours.as_second() }
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.seconds > 0 { "ahead of" } else { "behind" };
        let (minutes, seconds) = (self.seconds.abs() / 60, self.seconds.abs() % 60);
        f.write_str("the client's clock is ")?;
        match (minutes, seconds) {
            (0, seconds) => write!(f, "{seconds} s")?,
            (minutes, 0) => write!(f, "{minutes} min")?,
            (minutes, seconds) => write!(f, "{minutes} min {seconds} s")?,
        }
        write!(f, " {direction} the gateway's")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As MIT Kerberos 1.20 says it.
    #[test]
    fn what_the_library_says_has_a_cause() {
        for (text, cause) in [
            ("(Request is a replay)", Cause::Replay),
            ("(Clock skew too great)", Cause::ClockSkew),
            (
                "(Request ticket server HTTP/p@R kvno 2 not found in keytab; ticket is likely out of date)",
                Cause::OldTicket,
            ),
            (
                "(Request ticket server HTTP/p@R kvno 3 not found in keytab; keytab is likely out of date)",
                Cause::KeyVersion,
            ),
            ("(Request ticket server HTTP/p@R not found in keytab (ticket kvno 4))", Cause::UnknownService),
            (
                "(Request ticket server HTTP/p@R kvno 2 enctype aes256-cts found in keytab but cannot decrypt ticket)",
                Cause::WrongKey,
            ),
            (
                "(Request ticket server HTTP/p@R kvno 2 found in keytab but not with enctype rc4-hmac)",
                Cause::Enctype,
            ),
            ("(Ticket expired)", Cause::Expired),
            ("(Ticket not yet valid)", Cause::NotYetValid),
            ("(Token header is malformed or corrupt)", Cause::Garbage),
            ("something else", Cause::Other),
        ] {
            assert_eq!(Cause::of(text), cause, "{text}");
        }
    }

    #[test]
    fn each_cause_has_a_label_of_its_own_and_tells_people_what_to_do() {
        let labels: std::collections::HashSet<_> = Cause::ALL.iter().map(|cause| cause.label()).collect();
        assert_eq!(labels.len(), Cause::ALL.len());
        for cause in Cause::ALL {
            assert!(
                cause.user_message().as_str().ends_with('.') && !cause.heading().as_str().is_empty(),
                "{cause:?}"
            );
            assert!(cause == Cause::Other || !cause.remedy().is_empty(), "{cause:?}");
        }
    }

    #[test]
    fn a_skew_is_told_with_its_size_and_direction() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (theirs, words) in [
            (1_000_600, "10 min ahead of the gateway's"),
            (999_391, "10 min 9 s behind the gateway's"),
            (1_000_007, "7 s ahead of"),
        ] {
            let told = Skew::between(Timestamp::from_second(theirs).unwrap(), now).to_string();
            assert!(told.contains(words), "{told}");
        }
    }
}
