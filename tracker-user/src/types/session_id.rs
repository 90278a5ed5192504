//! The number of a session, and of the gateway that gave it.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// The number of a gateway: drawn at random when its database is made, and drawn anew when the database turns out to be a
/// copy. Shown as 8 hexadecimal digits; 0 is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayId(NonZeroU32);

impl GatewayId {
    /// The gateway with this number; `None` for 0.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The number of a session: the gateway that it began on, and a number that this gateway never uses again. Shown as
/// `gggggggg-nnnnnnnnnnnnnnnn`, both hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    gateway: GatewayId,
    number: u64,
}

impl SessionId {
    /// The session that `gateway` gave this number.
    #[must_use]
    pub const fn new(gateway: GatewayId, number: u64) -> Self {
        Self { gateway, number }
    }

    /// A session of some gateway.
    #[cfg(test)]
    #[must_use]
    pub const fn test(number: u64) -> Self {
        Self { gateway: GatewayId(NonZeroU32::MIN), number }
    }

    /// The gateway that it began on.
    #[must_use]
    pub const fn gateway(self) -> GatewayId {
        self.gateway
    }

    /// Its number there.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.number
    }

    /// The number that the same gateway gives next.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { gateway: self.gateway, number: self.number.wrapping_add(1) }
    }

    /// Both numbers in one, in the same order.
    #[must_use]
    pub const fn to_bits(self) -> u128 {
        (self.gateway.number() as u128) << 64 | self.number as u128
    }

    /// The session with these bits; `None` where they name no gateway.
    #[must_use]
    pub const fn from_bits(bits: u128) -> Option<Self> {
        match GatewayId::new((bits >> 64) as u32) {
            Some(gateway) => Some(Self { gateway, number: bits as u64 }),
            None => None,
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.gateway, self.number)
    }
}

/// It is no number of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the number of a session like 0000002a-0000000000000007")]
pub struct NoSessionId;

impl FromStr for SessionId {
    type Err = NoSessionId;

    fn from_str(text: &str) -> Result<Self, NoSessionId> {
        let (gateway, number) = text.split_once('-').ok_or(NoSessionId)?;
        let is_hex = |text: &str, digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex(gateway, 8) || !is_hex(number, 16) {
            return Err(NoSessionId);
        }
        let gateway = u32::from_str_radix(gateway, 16).ok().and_then(GatewayId::new).ok_or(NoSessionId)?;
        let number = u64::from_str_radix(number, 16).map_err(|_| NoSessionId)?;
        Ok(Self { gateway, number })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const _: () = assert!(size_of::<Option<SessionId>>() == 16);

    proptest! {
        #[test]
        fn a_number_reads_back_as_it_is_shown(gateway in 1..=u32::MAX, number: u64) {
            let id = SessionId::new(GatewayId::new(gateway).unwrap(), number);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(SessionId::from_bits(id.to_bits()), Some(id));
            prop_assert_eq!((id.gateway().number(), id.number()), (gateway, number));
        }

        #[test]
        fn the_order_is_that_of_the_bits(a: (u32, u64), b: (u32, u64)) {
            let id = |(gateway, number): (u32, u64)| SessionId::new(GatewayId::new(gateway.max(1)).unwrap(), number);
            prop_assert_eq!(id(a).cmp(&id(b)), id(a).to_bits().cmp(&id(b).to_bits()));
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in
            ["", "-", "0000000000000007", "00000000-0000000000000007", "1-7", "0000002a-+000000000000007"]
        {
            assert_eq!(text.parse::<SessionId>(), Err(NoSessionId), "{text}");
        }
        assert_eq!(SessionId::from_bits(7), None, "no gateway has the number 0");
        assert_eq!(SessionId::test(7).to_string(), "00000001-0000000000000007");
    }
}
