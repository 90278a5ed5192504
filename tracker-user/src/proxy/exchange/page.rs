//! How a page of the proxy's own looks: in the house style, in the reader's language, with its time and its number.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::auth::{Scheme, Schemes};
use crate::outside;
use crate::pages::{House, Language};
use crate::proxy::access::RequestNumber;
use crate::types::UserMessage;

/// What a page says.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Page {
    pub(super) heading: UserMessage,
    pub(super) message: UserMessage,
    /// What its reader may tell the operator.
    pub(super) label: Option<&'static str>,
    /// What these schemes need is listed.
    pub(super) remedies: Schemes,
    /// The address of a page where its reader can log in.
    pub(super) login: Option<String>,
    /// A browser that shows it goes on to there at once.
    pub(super) leads_on: bool,
}

/// What all pages of a moment have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dress<'a> {
    pub(super) house: &'a House,
    pub(super) language: &'a Language,
    pub(super) number: RequestNumber,
    pub(super) time: Timestamp,
}

const TICKET: [&str; 2] = [
    "Log in to your domain, or run kinit, where its servers can be reached.",
    "Use the proxy by its full name, not by its address.",
];
const PASSWORD: [&str; 1] = ["Give your browser or program your name and password for this proxy."];

impl Page {
    /// The page as HTML.
    pub(super) fn render(&self, status: http::StatusCode, dress: &Dress<'_>) -> String {
        let Dress { house, language, number, time } = *dress;
        let mut html = Html(String::with_capacity(2_048 + self.message.as_str().len()));
        let (code, reason) = (status.as_str(), status.canonical_reason().unwrap_or("Error"));
        html.raw(&["<!DOCTYPE html>\n<html lang=\""]).text(language.tag()).raw(&[
            "\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>",
            code,
            " ",
        ]);
        html.text(language.t(reason));
        if let Some(organisation) = house.organisation() {
            html.raw(&[" – "]).text(organisation);
        }
        html.raw(&["</title>"]);
        if let Some(login) = self.login.as_ref().filter(|_| self.leads_on) {
            html.raw(&["<meta http-equiv=\"refresh\" content=\"0; url="]).text(login).raw(&["\">"]);
        }
        html.raw(&["<style>", house.style(), "</style></head>\n<body>"]);
        if let Some(organisation) = house.organisation() {
            html.raw(&["<header>"]).text(organisation).raw(&["</header>\n"]);
        }
        html.raw(&["<main><h1>"]).text(&language.say(&self.heading)).raw(&["</h1>\n<p>"]);
        html.text(&language.say(&self.message)).raw(&["</p>\n"]);
        let ticket = TICKET.iter().filter(|_| self.remedies.has(Scheme::Negotiate));
        let password = PASSWORD.iter().filter(|_| self.remedies.has(Scheme::Basic));
        let mut remedies = ticket.chain(password).peekable();
        if remedies.peek().is_some() {
            html.raw(&["<ul>"]);
            for remedy in remedies {
                html.raw(&["<li>"]).text(language.t(remedy)).raw(&["</li>\n"]);
            }
            html.raw(&["</ul>\n"]);
        }
        if let Some(login) = &self.login {
            html.raw(&["<p><a href=\""]).text(login).raw(&["\">"]);
            html.text(language.t("Log in on the login page")).raw(&["</a></p>\n"]);
        }
        html.raw(&["</main>\n<footer>"]);
        if let Some(contact) = house.contact() {
            html.raw(&["<p>"]).text(language.t("Help")).raw(&[": "]).text(contact).raw(&["</p>\n"]);
        }
        html.raw(&["<small>", code, " "]).text(language.t("from the proxy"));
        if let Some(label) = self.label {
            html.raw(&[" (", label, ")"]);
        }
        let time = time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string();
        html.raw(&[" · "]).text(&time).raw(&[" · "]).text(language.t("Request"));
        html.raw(&[" <code>", &number.to_string(), "</code></small></footer>\n</body></html>\n"]);
        html.0
    }
}

struct Html(String);

impl Html {
    /// As it is.
    fn raw(&mut self, parts: &[&str]) -> &mut Self {
        parts.iter().for_each(|part| self.0.push_str(part));
        self
    }

    /// What is no markup.
    fn text(&mut self, text: &str) -> &mut Self {
        for c in outside::shown(text, outside::SENTENCE).chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::pages::{Brand, Languages};
    use crate::types::ConnectionId;

    #[test]
    fn what_clients_sent_cannot_become_markup() {
        let mut html = Html(String::new());
        html.text("<script>alert('a&b')</script>\n");
        assert_eq!(html.0, "&lt;script&gt;alert(&#39;a&amp;b&#39;)&lt;/script&gt;\\n");
    }

    #[test]
    fn every_page_has_time_number_language_and_whose_it_is() {
        let brand = Brand {
            organisation: Some("Example & Sons".into()),
            contact: Some("help@example.test".into()),
            ..Brand::default()
        };
        let (house, languages) = (House::of(&brand), Languages::default());
        let page = Page {
            heading: UserMessage::new("Bad Gateway"),
            message: UserMessage::new("Requests to port ")
                .number(25_u16)
                .then(" are not allowed by this proxy."),
            label: Some("x"),
            remedies: Schemes::NEGOTIATE,
            login: Some("https://a.test/?a=b&c".into()),
            leads_on: false,
        };
        let number = RequestNumber::new(ConnectionId::new(0xabc.try_into().unwrap()), 7);
        let time = "2026-11-29T03:04:05Z".parse().unwrap();
        for (accepted, words) in [
            (None, ["lang=\"en\"", "Requests to port 25 are not allowed", "502 from the proxy (x)"]),
            (Some("de"), ["lang=\"de\"", "Anfragen an Port 25", "502 vom Proxy (x)"]),
        ] {
            let language = languages.choose(accepted);
            let dress = Dress { house: &house, language: &language, number, time };
            let html = page.render(StatusCode::BAD_GATEWAY, &dress);
            let all = [
                "<code>cabc-7</code>",
                "2026-11-29 ",
                "Example &amp; Sons",
                "help@example.test",
                "b&amp;c\">",
            ];
            for word in words.into_iter().chain(all) {
                assert!(html.contains(word), "{word}: {html}");
            }
            assert!(html.len() < 2_500, "{}", html.len());
        }
    }
}
