//! MetaServer of EdgeCore in front of a cloud as KubeEdge's own behaves (`e2e::go_cloud`): reads, and watches of what it pushes.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::go_cloud::{Controller, Dynamic, Lab, NODE, PATIENCE, Session, runtime};
use harness::kubectl::Kubectl;
use harness::metaserver::MetaServer;
use harness::wait;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::Instant;

/// Answers of the cloud that are given before it is looked at something else.
const TURN: Duration = Duration::from_millis(50);

/// kubectl, while the cloud answers.
async fn kubectl(session: &mut Session, kubectl: &Kubectl, arguments: &'static [&str]) -> Result<String> {
    let kubectl = kubectl.clone();
    let done = tokio::task::spawn_blocking(move || kubectl.run(arguments));
    while !done.is_finished() {
        session.listen(TURN).await?;
    }
    done.await?
}

/// A watch of kubectl's: `ADDED one`.
struct Watch {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watch {
    fn start(kubectl: &Kubectl) -> Result<Watch> {
        let line = "jsonpath={.type} {.object.metadata.name}{\"\\n\"}";
        let mut command = kubectl.command(&["get", "services", "-w", "--output-watch-events", "-o", line]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let (tell, lines) = mpsc::channel(100);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
                if tell.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Watch { child, lines })
    }

    /// The next events, while the cloud answers; in any order.
    async fn next(&mut self, session: &mut Session, count: usize) -> Result<Vec<String>> {
        let (mut told, until) = (Vec::new(), Instant::now() + PATIENCE);
        while told.len() < count {
            match self.lines.try_recv() {
                Ok(line) => told.push(line),
                Err(TryRecvError::Disconnected) => bail!("the watch ended: {told:?}"),
                Err(TryRecvError::Empty) => {
                    ensure!(Instant::now() < until, "{told:?}, and no more");
                    session.listen(TURN).await?;
                }
            }
        }
        told.sort();
        Ok(told)
    }
}

fn dynamic(session: &mut Session) -> Result<&mut Dynamic> {
    session.controller.as_mut().and_then(|controller| controller.dynamic.as_mut()).context("a cluster")
}

/// A Service as the cloud pushes it.
fn pushed(operation: &str, object: &Value) -> Value {
    let (name, version) = (&object["metadata"]["name"], &object["metadata"]["resourceVersion"]);
    let name = name.as_str().unwrap_or_default();
    json!({"header": {"msg_id": format!("push-{operation}-{name}"), "timestamp": 1795222460583_i64, "resourceversion": version},
        "route": {"source": "dynamiccontroller", "group": "resource", "operation": operation,
            "resource": format!("default/service/{name}")},
        "content": object})
}

#[test]
fn what_a_go_cloud_pushes_and_what_it_loses_is_seen_by_kubectl_on_the_node() -> Result<()> {
    runtime()?.block_on(async {
        let metaserver = MetaServer::new()?;
        let settings = metaserver.settings();
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let (lab, mut session) = Lab::start(None, &settings).await?;
        let mut cluster = Dynamic::default();
        cluster.put("one");
        let mut controller = Controller::confirming();
        controller.dynamic = Some(cluster);
        session.controller = Some(controller);
        let own = lab.edge.root.join("var/lib/kubeedge/metaserver/kubeconfig");
        wait::for_true("the node's own API", PATIENCE, || Ok(own.exists()))?;
        let node = Kubectl::new(&own);
        // Who shows the node's certificate is known soon after that.
        let until = Instant::now() + PATIENCE;
        let names = loop {
            match kubectl(&mut session, &node, &["get", "services", "-o", "name"]).await {
                Err(error) if format!("{error:#}").contains("credentials") && Instant::now() < until => {}
                answered => break answered?,
            }
        };
        ensure!(names.trim() == "service/one", "{names}");

        let mut watch = Watch::start(&node)?;
        let told = watch.next(&mut session, 1).await?;
        ensure!(told == ["ADDED one"], "{told:?}");
        // Begun before anything is pushed.
        let begun = "watch /core/v1/services/default/null".to_owned();
        while !dynamic(&mut session)?.asked.contains(&begun) {
            session.listen(TURN).await?;
        }
        let two = dynamic(&mut session)?.put("two");
        session.deliver_object(&pushed("insert", &two)).await?;
        ensure!(watch.next(&mut session, 1).await? == ["ADDED two"]);
        ensure!(lab.version("default/service/two")?.is_none(), "it is none of the node's own objects");

        // What SyncController says tells which one and not when; what was lost is found with it.
        dynamic(&mut session)?.put("lost");
        dynamic(&mut session)?.remove("two");
        let mut stub =
            pushed("delete", &json!({"metadata": {"name": "two", "namespace": "default", "uid": "two"}}));
        stub["route"]["source"] = "edgecontroller".into();
        stub["header"]["resourceversion"] = "".into();
        session.deliver(&stub).await?;
        ensure!(watch.next(&mut session, 2).await? == ["ADDED lost", "DELETED two"]);

        // The cloud hears again what is watched, and what happened meanwhile is told.
        let controller = session.controller.take();
        session.cut();
        let mut session = lab.cloud.accept_kubeedge().await?;
        session.controller = controller;
        dynamic(&mut session)?.asked.clear();
        dynamic(&mut session)?.put("three");
        dynamic(&mut session)?.remove("one");
        ensure!(watch.next(&mut session, 2).await? == ["ADDED three", "DELETED one"]);
        let asked = &dynamic(&mut session)?.asked;
        ensure!(
            asked.iter().any(|asked| asked.starts_with("sync ") && asked != "sync 0"),
            "{NODE}: {asked:?}"
        );
        Ok(())
    })
}
