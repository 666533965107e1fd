//! What is wrong with signing requests, and what must not change of them (`pkg/apis/certificates/validation`,
//! `pkg/registry/certificates/certificates/strategy.go`, `plugin/pkg/admission/certificates/subjectrestriction`).

use apimachinery::object::{self, as_map, integer, list, map_in, text};
use apimachinery::{Cause, Status};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::SigningRequest;
use serde_json::{Value, json};

const LEGACY: &str = "kubernetes.io/legacy-unknown";
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const MASTERS: &str = "system:masters";
/// Conditions that stay once they are there.
const LASTING: [&str; 3] = ["Approved", "Denied", "Failed"];
const SHORTEST: i64 = 600;
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn read(value: &Value) -> Result<SigningRequest, String> {
    let pem = STANDARD.decode(text(value, "/spec/request")).unwrap_or_default();
    // Text before the first block is left out, as by Go.
    let mut lines = pem.split(|byte| *byte == b'\n');
    let begin = lines.find(|line| line.starts_with(b"-----BEGIN ")).unwrap_or_default();
    if begin.trim_ascii_end() != b"-----BEGIN CERTIFICATE REQUEST-----" {
        return Err("PEM block type must be CERTIFICATE REQUEST".to_owned());
    }
    SigningRequest::from_pem(&pem).map_err(|error| daemon::errors::describe(&error))
}

/// What is wrong with a request.
pub(crate) fn problems(value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Err(why) = read(value) {
        causes.push(Cause::invalid("spec.request", &value["spec"]["request"], &why));
    }
    let usages: Vec<&str> = list(value, "/spec/usages").iter().filter_map(Value::as_str).collect();
    if usages.is_empty() {
        causes.push(Cause::required("spec.usages", ""));
    }
    for (at, usage) in usages.iter().enumerate() {
        let field = format!("spec.usages[{at}]");
        if !USAGES.contains(usage) {
            causes.push(Cause::unsupported(field.clone(), &json!(usage), &USAGES));
        }
        if usages[..at].contains(usage) {
            causes.push(Cause::duplicate(field, &json!(usage)));
        }
    }
    let signer = text(value, "/spec/signerName");
    if signer == LEGACY {
        let why = "the legacy signerName is not allowed via this API version";
        causes.push(Cause::invalid("spec.signerName", &json!(signer), why));
    } else if signer.is_empty() {
        causes.push(Cause::required("spec.signerName", ""));
    } else {
        causes.extend(signer_problem(signer));
    }
    if let Some(seconds) = integer(value, "/spec/expirationSeconds").filter(|seconds| *seconds < SHORTEST) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        causes.push(Cause::invalid("spec.expirationSeconds", &json!(seconds), why));
    }
    causes.extend(conditions(value));
    causes
}

fn signer_problem(signer: &str) -> Option<Cause> {
    let (domain, path) = signer.split_once('/').unwrap_or_default();
    let is_whole = domain.contains('.') && !path.is_empty() && !path.contains('/');
    let why = match is_whole {
        false => {
            "must be a fully qualified domain and path of the form \"example.com/signer-name\"".to_owned()
        }
        true => apimachinery::names::subdomain(domain)?,
    };
    Some(Cause::invalid("spec.signerName", &json!(signer), &why))
}

fn conditions(value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let all = list(value, "/status/conditions");
    for (at, condition) in all.iter().enumerate() {
        let field = format!("status.conditions[{at}]");
        let (kind, status) = (text(condition, "/type"), text(condition, "/status"));
        if kind.is_empty() {
            causes.push(Cause::required(format!("{field}.type"), ""));
        }
        if status.is_empty() {
            causes.push(Cause::required(format!("{field}.status"), ""));
        } else if LASTING.contains(&kind) && status != "True" {
            causes.push(Cause::unsupported(format!("{field}.status"), &json!(status), &["True"]));
        } else if !matches!(status, "True" | "False" | "Unknown") {
            let known = ["True", "False", "Unknown"];
            causes.push(Cause::unsupported(format!("{field}.status"), &json!(status), &known));
        }
        if all[..at].iter().any(|other| other["type"] == condition["type"]) {
            causes.push(Cause::duplicate(format!("{field}.type"), &json!(kind)));
        }
    }
    let has = |kind: &str| all.iter().any(|condition| condition["type"] == kind);
    if has("Approved") && has("Denied") {
        let why = "Approved and Denied conditions are mutually exclusive";
        causes.push(Cause::invalid("status.conditions", &json!("Approved"), why));
    }
    causes
}

/// What an update must not have changed. `approval`: it is one of the approval; else of the status or of the whole.
pub(crate) fn changes(old: &Value, new: &Value, approval: bool, status: bool) -> Vec<Cause> {
    let mut causes = conditions(new);
    let of = |value: &Value, kind: &str| -> Vec<Value> {
        list(value, "/status/conditions").iter().filter(|one| one["type"] == *kind).cloned().collect()
    };
    for kind in LASTING {
        let (before, now) = (of(old, kind), of(new, kind));
        let what = match () {
            () if now.len() < before.len() => "remove",
            () if approval || kind == "Failed" => continue,
            () if now.len() > before.len() => "add",
            () if now != before => "modify",
            () => continue,
        };
        let why = format!("updates may not {what} a condition of type {kind:?}");
        causes.push(Cause::forbidden("status.conditions", &why));
    }
    let certificate = |value: &Value| text(value, "/status/certificate").to_owned();
    if certificate(old) != certificate(new) {
        let why = match () {
            () if !status && !approval => "updates may not set certificate content",
            () if !certificate(old).is_empty() => "updates may not modify existing certificate content",
            () => return causes,
        };
        causes.push(Cause::forbidden("status.certificate", why));
    }
    causes
}

/// Says of conditions when they came, where that is not said.
pub(crate) fn stamp(old: &Value, new: &mut Value) {
    let now = json!(daemon::clock::rfc3339(daemon::clock::now()));
    let before = list(old, "/status/conditions").to_vec();
    for condition in object::maps_in(map_in(as_map(new), "status"), "conditions") {
        let same = before.iter().find(|one| Some(&one["type"]) == condition.get("type"));
        let is_same = same.is_some_and(|one| Some(&one["status"]) == condition.get("status"));
        let kept =
            same.map(|one| one["lastTransitionTime"].clone()).filter(|time| is_same && time.is_string());
        for (field, time) in
            [("lastUpdateTime", now.clone()), ("lastTransitionTime", kept.unwrap_or(now.clone()))]
        {
            if condition.get(field).is_none_or(Value::is_null) {
                condition.insert(field.to_owned(), time);
            }
        }
    }
}

/// 403 for a request that asks the API's own signer for the group that may do everything.
pub(crate) fn restricted(value: &Value, name: &str) -> Result<(), Status> {
    if value["spec"]["signerName"] != CLIENT {
        return Ok(());
    }
    match read(value).is_ok_and(|request| request.organizations().iter().any(|group| group == MASTERS)) {
        false => Ok(()),
        true => {
            let why = format!("use of {CLIENT} signer with {MASTERS} group is not allowed");
            Err(Status::refused("certificates.k8s.io", "certificatesigningrequests", name, &why))
        }
    }
}
