//! The keys of a file, each with its type, default and meaning, and whether KubeEdge has it.

use serde_json::Value;

use crate::source::{Kind, Structs};

pub(crate) struct Key {
    /// Dotted; `[]` stands for each entry of a list.
    pub path: String,
    /// Empty where other keys are below.
    pub kind: &'static str,
    /// As YAML would have it; empty for entries of a list, and where other keys are below.
    pub default: String,
    pub meaning: String,
    /// `same`: the key and its default; a value: KubeEdge's default; `yes`: KubeEdge's default is of the machine; `older`: only
    /// older KubeEdges have the key; `kubelet`: it is the kubelet's own; `no`: none has.
    pub kubeedge: String,
}

/// All keys below the struct `name`. `theirs` are KubeEdge's files, the newest first.
pub(crate) fn all(structs: &Structs, name: &str, defaults: &Value, theirs: &[Value]) -> Vec<Key> {
    let mut keys = Vec::new();
    walk(structs, name, "", defaults, theirs, &mut keys);
    keys
}

fn walk(structs: &Structs, name: &str, above: &str, defaults: &Value, theirs: &[Value], keys: &mut Vec<Key>) {
    for member in structs.members(name) {
        let path = format!("{above}{}", member.key);
        let default = &defaults[&member.key];
        let mut push = |kind: &'static str, default: String, kubeedge: String| {
            let meaning = meaning(&member.meaning);
            keys.push(Key { path: path.clone(), kind, default, meaning, kubeedge });
        };
        match &member.kind {
            Kind::Plain(kind) => push(kind, shown(default), kubeedge(&path, default, theirs)),
            Kind::Struct(inner) => {
                push("", String::new(), has(&path, theirs).to_owned());
                walk(structs, inner, &format!("{path}."), default, theirs, keys);
            }
            Kind::Structs(inner) => {
                let kubeedge = kubeedge(&path, default, theirs);
                push("list", shown(default), kubeedge.clone());
                for entry in structs.members(inner) {
                    let Kind::Plain(kind) = entry.kind else { panic!("a list of structs in {path}") };
                    let (path, meaning) = (format!("{path}[].{}", entry.key), meaning(&entry.meaning));
                    keys.push(Key {
                        path,
                        kind,
                        default: String::new(),
                        meaning,
                        kubeedge: kubeedge.clone(),
                    });
                }
            }
        }
    }
}

/// Whose a key is stands in a column of its own.
fn meaning(text: &str) -> String {
    let text = text.strip_prefix("Ours: ").or(text.strip_prefix("Ours. ")).unwrap_or(text);
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "absent".to_owned(),
        Value::String(text) if text.is_empty() => "`\"\"`".to_owned(),
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

/// What of KubeEdge's files is theirs who wrote them.
const OF_A_MACHINE: &[&str] = &["10.0.0.5", "edge-1", "/nonexistent"];

fn at<'a>(file: &'a Value, path: &str) -> Option<&'a Value> {
    file.pointer(&format!("/{}", path.replace('.', "/")))
}

fn has(path: &str, theirs: &[Value]) -> &'static str {
    match theirs.iter().position(|file| at(file, path).is_some()) {
        Some(0) => "yes",
        Some(_) => "older",
        None => {
            let is_below = |above: &str| {
                path.strip_prefix(above).is_some_and(|rest| !rest.starts_with(char::is_alphabetic))
            };
            BESIDE.iter().find(|(above, _)| is_below(above)).map_or("no", |(_, has)| has)
        }
    }
}

/// What those files do not show: keys of KubeEdges between them, and of the kubelet's own file.
const BESIDE: &[(&str, &str)] = &[
    ("modules.edged.taints", "older"),
    ("modules.edged.registerNode", "older"),
    ("modules.edged.registerWithTaints", "older"),
    ("modules.edged.tailoredKubeletConfig.port", "kubelet"),
    ("modules.edged.tailoredKubeletConfig.tlsCertFile", "kubelet"),
    ("modules.edged.tailoredKubeletConfig.tlsPrivateKeyFile", "kubelet"),
    ("modules.edged.tailoredKubeletConfig.authentication", "kubelet"),
    ("modules.edged.tailoredKubeletConfig.crashLoopBackOff.maxContainerRestartPeriod", "yes"),
];

fn kubeedge(path: &str, default: &Value, theirs: &[Value]) -> String {
    let value = theirs.first().and_then(|newest| at(newest, path));
    let is_of_a_machine = |value: &Value| OF_A_MACHINE.iter().any(|word| value.to_string().contains(word));
    match value {
        // Each program writes its own version.
        Some(_) if path == "apiVersion" => "yes".to_owned(),
        Some(value) if means_the_same(value, default) => "same".to_owned(),
        Some(value) if !is_of_a_machine(value) => shown(value),
        _ => has(path, theirs).to_owned(),
    }
}

/// Absent, empty, and Go's longer spelling of a duration (`5m0s` for `5m`) are no differences.
fn means_the_same(one: &Value, other: &Value) -> bool {
    let nothing = |value: &Value| {
        value.is_null()
            || value.as_array().is_some_and(|list| list.iter().all(|entry| entry == ""))
            || value.as_object().is_some_and(serde_json::Map::is_empty)
    };
    let short = |value: &Value| {
        let text = value.as_str()?;
        let text = text.strip_suffix("m0s").map_or(text.to_owned(), |minutes| format!("{minutes}m"));
        Some(text.strip_suffix("h0m").map_or(text.clone(), |hours| format!("{hours}h")))
    };
    one == other
        || (nothing(one) && nothing(other))
        || short(one).is_some_and(|one| short(other) == Some(one))
}
