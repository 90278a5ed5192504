//! What may be tuned, and the budgets that follow from it.

use std::time::Duration;

/// One address may send so many times the pair's budget of wrong secrets, for whatever accounts.
const ACCOUNTS_OF_AN_ADDRESS: u32 = 5;
/// But not more than this, unless the pair's own budget is larger: each try is kept for the time that it counts.
const TRIES_OF_AN_ADDRESS: u32 = 100;

/// How wrong secrets are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many wrong secrets one address may send for one account; 0: nothing is counted, and nobody is banned.
    pub max_retries: u32,
    /// The time within which they are counted.
    pub find_time: Duration,
    /// How long a ban lasts at least.
    pub ban_time: Duration,
}

impl Settings {
    /// Whether anything is counted.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.max_retries > 0
    }

    /// How many wrong secrets one address may send for one account.
    #[must_use]
    pub const fn of_a_pair(&self) -> u32 {
        self.max_retries
    }

    /// How many may be sent for one account by all together: one more, so that whoever is banned from it alone does not ban
    /// the others, and few enough that the directory does not lock the account.
    #[must_use]
    pub const fn of_an_account(&self) -> u32 {
        self.max_retries.saturating_add(1)
    }

    /// How many one address may send for all accounts together.
    #[must_use]
    pub const fn of_an_address(&self) -> u32 {
        let most =
            if self.max_retries > TRIES_OF_AN_ADDRESS { self.max_retries } else { TRIES_OF_AN_ADDRESS };
        let wanted = self.max_retries.saturating_mul(ACCOUNTS_OF_AN_ADDRESS);
        if wanted < most { wanted } else { most }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budgets_as_they_are_documented() {
        let budgets = |max_retries| {
            let settings = Settings { max_retries, find_time: Duration::ZERO, ban_time: Duration::ZERO };
            [settings.of_a_pair(), settings.of_an_account(), settings.of_an_address()]
        };
        assert_eq!(budgets(3), [3, 4, 15], "the defaults: an account's stays below 5");
        assert_eq!(budgets(1), [1, 2, 5]);
        assert_eq!(budgets(30), [30, 31, 100]);
        assert_eq!(budgets(100), [100, 101, 100]);
        assert_eq!(budgets(101), [101, 102, 101]);
    }
}
