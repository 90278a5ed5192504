//! What is told of second factors.

use std::sync::Arc;

use super::actor::Actor;
use crate::types::{ClientAddr, Identity};

/// Something was done to a user's second factor, or one was not accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct SecondFactorEvent {
    /// Whose.
    pub user: Arc<Identity>,
    /// From where; `None` where nobody came by the network.
    pub client: Option<ClientAddr>,
    /// What.
    pub what: FactorChange,
    /// What of several it was: the name of a passkey, of an application password, of a browser.
    pub of: Option<Box<str>>,
    /// Whose order it was; `None` where it was a try that was not accepted.
    pub actor: Option<Actor>,
    /// In one that was not accepted, how many more like it have no line of their own.
    pub count: Option<u64>,
}

/// What was done to a user's second factor, or what was not accepted. One word each, the same in logs, metrics, on disk and in
/// the API; they stay what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FactorChange {
    /// An authenticator was set up, and its first code was right.
    Enrolled,
    /// The authenticator was taken away by its user.
    Removed,
    /// A passkey was added.
    PasskeyAdded,
    /// A passkey was taken away.
    PasskeyRemoved,
    /// The recovery address was changed.
    RecoveryAddress,
    /// Ten new recovery codes were made; those before count no more.
    RecoveryCodes,
    /// A recovery code was used.
    RecoveryCodeUsed,
    /// A code that resets the second factor was mailed.
    RecoveryMailed,
    /// The mailed code was right, and the reset takes effect after a while.
    RecoveryWaits,
    /// A reset by mail was stopped before it took effect.
    RecoveryStopped,
    /// The second factor was reset by a mailed code.
    Recovered,
    /// The second factor was reset by an operator.
    Reset,
    /// A browser is remembered.
    DeviceRemembered,
    /// A browser is remembered no more.
    DeviceForgotten,
    /// An application password was made.
    ApplicationPasswordMade,
    /// An application password was deleted.
    ApplicationPasswordDeleted,
    /// A code was wrong, or was used before.
    WrongCode,
    /// A recovery code, printed or mailed, was wrong.
    WrongRecoveryCode,
    /// A passkey was not accepted.
    WrongPasskey,
    /// A passkey's counter went back: there may be a copy of it.
    PasskeyCounter,
    /// An application password was not accepted.
    WrongApplicationPassword,
    /// Too many were wrong: none is looked at for a while.
    TooMany,
    /// So many were wrong since one was right that no code is looked at any more: only a recovery or an administrator helps.
    Locked,
    /// The account's own password came by Basic, where only an application password is good.
    AccountPassword,
}

impl FactorChange {
    /// Each of them.
    pub const ALL: [Self; 24] = [
        Self::Enrolled,
        Self::Removed,
        Self::PasskeyAdded,
        Self::PasskeyRemoved,
        Self::RecoveryAddress,
        Self::RecoveryCodes,
        Self::RecoveryCodeUsed,
        Self::RecoveryMailed,
        Self::RecoveryWaits,
        Self::RecoveryStopped,
        Self::Recovered,
        Self::Reset,
        Self::DeviceRemembered,
        Self::DeviceForgotten,
        Self::ApplicationPasswordMade,
        Self::ApplicationPasswordDeleted,
        Self::WrongCode,
        Self::WrongRecoveryCode,
        Self::WrongPasskey,
        Self::PasskeyCounter,
        Self::WrongApplicationPassword,
        Self::TooMany,
        Self::Locked,
        Self::AccountPassword,
    ];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enrolled => "enrolled",
            Self::Removed => "removed",
            Self::PasskeyAdded => "passkey-added",
            Self::PasskeyRemoved => "passkey-removed",
            Self::RecoveryAddress => "recovery-address",
            Self::RecoveryCodes => "recovery-codes",
            Self::RecoveryCodeUsed => "recovery-code-used",
            Self::RecoveryMailed => "recovery-mailed",
            Self::RecoveryWaits => "recovery-waits",
            Self::RecoveryStopped => "recovery-stopped",
            Self::Recovered => "recovered",
            Self::Reset => "reset",
            Self::DeviceRemembered => "device-remembered",
            Self::DeviceForgotten => "device-forgotten",
            Self::ApplicationPasswordMade => "app-password-made",
            Self::ApplicationPasswordDeleted => "app-password-deleted",
            Self::WrongCode => "wrong-code",
            Self::WrongRecoveryCode => "wrong-recovery-code",
            Self::WrongPasskey => "wrong-passkey",
            Self::PasskeyCounter => "passkey-counter",
            Self::WrongApplicationPassword => "wrong-app-password",
            Self::TooMany => "too-many",
            Self::Locked => "locked",
            Self::AccountPassword => "account-password",
        }
    }

    /// Whether something was not accepted.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::WrongCode
                | Self::WrongRecoveryCode
                | Self::WrongPasskey
                | Self::PasskeyCounter
                | Self::WrongApplicationPassword
                | Self::TooMany
                | Self::Locked
                | Self::AccountPassword
        )
    }
}
