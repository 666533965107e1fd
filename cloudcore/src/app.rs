//! Builds every room, then runs them, then drains. Reads as the start order of CloudCore.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use daemon::Rooms;
use daemon::health::{Beat, Health};
use daemon::metrics::Metrics;
use daemon::monitor::Monitor;
use daemon::notify;
use futures_util::FutureExt;
use message::NodeName;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::approver;
use crate::cloudhub::material::{self, Trust};
use crate::cloudhub::register::{self, Register};
use crate::cloudhub::{self, CloudHub, VolumeSocket, Volumes};
use crate::cloudstream::StreamServer;
use crate::desired::{Source, Sources};
use crate::devicecontroller::{self, Devices};
use crate::dynamiccontroller::{Applications, Requests, Watches};
use crate::edgecontroller::{self, Downstream, Observers, Rights};
use crate::edgelink;
use crate::front::{Front, Hands};
use crate::housekeeping;
use crate::kubernetes::{self, Cluster, Follower, FromWatch, Resource};
use crate::nodestreams::NodeStreams;
use crate::peers::Peers;
use crate::refused::{self, RefusedNodes};
use crate::settings::Settings;
use crate::synccontroller::{self, Syncs};
use crate::tunnels::{TunnelServer, Tunnels};
use crate::upstream::{Budgets, UpstreamRoom};
use crate::webhooks::{self, Webhooks};

/// Events a room may have waiting, two pages of a list: the next page is asked for while the last one is worked on. A watch that is
/// faster waits.
const WATCH_QUEUE: usize = 1024;

/// A token lives for two refreshes, so that the one an operator copied just before a refresh still works.
const TOKEN_LIVES: u32 = 2;

/// Connections of the common port that wait for who serves them.
const HANDED: usize = 1024;

/// Time rooms get to finish when the process stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs CloudCore against a cluster until stopped. `streams` reach nodes while it runs.
pub async fn run(
    settings: Settings,
    cluster: Cluster,
    streams: NodeStreams,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (health, metrics) = (Health::default(), Metrics::new("cloudcore"));
    let mut rooms = Rooms::new(stop.clone(), health.clone());
    rooms.optional("service manager", notify::serve(health.clone(), Vec::new(), stop.clone()));
    // Held until all rooms run, so that none of them makes the program ready before.
    let starting = health.wait_for("start");
    if let Some(address) = settings.health {
        let monitor = Monitor::build(address, health.clone(), metrics.clone()).await;
        let monitor = monitor.with_context(|| format!("listening for health checks on {address}"))?;
        rooms.essential("monitor", monitor.run(stop.clone()));
    }
    let built = tokio::select! {
        biased;
        _ = stop.cancelled() => return Ok(()),
        built = kubernetes::when_served(async || build(&settings, &cluster, &streams).await) => built?,
    };
    let peers = built.streams.as_ref().map(|streams| streams.peers.clone());
    streams.through(built.hub.registry(), built.tunnels.clone(), peers, built.hub.spare());
    metrics.register(|registry| {
        cluster.metrics().register(registry);
        built.hub.metrics().register(registry);
    });
    tracing::info!(
        edges = %settings.hub.listen,
        registration = %settings.register,
        quic = settings.hub.quic.map(|address| address.to_string()),
        webhooks = settings.webhooks.as_ref().map(|webhooks| webhooks.listen.to_string()),
        monitor = settings.health.map(|address| address.to_string()),
        "built"
    );
    spawn(&mut rooms, built, &settings, &cluster, &health);
    starting.ready();
    rooms.run(DRAIN).await
}

/// What brings streams to nodes.
struct Streams {
    server: StreamServer,
    tunnels: TunnelServer,
    peers: Peers,
}

/// All rooms, built and not running.
struct Built {
    downstream: Downstream,
    devices: Devices,
    syncs: Syncs,
    hub: CloudHub,
    register: Register,
    keeper: material::Keeper,
    trust: watch::Receiver<Arc<Trust>>,
    volumes: Volumes,
    socket: Option<VolumeSocket>,
    refused: RefusedNodes,
    front: Option<Front>,
    streams: Option<Streams>,
    tunnels: Tunnels,
    webhooks: Option<Webhooks>,
}

async fn build(settings: &Settings, cluster: &Cluster, nodes: &NodeStreams) -> anyhow::Result<Built> {
    kubernetes::install_crds(cluster).await?;
    let (material, keeper) = material::obtain(cluster, &settings.material).await?;
    let (downstream, devices, syncs) = (Downstream::default(), Devices::default(), Syncs::default());
    let rights = Rights::new(downstream.clone(), devices.clone(), cluster.clone());
    let of_nodes = settings.node_identity.then(|| rights.clone());
    let requests = settings.requests.then(|| Requests::new(cluster.clone(), of_nodes));
    let kept: Vec<Arc<dyn Source>> = vec![Arc::new(downstream.clone()), Arc::new(devices.clone())];
    let watches = requests.clone().map(|requests| Watches::new(requests, Sources::new(kept.clone())));
    let applications =
        requests.clone().zip(watches.clone()).map(|(requests, watches)| Applications::new(requests, watches));
    let upstream = UpstreamRoom {
        cluster: cluster.clone(),
        downstream: downstream.clone(),
        devices: devices.clone(),
        rights,
        budgets: Budgets::default(),
        rate_accounts: cloudhub::RateAccounts::default(),
        enforce: settings.hub.enforce,
        metrics: cloudhub::Metrics::default(),
        applications,
        kubelets: settings.streams.as_ref().and_then(|streams| {
            let port = streams.listen.port();
            let host = streams.node_address.clone();
            let domain = streams.node_domain.clone();
            host.map(|host| edgecontroller::KubeletAddress { host, port, domain })
        }),
    };
    let (metrics, accounts) = (upstream.metrics.clone(), upstream.rate_accounts.clone());
    let volumes = Volumes::default();
    let mut sources = kept;
    sources.push(Arc::new(volumes.clone()));
    sources.extend(watches.map(|watches| Arc::new(watches) as Arc<dyn Source>));
    let rooms = cloudhub::Rooms {
        cluster: cluster.clone(),
        sources: Sources::new(sources),
        records: Arc::new(syncs.clone()),
        volumes: volumes.clone(),
        upstreams: Arc::new(upstream),
        requests,
    };
    let refused = RefusedNodes::default();
    let hub =
        CloudHub::build(settings.hub.clone(), &material, rooms, refused.clone(), accounts, metrics).await?;
    let register = Register::build(
        settings.register,
        &material,
        hub.handshakes(),
        register::Deps {
            cluster: cluster.clone(),
            registry: hub.registry(),
            refused: refused.clone(),
            signers: hub.signers(),
        },
        settings.terms.clone(),
    )
    .await?;
    let socket = settings.volume_socket.as_deref().map(VolumeSocket::bind).transpose()?;
    let front = match settings.common_port {
        Some(address) => Some(Front::build(address).await?),
        None => None,
    };
    let tunnels = Tunnels::default();
    let streams = match &settings.streams {
        Some(settings) => {
            let (trust, tunnels, refused) = (material.trust.clone(), tunnels.clone(), refused.clone());
            let server = StreamServer::build(settings, cluster.clone(), nodes.clone(), trust).await?;
            let nodes = nodes.clone();
            let here = Arc::new(move |node: NodeName| {
                let nodes = nodes.clone();
                async move { nodes.open_here(&node).await.ok() }.boxed()
            });
            let tunnels =
                TunnelServer::build(settings.tunnels, &material.server, tunnels, refused, here).await?;
            let name = settings.names.first().map_or("localhost", String::as_str);
            let address = SocketAddr::new(settings.own_address, settings.tunnels.port());
            let peers = Peers::new(cluster.clone(), address, name, &material.trust.borrow())?;
            Some(Streams { server, tunnels, peers })
        }
        None => None,
    };
    let webhooks = match &settings.webhooks {
        Some(settings) => Some(Webhooks::build(settings, material.trust.clone())?),
        None => None,
    };
    Ok(Built {
        downstream,
        devices,
        syncs,
        hub,
        register,
        keeper,
        trust: material.trust,
        volumes,
        socket,
        refused,
        front,
        streams,
        tunnels,
        webhooks,
    })
}

/// Starts every room. Edges are let in once the rooms that watch have seen everything: one that connects to half-filled
/// rooms would be told that its pods are gone.
fn spawn(rooms: &mut Rooms, built: Built, settings: &Settings, cluster: &Cluster, health: &Health) {
    let (stop, trimmer) = (rooms.stop(), built.hub.spare());
    let follow = |rooms: &mut Rooms, name, resources, comes_after: fn(Resource) -> Option<Resource>| {
        let follower = follow(rooms, cluster, resources, comes_after, health.beat(name));
        let (mut complete, unready) = (follower.complete(), health.wait_for(name));
        let trimmer = trimmer.clone();
        tokio::spawn(async move {
            // An end without completion is that of the program.
            if complete.wait_for(|complete| *complete).await.is_ok() {
                unready.ready();
                // Lists of everything were read, of which little is kept.
                trimmer.note();
            }
        });
        follower
    };
    let pods = follow(rooms, "edgecontroller", edgecontroller::WATCHED, edgecontroller::comes_after);
    let devices = follow(rooms, "devicecontroller", devicecontroller::WATCHED, |_| None);
    let syncs = follow(rooms, "synccontroller", synccontroller::WATCHED, |_| None);
    let refused = follow(rooms, "refused nodes", refused::WATCHED, |_| None);
    let recorded = syncs.complete();
    let filled = vec![pods.complete(), devices.complete(), syncs.complete(), refused.complete()];
    let deleted = settings.refuse_deleted.then(refused::Deleted::default);
    let observers = Observers::default();
    let bodies = edgecontroller::fetch_missing(built.downstream.clone(), cluster.clone(), stop.clone());
    rooms.essential("config maps and secrets", bodies);
    rooms.essential(
        "edgecontroller",
        built.downstream.run(pods, deleted.clone(), observers.clone(), trimmer.clone(), stop.clone()),
    );
    let (registry, tunnels, hears) = (built.hub.registry(), built.tunnels.clone(), deleted.clone());
    let changed = move |list: &RefusedNodes| {
        registry.end_where(|node, holder| list.check(node, holder).err());
        tunnels.end_where(|node, holder| list.check(node, holder).is_err());
        hears.iter().for_each(|deleted| list.show(deleted));
    };
    rooms.essential("refused nodes", built.refused.run(changed, refused, stop.clone()));
    if let Some(deleted) = deleted {
        let written =
            refused::record_deleted(cluster.clone(), deleted, settings.terms.in_force(), stop.clone());
        rooms.essential("deleted nodes", written);
    }
    let made = built.devices.clone().create_statuses(cluster.clone(), devices.complete(), stop.clone());
    rooms.optional("device statuses", made);
    rooms.essential("devicecontroller", built.devices.run(devices, stop.clone()));
    rooms.essential("synccontroller", built.syncs.clone().run(cluster.clone(), syncs, stop.clone()));

    if let (Some(webhooks), Some(settings)) = (built.webhooks, &settings.webhooks) {
        let (Observers { autonomy, links }, trust) = (observers.clone(), built.trust.clone());
        let served = webhooks.run(autonomy, links, cluster.clone(), stop.clone());
        let open = opened(filled.clone(), stop.clone());
        rooms.optional("admission webhooks", open.then(|()| served));
        let kept = webhooks::keep_configurations(settings.clone(), cluster.clone(), trust, stop.clone());
        rooms.optional("configurations of webhooks", kept);
    }
    rooms.essential("autonomy", observers.autonomy.run(cluster.clone(), stop.clone()));
    let registry = built.hub.registry();
    let still = observers.links.clone().look_at_leases(cluster.clone(), stop.clone());
    rooms.essential("leases of nodes", still);
    let sessions =
        move |since| edgelink::Sessions { connected: registry.nodes(), left: registry.left_after(since) };
    rooms.essential("links of nodes", observers.links.run(sessions, cluster.clone(), stop.clone()));
    rooms.essential("certificates", built.keeper.run(settings.certificate_check, stop.clone()));
    rooms.optional("signers", built.hub.signers().run(cluster.clone(), stop.clone()));
    let trust = built.trust.clone();
    let refreshed = refresh_tokens(cluster.clone(), built.trust, settings.token_refresh, stop.clone());
    rooms.essential("join token", refreshed);
    let collected = housekeeping::collect_garbage(cluster.clone(), built.syncs, recorded, stop.clone());
    rooms.essential("garbage collection", collected);
    let approved = approver::approve_serving(cluster.clone(), stop.clone());
    rooms.essential("approver of serving certificates", approved);
    let trimmed = trimmer.clone().give_back(stop.clone()).map(Ok::<_, Infallible>);
    rooms.optional("memory", trimmed);

    let (hub_hand, for_hub) = listener::handed(HANDED);
    let (register_hand, for_register) = listener::handed(HANDED);
    let (tunnels_hand, for_tunnels) = listener::handed(HANDED);
    if let Some(front) = built.front {
        let hands = Hands { hub: hub_hand, register: register_hand, tunnels: tunnels_hand };
        let open = opened(filled.clone(), stop.clone());
        let until = stop.clone();
        rooms.essential("common port", open.then(|()| front.run(hands, until)));
    }
    let (register, unready, until) = (built.register, health.wait_for("register"), stop.clone());
    let open = opened(filled.clone(), stop.clone());
    rooms.essential("register", open.then(|()| register.run(for_register, unready, until)));
    let (hub, unready, until) = (built.hub, health.wait_for("cloudhub"), stop.clone());
    let open = opened(filled.clone(), stop.clone());
    rooms.essential("cloudhub", open.then(|()| hub.run(for_hub, unready, until)));
    if let Some(streams) = built.streams {
        let Streams { server, tunnels, peers } = streams;
        rooms.essential("stream server", server.run(stop.clone()));
        let met = peers.run(trust, stop.clone());
        rooms.optional("other replicas", met.map(Ok::<_, Infallible>));
        let open = opened(filled.clone(), stop.clone());
        let until = stop.clone();
        rooms.essential("tunnel server", open.then(|()| tunnels.run(for_tunnels, until)));
    }
    if let Some(socket) = built.socket {
        let open = opened(filled, stop.clone());
        rooms.essential("volumes", open.then(|()| socket.run(built.volumes, stop)));
    }
}

/// Starts the watches of one room; each is essential, as the room would go stale without it. A resource that comes after
/// another is watched once the room has taken that in.
fn follow(
    rooms: &mut Rooms,
    cluster: &Cluster,
    resources: &'static [Resource],
    comes_after: fn(Resource) -> Option<Resource>,
    beat: Beat,
) -> Follower {
    let (room, seen) = mpsc::channel::<FromWatch>(WATCH_QUEUE);
    let follower = Follower::new(seen, resources.len(), beat);
    for resource in resources {
        let (mut listed, stop) = (follower.listed(), rooms.stop());
        let feed = kubernetes::feed(cluster.clone(), *resource, room.clone(), stop.clone());
        let first = comes_after(*resource);
        let turn = async move {
            let is_listed = |listed: &Vec<Resource>| first.is_none_or(|first| listed.contains(&first));
            tokio::select! {
                biased;
                _ = stop.cancelled() => {}
                _ = listed.wait_for(is_listed) => {}
            }
        };
        rooms.essential(resource.watch_name(), turn.then(|()| feed));
    }
    follower
}

/// Returns once all of `rooms` have seen everything, or the program stops.
async fn opened(rooms: Vec<watch::Receiver<bool>>, stop: CancellationToken) {
    let filled = async {
        for mut room in rooms {
            let _ = room.wait_for(|complete| *complete).await;
        }
    };
    tokio::select! {
        biased;
        _ = stop.cancelled() => {}
        _ = filled => {}
    }
}

/// Publishes a fresh join token now, every refresh and when another CA signs; tries again soon after a failure.
async fn refresh_tokens(
    cluster: Cluster,
    mut trust: watch::Receiver<Arc<Trust>>,
    refresh: Duration,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let lifetime = (refresh * TOKEN_LIVES).as_secs() as i64;
    loop {
        let authority = trust.borrow_and_update().authority.clone();
        let wait = match material::publish_token(&cluster, &authority, lifetime).await {
            Ok(()) => refresh,
            Err(error) => {
                tracing::warn!(error = %error, "join token not refreshed, trying again");
                Duration::from_secs(10)
            }
        };
        tokio::select! {
            biased;
            _ = stop.cancelled() => return Ok(()),
            // A token names the CA that signs.
            changed = trust.changed() => if changed.is_err() { return Ok(()) },
            _ = tokio::time::sleep(wait) => {}
        }
    }
}
