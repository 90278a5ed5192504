//! Words for the person at a client.

use std::borrow::Cow;

/// The most bytes of a name in a message: a host name has 253, and a port behind it six.
const MAX_NAME: usize = 264;

/// A sentence or two for the person at a client: what happened, and what they can do. It never says how the gateway is set,
/// where its files are, or what its operator has to do.
///
/// It can be made only of words that are written in the program, of names and of numbers. So no error's text, no setting
/// and no path can become part of it: what an operator is told is another string, for the log and the audit trail.
///
/// ```
/// use tracker::types::UserMessage;
/// let message = UserMessage::new("Requests to port ").number(25_u16).then(" are not allowed by this proxy.");
/// assert_eq!(message.as_str(), "Requests to port 25 are not allowed by this proxy.");
/// ```
///
/// ```compile_fail
/// let error = std::io::Error::other("see /var/lib/tracker");
/// tracker::types::UserMessage::new(&error.to_string());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserMessage {
    /// As it is read in English.
    text: Cow<'static, str>,
    first: &'static str,
    rest: Vec<Part>,
}

/// What a message is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// Words of the program's.
    Words(&'static str),
    /// A name or a number.
    Value(String),
}

/// Stands for a name or a number in the text by which languages know a message.
const VALUE: &str = "{}";

impl UserMessage {
    /// These words.
    #[must_use]
    pub const fn new(words: &'static str) -> Self {
        Self { text: Cow::Borrowed(words), first: words, rest: Vec::new() }
    }

    /// The same, with more words behind it.
    #[must_use]
    pub fn then(mut self, words: &'static str) -> Self {
        self.text.to_mut().push_str(words);
        self.rest.push(Part::Words(words));
        self
    }

    /// The same, with a name that the client itself has used behind it: a host, an address, a scheme. What does not occur
    /// in such names becomes `?`, and what is longer than any of them is cut.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        let may_stay = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        self.value(name.chars().take(MAX_NAME).map(|c| if may_stay(c) { c } else { '?' }).collect())
    }

    /// The same, with a number behind it.
    #[must_use]
    pub fn number(self, number: impl Into<u64>) -> Self {
        self.value(number.into().to_string())
    }

    fn value(mut self, value: String) -> Self {
        self.text.to_mut().push_str(&value);
        self.rest.push(Part::Value(value));
        self
    }

    /// As it is read. It is plain text: a page escapes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its pieces of words.
    #[cfg(test)]
    pub(crate) fn parts(&self) -> Vec<&'static str> {
        let rest = self.rest.iter().filter_map(|part| match part {
            Part::Words(words) => Some(*words),
            Part::Value(_) => None,
        });
        std::iter::once(self.first).chain(rest).collect()
    }

    /// The text by which languages know it: `{}` stands for each name and number.
    #[must_use]
    pub fn template(&self) -> String {
        let rest = self.rest.iter().map(|part| match part {
            Part::Words(words) => *words,
            Part::Value(_) => VALUE,
        });
        std::iter::once(self.first).chain(rest).collect()
    }

    /// In another language: as a whole where it is known as that, else piece by piece; what is not known stays English.
    /// `translate` says what an English text is in that language.
    #[must_use]
    pub fn translated(&self, translate: impl Fn(&str) -> Option<String>) -> String {
        if let Some(whole) = translate(&self.template()).and_then(|text| self.filled_in(&text)) {
            return whole;
        }
        let words = |words: &str| {
            let core = words.trim();
            translate(core).map_or_else(|| words.to_owned(), |text| words.replacen(core, &text, 1))
        };
        let rest = self.rest.iter().map(|part| match part {
            Part::Words(own) => words(own),
            Part::Value(value) => value.clone(),
        });
        std::iter::once(words(self.first)).chain(rest).collect()
    }

    /// A template with the names and numbers in it, if it has a place for each.
    fn filled_in(&self, template: &str) -> Option<String> {
        let mut pieces = template.split(VALUE);
        let mut text = pieces.next()?.to_owned();
        for part in &self.rest {
            if let Part::Value(value) = part {
                text.push_str(value);
                text.push_str(pieces.next()?);
            }
        }
        pieces.next().is_none().then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_names_and_numbers() {
        let message = UserMessage::new("Port ").number(25_u16).then(" of ").name("a_b.test:25").then(".");
        assert_eq!(message.as_str(), "Port 25 of a_b.test:25.");
        assert_eq!(UserMessage::new("[").name("[2001:db8::1]:80").as_str(), "[[2001:db8::1]:80");
    }

    #[test]
    fn what_is_no_name_does_not_pass_for_one() {
        let operators = "raise licences, see /var/lib/tracker; <b>ü\n";
        let shown = UserMessage::new("").name(operators);
        assert_eq!(shown.as_str(), "raise?licences??see??var?lib?tracker???b???");
        assert_eq!(UserMessage::new("").name(&"x".repeat(1000)).as_str().len(), MAX_NAME);
    }

    #[test]
    fn another_language_has_its_own_order() {
        let message =
            UserMessage::new("Port ").number(25_u16).then(" of ").name("a.test").then(" is closed.");
        assert_eq!(message.template(), "Port {} of {} is closed.");
        let say = |known: &'static [(&str, &str)]| {
            let find =
                |text: &str| known.iter().find(|(own, _)| *own == text).map(|(_, said)| (*said).to_owned());
            message.translated(find)
        };
        assert_eq!(say(&[]), message.as_str());
        assert_eq!(say(&[("Port {} of {} is closed.", "Zu: {} ({})!")]), "Zu: 25 (a.test)!");
        // A file with a mistake in it loses no name.
        assert_eq!(
            say(&[("Port {} of {} is closed.", "Zu: {}"), ("of", "von")]),
            "Port 25 von a.test is closed."
        );
        assert_eq!(say(&[("Port {} of {} is closed.", "Zu: {} {} {}")]), message.as_str());
    }
}
