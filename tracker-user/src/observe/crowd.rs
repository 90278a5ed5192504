//! Strangers' records, of which there are only so many: none of them matters to a user, but one network alone should not
//! take all of them, and with them the others' places among the hosts that an operator sees.

use std::collections::HashMap;
use std::os::fd::AsFd as _;

use tracker_ebpf::abi::strangers_of;

use super::bpf;
use super::ebpf::Kernel;
use super::error::{self, ObserveError};
use crate::types::ClientAddr;

impl Kernel {
    /// Where strangers have all the records that they may have, those of a network that has more than a quarter of them
    /// are deleted beyond that, whatever is open. Returns how many.
    pub(super) fn thin_out(&self) -> Result<usize, ObserveError> {
        let most = strangers_of(self.max_records());
        if self.used()?.strangers < u64::from(most) {
            return Ok(0);
        }
        let mut networks: HashMap<ClientAddr, Vec<ClientAddr>> = HashMap::new();
        let told = bpf::entries(self.records_fd().as_fd(), |client, slot| {
            if slot.serves(&client) && slot.held == 0 {
                networks.entry(client.network()).or_default().push(client);
            }
        });
        told.map_err(|error| error::listing(&error))?;
        let fair = (most / 4).max(1) as usize;
        let mut evicted = 0;
        for client in networks.into_values().flat_map(|clients| clients.into_iter().skip(fair)) {
            evicted += usize::from(self.evict(client)?);
        }
        Ok(evicted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_64_is_one_network_and_an_ipv4_address_is_one() {
        let of = |text: &str| text.parse::<ClientAddr>().unwrap().network();
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_ne!(of("fe80::1%2"), of("fe80::1%3"));
    }
}
