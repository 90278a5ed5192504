//! What mails say. Each in the language of its reader, in words of the program's; an operator's words are the organisation's name
//! and whom to turn to, as on the pages.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use zeroize::Zeroizing;

use super::notices::House;
use crate::outside;
use crate::pages::Language;
use crate::types::{ClientAddr, Identity};

/// What a user is told of.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// The code that was asked for: this one, good until then.
    Code(&'a str, Timestamp),
    /// A code was asked for, and mailed to the recovery address.
    CodeMailed,
    /// The second factor was reset by a mailed code.
    Recovered,
    /// It will be then. By this path of the pages it can be stopped.
    RecoveryWaits(Timestamp, &'a str),
    /// A reset that waited was stopped.
    RecoveryStopped,
    /// An operator has reset the second factor.
    Reset,
    /// A printed recovery code was used; so many are left.
    RecoveryCodeUsed(usize),
    /// An authenticator was set up.
    Enrolled,
    /// The recovery address was changed. Tell the one before as well.
    AddressChanged,
    /// A passkey of this name was added.
    PasskeyAdded(&'a str),
    /// A passkey of this name was taken away.
    PasskeyRemoved(&'a str),
}

/// When and where it happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Happened {
    pub(super) at: Timestamp,
    pub(super) client: Option<ClientAddr>,
}

/// The subject and the text of a mail about a user's account.
pub(super) fn write(
    language: &Language,
    house: &House,
    who: &Identity,
    notice: Notice<'_>,
    happened: Happened,
) -> (String, Zeroizing<String>) {
    let (subject, paragraphs) = say(language, house, notice);
    let house_name = house.organisation.as_deref().unwrap_or(&house.host);
    let mut lines = vec![
        fill(language.t("Account: {}"), &outside::shown(&who.to_string(), outside::NAME)),
        fill(language.t("Gateway: {}"), house_name),
        fill(language.t("Time: {}"), &moment(happened.at)),
    ];
    if let Some(client) = happened.client {
        lines.push(fill(language.t("From the address: {}"), &client.to_string()));
    }
    let mut text = Zeroizing::new(String::with_capacity(4 << 10));
    for paragraph in &paragraphs {
        text.push_str(paragraph);
        text.push_str("\n\n");
    }
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text.push('\n');
    if let Some(contact) = &house.contact {
        text.push_str(&fill(language.t("Help: {}"), contact));
        text.push('\n');
    }
    text.push_str(language.t("This mail was written by a program. Nobody reads answers to it."));
    text.push('\n');
    (subject.to_owned(), text)
}

fn say<'a>(language: &'a Language, house: &House, notice: Notice<'_>) -> (&'a str, Vec<Zeroizing<String>>) {
    let plain = |text: &str| Zeroizing::new(text.to_owned());
    let with = |text: &str, value: &str| Zeroizing::new(fill(text, value));
    let not_you = || plain(language.t("If it was not you, tell your help desk at once."));
    match notice {
        Notice::Code(code, until) => (
            language.t("Your code for resetting the second factor"),
            vec![
                with(language.t("The code that resets your second factor is: {}"), &grouped(code)),
                with(language.t("It is good once, until {}. Type it on the page on which you asked for it."), &moment(until)),
                plain(language.t("If you did not ask for it, somebody knows your password: do not give the code to anybody, change your password, and tell your help desk.")),
            ],
        ),
        Notice::CodeMailed => (
            language.t("A code for resetting your second factor was asked for"),
            vec![
                plain(language.t("Somebody who knows your password has asked for a code that resets your second factor. It was mailed to your recovery address.")),
                not_you(),
            ],
        ),
        Notice::Recovered => (
            language.t("Your second factor was reset"),
            vec![
                plain(language.t("Your second factor was reset by a code that was mailed to your recovery address. Set it up anew the next time you log in. Application passwords are as they were.")),
                not_you(),
            ],
        ),
        Notice::RecoveryWaits(at, path) => (
            language.t("Your second factor is going to be reset"),
            vec![
                with(language.t("By a code that was mailed to your recovery address, your second factor is going to be reset at {}."), &moment(at)),
                with(language.t("If it was not you, stop it on this page: {}"), &format!("{}{path}", house.origin.as_deref().unwrap_or_default())),
            ],
        ),
        Notice::RecoveryStopped => (
            language.t("Your second factor is not going to be reset"),
            vec![plain(language.t("The reset of your second factor that was waiting was stopped.")), not_you()],
        ),
        Notice::Reset => (
            language.t("Your second factor was reset"),
            vec![
                plain(language.t("An administrator has reset your second factor. Set it up anew the next time you log in.")),
                not_you(),
            ],
        ),
        Notice::RecoveryCodeUsed(left) => (
            language.t("A recovery code was used"),
            vec![
                with(language.t("One of your recovery codes was used in place of your second factor. So many are left: {}"), &left.to_string()),
                not_you(),
            ],
        ),
        Notice::Enrolled => (
            language.t("A second factor was set up"),
            vec![plain(language.t("An authenticator app was set up as the second factor of your account.")), not_you()],
        ),
        Notice::AddressChanged => (
            language.t("Your recovery address was changed"),
            vec![
                plain(language.t("Codes that reset your second factor are mailed to another address from now on. The address before and the new one are told.")),
                not_you(),
            ],
        ),
        Notice::PasskeyAdded(name) => (
            language.t("A passkey was added"),
            vec![with(language.t("A passkey was added to your account: {}"), &outside::shown(name, outside::NAME)), not_you()],
        ),
        Notice::PasskeyRemoved(name) => (
            language.t("A passkey was removed"),
            vec![with(language.t("A passkey was removed from your account: {}"), &outside::shown(name, outside::NAME)), not_you()],
        ),
    }
}

/// A text with a value in its place.
fn fill(text: &str, value: &str) -> String {
    let mut filled = String::with_capacity(text.len() + value.len());
    let mut pieces = text.splitn(2, "{}");
    filled.push_str(pieces.next().unwrap_or_default());
    if let Some(rest) = pieces.next() {
        filled.push_str(value);
        filled.push_str(rest);
    }
    filled
}

/// A code in two groups, as it is read more easily.
fn grouped(code: &str) -> Zeroizing<String> {
    let (first, second) = code.split_at_checked(code.len() / 2).unwrap_or((code, ""));
    // As long as it becomes: a text that grew would leave pieces of it behind.
    let mut grouped = Zeroizing::new(String::with_capacity(code.len() + 1));
    grouped.push_str(first);
    grouped.push('-');
    grouped.push_str(second);
    grouped
}

fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::Languages;

    const ALL: [Notice<'_>; 11] = [
        Notice::Code("ABCD2345", Timestamp::UNIX_EPOCH),
        Notice::CodeMailed,
        Notice::Recovered,
        Notice::RecoveryWaits(Timestamp::UNIX_EPOCH, "/second-factor/recover/stop?id=17"),
        Notice::RecoveryStopped,
        Notice::Reset,
        Notice::RecoveryCodeUsed(7),
        Notice::Enrolled,
        Notice::AddressChanged,
        Notice::PasskeyAdded("My\nphone"),
        Notice::PasskeyRemoved("key"),
    ];

    #[test]
    fn each_says_what_in_the_readers_language_and_whom_to_turn_to() {
        let house = House {
            organisation: Some("Example Ltd.".into()),
            contact: Some("Phone 4711".into()),
            host: "gw.test".into(),
            origin: Some("https://gw.test:4081".into()),
        };
        let who = Identity::new("alice", "EXAMPLE.TEST", "EXAMPLE.TEST");
        let happened = Happened { at: Timestamp::UNIX_EPOCH, client: Some("192.0.2.7".parse().unwrap()) };
        for tag in ["en", "de"] {
            let language = Languages::default().choose(Some(tag));
            for notice in ALL {
                let (subject, text) = write(&language, &house, &who, notice, happened);
                for word in ["alice@EXAMPLE.TEST", "Example Ltd.", "Phone 4711", "192.0.2.7"] {
                    assert!(text.contains(word), "{tag} {notice:?}: {}", *text);
                }
                assert!(!subject.is_empty() && !subject.contains('\n') && !text.contains("{}"), "{}", *text);
                let value = match notice {
                    Notice::Code(..) => "ABCD-2345",
                    Notice::RecoveryWaits(..) => "https://gw.test:4081/second-factor/recover/stop?id=17\n",
                    Notice::RecoveryCodeUsed(_) => ": 7",
                    Notice::PasskeyAdded(_) => "My\\nphone",
                    Notice::PasskeyRemoved(_) => ": key",
                    _ => "",
                };
                assert!(text.contains(value), "{tag} {notice:?}: {}", *text);
                assert_eq!(text.contains("ABCD"), matches!(notice, Notice::Code(..)));
            }
        }
    }
}
