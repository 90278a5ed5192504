//! Rereads the configuration file when it is saved.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tracing::warn;

use crate::audit::{Actor, Via};
use crate::ops::Ops;

/// Editors write a file in several steps; read it once they are done.
const SETTLE: Duration = Duration::from_millis(200);

/// Watches the directory, because editors replace files rather than write them. Ends only with the daemon.
pub(super) async fn reload_on_save(path: PathBuf, ops: Ops) {
    let (saved, mut saves) = mpsc::channel(1);
    // Kept: the watch ends with it.
    let _watcher = match watcher(&path, saved) {
        Ok(watcher) => watcher,
        Err(error) => {
            warn!(path = %path.display(), %error, "the file is not watched; send SIGHUP after changing it");
            return;
        }
    };
    while saves.recv().await.is_some() {
        tokio::time::sleep(SETTLE).await;
        while saves.try_recv().is_ok() {}
        // A bad file has been told of.
        let _ = ops.reload(Actor::unknown(Via::File)).await;
    }
}

fn watcher(path: &Path, saved: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
    let path = path.canonicalize()?;
    let Some((directory, name)) = path.parent().zip(path.file_name().map(ToOwned::to_owned)) else {
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
    Ok(watcher)
}
