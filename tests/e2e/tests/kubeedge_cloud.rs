//! EdgeCore against a cloud as KubeEdge's own behaves (`e2e::go_cloud`): no link code of ours is at the other end.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::go_cloud::{Controller, GoCloud, Lab, NODE, PATIENCE, is, plain_error, runtime, status};
use e2e::recorded;
use harness::edge::Edge;
use harness::programs::Programs;
use harness::wait;
use serde_json::{Value, json};

/// Long enough for everything that is on its way.
const QUIET: Duration = Duration::from_millis(1500);

const CONFIG_MAP: &str = "013-down-edgecontroller-resource-update-configmap.json";
const SECRET: &str = "028-down-edgecontroller-resource-update-secret.json";
const MODEL: &str = "030-down-devicecontroller-resource-insert-devicemodel.json";
const DEVICE: &str = "032-down-devicecontroller-resource-insert-device.json";

/// Sets version (in header and object) and one text of a config map.
fn changed(message: &mut Value, version: &str, text: &str) {
    message["header"]["resourceversion"] = version.into();
    message["content"]["metadata"]["resourceVersion"] = version.into();
    message["content"]["data"]["greeting"] = text.into();
}

/// What SyncController sends for an object that is gone: its names and uid, source edgecontroller.
fn stub(of: &Value, id: &str, uid: &Value) -> Value {
    let metadata = &of["content"]["metadata"];
    json!({"header": {"msg_id": id, "timestamp": 1795222460583_i64},
        "route": {"source": "edgecontroller", "group": "resource", "operation": "delete",
            "resource": of["route"]["resource"]},
        "content": {"metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": uid}}})
}

#[test]
fn an_edge_gets_its_certificate_from_a_go_cloud_and_speaks_its_dialect() -> Result<()> {
    runtime()?.block_on(async {
        let scratch = tempfile::tempdir()?;
        let cloud = GoCloud::start().await?;
        let root = scratch.path().join(NODE);
        let settings = ["modules.edgeHub.heartbeat=1"];
        let join = || Edge::join_at(&Programs::find()?, cloud.doors(), NODE, &root, None, &settings);
        let (edge, first) =
            tokio::join!(async { tokio::task::block_in_place(join) }, async { cloud.accept().await });
        let (_edge, first) = (edge?, first?);
        // The CA, then a certificate for the token without the CA's hash.
        let asked = cloud.asked();
        let paths: Vec<&str> = asked.iter().map(|asked| asked.path.as_str()).collect();
        ensure!(asked.iter().all(|asked| asked.method == "GET"), "{asked:?}");
        ensure!(paths == ["/ca.crt", "/edge.crt"], "{paths:?}");
        let signing = asked.iter().find(|asked| asked.path == "/edge.crt").context("a signing request")?;
        ensure!(signing.node_name == NODE && signing.body > 100, "{signing:?}");
        ensure!(signing.authorization == format!("Bearer {}", cloud.bearer()), "{signing:?}");

        // It offers its own dialect; a Go server negotiates nothing; it comes back without the offer.
        let upgrade = first.upgrade.clone();
        ensure!(upgrade.offered.as_deref() == Some("causeway.v1"), "{:?}", upgrade.offered);
        first.ended().await?;
        let mut session = cloud.accept().await?;
        for upgrade in [&upgrade, &session.upgrade] {
            let path = format!("/{}/{NODE}/events", upgrade.project_id);
            ensure!(upgrade.path == path && upgrade.project_id.len() == 32, "{}", upgrade.path);
            ensure!(upgrade.node_id == NODE && upgrade.connection_use == "msg", "{}", upgrade.node_id);
            ensure!(upgrade.origin.is_none(), "{:?}", upgrade.origin);
        }
        ensure!(session.upgrade.offered.is_none(), "{:?}", session.upgrade.offered);

        // Heartbeats, and answers to the hub's own questions.
        for _ in 0..3 {
            session.wait_for("a heartbeat", is("keepalive", "node")).await?;
        }
        for operation in ["ping", "pong", "config"] {
            let answer = session.control(operation).await?;
            ensure!(answer["content"] == "ack" && answer["route"]["operation"] == "response", "{answer}");
        }
        // What has no room here is passed over.
        for file in [
            "029-down-devicecontroller-twin-update-membership.json",
            "037-down-devicecontroller-twin-response-twin.OK.json",
            "039-down-dynamiccontroller-resource-applicationResponse-Application.json",
            "042-down-router_eventbus-user-subscribe-default_up.json",
            "043-down-router_eventbus-user-publish-mytopic.json",
        ] {
            let message = session.fresh(file)?;
            session.send(&message).await?;
        }
        ensure!(session.control("ping").await?["content"] == "ack");
        Ok(())
    })
}

#[test]
fn objects_of_a_go_cloud_are_stored_acknowledged_and_never_go_back() -> Result<()> {
    runtime()?.block_on(async {
        let (lab, mut session) = Lab::start(None, &[]).await?;
        let (key, secret) = ("default/configmap/app-config", "default/secret/app-secret");
        for file in ["007-down-edgecontroller-resource-update-node.json", CONFIG_MAP, SECRET, MODEL, DEVICE] {
            let message = session.fresh(file)?;
            session.deliver_object(&message).await.context(file)?;
            let resource = message["route"]["resource"].as_str().unwrap_or_default().to_owned();
            let (object, version) = lab.stored(&resource)?.context("acknowledged, and not stored")?;
            ensure!(object == message["content"], "{resource} is stored as something else");
            ensure!(version == message["header"]["resourceversion"], "{resource} {version}");
        }
        // The hub sends again under the same id when it missed an acknowledgement: each copy is acknowledged.
        let mut message = session.fresh(CONFIG_MAP)?;
        changed(&mut message, "15900", "newer");
        for _ in 0..3 {
            session.deliver_object(&message).await?;
        }
        // What is older, and what is as old with another text, changes nothing and is acknowledged all the same.
        for version in ["15880", "9999", "15900"] {
            let mut message = session.fresh(CONFIG_MAP)?;
            changed(&mut message, version, "older");
            session.deliver_object(&message).await?;
            let (object, stored) = lab.stored(key)?.context("gone")?;
            ensure!(stored == "15900" && object["data"]["greeting"] == "newer", "{version}: {stored}");
        }
        // A large object in Go's fragments; letters are cut in the middle by some of them.
        let mut message = session.fresh(CONFIG_MAP)?;
        let text = "ä漢🦀".repeat(60_000);
        changed(&mut message, "15901", &text);
        ensure!(session.send(&message).await? > 100);
        session.deliver_object(&message).await?;
        ensure!(lab.stored(key)?.is_some_and(|(object, _)| object["data"]["greeting"] == text.as_str()));

        // Deletions: of an object that has been replaced by a namesake, then of the object; SyncController's stubs.
        let secret_message = recorded::message(SECRET)?;
        session.deliver_object(&stub(&secret_message, "stub-1", &json!("of-another"))).await?;
        ensure!(lab.version(secret)?.is_some());
        let uid = secret_message["content"]["metadata"]["uid"].clone();
        session.deliver_object(&stub(&secret_message, "stub-2", &uid)).await?;
        ensure!(lab.version(secret)?.is_none());
        session.deliver_object(&stub(&secret_message, "stub-3", &uid)).await?;
        // A version from before the deletion does not bring it back.
        let mut late = session.fresh(SECRET)?;
        late["header"]["resourceversion"] = "15890".into();
        session.deliver_object(&late).await?;
        ensure!(lab.version(secret)?.is_none());
        // A namesake with another uid is another object, whatever its version.
        late["content"]["metadata"]["uid"] = "of-another".into();
        session.deliver_object(&late).await?;
        ensure!(lab.version(secret)?.as_deref() == Some("15890"));

        // SyncController repairs devices in EdgeController's name.
        ensure!(lab.count("SELECT count(*) FROM device")? == 1);
        let mut device = session.fresh("034-down-devicecontroller-resource-update-device.json")?;
        device["route"]["source"] = "edgecontroller".into();
        session.deliver_object(&device).await?;
        let expected = "SELECT count(*) FROM device_twin WHERE name = 'setpoint' AND expected = '25'";
        wait::for_true("the repaired device's desired value", PATIENCE, || Ok(lab.count(expected)? == 1))?;
        let uid = device["content"]["metadata"]["uid"].clone();
        session.deliver_object(&stub(&device, "stub-4", &uid)).await?;
        wait::for_true("the device goes", PATIENCE, || Ok(lab.count("SELECT count(*) FROM device")? == 0))?;
        let mut model = session.fresh("048-down-devicecontroller-resource-delete-devicemodel.json")?;
        model["header"]["resourceversion"] = "15950".into();
        session.deliver_object(&model).await?;
        ensure!(lab.version("default/devicemodel/therm-model")?.is_none());
        ensure!(session.received.iter().all(|message| message["route"]["operation"] != "error"));
        Ok(())
    })
}

#[test]
fn an_error_is_never_stored_as_an_object() -> Result<()> {
    runtime()?.block_on(async {
        let (lab, mut session) = Lab::start(None, &[]).await?;
        let good = session.fresh(CONFIG_MAP)?;
        session.deliver_object(&good).await?;
        let contents = [
            plain_error(),
            Value::Null,
            status(404, "NotFound"),
            json!("a text"),
            json!([]),
            json!({"Object": null, "Err": {}}),
        ];
        for key in ["default/configmap/app-config", "default/configmap/other", "default/pod/other"] {
            for (operation, content) in ["insert", "update"]
                .iter()
                .flat_map(|operation| contents.iter().map(move |content| (operation, content)))
            {
                let mut message = session.fresh(CONFIG_MAP)?;
                message["header"]["resourceversion"] = "99999".into();
                message["route"]["operation"] = (*operation).into();
                message["route"]["resource"] = key.into();
                message["content"] = content.clone();
                let answer = session.deliver(&message).await?;
                ensure!(answer["route"]["operation"] == "error", "{content} taken: {answer}");
            }
        }
        // Errors and answers nobody asked for.
        for operation in ["error", "response"] {
            for content in &contents {
                let mut message = session.fresh(CONFIG_MAP)?;
                message["route"]["operation"] = operation.into();
                message["content"] = content.clone();
                session.send(&message).await?;
                message["header"]["parent_msg_id"] = "never-sent".into();
                session.send(&message).await?;
            }
        }
        ensure!(session.control("ping").await?["content"] == "ack");
        ensure!(
            lab.stored("default/configmap/app-config")?.is_some_and(|(stored, _)| stored == good["content"])
        );
        ensure!(lab.count("SELECT count(*) FROM meta WHERE key LIKE '%/other'")? == 0);
        Ok(())
    })
}

const TWIN: &str = "device/default/therm1/twin/edge_updated";

#[test]
fn a_report_a_go_cloud_did_not_confirm_comes_again_until_it_does() -> Result<()> {
    runtime()?.block_on(async {
        let (lab, mut session) = Lab::start(None, &[]).await?;
        for file in [MODEL, DEVICE] {
            let message = session.fresh(file)?;
            session.deliver_object(&message).await?;
        }
        wait::for_true("the device", PATIENCE, || Ok(lab.count("SELECT count(*) FROM device")? == 1))?;
        let update = |value: &str| {
            json!({"event_id": "e1", "timestamp": 0,
                "twin": {"temperature": {"actual": {"value": value}, "metadata": {"type": "string"}}}})
        };
        let topic = "$hw/events/device/default/therm1/twin/update";
        lab.publish(topic, &update("36.6")).await?;
        let report = session.wait_for("the report", is("update", TWIN)).await?;
        ensure!(report["content"]["twin"]["temperature"]["actual"]["value"] == "36.6", "{report}");

        // The hub goes without a word: the edge comes back, still in KubeEdge's dialect, with what was not confirmed.
        session.cut();
        lab.publish(topic, &update("36.7")).await?;
        let mut session = lab.cloud.accept().await?;
        ensure!(session.upgrade.offered.is_none(), "{:?}", session.upgrade.offered);
        session.controller = Some(Controller::confirming());
        let again = session.wait_for("the report, again", is("update", TWIN)).await?;
        ensure!(again["header"]["msg_id"] == report["header"]["msg_id"], "{again}");
        ensure!(again["content"] == report["content"], "{again}");
        let next = session.wait_for("the report made meanwhile", is("update", TWIN)).await?;
        ensure!(next["content"]["twin"]["temperature"]["actual"]["value"] == "36.7", "{next}");
        let empty = "SELECT count(*) FROM outbox";
        session.listen(QUIET).await?;
        wait::for_true("confirmed rows go", PATIENCE, || Ok(lab.count(empty)? == 0))?;

        // What is confirmed does not come again, neither after a cut nor after a crash of the edge.
        session.cut();
        let mut session = lab.cloud.accept_kubeedge().await?;
        let came = session.listen(QUIET).await?;
        ensure!(!came.iter().any(is("update", TWIN)), "{came:?}");
        lab.publish(topic, &update("36.8")).await?;
        let report = session.wait_for("a third report", is("update", TWIN)).await?;
        lab.edge.kill9()?;
        drop(session);
        lab.edge.start()?;
        let mut session = lab.cloud.accept_kubeedge().await?;
        session.controller = Some(Controller::confirming());
        let again = session.wait_for("the third report, again", is("update", TWIN)).await?;
        ensure!(again["header"]["msg_id"] == report["header"]["msg_id"], "{again}");
        ensure!(lab.version("default/device/therm1")?.is_some());
        Ok(())
    })
}

#[test]
fn reports_a_go_cloud_never_confirms_hold_up_no_others() -> Result<()> {
    runtime()?.block_on(async {
        let (lab, mut session) = Lab::start(None, &[]).await?;
        let model = session.fresh(MODEL)?;
        session.deliver_object(&model).await?;
        // More than the edge sends before it waits for answers.
        const DEVICES: i64 = 70;
        for number in 0..DEVICES {
            let recorded = session.fresh(DEVICE)?.to_string();
            let mut message: Value =
                serde_json::from_str(&recorded.replace("therm1", &format!("gauge-{number}")))?;
            message["content"]["metadata"]["uid"] = format!("uid-of-gauge-{number}").into();
            session.deliver_object(&message).await?;
        }
        wait::for_true("the devices", PATIENCE, || Ok(lab.count("SELECT count(*) FROM device")? == DEVICES))?;
        let value_of = |message: &Value| message["content"]["twin"]["temperature"]["actual"]["value"].clone();
        for number in 0..DEVICES {
            let update = json!({"event_id": "e", "timestamp": 0,
                "twin": {"temperature": {"actual": {"value": "1"}, "metadata": {"type": "string"}}}});
            lab.publish(&format!("$hw/events/device/default/gauge-{number}/twin/update"), &update).await?;
        }
        let last = format!("device/default/gauge-{}/twin/edge_updated", DEVICES - 1);
        session.wait_for("the last report", |message| message["route"]["resource"] == last).await?;
        // Each came once so far: those before it rest.
        let reports = |received: &[Value]| -> Vec<String> {
            let all = received.iter().filter(|message| !value_of(message).is_null());
            all.map(|message| message["route"]["resource"].to_string()).collect()
        };
        let came = reports(&session.received);
        ensure!(came.len() == DEVICES as usize, "{came:?}");

        // A newer one of a device takes the place of that without an answer; those in between are merged.
        for value in 2..=9 {
            let update = json!({"event_id": "e", "timestamp": 0, "twin":
                {"temperature": {"actual": {"value": value.to_string()}, "metadata": {"type": "string"}}}});
            lab.publish("$hw/events/device/default/gauge-0/twin/update", &update).await?;
        }
        session.wait_for("the newest value", |message: &Value| value_of(message) == "9").await?;
        // One in between may have been sent.
        let of_first = reports(&session.received).iter().filter(|from| from.contains("/gauge-0/")).count();
        ensure!((2..=3).contains(&of_first), "{of_first} reports of a device with nine values");
        Ok(())
    })
}
