//! Probes and hooks of a container.

use serde_json::Value;

use super::{is_given, seconds};
use crate::Cause;

const PROBES: &[&str] = &["exec", "httpGet", "tcpSocket", "grpc"];
const HOOKS: &[&str] = &["exec", "httpGet", "tcpSocket", "sleep"];

pub(super) fn check(at: &str, container: &Value, causes: &mut Vec<Cause>) {
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if is_given(container, kind) {
            probe(&format!("{at}.{kind}"), &container[kind], kind, causes);
        }
    }
    for kind in ["postStart", "preStop"] {
        let hook = &container["lifecycle"][kind];
        if !hook.is_null() {
            one(&format!("{at}.lifecycle.{kind}"), hook, HOOKS, causes);
        }
    }
}

fn probe(at: &str, probe: &Value, kind: &str, causes: &mut Vec<Cause>) {
    one(at, probe, PROBES, causes);
    let counts =
        ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
    counts.iter().for_each(|field| seconds(at, probe, field, 0, causes));
    seconds(at, probe, "terminationGracePeriodSeconds", 1, causes);
    let successes = &probe["successThreshold"];
    if kind != "readinessProbe" && successes.as_i64().is_some_and(|successes| successes > 1) {
        causes.push(Cause::invalid(format!("{at}.successThreshold"), successes, "must be 1"));
    }
}

/// Exactly one way to ask.
fn one(at: &str, handler: &Value, ways: &[&str], causes: &mut Vec<Cause>) {
    let mut given = ways.iter().filter(|way| is_given(handler, way));
    if given.next().is_none() {
        causes.push(Cause::required(at, "must specify a handler type"));
    }
    for way in given {
        causes.push(Cause::forbidden(format!("{at}.{way}"), "may not specify more than 1 handler type"));
    }
}
