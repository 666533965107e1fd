//! MetaServer of EdgeCore in front of a cloud as KubeEdge's own behaves (`e2e::go_cloud`): reads, and watches of what it pushes.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use e2e::go_cloud::{Controller, Dynamic, Lab, NODE, PATIENCE, Session, runtime};
use harness::kubectl::Kubectl;
use harness::metaserver::MetaServer;
use harness::wait;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// kubectl, while the cloud answers.
async fn kubectl(session: &mut Session, kubectl: &Kubectl, arguments: &'static [&str]) -> Result<String> {
    let kubectl = kubectl.clone();
    let mut done = tokio::task::spawn_blocking(move || kubectl.run(arguments));
    loop {
        tokio::select! {
            done = &mut done => return done?,
            next = session.next() => { next?.context("the link ended")?; }
        }
    }
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
        let columns = "custom-columns=:metadata.name";
        let mut command = kubectl.command(&[
            "get",
            "services",
            "-w",
            "--output-watch-events",
            "--no-headers",
            "-o",
            columns,
        ]);
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
        let mut told = Vec::new();
        let reading = async {
            while told.len() < count {
                tokio::select! {
                    line = self.lines.recv() => told.push(line.context("the watch ended")?),
                    next = session.next() => { next?.context("the link ended")?; }
                }
            }
            anyhow::Ok(())
        };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        read.with_context(|| format!("{told:?}, and no more"))??;
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
        let names = kubectl(&mut session, &node, &["get", "services", "-o", "name"]).await?;
        ensure!(names.trim() == "service/one", "{names}");

        let mut watch = Watch::start(&node)?;
        let told = watch.next(&mut session, 1).await?;
        ensure!(told == ["ADDED one"], "{told:?}");
        // Begun before anything is pushed.
        session.wait_for("the watch in the cloud", |message| message["content"]["Verb"] == "watch").await?;
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
