//! Forms that this browser was given here, filled in, and sent back.

use axum::extract::{Form, FromRequest, Request};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{HeaderMap, ORIGIN};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroize as _;

use super::site::Site;
use super::visit::Visit;
use crate::types::UserMessage;

/// What a form says. Whoever takes this gets nothing that another site has sent: the extractor has looked at `Sec-Fetch-Site`, at
/// `Origin` and at the form's token.
pub(super) struct Posted<T>(pub(super) T);

/// The field that is in every form.
#[derive(Deserialize)]
struct Tokened {
    token: String,
}

impl<T: DeserializeOwned> FromRequest<Site> for Posted<T> {
    type Rejection = Response;

    async fn from_request(request: Request, site: &Site) -> Result<Self, Response> {
        const AGAIN: &str = "Open the page again, and fill it in once more.";
        let Some(visit) = request.extensions().get::<Visit>().cloned() else {
            return Err(StatusCode::INTERNAL_SERVER_ERROR.into_response());
        };
        let headers = request.headers().clone();
        // Whole in memory already, and no larger than a form may be.
        let Ok(form) = Bytes::from_request(request, site).await else {
            return Err(StatusCode::BAD_REQUEST.into_response());
        };
        let token = read::<Tokened>(&headers, &form).await.map(|form| form.token).unwrap_or_default();
        if !comes_from_here(&headers, &visit) || !visit.is_own_form(&token) {
            site.parts().stats.refused("form").inc();
            let message = UserMessage::new(AGAIN);
            return Err(visit.problem(StatusCode::FORBIDDEN, "This form is not valid any more", &message));
        }
        let said = read(&headers, &form).await;
        // There may be a password in it.
        if let Ok(mut form) = form.try_into_mut() {
            form.zeroize();
        }
        match said {
            Some(said) => Ok(Self(said)),
            None => {
                let message = UserMessage::new(AGAIN);
                Err(visit.problem(StatusCode::BAD_REQUEST, "This form cannot be read", &message))
            }
        }
    }
}

/// What a form says, if it says that.
async fn read<T: DeserializeOwned>(headers: &HeaderMap, form: &Bytes) -> Option<T> {
    let mut request = Request::new(form.clone().into());
    *request.method_mut() = Method::POST;
    *request.headers_mut() = headers.clone();
    Form::from_request(request, &()).await.ok().map(|Form(form)| form)
}

/// Whether nothing says that another site has had the browser send it: where there is the field at all, `Sec-Fetch-Site` says the
/// same origin, and `Origin` is this very page's.
fn comes_from_here(headers: &HeaderMap, visit: &Visit) -> bool {
    is_from(headers, &visit.origin())
}

fn is_from(headers: &HeaderMap, own: &str) -> bool {
    let all = |name: &str, wanted: &[u8]| {
        headers.get_all(name).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(wanted))
    };
    all("sec-fetch-site", b"same-origin") && all(ORIGIN.as_str(), own.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_site_has_a_browser_send_is_known_by_either_field() {
        const OWN: &str = "https://gw.example.test:4081";
        for (site, origin, is_own) in [
            (None, None, true),
            (Some("same-origin"), None, true),
            (Some("same-origin"), Some(OWN), true),
            (None, Some(OWN), true),
            (None, Some("https://GW.example.test:4081"), true),
            (Some("same-site"), None, false),
            (Some("cross-site"), None, false),
            (Some("none"), None, false),
            (Some(""), None, false),
            (Some("cross-site"), Some(OWN), false),
            (Some("same-origin"), Some("null"), false),
            (None, Some("null"), false),
            (None, Some("https://gw.example.test"), false),
            (None, Some("http://gw.example.test:4081"), false),
            (None, Some("https://gw.example.test:4081.evil.test"), false),
            (None, Some("https://evil.test"), false),
            (None, Some(""), false),
        ] {
            let mut headers = HeaderMap::new();
            let fields = [("sec-fetch-site", site), ("origin", origin)];
            for (name, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value?))) {
                headers.append(name, value.parse().unwrap());
            }
            assert_eq!(is_from(&headers, OWN), is_own, "{site:?} {origin:?}");
            headers.append("origin", "https://evil.test".parse().unwrap());
            assert!(!is_from(&headers, OWN), "a second one counts as well");
        }
    }

    #[tokio::test]
    async fn a_form_is_read_as_what_it_should_be() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Wanted {
            count: u32,
            name: Option<String>,
        }
        let mut headers = HeaderMap::new();
        let form = Bytes::from_static(b"token=t&count=7&more=x");
        assert_eq!(read::<Wanted>(&headers, &form).await, None, "it does not say that it is a form");
        headers.append("content-type", "application/x-www-form-urlencoded".parse().unwrap());
        assert_eq!(read(&headers, &form).await, Some(Wanted { count: 7, name: None }));
        assert_eq!(read::<Wanted>(&headers, &Bytes::from_static(b"count=x")).await, None);
    }
}
