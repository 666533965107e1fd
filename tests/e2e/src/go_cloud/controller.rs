//! Answers of EdgeController and DeviceController (docs/protocol/edge-runtime.md 1.4), from the recorded ones.

use std::collections::{HashMap, VecDeque};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Dynamic;
use crate::recorded;

/// An answer, and whether the hub sends it until it is acknowledged.
pub struct Answer {
    pub message: Value,
    pub acknowledged: bool,
}

/// What the cluster holds, as far as an edge may ask for it.
#[derive(Default)]
pub struct Controller {
    /// Config maps and secrets by resource.
    pub objects: HashMap<String, Value>,
    /// Contents given instead of the proper answer, once each, by `operation resource`.
    pub instead: HashMap<String, VecDeque<Value>>,
    /// Twin and state reports are confirmed.
    pub confirms: bool,
    /// Answers applications; without it they are taken in silence.
    pub dynamic: Option<Dynamic>,
    /// End of the tokens given, as RFC 3339.
    pub token_end: String,
    lease: Option<Value>,
    made: usize,
}

/// Go's encoding of an error that is not an API status.
pub fn plain_error() -> Value {
    json!({})
}

/// Go's encoding of an API status.
pub fn status(code: u16, reason: &str) -> Value {
    json!({"ErrStatus": {"metadata": {}, "status": "Failure", "message": reason, "reason": reason, "code": code}})
}

impl Controller {
    /// Of a cluster that holds nothing, and confirms every report.
    pub fn confirming() -> Controller {
        Controller { confirms: true, ..Controller::default() }
    }

    /// The answer to an upstream message, if there is one.
    pub fn answer(&mut self, asked: &Value) -> Result<Option<Answer>> {
        let route = |field: &str| asked["route"][field].as_str().unwrap_or_default();
        let (operation, resource) = (route("operation"), route("resource"));
        let kind =
            if route("source") == "twin" { "twin" } else { resource.split('/').nth(1).unwrap_or_default() };
        let instead = self.instead.get_mut(&format!("{operation} {resource}")).and_then(VecDeque::pop_front);
        if let Some(content) = instead {
            return Ok(Some(self.reply(asked, content, false)));
        }
        if route("source") == "metaserver" {
            let Some(content) = self.dynamic.as_mut().map(|dynamic| dynamic.answer(asked)).transpose()?
            else {
                return Ok(None);
            };
            let mut answer = self.reply(asked, content, false);
            answer.message["route"] = json!({"source": "dynamiccontroller", "group": "resource",
                "operation": "applicationResponse", "resource": "ignore/Application/ignore"});
            return Ok(Some(answer));
        }
        let recorded = |file: &str| recorded::message(file).map(|message| message["content"].clone());
        let content = match (operation, kind) {
            ("insert", "node") => recorded("006-down-edgecontroller-resource-response-node.data.json")?,
            ("patch", "nodepatch") => {
                recorded("010-down-edgecontroller-resource-response-nodepatch.data.json")?
            }
            ("patch", "podpatch") => {
                recorded("019-down-edgecontroller-resource-response-podpatch.data.json")?
            }
            ("delete", "pod") => json!("OK"),
            (_, "lease") => self.lease(operation, &asked["content"])?,
            ("query", "configmap" | "secret") => {
                return Ok(Some(match self.objects.get(resource).cloned() {
                    Some(object) => self.reply(asked, object, true),
                    None => self.reply(asked, status(404, "NotFound"), false),
                }));
            }
            ("query", "serviceaccounttoken") => {
                let mut token =
                    recorded("024-down-edgecontroller-resource-response-serviceaccounttoken.data.json")?;
                token["status"]["expirationTimestamp"] = self.token_end.as_str().into();
                token
            }
            ("update", "twin") if self.confirms => {
                let mut message =
                    recorded::with_id("037-down-devicecontroller-twin-response-twin.OK.json", &self.id())?;
                message["header"]["parent_msg_id"] = asked["header"]["msg_id"].clone();
                return Ok(Some(Answer { message, acknowledged: false }));
            }
            // Keepalives, complaints, events, requests for memberships: taken in silence.
            _ => return Ok(None),
        };
        Ok(Some(self.reply(asked, content, false)))
    }

    fn id(&mut self) -> String {
        self.made += 1;
        format!("answer-{}", self.made)
    }

    /// A reply of EdgeController: its source, the request's resource and id, the version of the object.
    fn reply(&mut self, asked: &Value, content: Value, acknowledged: bool) -> Answer {
        let version = ["Object", ""].iter().find_map(|place| {
            let object = if place.is_empty() { &content } else { &content[place] };
            object["metadata"]["resourceVersion"].as_str().map(str::to_owned)
        });
        let mut header = json!({"msg_id": self.id(), "parent_msg_id": asked["header"]["msg_id"],
            "timestamp": 1795222379325_i64});
        if let Some(version) = version {
            header["resourceversion"] = version.into();
        }
        let route = json!({"source": "edgecontroller", "group": "resource", "operation": "response",
            "resource": asked["route"]["resource"]});
        Answer { message: json!({"header": header, "route": route, "content": content}), acknowledged }
    }

    /// The API server's rules: it must not exist to be made, and the version must be the last to be renewed.
    fn lease(&mut self, operation: &str, asked: &Value) -> Result<Value> {
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        match (operation, &self.lease) {
            ("query" | "update", None) => {
                let mut missing =
                    recorded::message("003-down-edgecontroller-resource-response-lease.data.json")?;
                return Ok(missing["content"].take());
            }
            ("query", Some(_)) => {}
            ("insert", None) => ensure!(version(asked).is_none(), "a version at creation"),
            ("insert", Some(_)) => {
                return Ok(json!({"Object": null, "Err": status(409, "AlreadyExists")}));
            }
            ("update", Some(last)) => ensure!(version(asked) == version(last), "lease of another version"),
            _ => ensure!(false, "{operation} of a lease"),
        }
        if operation != "query" {
            self.made += 1;
            let mut lease = asked.clone();
            lease["metadata"]["uid"] = "a5eda883-c7c8-4356-a938-ef40a767f1ca".into();
            lease["metadata"]["resourceVersion"] = (20_000 + self.made).to_string().into();
            self.lease = Some(lease);
        }
        Ok(json!({"Object": self.lease, "Err": null}))
    }
}
