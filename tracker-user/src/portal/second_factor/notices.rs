//! Users are told by mail of what is done to their second factor.

use super::Person;
use crate::mail::Notice;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::types::Identity;

/// Tells a user what was done in this visit: at their recovery address, and in their own mailbox where it is known. Waits for nothing;
/// where no mail is sent, nothing happens. Before a reset: it forgets where.
pub(in crate::portal) fn tell_by_mail(site: &Site, visit: &Visit, who: &Identity, what: Notice<'_>) {
    let notices = &site.parts().notices;
    let (to, client) = (notices.addresses(who), Some(visit.client()));
    notices.tell(who, to, what, client, visit.language(), Vec::new());
}

/// The same, where the recovery address was changed: `before` is told as well.
pub(super) fn tell_of_new_address(site: &Site, visit: &Visit, person: &Person, before: Option<String>) {
    let (notices, who) = (&site.parts().notices, person.identity());
    let mut to = notices.addresses(who);
    to.extend(before);
    let client = Some(visit.client());
    notices.tell(who, to, Notice::AddressChanged, client, visit.language(), Vec::new());
}
