//! What somebody types for a new application password.

use ipnet::IpNet;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::Deserialize;

use crate::auth::application_passwords::New;
use crate::types::{Identity, LOCAL_DOMAIN, UserMessage};

/// The farthest day until which one can be good: a date beyond it is a typing error.
const YEARS: i64 = 100;

/// The form's fields, as they were typed.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Typed {
    /// What it is called.
    #[serde(default)]
    pub(super) name: String,
    /// The last day on which it is good, as browsers send one: `2027-01-31`. Nothing: for ever.
    #[serde(default)]
    pub(super) expires: String,
    /// Networks and addresses, with commas, spaces or line breaks between them.
    #[serde(default)]
    pub(super) networks: String,
}

impl Typed {
    /// What it means.
    ///
    /// # Errors
    /// What cannot be read, for the person.
    pub(super) fn read(&self, now: Timestamp) -> Result<New, UserMessage> {
        let expires = match self.expires.trim() {
            "" => None,
            day => Some(end_of(day, now).ok_or(UserMessage::new(
                "The last day is not a day in the next hundred years. Write it like 2027-01-31.",
            ))?),
        };
        let networks = self.networks.split([',', ';', ' ', '\t', '\r', '\n']).filter(|text| !text.is_empty());
        let networks: Option<Vec<IpNet>> = networks.map(network).collect();
        let networks = networks.ok_or(UserMessage::new(
            "One of the networks is none. Write addresses like 192.0.2.7, or networks like 192.0.2.0/24.",
        ))?;
        Ok(New { name: self.name.clone(), expires, networks })
    }
}

/// The end of that day, in the gateway's time zone.
fn end_of(day: &str, now: Timestamp) -> Option<Timestamp> {
    let day: Date = day.parse().ok()?;
    let end = day.checked_add(1.day()).ok()?.to_zoned(TimeZone::system()).ok()?.timestamp();
    let last = now.to_zoned(TimeZone::UTC).checked_add(YEARS.years()).ok()?.timestamp();
    (end <= last).then_some(end)
}

/// A network, or an address alone; however it is written, the network that it lies in.
fn network(text: &str) -> Option<IpNet> {
    let network: IpNet = match text.parse() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<std::net::IpAddr>().ok()?.to_canonical()),
    };
    Some(network.trunc())
}

/// The name that a program has to be given: it means this user wherever names are looked up.
pub(super) fn login_name(who: &Identity) -> String {
    let domain = if who.is_local() { LOCAL_DOMAIN.to_owned() } else { who.realm().to_uppercase() };
    format!("{}@{domain}", who.user())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn typed(expires: &str, networks: &str) -> Typed {
        Typed { name: "git".into(), expires: expires.into(), networks: networks.into() }
    }

    #[test]
    fn a_day_is_good_to_its_end() {
        assert_eq!(typed("", "").read(NOW).unwrap().expires, None);
        let day: Date = "2027-01-31".parse().unwrap();
        let end = typed(" 2027-01-31 ", "").read(NOW).unwrap().expires.unwrap();
        let local = end.to_zoned(TimeZone::system());
        assert_eq!((local.date(), local.hour()), (day + 1.day(), 0));
        for bad in ["tomorrow", "2027-02-30", "31.01.2027", "9999-12-31", "2127-02-01", "-000001-01-01x"] {
            assert!(typed(bad, "").read(NOW).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_are_read_however_they_are_separated() {
        let read = |text: &str| {
            typed("", text)
                .read(NOW)
                .map(|new| new.networks.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(read("").unwrap(), [""; 0]);
        assert_eq!(
            read("192.0.2.7,198.51.100.9/24\r\n 2001:db8::1/64;::ffff:10.0.0.1").unwrap(),
            ["192.0.2.7/32", "198.51.100.0/24", "2001:db8::/64", "10.0.0.1/32"]
        );
        for bad in ["192.0.2", "192.0.2.0/33", "a.test", "10.*.*.*"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_name_to_log_in_with_means_the_user_everywhere() {
        assert_eq!(login_name(&Identity::local("Bob")), "Bob@local");
        assert_eq!(login_name(&Identity::new("Alice", "Example.Test", "EXAMPLE")), "Alice@EXAMPLE.TEST");
    }
}
