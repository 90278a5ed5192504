//! The access log: one line per request and tunnel, at its end.
//!
//! A line is put into the memory of the core that served the request; a thread of its own writes what has gathered, at
//! most some hundredths of a second later. So no request waits for a disk or a pipe. Where the reader is so slow that
//! megabytes gather, lines are counted instead of kept (`tracker_access_log_lost_total`).

mod line;
mod log;
mod number;

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;

use crate::types::ClientAddr;

pub use self::log::AccessLog;
pub(super) use self::log::Lane;
pub(super) use self::number::RequestNumber;
use super::worker::Worker;
use crate::clock::{BootTime, boot_now};
use crate::outside;
use crate::types::Identity;

/// Longer paths are not kept in memory for the next request's.
const PATH_KEPT: usize = 256;

/// What the access log will say. It says it when [`Entry::finish`] is called, or when this is dropped before.
pub(super) struct Entry {
    worker: Rc<Worker>,
    open: bool,
    line: Line,
}

/// What a line says.
pub(super) struct Line {
    pub(super) client: ClientAddr,
    pub(super) started: BootTime,
    pub(super) method: Cow<'static, str>,
    /// `host:port`.
    pub(super) destination: Option<Arc<str>>,
    /// Of a URL the query is left out: secrets are found there. Empty: there is none.
    pub(super) path: String,
    pub(super) user: Option<Arc<Identity>>,
    pub(super) status: Option<StatusCode>,
    /// Content bytes from the client,
    pub(super) received: u64,
    /// and to it.
    pub(super) sent: u64,
    /// The number on the page of the gateway's own that it was answered with.
    pub(super) number: Option<RequestNumber>,
    /// It was meant for the gateway's own pages.
    pub(super) is_for_own_pages: bool,
    /// What is wrong with a request that could not be read.
    pub(super) problem: Option<String>,
}

impl Line {
    /// A request that begins now; `path` is empty, and gives its memory.
    fn new(client: ClientAddr, method: Cow<'static, str>, path: String) -> Self {
        Self {
            client,
            started: boot_now(),
            method,
            destination: None,
            path,
            user: None,
            status: None,
            received: 0,
            sent: 0,
            number: None,
            is_for_own_pages: false,
            problem: None,
        }
    }

    /// What is asked for, as much of it as a line shows.
    pub(super) fn set_path(&mut self, path: &[u8]) {
        // One character more than is shown tells that there is more.
        let some = path.get(..outside::PATH + 4).unwrap_or(path);
        self.path.push_str(&String::from_utf8_lossy(some));
    }
}

impl Entry {
    pub(super) fn new(worker: Rc<Worker>, client: ClientAddr) -> Self {
        Self { worker, open: false, line: Line::new(client, Cow::Borrowed(""), String::new()) }
    }

    /// A request begins.
    pub(super) fn begin(&mut self, method: Cow<'static, str>) {
        self.open = true;
        let line = &mut self.line;
        line.path.clear();
        line.path.shrink_to(PATH_KEPT);
        *line = Line::new(line.client, method, std::mem::take(&mut line.path));
    }

    /// What is known of the request that is being served.
    pub(super) const fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    /// Who the request is served for, as far as it is known.
    pub(super) fn user(&self) -> Option<&Identity> {
        self.line.user.as_deref()
    }

    /// The request has ended; `complete` if as it should.
    pub(super) fn finish(&mut self, complete: bool) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let (line, stats) = (&self.line, &self.worker.shared.stats);
        if line.is_for_own_pages {
            stats.own_pages.inc();
        } else {
            stats.answered(line.status);
            stats.bytes_received.inc_by(line.received);
            stats.bytes_sent.inc_by(line.sent);
        }
        self.worker.log.write(line, complete);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.finish(false);
    }
}
