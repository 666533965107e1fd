//! Finds drivers: each puts a socket into `<root>/plugins_registry`, is asked what it is, and is told that it is known.
//! A driver whose socket goes is forgotten; one that came again is asked again.

use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plugins::registration::registration_client::RegistrationClient;
use plugins::registration::{InfoRequest, PluginInfo, RegistrationStatus};
use tokio_util::sync::CancellationToken;
use tonic::Request;

use super::Csi;
use super::calls::{Driver, DriverCallError};
use crate::changes::{self, Changes};
use crate::mounts;
use podmodel::errors::chain;

/// A look without a reason: the kernel may have given no watch.
const LOOK: Duration = Duration::from_secs(600);
/// A plugin that could not be asked is asked again.
const AGAIN: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);
/// More plugins than any node has.
const PLUGINS: usize = 64;

#[derive(Debug, thiserror::Error)]
enum RegisterError {
    #[error("asking the plugin what it is")]
    Ask(#[source] tonic::Status),
    #[error("plugins of type {kind:?} are not served")]
    Kind { kind: String },
    #[error("CSI driver {name:?} speaks none of the versions 1.x: {versions:?}")]
    Version { name: String, versions: Vec<String> },
    #[error("asking CSI driver {name:?} for its node")]
    Node { name: String, source: DriverCallError },
}

impl RegisterError {
    /// The same socket would say the same again.
    fn is_final(&self) -> bool {
        matches!(self, RegisterError::Kind { .. } | RegisterError::Version { .. })
    }
}

/// A socket, and which file it was: a plugin that starts again makes another.
type Sockets = BTreeMap<PathBuf, (u64, i64)>;

/// What is known of a socket.
struct Known {
    file: (u64, i64),
    /// Name and socket of the driver behind it.
    driver: Option<(String, PathBuf)>,
}

/// Follows the folder until `stop`. `registered` is called for each driver that came.
pub fn follow(
    csi: Arc<Csi>,
    registered: Box<dyn Fn() + Send + Sync>,
    stop: CancellationToken,
) -> BoxFuture<'static, ()> {
    Box::pin(follow_on(csi, registered, stop))
}

async fn follow_on(csi: Arc<Csi>, registered: Box<dyn Fn() + Send + Sync>, stop: CancellationToken) {
    let folder = csi.root.join("plugins_registry");
    let at = folder.clone();
    if let Err(error) = daemon::blocking(move || mounts::make_dir(&at, 0o750)).await {
        tracing::warn!(error = %error, "no folder for plugins: CSI drivers cannot register");
    }
    let changes = Changes::of(&folder);
    let mut known: BTreeMap<PathBuf, Known> = BTreeMap::new();
    loop {
        let at = folder.clone();
        let sockets = daemon::blocking(move || Ok(sockets(&at))).await.unwrap_or_default();
        let has_failed = look(&csi, &mut known, sockets, &registered).await;
        tokio::select! {
            biased;
            _ = stop.cancelled() => return,
            () = changes::next(changes.as_ref()) => {}
            () = tokio::time::sleep(if has_failed { AGAIN } else { LOOK }) => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "runs on the threads for files, behind daemon::blocking")]
fn sockets(folder: &Path) -> Sockets {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let visible = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let sockets = visible.filter_map(|entry| {
        let meta = entry.metadata().ok().filter(|meta| meta.file_type().is_socket())?;
        Some((entry.path(), (meta.ino(), meta.ctime_nsec())))
    });
    sockets.take(PLUGINS).collect()
}

/// True if some plugin has to be asked again.
async fn look(
    csi: &Csi,
    known: &mut BTreeMap<PathBuf, Known>,
    sockets: Sockets,
    registered: &(impl Fn() + Send + Sync),
) -> bool {
    known.retain(|path, known| {
        let stays = sockets.get(path) == Some(&known.file);
        if let Some((name, socket)) = known.driver.as_ref().filter(|_| !stays) {
            tracing::info!(name, "CSI driver is gone");
            csi.forget(name, socket);
        }
        stays
    });
    let mut has_failed = false;
    for (path, file) in sockets {
        if known.contains_key(&path) {
            continue;
        }
        match register(&path).await {
            Ok((name, socket)) => {
                tracing::info!(name, "CSI driver is registered");
                csi.register(&name, socket.clone());
                registered();
                known.insert(path, Known { file, driver: Some((name, socket)) });
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "plugin is not registered");
                has_failed |= !error.is_final();
                if error.is_final() {
                    known.insert(path, Known { file, driver: None });
                }
            }
        }
    }
    has_failed
}

/// Asks the plugin what it is, and tells it what became of it.
async fn register(path: &Path) -> Result<(String, PathBuf), RegisterError> {
    let mut client = RegistrationClient::new(plugins::channel(path));
    let mut ask = Request::new(InfoRequest {});
    ask.set_timeout(ANSWER);
    let info = client.get_info(ask).await.map_err(RegisterError::Ask)?.into_inner();
    let checked = check(path, info).await;
    let error = checked.as_ref().err().map(|error| chain(error)).unwrap_or_default();
    let mut told = Request::new(RegistrationStatus { plugin_registered: checked.is_ok(), error });
    told.set_timeout(ANSWER);
    // It is known whether it heard that or not.
    let _ = client.notify_registration_status(told).await;
    checked
}

async fn check(path: &Path, info: PluginInfo) -> Result<(String, PathBuf), RegisterError> {
    let PluginInfo { r#type: kind, name, endpoint, supported_versions: versions } = info;
    if kind != "CSIPlugin" {
        return Err(RegisterError::Kind { kind });
    }
    if !versions.iter().any(|version| version.trim_start_matches('v').starts_with("1.")) {
        return Err(RegisterError::Version { name, versions });
    }
    let socket = match endpoint.as_str() {
        "" => path.to_owned(),
        endpoint => PathBuf::from(endpoint.trim_start_matches("unix://")),
    };
    let asked = tokio::time::timeout(ANSWER, Driver::at(&socket).node_id()).await;
    let node = asked.unwrap_or_else(|_| {
        Err(DriverCallError { call: "NodeGetInfo", source: tonic::Status::deadline_exceeded("no answer") })
    });
    let node = node.map_err(|source| RegisterError::Node { name: name.clone(), source })?;
    tracing::debug!(name, node, "CSI driver told its node");
    Ok((name, socket))
}
