//! The policy in force, as the store keeps it: after a restart, what happened meanwhile is judged by it first.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::text;
use crate::clock::{Anchor, BootTime};
use crate::session::factors::Demand;
use crate::session::settings::{DeviceChange, Mode, OnTimeout, Revalidate, TrafficDirection};
use crate::session::{FactorPolicy, Policy, Timeouts};
use crate::types::Method;

/// The form below. A form with another number is another version's.
const FORM: u32 = 1;

/// Which of a realm's users are asked for a second factor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StoredDemand {
    IfEnrolled,
    Always,
}

impl From<Demand> for StoredDemand {
    fn from(demand: Demand) -> Self {
        match demand {
            Demand::IfEnrolled => Self::IfEnrolled,
            Demand::Always => Self::Always,
        }
    }
}

impl From<StoredDemand> for Demand {
    fn from(stored: StoredDemand) -> Self {
        match stored {
            StoredDemand::IfEnrolled => Self::IfEnrolled,
            StoredDemand::Always => Self::Always,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredPolicy {
    form: u32,
    timeout: Duration,
    #[serde(with = "text")]
    mode: Mode,
    lifetime_enabled: bool,
    lifetime_timeout: Duration,
    #[serde(with = "text")]
    traffic_direction: TrafficDirection,
    #[serde(with = "text")]
    on_timeout: OnTimeout,
    #[serde(with = "text")]
    revalidate: Revalidate,
    #[serde(with = "text")]
    device_change: DeviceChange,
    #[serde(with = "text::list")]
    shared_hosts: Vec<IpNet>,
    max_users: u32,
    devices_per_user: u32,
    /// None before there were guests.
    #[serde(with = "text::list", default)]
    guests: Vec<IpNet>,
    factors_by_realm: BTreeMap<String, StoredDemand>,
    #[serde(with = "text::list")]
    methods_trusted_alone: Vec<Method>,
    /// Since when it was in force, in nanoseconds of the boot below.
    since: i64,
    /// The boot that it was in force in.
    boot: String,
    /// How the clocks stood to each other: nanoseconds of wall time at the beginning of that boot.
    offset: i64,
}

impl StoredPolicy {
    /// What is to be kept of `policy`.
    #[must_use]
    pub fn new(policy: &Policy, boot: &str, anchor: &Anchor) -> Self {
        let Policy { timeouts, max_users, devices_per_user, guests, factors, since } = policy;
        let FactorPolicy { realms, trusted } = factors;
        let Timeouts {
            timeout,
            mode,
            lifetime_enabled,
            lifetime_timeout,
            traffic_direction,
            on_timeout,
            revalidate,
            device_change,
            shared_hosts,
        } = timeouts;
        Self {
            form: FORM,
            timeout: *timeout,
            mode: *mode,
            lifetime_enabled: *lifetime_enabled,
            lifetime_timeout: *lifetime_timeout,
            traffic_direction: *traffic_direction,
            on_timeout: *on_timeout,
            revalidate: *revalidate,
            device_change: *device_change,
            shared_hosts: shared_hosts.clone(),
            max_users: *max_users,
            devices_per_user: *devices_per_user,
            guests: guests.clone(),
            factors_by_realm: realms
                .iter()
                .map(|(realm, demand)| (realm.clone(), (*demand).into()))
                .collect(),
            methods_trusted_alone: trusted.clone(),
            since: since.as_nanos().cast_signed(),
            boot: boot.to_owned(),
            offset: anchor.offset(),
        }
    }

    /// Reads it. What cannot be read is what another version wrote.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok().filter(|stored: &Self| stored.form == FORM)
    }

    /// The policy, in force since then; in another boot than `boot` every gap that the records know of came after.
    #[must_use]
    pub fn restore(&self, boot: &str) -> Policy {
        let since = if self.boot == boot {
            BootTime::from_nanos(self.since.cast_unsigned())
        } else {
            BootTime::default()
        };
        let timeouts = Timeouts {
            timeout: self.timeout,
            mode: self.mode,
            lifetime_enabled: self.lifetime_enabled,
            lifetime_timeout: self.lifetime_timeout,
            traffic_direction: self.traffic_direction,
            on_timeout: self.on_timeout,
            revalidate: self.revalidate,
            device_change: self.device_change,
            shared_hosts: self.shared_hosts.clone(),
        };
        let realms = self.factors_by_realm.iter().map(|(realm, demand)| (realm.clone(), (*demand).into()));
        let factors = FactorPolicy { realms: realms.collect(), trusted: self.methods_trusted_alone.clone() };
        let Self { max_users, devices_per_user, .. } = *self;
        Policy { timeouts, max_users, devices_per_user, guests: self.guests.clone(), factors, since }
    }

    /// How the clocks stood to each other, if that was in this boot.
    #[must_use]
    pub fn anchor(&self, boot: &str) -> Option<Anchor> {
        (self.boot == boot).then(|| Anchor::from_offset(self.offset))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::session::settings::Word;

    fn networks() -> impl Strategy<Value = Vec<IpNet>> {
        let network = prop_oneof![
            (any::<[u8; 4]>(), 0..=32_u8)
                .prop_map(|(address, length)| IpNet::new(address.into(), length).unwrap()),
            (any::<[u8; 16]>(), 0..=128_u8)
                .prop_map(|(address, length)| IpNet::new(address.into(), length).unwrap()),
        ];
        prop::collection::vec(network, 0..4)
    }

    fn timeouts() -> impl Strategy<Value = Timeouts> {
        let words = (
            select(Mode::ALL),
            select(TrafficDirection::ALL),
            select(OnTimeout::ALL),
            select(Revalidate::ALL),
            select(DeviceChange::ALL),
        );
        let times = (any::<Duration>(), any::<bool>(), any::<Duration>());
        (words, times, networks()).prop_map(|(words, times, shared_hosts)| Timeouts {
            timeout: times.0,
            mode: words.0,
            lifetime_enabled: times.1,
            lifetime_timeout: times.2,
            traffic_direction: words.1,
            on_timeout: words.2,
            revalidate: words.3,
            device_change: words.4,
            shared_hosts,
        })
    }

    fn factors() -> impl Strategy<Value = FactorPolicy> {
        let demand = prop_oneof![Just(Demand::IfEnrolled), Just(Demand::Always)];
        let realms = prop::collection::btree_map("[a-z.]{1,12}", demand, 0..3);
        (realms, prop::collection::vec(Just(Method::Kerberos), 0..2))
            .prop_map(|(realms, trusted)| FactorPolicy { realms, trusted })
    }

    proptest! {
        #[test]
        fn any_policy_comes_back_as_it_was(timeouts in timeouts(), factors in factors(), max_users: u32, devices_per_user: u32, guests in networks(), since: u64, offset: i64) {
            let since = BootTime::from_nanos(since);
            let policy = Policy { timeouts, max_users, devices_per_user, guests, factors, since };
            let stored = StoredPolicy::new(&policy, "this", &Anchor::from_offset(offset));
            let read = StoredPolicy::read(&serde_json::to_vec(&stored).unwrap()).unwrap();
            prop_assert_eq!(&read.restore("this"), &policy);
            prop_assert_eq!(read.anchor("this").unwrap().offset(), offset);
            prop_assert_eq!(read.restore("next"), Policy { since: BootTime::default(), ..policy });
            prop_assert!(read.anchor("next").is_none());
        }
    }

    #[test]
    fn another_versions_form_is_no_policy() {
        let policy = Policy {
            timeouts: Timeouts::default(),
            max_users: 0,
            devices_per_user: 5,
            guests: Vec::new(),
            factors: FactorPolicy::default(),
            since: BootTime::default(),
        };
        let stored = StoredPolicy::new(&policy, "this", &Anchor::from_offset(0));
        let later = StoredPolicy { form: FORM + 1, ..stored };
        assert_eq!(StoredPolicy::read(&serde_json::to_vec(&later).unwrap()), None);
        for older in [r#"{"boot":"this","since":1,"offset":2,"config":""}"#, "{}", "", "\0"] {
            assert_eq!(StoredPolicy::read(older.as_bytes()), None, "{older}");
        }
    }
}
