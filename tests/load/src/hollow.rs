//! Hollow edges: the real hub, intake and outbox on a database in memory, and no pods.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use edgehub::{self, CertificateFiles, EdgeHub, Enrollment, Renewal, Servers, Uplink};
use message::NodeName;
use metamanager::intake::{Intake, Outlets};
use metamanager::{Cloud, LinkState, ObjectChange, Objects, Outbox};
use pki::{Authority, DAY, NODES_GROUP, Profile, Usage};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// One running hollow edge.
pub(crate) struct Hollow {
    pub link: watch::Receiver<LinkState>,
    pub stop: CancellationToken,
}

/// Makes and writes the certificate of a node.
pub(crate) fn write_identity(authority: &Authority, folder: &Path, node: &str) -> Result<CertificateFiles> {
    let files = files(folder);
    let profile = Profile {
        common_name: pki::edge_common_name(node),
        organizations: vec![NODES_GROUP.to_owned()],
        names: Vec::new(),
        usage: Usage::Client,
        lifetime: 365 * DAY,
    };
    let identity = authority.issue(&profile, daemon::clock::unix_seconds())?;
    pki::files::write_ca(&files.ca, authority.certificate())?;
    pki::files::write_identity(&files.certificate, &files.key, &identity)?;
    Ok(files)
}

fn files(folder: &Path) -> CertificateFiles {
    CertificateFiles {
        ca: folder.join("ca.crt"),
        certificate: folder.join("edge.crt"),
        key: folder.join("edge.key"),
    }
}

/// Certificates outlive every scenario.
pub(crate) fn no_renewal() -> Renewal {
    Renewal { rotate: false, trust_refresh: Duration::from_secs(86_400) }
}

/// Starts one edge; what it commits goes to `committed`.
pub(crate) fn start(
    node: &str,
    folder: &Path,
    servers: Servers,
    heartbeat: Duration,
    committed: mpsc::Sender<ObjectChange>,
) -> Result<Hollow> {
    let store = metamanager::database::in_memory()?;
    let (state, link) = watch::channel(LinkState::Disconnected);
    let (_, calls) = Cloud::channel(link.clone());
    let (_, streams) = Uplink::channel(link.clone());
    let outlets = Outlets { edged: Some(committed), ..Outlets::default() };
    let settings = edgehub::Settings {
        node: NodeName::new(node)?,
        project_id: "load".to_owned(),
        servers,
        handshake_timeout: Duration::from_secs(30),
        heartbeat,
        enrollment: Enrollment {
            server: "https://127.0.0.1:1".to_owned(),
            way: link::Way::Straight,
            files: files(folder),
            token: None,
            token_file: folder.join("none"),
            take_over: false,
            config_file: None,
        },
        renewal: no_renewal(),
        node_api: None,
    };
    let deps = edgehub::Deps {
        intake: Intake::new(Objects::new(store.clone()), outlets),
        outbox: Outbox::new(store),
        calls,
        streams,
        link: state,
    };
    let stop = CancellationToken::new();
    tokio::spawn(EdgeHub::build(settings, deps).run(stop.clone()));
    Ok(Hollow { link, stop })
}
