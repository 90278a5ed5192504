//! Words for the person at a client.

use std::borrow::Cow;
use std::fmt::Write as _;

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
pub struct UserMessage(Cow<'static, str>);

impl UserMessage {
    /// These words.
    #[must_use]
    pub const fn new(words: &'static str) -> Self {
        Self(Cow::Borrowed(words))
    }

    /// The same, with more words behind it.
    #[must_use]
    pub fn then(mut self, words: &'static str) -> Self {
        self.0.to_mut().push_str(words);
        self
    }

    /// The same, with a name that the client itself has used behind it: a host, an address, a scheme. What does not occur
    /// in such names becomes `?`, and what is longer than any of them is cut.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        let message = self.0.to_mut();
        let may_stay = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        message.extend(name.chars().take(MAX_NAME).map(|c| if may_stay(c) { c } else { '?' }));
        self
    }

    /// The same, with a number behind it.
    #[must_use]
    pub fn number(mut self, number: impl Into<u64>) -> Self {
        // Writing to memory does not fail.
        let _ = write!(self.0.to_mut(), "{}", number.into());
        self
    }

    /// As it is read. It is plain text: a page escapes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
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
}
