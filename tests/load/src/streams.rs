//! Logs, commands and files of a pod through the link, against the node's own Node API; what they cost on the wire, and what a
//! saturated stream does to the objects beside it.

pub(crate) mod replicas;
mod sessions;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use harness::site::{IMAGE, NODE};
use harness::wait;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use store::rusqlite::{Connection, OpenFlags};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::pods::Place;
use crate::result::{Results, percentile, rounded};

/// Bytes of the log that looks like a system's journal.
const JOURNAL: u64 = 10_500_000;
/// Writes for ever.
const FOREVER: &str = "while true; do awk 'BEGIN { for (i = 0; i < 20000; i++) print i, \"a line of a busy program\", (i * 7919) % 100003 }'; done";
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(clap::Args, Clone)]
pub(crate) struct Flags {
    /// Folder with the programs to measure.
    #[arg(long)]
    programs: PathBuf,
    /// Commands that are run one after the other.
    #[arg(long, default_value_t = 100)]
    execs: usize,
    /// MiB that are copied from a pod.
    #[arg(long, default_value_t = 100)]
    megabytes: u64,
    /// Sessions, after which memory is looked at.
    #[arg(long, default_value_t = 1000)]
    sessions: usize,
    /// Updates of a config map, calm and beside a saturated log.
    #[arg(long, default_value_t = 200)]
    updates: usize,
}

trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

/// A way to the pods of the node.
enum Way {
    Api {
        address: String,
        tls: TlsConnector,
    },
    Node {
        socket: PathBuf,
    },
    /// The stream server of a CloudCore, which is asked as a kubelet is.
    Server {
        address: String,
        tls: TlsConnector,
    },
}

impl Way {
    async fn connect(&self) -> Result<Box<dyn Pipe>> {
        match self {
            Way::Node { socket } => Ok(Box::new(UnixStream::connect(socket).await?)),
            Way::Api { address, tls } | Way::Server { address, tls } => {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host).to_owned();
                let name = ServerName::try_from(host)?;
                Ok(Box::new(tls.connect(name, tcp).await?))
            }
        }
    }

    fn log(&self, pod: &str, query: &str) -> String {
        match self {
            Way::Api { .. } => format!("/api/v1/namespaces/default/pods/{pod}/log{query}"),
            Way::Node { .. } | Way::Server { .. } => format!("/containerLogs/default/{pod}/c{query}"),
        }
    }

    fn exec(&self, pod: &str, command: &[&str]) -> String {
        let words: String = command.iter().map(|word| format!("&command={word}")).collect();
        match self {
            Way::Api { .. } => {
                format!("/api/v1/namespaces/default/pods/{pod}/exec?container=c&stdout=1{words}")
            }
            Way::Node { .. } | Way::Server { .. } => format!("/exec/default/{pod}/c?output=1{words}"),
        }
    }

    /// The query parameter by which a command gets input.
    fn input(&self) -> &'static str {
        match self {
            Way::Api { .. } => "stdin",
            Way::Node { .. } | Way::Server { .. } => "input",
        }
    }

    /// Asks for an answer, and gives each part of it to `take`.
    async fn ask(&self, path: &str, mut take: impl FnMut(&[u8])) -> Result<()> {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(self.connect().await?)).await?;
        let driver = tokio::spawn(connection);
        let request = hyper::Request::get(path).header("Host", "localhost").body(Empty::<Bytes>::new())?;
        let answer = sender.send_request(request).await?;
        ensure!(answer.status().is_success(), "{path}: {}", answer.status());
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                take(data);
            }
        }
        driver.abort();
        Ok(())
    }

    /// Asks and counts the bytes of the answer.
    async fn count(&self, path: &str) -> Result<u64> {
        let mut count = 0;
        self.ask(path, |data| count += data.len() as u64).await?;
        Ok(count)
    }

    /// Asks for an answer.
    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.ask(path, |data| all.extend_from_slice(data)).await?;
        Ok(all)
    }

    /// Runs a command to its end, and gives each part of its output to `take`.
    async fn command(&self, pod: &str, command: &[&str], mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut request = format!("ws://localhost{}", self.exec(pod, command)).into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", "v4.channel.k8s.io".parse()?);
        let config = WebSocketConfig::default();
        let (mut socket, _) =
            tokio_tungstenite::client_async_with_config(request, self.connect().await?, Some(config)).await?;
        let mut status = None;
        while let Some(Ok(message)) = socket.next().await {
            let Message::Binary(bytes) = message else { continue };
            match bytes.split_first() {
                Some((1, rest)) => take(rest),
                Some((3, rest)) => status = Some(serde_json::from_slice::<Value>(rest)?),
                _ => {}
            }
        }
        let status = status.context("the command's status never came")?;
        ensure!(status["status"] == "Success", "{status}");
        Ok(())
    }

    /// Runs a command to its end and counts its output.
    async fn run_and_count(&self, pod: &str, command: &[&str]) -> Result<u64> {
        let mut count = 0;
        self.command(pod, command, |data| count += data.len() as u64).await?;
        Ok(count)
    }

    /// Runs a command to its end: its output.
    async fn run(&self, pod: &str, command: &[&str]) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.command(pod, command, |data| all.extend_from_slice(data)).await?;
        Ok(all)
    }
}

pub(crate) fn run(flags: &Flags) -> Result<()> {
    let place = Place::start(&flags.programs)?;
    let api = api(&place)?;
    let node = Way::Node { socket: place.site.edge.root.join("var/lib/kubeedge/edged.sock") };
    prepare(&place, flags)?;
    let mut results = Results::default();
    place.runtime.block_on(measure(flags, &place, Arc::new(api), &node, &mut results))?;
    results.print();
    Ok(())
}

/// The embedded API server, as its administrator.
fn api(place: &Place) -> Result<Way> {
    let text = std::fs::read_to_string(place.site.cloud.kubeconfig())?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "));
        line.with_context(|| format!("{key} in the kubeconfig"))
    };
    let decode =
        |key: &str| -> Result<Vec<u8>> { Ok(base64::engine::general_purpose::STANDARD.decode(value(key)?)?) };
    let trust = pki::Bundle::from_pem(&decode("certificate-authority-data")?)?;
    let identity = pki::Identity::from_pem(&decode("client-certificate-data")?, &decode("client-key-data")?)?;
    let client = pki::tls::LiveClient::new(&trust, Some(&identity))?;
    let address = value("server")?.trim_start_matches("https://").to_owned();
    Ok(Way::Api { address, tls: TlsConnector::from(client.config()) })
}

/// Pods with a log like a journal, a short log, and a file that does not get smaller.
fn prepare(place: &Place, flags: &Flags) -> Result<()> {
    let journal = "BEGIN { for (i = 0; i < 100000; i++) printf \"Nov 30 10:%02d:%02d edge-1 kubelet[811]: I1130 syncing pod default/web-%d in %d ms, generation %d\\n\", (i / 60) % 60, i % 60, i % 97, (i * 31) % 211, i }";
    let short = "BEGIN { for (i = 0; i < 60; i++) printf \"I1130 10:00:%02d.%06d 1 proxier.go:%d] \\\"SyncProxyRules complete\\\" ipFamily=IPv4 elapsed=\\\"%d.%dms\\\"\\n\", i, i * 7919, 800 + i % 9, i % 50, i }";
    let pods = [
        (
            "bench",
            format!(
                "dd if=/dev/urandom of=/big bs=1048576 count={} 2>/dev/null; sleep 1000000",
                flags.megabytes
            ),
        ),
        ("journal", format!("awk '{journal}'; sleep 1000000")),
        ("short", format!("awk '{short}'; sleep 1000000")),
    ];
    let kubectl = place.site.kubectl();
    kubectl.apply(&config_map(0))?;
    for (name, script) in &pods {
        make(place, name, script)?;
    }
    wait::for_true("the file is there", PATIENCE, || {
        let sized = kubectl.command(&["exec", "bench", "--", "stat", "-c", "%s", "/big"]).output()?;
        Ok(String::from_utf8_lossy(&sized.stdout).trim() == (flags.megabytes << 20).to_string())
    })?;
    wait::for_true("the short log is there", PATIENCE, || {
        Ok(kubectl.run(&["logs", "short"])?.lines().count() == 60)
    })
}

/// Makes a pod and waits until it runs.
fn make(place: &Place, name: &str, script: &str) -> Result<()> {
    let kubectl = place.site.kubectl();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "nodeName": NODE, "terminationGracePeriodSeconds": 0,
        "volumes": [{"name": "sync", "configMap": {"name": "sync"}}],
        "containers": [{"name": "c", "image": IMAGE, "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "sync", "mountPath": "/sync"}]}]}});
    kubectl.apply(&pod.to_string())?;
    wait::for_true(&format!("{name} runs"), PATIENCE, || {
        Ok(kubectl.field("pod", name, ".status.phase")? == "Running")
    })
}

fn config_map(number: usize) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sync"}, "data": {"number": number.to_string()}})
        .to_string()
}

async fn measure(
    flags: &Flags,
    place: &Place,
    api: Arc<Way>,
    node: &Way,
    results: &mut Results,
) -> Result<()> {
    let rtt = [rtt(&api, flags.execs).await?, rtt(node, flags.execs).await?];
    results.add("exec_rtt_ms", "a command through the link, median (ms)", rounded(rtt[0]));
    results.add("exec_direct_ms", "the same at the Node API", rounded(rtt[1]));

    sessions::measure(flags.sessions, place, &api, results).await?;

    // Once for the caches.
    ensure!(api.count(&api.log("journal", "")).await? > JOURNAL / 2, "the journal is short");
    let through = rate(|| async { api.count(&api.log("journal", "")).await }).await?;
    let direct = rate(|| async { node.count(&node.log("journal", "")).await }).await?;
    results.add("logs_mb_s", "log through the link (MB/s)", rounded(through));
    results.add("logs_direct_mb_s", "the same at the Node API", rounded(direct));
    results.add("logs_ratio", "ratio", rounded(through / direct));
    let through = rate(|| async { api.run_and_count("bench", &["cat", "/big"]).await }).await?;
    let direct = rate(|| async { node.run_and_count("bench", &["cat", "/big"]).await }).await?;
    results.add("cp_mb_s", "file out of a pod through the link (MB/s)", rounded(through));
    results.add("cp_direct_mb_s", "the same at the Node API", rounded(direct));
    results.add("cp_ratio", "ratio", rounded(through / direct));

    for (key, what, pod) in [
        ("bytes_ratio_journal", "bytes on the link for each of a journal", "journal"),
        ("bytes_ratio_short", "bytes on the link for each of a short log", "short"),
    ] {
        let before = place.site.relay.carried();
        let bytes = api.count(&api.log(pod, "")).await?;
        let carried = place.site.relay.carried() - before;
        results.add(key, what, rounded(carried as f64 / bytes as f64));
    }

    // It takes processor time for as long as it is there, so it comes last, and is there while all is calm as well.
    make(place, "forever", FOREVER)?;
    let calm = sync_p99(flags, place, 1).await?;
    let saturated = {
        let follower = api.clone();
        let following =
            tokio::spawn(async move { follower.count(&follower.log("forever", "?follow=true")).await });
        tokio::time::sleep(Duration::from_secs(2)).await;
        let busy = sync_p99(flags, place, 1 + flags.updates).await?;
        if following.is_finished() {
            bail!("the saturated log ended: {:?}", following.await?);
        }
        following.abort();
        busy
    };
    results.add("sync_calm_p99_ms", "config map to the edge's commit, calm, p99 (ms)", rounded(calm));
    results.add("sync_busy_p99_ms", "the same beside a saturated log", rounded(saturated));
    results.add("sync_p99_ratio", "ratio", rounded(saturated / calm));
    Ok(())
}

/// Milliseconds of a command that does nothing.
async fn rtt(way: &Way, execs: usize) -> Result<f64> {
    let mut samples = Vec::with_capacity(execs);
    for _ in 0..execs {
        let began = wait::now();
        way.run_and_count("bench", &["true"]).await?;
        samples.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(percentile(&mut samples, 50.0))
}

/// The best of three, in MB/s.
async fn rate<F: Future<Output = Result<u64>>>(work: impl Fn() -> F) -> Result<f64> {
    let mut best = 0.0_f64;
    for _ in 0..3 {
        let began = wait::now();
        let bytes = work().await?;
        best = best.max(bytes as f64 / 1e6 / began.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Milliseconds from the change of a config map in the API to its commit at the edge.
async fn sync_p99(flags: &Flags, place: &Place, first: usize) -> Result<f64> {
    let database = Connection::open_with_flags(place.site.edge.database(), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut samples = Vec::with_capacity(flags.updates);
    for number in first..first + flags.updates {
        let began = wait::now();
        place.api.put_config_map("sync", number).await?;
        let wanted = format!("%\"number\":\"{number}\"%");
        loop {
            let found: i64 = database.query_row(
                "SELECT count(*) FROM meta WHERE type = 'configmap' AND value LIKE ?1",
                [&wanted],
                |row| row.get(0),
            )?;
            if found > 0 {
                break;
            }
            ensure!(began.elapsed() < PATIENCE, "config map {number} never came");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        samples.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(percentile(&mut samples, 99.0))
}
