//! Further factors: what users have set up besides their password or ticket, what of it is demanded of them, and whether what
//! they show is good.
//!
//! [`SecondFactors`] is the one book of it. It stands in memory, sealed as it is on disk; whoever changes an account gets the
//! rows that say so, and hands them to the journal with what depends on them: a code is spent in the transaction that keeps
//! the session which it begins. What is in the book is ahead of the disk by what is on its way there: nothing is good twice.

mod account;
mod account_password;
mod book;
mod budget;
mod code;
mod counters;
mod devices;
mod held;
mod passkeys;
mod recovery;
mod recovery_address;

pub use account::{Account, Authenticator, Passkey, RecoveryCode};
pub use book::{OnLoss, SecondFactors, Sent, Settings, line};
pub use code::{Checked, Enrolment, Wrong};
pub use counters::FactorCollector;
pub use devices::{Device, Devices, Found, Terms};
pub use held::NoAccount;
pub use passkeys::Refused as PasskeyRefused;
pub use passkeys::{
    Asked, Asking, LONGEST_NAME, MOST as MOST_PASSKEYS, New as NewPasskey, Passkeys, RelyingParty, Unusable,
};
pub use recovery::{GOOD_FOR, Mailed, NotMailed, Recovered, Recovery};
pub use recovery_address::{Mailboxes, NoRecoveryAddress, RecoveryAddress};
