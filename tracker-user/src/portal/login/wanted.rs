//! Where somebody wanted to go who was led to the form.

use super::pending::Pending;
use crate::clock::boot_now;
use crate::portal::site::Site;
use crate::portal::visit::Visit;

/// The length of a name.
const NAME: usize = 32;

/// See the module.
#[derive(Debug)]
pub(in crate::portal) struct Wanted {
    /// Its name, in the address of the form and in the form.
    pub(super) id: String,
    /// The address, which never leaves this host but to go there.
    pub(super) url: String,
}

impl Wanted {
    /// Its name.
    pub(in crate::portal) fn id(&self) -> &str {
        &self.id
    }

    /// The address.
    pub(in crate::portal) fn url(&self) -> &str {
        &self.url
    }

    /// What is kept under this name, whoever says it: for this client, and for the browser that asked first. Nothing else is ever
    /// a target.
    pub(in crate::portal) fn find(site: &Site, visit: &Visit, id: &str) -> Option<Self> {
        if id.len() != NAME || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) || !visit.is_tls() {
            return None;
        }
        let (client, browser, now) = (visit.client(), visit.browser(), boot_now());
        let pending: &Pending = site.pending();
        if let Some(url) = pending.url(client, &browser, id, now) {
            return Some(Self { id: id.to_owned(), url });
        }
        let url = site.parts().targets.take(client, id, now).filter(|url| is_plain(url))?;
        pending.keep(client, &browser, id, url.clone(), now);
        Some(Self { id: id.to_owned(), url })
    }
}

/// Whether it is an address that can stand on a page, and means the same there.
fn is_plain(url: &str) -> bool {
    url.starts_with("http://") && url.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `id` as part of an address of ours; nothing where it is no name.
pub(super) fn query(id: &str) -> String {
    let is_name = id.len() == NAME && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_name { format!("?to={id}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_carries_an_address() {
        let name = "0123456789abcdef0123456789abcdef";
        assert_eq!(query(name), format!("?to={name}"));
        for other in
            ["", "http://evil.test/", "//evil.test", "&x", &name[1..], "0123456789abcdef0123456789abcdeg"]
        {
            assert_eq!(query(other), "", "{other}");
        }
    }

    #[test]
    fn what_would_mean_something_else_on_a_page_is_no_target() {
        assert!(is_plain("http://a.test/x?y=\"1\"&z='2'"));
        for other in
            ["https://a.test/", "http://a.test/\n", "http://a.test/ b", "javascript:1", "http://a.test/ü"]
        {
            assert!(!is_plain(other), "{other}");
        }
    }
}
