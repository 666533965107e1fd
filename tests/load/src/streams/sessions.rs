//! Many sessions one after the other and beside each other: each gives back what went in, and ends with its own exit code; nothing is
//! left of them afterwards. Where a log is known, every fourth reads that, and every fourth a file with the same lines.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt as _, StreamExt as _, stream};
use harness::memory;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::Way;
use crate::pods::Place;
use crate::result::{Results, rounded};

/// Sessions open at once.
const AT_ONCE: usize = 8;
/// Bytes that go into each, and come back.
const BYTES: usize = 4096;
/// The same, of every fourth.
const MANY: usize = 256 * 1024;
/// Before memory is read.
pub(super) const REST: Duration = Duration::from_secs(20);
/// What programs hold once everything was used, before the count begins.
pub(super) const WARM_UP: usize = 50;

pub(super) async fn measure(
    count: usize,
    place: &Place,
    api: &Arc<Way>,
    results: &mut Results,
) -> Result<()> {
    let expected = Expected::default();
    all(WARM_UP, api, &expected).await?;
    let before = resident(place).await?;
    let wrong = all(count, api, &expected).await?;
    let after = resident(place).await?;
    results.add("sessions", "sessions, each with its own input and exit code", count);
    results.add("sessions_wrong", "of them with other bytes or another exit code", wrong);
    let ratio = |at: usize| rounded(after[at] as f64 / before[at] as f64);
    results.add("sessions_cloud_ratio", "CloudCore's memory afterwards, against before", ratio(0));
    results.add("sessions_edge_ratio", "EdgeCore's", ratio(1));
    Ok(())
}

async fn resident(place: &Place) -> Result<[u64; 2]> {
    tokio::time::sleep(REST).await;
    let pids = [place.site.cloud.pid()?, place.site.edge.pid()?];
    Ok([memory::median_kb(pids[0])?, memory::median_kb(pids[1])?])
}

/// What the pod `bench` says.
#[derive(Clone, Default)]
pub(super) struct Expected {
    /// Its log and its file `/file`.
    pub lines: Option<Arc<String>>,
}

/// How many went wrong.
pub(super) async fn all(count: usize, api: &Arc<Way>, expected: &Expected) -> Result<usize> {
    let sessions = (0..count).map(|number| {
        let (api, expected) = (api.clone(), expected.clone());
        async move {
            match (number % 4, expected.lines) {
                (1, Some(lines)) => Ok(api.get(&api.log("bench", "")).await? == lines.as_bytes()),
                (2, Some(lines)) => Ok(api.run("bench", &["cat", "/file"]).await? == lines.as_bytes()),
                (3, _) => session(&api, number, MANY).await,
                _ => session(&api, number, BYTES).await,
            }
        }
    });
    let right = stream::iter(sessions).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    let mut wrong = 0;
    for outcome in right {
        match outcome {
            Ok(true) => {}
            Ok(false) => wrong += 1,
            Err(error) => {
                println!("  a session failed: {error:#}");
                wrong += 1;
            }
        }
    }
    Ok(wrong)
}

async fn session(api: &Way, number: usize, count: usize) -> Result<bool> {
    let (code, input) = (1 + number % 200, vec![(number % 251) as u8; count]);
    let command = format!("head%20-c%20{count}%3B%20exit%20{code}");
    let path = format!("{}&{}=1", api.exec("bench", &["sh", "-c", &command]), api.input());
    let mut request = format!("ws://localhost{path}").into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", "v4.channel.k8s.io".parse()?);
    let (mut socket, _) = tokio_tungstenite::client_async(request, api.connect().await?).await?;
    let framed = [&[0][..], &input].concat();
    socket.send(Message::Binary(framed.into())).await?;
    let (mut output, mut status) = (Vec::new(), None);
    while let Some(Ok(message)) = socket.next().await {
        let Message::Binary(bytes) = message else { continue };
        match bytes.split_first() {
            Some((1, rest)) => output.extend_from_slice(rest),
            Some((3, rest)) => status = Some(serde_json::from_slice::<Value>(rest)?),
            _ => {}
        }
    }
    let status = status.context("the command's status never came")?;
    let causes = status["details"]["causes"].as_array().cloned().unwrap_or_default();
    let told =
        causes.iter().find(|cause| cause["reason"] == "ExitCode").map(|cause| cause["message"].clone());
    ensure!(told.is_some(), "no exit code in {status}");
    Ok(output == input && told == Some(code.to_string().into()))
}
