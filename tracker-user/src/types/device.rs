//! The hardware address behind a client address.

use std::fmt;
use std::str::FromStr;

/// The longest address there is: `InfiniBand`'s.
const LONGEST: usize = 20;

/// A hardware address, as `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Device {
    bytes: [u8; LONGEST],
    length: u8,
}

impl Device {
    /// The device with this address; `None` if it is none that tells devices apart.
    #[must_use]
    pub fn new(address: &[u8]) -> Option<Self> {
        let mut bytes = [0; LONGEST];
        bytes.get_mut(..address.len())?.copy_from_slice(address);
        let length = u8::try_from(address.len()).ok()?;
        (bytes != [0; LONGEST]).then_some(Self { bytes, length })
    }

    /// The address.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.bytes().iter().enumerate() {
            let colon = if index > 0 { ":" } else { "" };
            write!(f, "{colon}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({self})")
    }
}

/// It is no hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a hardware address like aa:bb:cc:dd:ee:ff")]
pub struct NoDevice;

impl FromStr for Device {
    type Err = NoDevice;

    fn from_str(text: &str) -> Result<Self, NoDevice> {
        let byte = |part: &str| match part.len() {
            1 | 2 if part.bytes().all(|b| b.is_ascii_hexdigit()) => {
                u8::from_str_radix(part, 16).map_err(|_| NoDevice)
            }
            _ => Err(NoDevice),
        };
        let bytes = text.split(':').map(byte).collect::<Result<Vec<u8>, _>>()?;
        Self::new(&bytes).ok_or(NoDevice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_are_shown() {
        let device = Device::new(&[0xaa, 0, 1, 2, 3, 0xff]).unwrap();
        assert_eq!(device.to_string(), "aa:00:01:02:03:ff");
        assert_eq!("AA:0:01:2:3:ff".parse(), Ok(device));
        assert_ne!(Device::new(&[1]), Device::new(&[1, 0]));
        for none in ["", ":", "aa:", "aa:bbb", "aa:gg", "00:00", "+1:2"] {
            assert_eq!(none.parse::<Device>(), Err(NoDevice), "{none}");
        }
        assert_eq!(Device::new(&[1; 21]), None);
        assert!(Device::new(&[1; 20]).is_some());
        assert_eq!(Device::new(&[0; 6]), None, "a loopback's");
    }
}
