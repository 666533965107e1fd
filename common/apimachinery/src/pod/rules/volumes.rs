//! Volumes of a pod, and where their files go.

use serde_json::{Value, json};

use super::{is_given, name, optional_choice, paths, required, seconds};
use crate::object::{list, text};
use crate::{Cause, quantity};

/// Everything a volume can be made from.
const SOURCES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

const HOST_PATH_TYPES: &[&str] =
    &["", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"];

/// The names of the volumes.
pub(super) fn check(path: &str, spec: &Value, causes: &mut Vec<Cause>) -> Vec<String> {
    let mut seen = Vec::new();
    for (at, volume) in list(spec, "/volumes").iter().enumerate() {
        let at = format!("{path}.volumes[{at}]");
        name(&at, volume, &mut seen, causes);
        one_of(&at, volume, SOURCES, "volume", causes);
        source(&at, volume, causes);
    }
    seen
}

/// More than one source would leave it to chance which counts.
fn one_of(at: &str, item: &Value, sources: &[&str], what: &str, causes: &mut Vec<Cause>) {
    let given = sources.iter().filter(|source| is_given(item, source));
    for source in given.skip(1) {
        let detail = format!("may not specify more than 1 {what} type");
        causes.push(Cause::forbidden(format!("{at}.{source}"), &detail));
    }
}

fn source(at: &str, volume: &Value, causes: &mut Vec<Cause>) {
    let given = |field: &str| is_given(volume, field).then(|| (format!("{at}.{field}"), &volume[field]));
    if let Some((at, source)) = given("hostPath") {
        let (field, path) = (format!("{at}.path"), text(source, "/path"));
        required(&at, source, "path", causes);
        paths::no_backsteps(&field, path, causes);
        optional_choice(&at, source, "type", HOST_PATH_TYPES, causes);
    }
    if let Some((at, source)) = given("emptyDir") {
        size_limit(&at, source, causes);
    }
    let mut files = Vec::new();
    if let Some((at, source)) = given("configMap") {
        required(&at, source, "name", causes);
        mode(&at, source, "defaultMode", causes);
        items(&at, source, &mut files, causes);
    }
    if let Some((at, source)) = given("secret") {
        required(&at, source, "secretName", causes);
        mode(&at, source, "defaultMode", causes);
        items(&at, source, &mut files, causes);
    }
    if let Some((at, source)) = given("downwardAPI") {
        mode(&at, source, "defaultMode", causes);
        fields(&at, source, &mut files, causes);
    }
    if let Some((at, source)) = given("projected") {
        mode(&at, source, "defaultMode", causes);
        projected(&at, source, causes);
    }
    for (source, field) in
        [("persistentVolumeClaim", "claimName"), ("nfs", "server"), ("nfs", "path"), ("csi", "driver")]
    {
        if let Some((at, source)) = given(source) {
            required(&at, source, field, causes);
        }
    }
}

fn size_limit(at: &str, source: &Value, causes: &mut Vec<Cause>) {
    let limit = &source["sizeLimit"];
    let text = limit.as_str().map_or_else(|| limit.to_string(), str::to_owned);
    if !limit.is_null() && quantity::milli(&text).is_none_or(|amount| amount < 0) {
        let detail = "SizeLimit field must be a valid resource quantity";
        causes.push(Cause::forbidden(format!("{at}.sizeLimit"), detail));
    }
}

fn mode(at: &str, source: &Value, field: &str, causes: &mut Vec<Cause>) {
    let value = &source[field];
    if !value.is_null() && value.as_i64().is_none_or(|mode| !(0..=0o777).contains(&mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        causes.push(Cause::invalid(format!("{at}.{field}"), value, detail));
    }
}

/// Keys and the paths of their files. `files` are those of the other sources of the volume.
fn items<'a>(at: &str, source: &'a Value, files: &mut Vec<&'a str>, causes: &mut Vec<Cause>) {
    for (index, item) in list(source, "/items").iter().enumerate() {
        let at = format!("{at}.items[{index}]");
        required(&at, item, "key", causes);
        file(&at, item, files, causes);
    }
}

/// Fields of the pod and the paths of their files.
fn fields<'a>(at: &str, source: &'a Value, files: &mut Vec<&'a str>, causes: &mut Vec<Cause>) {
    for (index, item) in list(source, "/items").iter().enumerate() {
        let at = format!("{at}.items[{index}]");
        file(&at, item, files, causes);
        match (is_given(item, "fieldRef"), is_given(item, "resourceFieldRef")) {
            (false, false) => {
                causes.push(Cause::required(at, "one of fieldRef and resourceFieldRef is required"));
            }
            (true, true) => {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                causes.push(Cause::invalid(at, &json!("resource"), detail));
            }
            _ => {}
        }
    }
}

fn file<'a>(at: &str, item: &'a Value, files: &mut Vec<&'a str>, causes: &mut Vec<Cause>) {
    let (field, path) = (format!("{at}.path"), text(item, "/path"));
    paths::payload(&field, path, causes);
    mode(at, item, "mode", causes);
    files.push(path);
}

const PROJECTIONS: &[&str] =
    &["configMap", "secret", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];

fn projected(at: &str, source: &Value, causes: &mut Vec<Cause>) {
    let mut all: Vec<&str> = Vec::new();
    for (index, part) in list(source, "/sources").iter().enumerate() {
        let at = format!("{at}.sources[{index}]");
        one_of(&at, part, PROJECTIONS, "volume", causes);
        let mut files = Vec::new();
        let given = |field: &str| is_given(part, field).then(|| (format!("{at}.{field}"), &part[field]));
        for kind in ["configMap", "secret"] {
            if let Some((at, source)) = given(kind) {
                required(&at, source, "name", causes);
                items(&at, source, &mut files, causes);
                conflicts(&at, &files, &all, causes);
            }
        }
        if let Some((at, source)) = given("downwardAPI") {
            fields(&at, source, &mut files, causes);
            conflicts(&at, &files, &all, causes);
        }
        if let Some((at, token)) = given("serviceAccountToken") {
            paths::payload(&format!("{at}.path"), text(token, "/path"), causes);
            seconds(&at, token, "expirationSeconds", 600, causes);
            files.push(text(token, "/path"));
        }
        all.extend(files);
    }
}

/// A path that another source of the volume has as well.
fn conflicts(at: &str, files: &[&str], others: &[&str], causes: &mut Vec<Cause>) {
    for (index, path) in files.iter().enumerate() {
        if !path.is_empty() && (others.contains(path) || files[..index].contains(path)) {
            let field = format!("{at}.items[{index}].path");
            causes.push(Cause::invalid(field, &json!(path), "conflicting duplicate paths"));
        }
    }
}
