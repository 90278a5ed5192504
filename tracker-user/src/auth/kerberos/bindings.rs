//! Channel bindings (RFC 5056): what a token must say of the TLS connection that it comes on.

use super::cause::Cause;
use crate::auth::channel::Channel;
use crate::auth::outcome::Failure;

/// What tokens that come under TLS must say of it. Without TLS there is no channel to speak of, and nothing is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBindings {
    /// It is not looked at.
    Off,
    /// A token that was made for another channel is refused; one that says nothing is accepted.
    #[default]
    Accept,
    /// One that says nothing is refused too.
    Require,
}

impl ChannelBindings {
    /// What the library compares the token's bindings with; `None` where it compares nothing.
    ///
    /// # Errors
    /// Where bindings are required and the channel has no name: nobody could prove themselves by it.
    pub(super) fn expected(self, channel: &Channel) -> Result<Option<&[u8]>, Failure> {
        match (self, channel) {
            (Self::Off, _) | (_, Channel::Plain) | (Self::Accept, Channel::Unnamed) => Ok(None),
            (_, Channel::Named(name)) => Ok(Some(name)),
            (Self::Require, Channel::Unnamed) => Err(Failure::Unavailable(
                "kerberos.channel-bindings = \"require\", and no channel binding is defined for the signature of the \
                 listener's certificate (RFC 5929: Ed25519 and others without a hash of their own): use one that is signed \
                 with RSA or ECDSA, or accept"
                    .into(),
            )),
        }
    }

    /// Whether a token that the library took will do: one that says nothing of its channel passes there. `is_bound`: it
    /// was made for this channel.
    pub(super) fn check(self, channel: &Channel, is_bound: bool) -> Result<(), Failure> {
        if self == Self::Require && *channel != Channel::Plain && !is_bound {
            let cause = Cause::Unbound;
            return Err(Failure::rejected(
                cause,
                format!("the token says nothing of the TLS connection that it came on: {}", cause.remedy()),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Rejection;

    #[test]
    fn what_is_asked_of_a_token_by_policy_and_channel() {
        use ChannelBindings::{Accept, Off, Require};
        let named = Channel::Named(b"name"[..].into());
        // What is compared (`Err`: nobody can log in), and whether a token without bindings will do.
        for (policy, channel, expected, unbound) in [
            (Off, &Channel::Plain, Ok(None), true),
            (Off, &Channel::Unnamed, Ok(None), true),
            (Off, &named, Ok(None), true),
            (Accept, &Channel::Plain, Ok(None), true),
            (Accept, &Channel::Unnamed, Ok(None), true),
            (Accept, &named, Ok(Some(&b"name"[..])), true),
            (Require, &Channel::Plain, Ok(None), true),
            (Require, &Channel::Unnamed, Err(()), false),
            (Require, &named, Ok(Some(&b"name"[..])), false),
        ] {
            let found = policy.expected(channel);
            assert!(!matches!(found, Err(Failure::Rejected(_))), "{found:?}");
            assert_eq!(found.map_err(drop), expected, "{policy:?} {channel:?}");
            match policy.check(channel, false) {
                Ok(()) => assert!(unbound, "{policy:?} {channel:?}"),
                Err(Failure::Rejected(Rejection { cause, .. })) => {
                    assert!(!unbound && cause == Cause::Unbound.into(), "{policy:?} {channel:?} {cause:?}");
                }
                Err(other) => panic!("{other:?}"),
            }
            assert!(policy.check(channel, true).is_ok());
        }
    }
}
