//! The certificates that a configuration names, before it counts.

use crate::clock::wall_now;
use crate::config::Config;
use crate::net::certificates::{Standing, load};

/// What is wrong with the certificates that a configuration names, for whoever checks it before it counts: what keeps the
/// gateway from starting, and what does not.
#[must_use]
pub fn check_certificates(config: &Config) -> (Vec<String>, Vec<String>) {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    for pair in config.tls.pairs() {
        match load(&pair.chain, &pair.key) {
            Err(error) if config.needs_certificate() => errors.push(format!("tls.certificate: {error}")),
            Err(error) => warnings.push(format!("tls.certificate: {error}")),
            Ok(certificate) => {
                warnings.extend(certificate.warnings().iter().cloned());
                let shown = pair.chain.display();
                match certificate.standing(wall_now()) {
                    Standing::Valid => {}
                    Standing::NotYet => warnings.push(format!("the certificate {shown} is not valid yet")),
                    Standing::Expired => warnings.push(format!("the certificate {shown} has expired")),
                }
            }
        }
    }
    (errors, warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_checked_with_its_certificates() {
        let mut config = Config::default();
        config.portal.https = None;
        assert_eq!(check_certificates(&config), (Vec::new(), Vec::new()));
        config.tls.certificate = vec!["/nowhere/c.pem".into()];
        config.tls.key = vec!["/nowhere/k.pem".into()];
        let (errors, warnings) = check_certificates(&config);
        assert!(errors.is_empty() && warnings[0].contains("/nowhere/c.pem does not exist"), "{warnings:?}");
        config.tls.proxy_listen = vec!["127.0.0.1:0".parse().unwrap()];
        let (errors, warnings) = check_certificates(&config);
        assert!(warnings.is_empty() && errors[0].contains("/nowhere/c.pem does not exist"), "{errors:?}");
    }
}
