//! An edge on disk that reports twins and survives `kill -9`: which value a device reported last is committed together
//! with the row of its report, so that what the API server must see is known exactly.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use edgehub::{self, CertificateFiles, EdgeHub, Enrollment, Uplink};
use message::{Json, NodeName, Upstream};
use metamanager::intake::{Intake, Outlets};
use metamanager::outbox::{Limit, Limits, Policy};
use metamanager::{Cloud, LinkState, Objects, Outbox};
use serde_json::json;
use store::Store;
use store::rusqlite::OptionalExtension;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{hollow, workers};

#[derive(Args, Clone)]
pub(crate) struct Flags {
    /// Certificates and database.
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    server: String,
    #[arg(long)]
    node: String,
    #[arg(long)]
    quic: bool,
    #[arg(long, default_value = "auto")]
    dialect: String,
    #[arg(long)]
    devices: usize,
    /// Reports of each device.
    #[arg(long)]
    each: u64,
    /// Milliseconds between two reports of a device.
    #[arg(long)]
    pace: u64,
}

pub(crate) fn device_name(number: usize) -> String {
    format!("counter-{number}")
}

pub(crate) async fn run(flags: Flags) -> Result<()> {
    let store = metamanager::database::open(&flags.folder.join("edgecore.db"))?;
    let reports = Limit { bytes: 64 * 1024 * 1024, policy: Policy::Block };
    let outbox = Outbox::with_limits(store.clone(), Limits { reports, ..Limits::default() });
    let (state, link) = watch::channel(LinkState::Disconnected);
    let (_cloud, calls) = Cloud::channel(link.clone());
    let (_uplink, streams) = Uplink::channel(link);
    let file = |name: &str| flags.folder.join(name);
    let settings = edgehub::Settings {
        node: NodeName::new(&flags.node)?,
        project_id: "load".to_owned(),
        servers: workers::servers(&flags.server, flags.quic, &flags.dialect),
        handshake_timeout: Duration::from_secs(3),
        heartbeat: Duration::from_secs(1),
        enrollment: Enrollment {
            server: "https://127.0.0.1:1".to_owned(),
            way: link::Way::Straight,
            files: CertificateFiles {
                ca: file("ca.crt"),
                certificate: file("edge.crt"),
                key: file("edge.key"),
            },
            token: None,
            token_file: file("none"),
            take_over: false,
            config_file: None,
        },
        renewal: hollow::no_renewal(),
        node_api: None,
    };
    let intake = Intake::new(Objects::new(store.clone()), Outlets::default());
    let deps = edgehub::Deps { intake, outbox: outbox.clone(), calls, streams, link: state };
    for device in 0..flags.devices {
        tokio::spawn(report(store.clone(), outbox.clone(), device, flags.clone()));
    }
    EdgeHub::build(settings, deps).run(CancellationToken::new()).await.context("edgehub")
}

async fn report(store: Store, outbox: Outbox, device: usize, flags: Flags) -> Result<()> {
    let name = device_name(device);
    let fact = format!("reported {name}");
    let key = fact.clone();
    let last: Option<String> = store
        .read(move |db| {
            db.query_row("SELECT value FROM facts WHERE name = ?1", [key], |row| row.get(0)).optional()
        })
        .await?;
    let last: u64 = last.map_or(Ok(0), |text| text.parse())?;
    for value in last + 1..=flags.each {
        let twin = json!({"event_id": "", "timestamp": 0, "twin": {"n": {
            "actual": {"value": value.to_string(), "metadata": {"timestamp": daemon::clock::unix_ms()}},
            "metadata": {"type": "integer"},
        }}});
        let item = Upstream::TwinReport {
            namespace: "default".to_owned(),
            name: name.clone(),
            report: Json::encode(&twin)?,
        };
        let fact = fact.clone();
        outbox
            .submit_with(item, move |tx| {
                let sql = "INSERT INTO facts VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET value = ?2";
                tx.execute(sql, (&fact, &value.to_string())).map(|_| ())
            })
            .await?;
        tokio::time::sleep(Duration::from_millis(flags.pace)).await;
    }
    Ok(())
}
