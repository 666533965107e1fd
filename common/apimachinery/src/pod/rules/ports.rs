//! Ports of containers.

use serde_json::{Value, json};

use crate::Cause;
use crate::object::{list, text};

const NUMBERS: std::ops::RangeInclusive<i64> = 1..=65_535;

pub(super) fn check(at: &str, container: &Value, causes: &mut Vec<Cause>) {
    let mut names: Vec<&str> = Vec::new();
    for (index, port) in list(container, "/ports").iter().enumerate() {
        let at = format!("{at}.ports[{index}]");
        let protocols = ["SCTP", "TCP", "UDP"];
        super::optional_choice(&at, port, "protocol", &protocols, causes);
        let name = text(port, "/name");
        if !name.is_empty() {
            if !is_name(name) {
                let detail =
                    "must have 1 to 15 lower case letters, digits and single hyphens inside, and a letter";
                causes.push(Cause::invalid(format!("{at}.name"), &json!(name), detail));
            } else if names.contains(&name) {
                causes.push(Cause::duplicate(format!("{at}.name"), &json!(name)));
            }
            names.push(name);
        }
        number(&at, port, "containerPort", &[], causes);
        if super::is_given(port, "hostPort") {
            number(&at, port, "hostPort", &[0], causes);
        }
    }
}

fn number(at: &str, port: &Value, field: &str, also: &[i64], causes: &mut Vec<Cause>) {
    let number = port[field].as_i64();
    if number.is_none_or(|number| !NUMBERS.contains(&number) && !also.contains(&number)) {
        let detail = "must be between 1 and 65535, inclusive";
        causes.push(Cause::invalid(format!("{at}.{field}"), &port[field], detail));
    }
}

/// RFC 6335.
fn is_name(name: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte != b'-');
    name.len() <= 15
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && !name.contains("--")
        && edge(name.bytes().next())
        && edge(name.bytes().last())
}

/// Ports of the node: each once, and in its network the container's own.
pub(super) fn check_host(path: &str, spec: &Value, causes: &mut Vec<Cause>) {
    let in_host_network = spec["hostNetwork"] == true;
    let mut taken: Vec<(&str, &str, i64)> = Vec::new();
    for (at, container) in list(spec, "/containers").iter().enumerate() {
        for (index, port) in list(container, "/ports").iter().enumerate() {
            let at = format!("{path}.containers[{at}].ports[{index}]");
            let (own, host) = (port["containerPort"].as_i64(), port["hostPort"].as_i64().unwrap_or(0));
            if in_host_network && own.is_some_and(|own| own != host) {
                let detail = "must match `hostPort` when `hostNetwork` is true";
                causes.push(Cause::invalid(format!("{at}.containerPort"), &port["containerPort"], detail));
            }
            let place = (text(port, "/protocol"), text(port, "/hostIP"), host);
            if host != 0 && taken.contains(&place) {
                causes.push(Cause::duplicate(format!("{at}.hostPort"), &json!(host)));
            }
            taken.push(place);
        }
    }
}
