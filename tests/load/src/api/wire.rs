//! What the watchers' connections take by themselves: a server in this process that does nothing but write a line to each. No API
//! server on this machine can be faster than that.

use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use pki::{Authority, Profile, Usage};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio_rustls::TlsAcceptor;

use super::clients::{Client, body};
use super::watchers::{LATE, follow};

const HOST: &str = "127.0.0.1";

/// Milliseconds from each of `changes`, one after the other, to each of `watchers`.
pub(super) async fn fan_out(watchers: usize, changes: usize) -> Result<Vec<f64>> {
    let listener = TcpListener::bind((HOST, 0)).await?;
    let port = listener.local_addr()?.port();
    let (tls, trusts) = tls()?;
    let lines = broadcast::Sender::new(1);
    let serving = tokio::spawn(serve(listener, TlsAcceptor::from(tls), lines.clone()));
    let (tell, mut told) = mpsc::channel(watchers * 4);
    let mut tasks = Vec::new();
    for _ in 0..watchers {
        let client = Client::over(trusts.clone(), HOST.to_owned(), port).await?;
        let (body, tell) = (client.watch("/").await?, tell.clone());
        tasks.push(tokio::spawn(async move {
            let _connected = client;
            follow(body, tell).await
        }));
    }
    let mut samples = Vec::new();
    for at in 0..changes {
        let line = chunk(&body(5, at));
        let began = harness::wait::now();
        lines.send(line)?;
        for _ in 0..watchers {
            let seen = tokio::time::timeout(LATE, told.recv()).await?.context("a watcher ended")?;
            samples.push(seen.saturating_duration_since(began).as_secs_f64() * 1000.0);
        }
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    serving.abort();
    Ok(samples)
}

/// A line of a watch, in HTTP's chunks.
fn chunk(object: &Bytes) -> Bytes {
    let line = format!("{{\"type\":\"MODIFIED\",\"object\":{}}}\n", String::from_utf8_lossy(object));
    format!("{:x}\r\n{line}\r\n", line.len()).into()
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, lines: broadcast::Sender<Bytes>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        // Before the client has its answer, so that it misses no line.
        tokio::spawn(tell(stream, tls.clone(), lines.subscribe()));
    }
}

async fn tell(stream: TcpStream, tls: TlsAcceptor, mut lines: broadcast::Receiver<Bytes>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = tls.accept(stream).await?;
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        anyhow::ensure!(stream.read_buf(&mut asked).await? > 0, "no whole request came");
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    stream.flush().await?;
    loop {
        stream.write_all(&lines.recv().await?).await?;
        stream.flush().await?;
    }
}

fn tls() -> Result<(Arc<ServerConfig>, Arc<ClientConfig>)> {
    let now = daemon::clock::unix_seconds();
    let authority = Authority::generate(None, now)?;
    let profile = Profile {
        common_name: HOST.to_owned(),
        organizations: Vec::new(),
        names: vec![HOST.to_owned()],
        usage: Usage::Server,
        lifetime: pki::DAY,
    };
    let identity = authority.issue(&profile, now)?;
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate().clone()], identity.private_key())?;
    let mut trusted = RootCertStore::empty();
    trusted.add(authority.certificate().clone())?;
    let client = ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
    Ok((Arc::new(server), Arc::new(client)))
}
