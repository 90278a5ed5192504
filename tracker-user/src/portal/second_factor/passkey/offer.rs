//! What a page shows where a passkey could be given or made.

use crate::auth::factors::Unusable;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::types::Factor;

use crate::types::Identity;

/// See the module. The templates are `second_factor/passkey_*.html`.
pub(in crate::portal) struct Offer {
    /// Why there is no button, translated; `None`: there is one, as far as the gateway can tell.
    pub(in crate::portal) why_not: Option<String>,
}

impl Offer {
    fn new(visit: &Visit, usable: Result<(), Unusable>) -> Self {
        Self { why_not: usable.err().map(|unusable| visit.language().say(&unusable.user_message())) }
    }

    /// To give one as a further factor; `None`: this user has none.
    pub(in crate::portal) fn to_give(site: &Site, visit: &Visit, who: &Identity) -> Option<Self> {
        let has = site.parts().factors.enrolled(who).has(Factor::Passkey);
        has.then(|| Self::new(visit, site.passkeys().usable(visit.host())))
    }

    /// To make one; `None`: nobody does here.
    pub(in crate::portal) fn to_make(site: &Site, visit: &Visit) -> Option<Self> {
        match site.passkeys().usable(visit.host()) {
            Err(Unusable::Off) => None,
            usable => Some(Self::new(visit, usable)),
        }
    }

    /// To log in with one alone; `None`: nobody does here.
    pub(in crate::portal) fn to_log_in(site: &Site, visit: &Visit) -> Option<Self> {
        match site.passkeys().usable_alone(visit.host()) {
            Err(Unusable::Off) => None,
            usable => Some(Self::new(visit, usable)),
        }
    }
}
