//! What a container mounts.

use serde_json::{Value, json};

use super::{is_given, optional_choice, paths};
use crate::Cause;
use crate::object::{list, text};

pub(super) fn check(at: &str, container: &Value, volumes: &[String], causes: &mut Vec<Cause>) {
    let is_privileged = container.pointer("/securityContext/privileged") == Some(&json!(true));
    let mut taken = Vec::new();
    for (index, mount) in list(container, "/volumeMounts").iter().enumerate() {
        let at = format!("{at}.volumeMounts[{index}]");
        known(&at, mount, volumes, causes);
        place(&at, mount, "mountPath", &mut taken, causes);
        parts(&at, mount, causes);
        let ways = ["Bidirectional", "HostToContainer", "None"];
        optional_choice(&at, mount, "mountPropagation", &ways, causes);
        if mount["mountPropagation"] == "Bidirectional" && !is_privileged {
            let detail = "Bidirectional mount propagation is available only to privileged containers";
            causes.push(Cause::forbidden(format!("{at}.mountPropagation"), detail));
        }
        optional_choice(&at, mount, "recursiveReadOnly", &["Disabled", "Enabled", "IfPossible"], causes);
    }
    for (index, device) in list(container, "/volumeDevices").iter().enumerate() {
        let at = format!("{at}.volumeDevices[{index}]");
        known(&at, device, volumes, causes);
        place(&at, device, "devicePath", &mut taken, causes);
        paths::no_backsteps(&format!("{at}.devicePath"), text(device, "/devicePath"), causes);
    }
}

fn known(at: &str, mount: &Value, volumes: &[String], causes: &mut Vec<Cause>) {
    let volume = text(mount, "/name");
    if !volumes.iter().any(|known| known == volume) {
        causes.push(Cause::not_found(format!("{at}.name"), volume));
    }
}

/// Where it is seen: each place once.
fn place<'a>(at: &str, mount: &'a Value, field: &str, taken: &mut Vec<&'a str>, causes: &mut Vec<Cause>) {
    let path = text(mount, &format!("/{field}"));
    if path.is_empty() {
        causes.push(Cause::required(format!("{at}.{field}"), ""));
    } else if taken.contains(&path) {
        causes.push(Cause::invalid(format!("{at}.{field}"), &json!(path), "must be unique"));
    }
    taken.push(path);
}

fn parts(at: &str, mount: &Value, causes: &mut Vec<Cause>) {
    for field in ["subPath", "subPathExpr"] {
        paths::descending(&format!("{at}.{field}"), text(mount, &format!("/{field}")), causes);
    }
    let given = |field: &str| is_given(mount, field) && !text(mount, &format!("/{field}")).is_empty();
    if given("subPath") && given("subPathExpr") {
        let detail = "subPathExpr and subPath are mutually exclusive";
        causes.push(Cause::invalid(format!("{at}.subPathExpr"), &mount["subPathExpr"], detail));
    }
}
