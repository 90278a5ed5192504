//! The answers that the proxy gives itself: small pages that name what went wrong and whose turn it is.

use std::fmt::Write as _;

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::access::Body;

/// A page. Never says who the user is: whoever sits at the client may be somebody else.
#[derive(Clone, Debug)]
pub(super) struct Page {
    status: StatusCode,
    text: String,
    close: bool,
    retry: bool,
}

/// One column that is pleasant to read on any screen, in light and dark.
macro_rules! style {
    () => {
        "<meta name=\"viewport\" content=\"width=device-width\"><style>:root{color-scheme:light dark}\
         body{font:1rem/1.5 system-ui,sans-serif;max-width:38rem;margin:4rem auto;padding:0 1rem}\
         h1{font-size:1.4rem}small{opacity:.7}</style>"
    };
}
pub(super) use style;

impl Page {
    /// `text` is plain: it is escaped here.
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into(), close: false, retry: false }
    }

    /// A request that cannot be understood: what follows on the connection cannot be either.
    pub(super) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text).closing()
    }

    /// Closes the connection after the page.
    pub(super) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Asks the client to try again in a second.
    pub(super) fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let heading = self.status.canonical_reason().unwrap_or("Error");
        let mut html = String::with_capacity(640 + self.text.len());
        let _ = write!(
            html,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{code} {heading}</title>{style}</head>\n\
             <body><h1>{heading}</h1>\n<p>",
            code = self.status.as_u16(),
            style = style!(),
        );
        escape(&self.text, &mut html);
        let _ =
            write!(html, "</p>\n<small>{} from the proxy</small>\n</body></html>\n", self.status.as_u16());
        let mut response = Response::new(Body::full(Bytes::from(html)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.retry {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn escape(text: &str, html: &mut String) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c if c.is_control() => html.push('\u{fffd}'),
            c => html.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_sent_cannot_become_markup() {
        let mut html = String::new();
        escape("<script>alert('a&b')</script>\n", &mut html);
        assert_eq!(html, "&lt;script&gt;alert(&#39;a&amp;b&#39;)&lt;/script&gt;\u{fffd}");
    }
}
