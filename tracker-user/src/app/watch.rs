//! Rereads the configuration file when it is saved.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::audit::{Actor, Via};
use crate::ops::Ops;

/// Editors write a file in several steps; read it once they are done.
const SETTLE: Duration = Duration::from_millis(200);

/// How often it is looked whether the path leads to another file: a link on the way may be turned, as configuration
/// management and Kubernetes do it.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Ends only with the daemon.
pub(super) async fn reload_on_save(path: PathBuf, ops: Ops) {
    let (saved, mut saves) = mpsc::channel(1);
    let mut watch = match Watch::new(&path, saved.clone()) {
        Ok(watch) => watch,
        Err(error) => {
            warn!(path = %path.display(), %error, "the file is not watched; send SIGHUP after changing it");
            return;
        }
    };
    // It may have been saved since the start has read it. A bad file has been told of.
    let _ = ops.catch_up(Actor::unknown(Via::File)).await;
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Never closed: a sender is kept here.
            _ = saves.recv() => {
                tokio::time::sleep(SETTLE).await;
                while saves.try_recv().is_ok() {}
                // A bad file has been told of.
                let _ = ops.reload(Actor::unknown(Via::File)).await;
            }
            _ = look.tick() => {
                if watch.leads_elsewhere(&path) && let Ok(anew) = Watch::new(&path, saved.clone()) {
                    watch = anew;
                    // Read once it is watched: no save in between is missed.
                    let _ = saved.try_send(());
                }
            }
        }
    }
}

/// Watches the directory of the file that the path leads to, because editors replace files rather than write them.
struct Watch {
    target: PathBuf,
    /// The watch ends with it.
    _watcher: notify::RecommendedWatcher,
}

impl Watch {
    fn new(path: &Path, saved: mpsc::Sender<()>) -> notify::Result<Self> {
        let target = path.canonicalize()?;
        let Some((directory, name)) = target.parent().zip(target.file_name().map(ToOwned::to_owned)) else {
            return Err(notify::Error::path_not_found());
        };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            let ours = event.paths.iter().any(|changed| changed.file_name() == Some(&name));
            if ours && !matches!(event.kind, EventKind::Access(_)) {
                // One waiting notice is as good as many.
                let _ = saved.try_send(());
            }
        })?;
        watcher.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(Self { target, _watcher: watcher })
    }

    /// Whether there is a file at the path, and another than is watched.
    fn leads_elsewhere(&self, path: &Path) -> bool {
        path.canonicalize().is_ok_and(|now| now != self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_is_turned_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for version in ["v1", "v2"] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("tracker.toml"), "").unwrap();
        }
        let turn = |to: &str| {
            std::os::unix::fs::symlink(to, at("new")).unwrap();
            std::fs::rename(at("new"), at("data")).unwrap();
        };
        turn("v1");
        let path = at("tracker.toml");
        std::os::unix::fs::symlink("data/tracker.toml", &path).unwrap();
        let (saved, mut saves) = mpsc::channel(1);
        let watch = Watch::new(&path, saved.clone()).unwrap();
        assert!(!watch.leads_elsewhere(&path));
        turn("v2");
        assert!(watch.leads_elsewhere(&path));
        drop(watch);
        while saves.try_recv().is_ok() {}
        // Watched anew, it is the other file.
        let watch = Watch::new(&path, saved).unwrap();
        assert!(!watch.leads_elsewhere(&path));
        std::fs::write(at("v2").join("tracker.toml"), "# saved").unwrap();
        saves.blocking_recv().unwrap();
        // Gone for a moment, it is not elsewhere.
        std::fs::remove_file(at("data")).unwrap();
        assert!(!watch.leads_elsewhere(&path));
    }
}
