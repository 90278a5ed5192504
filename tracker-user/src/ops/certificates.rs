//! The certificates that clients are shown.

use super::{Ops, OpsError};
use crate::net::certificates::{Problem, Shown};

/// What is shown, and what is wrong with what ought to be.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    /// Those that are shown, the default first; none where nothing listens under TLS.
    pub shown: Vec<Shown>,
    /// Why what is configured is not shown.
    pub problem: Option<Problem>,
}

impl Ops {
    /// The certificates that clients are shown.
    ///
    /// # Errors
    /// When the gateway is stopping, or too much is asked for.
    pub async fn certificates(&self) -> Result<Certificates, OpsError> {
        self.look(async |ops| {
            ops.blocking(|parts| {
                let keeper = parts.certificates.as_ref();
                keeper.map_or_else(Certificates::default, |keeper| Certificates {
                    shown: keeper.shown(),
                    problem: keeper.problem(),
                })
            })
            .await
        })
        .await
    }
}
