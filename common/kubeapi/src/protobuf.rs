//! Protobuf request bodies of the few types that kubectl sends so: `kubectl create namespace`, `create deployment`, `create token`,
//! `auth can-i`, `drain`. Any other type, and any field not listed here, is refused with 415, so nothing is dropped.
//!
//! The envelope is `k8s\0` and a `runtime.Unknown` (apimachinery/pkg/runtime/generated.proto); field numbers are those
//! of the `generated.proto` of each API group.

mod workloads;

use apimachinery::Status;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Texts,
    Integer,
    Flag,
    /// Numbers and flags that Go has no "unset" for: it writes their zero, and JSON leaves it out.
    Count,
    Mark,
    /// `metav1.Time`
    Time,
    TextMap,
    /// Map of bytes, base64 in JSON.
    BytesMap,
    /// `intstr.IntOrString`
    IntOrText,
    Message(&'static str),
    Messages(&'static str),
    /// Read and left out.
    Ignored,
}

use Kind::{
    BytesMap, Count, Flag, Ignored, IntOrText, Integer, Mark, Message, Messages, Text, TextMap, Texts, Time,
};

type Field = (u64, &'static str, Kind);

fn fields(message: &str) -> Option<&'static [Field]> {
    Some(match message {
        "ObjectMeta" => &[
            (1, "name", Text),
            (2, "generateName", Text),
            (3, "namespace", Text),
            (4, "selfLink", Text),
            (5, "uid", Text),
            (6, "resourceVersion", Text),
            (7, "generation", Count),
            (8, "creationTimestamp", Time),
            (9, "deletionTimestamp", Time),
            (10, "deletionGracePeriodSeconds", Integer),
            (11, "labels", TextMap),
            (12, "annotations", TextMap),
            (13, "ownerReferences", Messages("OwnerReference")),
            (14, "finalizers", Texts),
            (17, "managedFields", Ignored),
        ],
        "OwnerReference" => &[
            (1, "kind", Text),
            (3, "name", Text),
            (4, "uid", Text),
            (5, "apiVersion", Text),
            (6, "controller", Flag),
            (7, "blockOwnerDeletion", Flag),
        ],
        "v1/Namespace" => {
            &[(1, "metadata", META), (2, "spec", Message("NamespaceSpec")), (3, "status", Ignored)]
        }
        "NamespaceSpec" => &[(1, "finalizers", Texts)],
        "v1/ConfigMap" => &[
            (1, "metadata", META),
            (2, "data", TextMap),
            (3, "binaryData", BytesMap),
            (4, "immutable", Flag),
        ],
        "v1/Secret" => &[
            (1, "metadata", META),
            (2, "data", BytesMap),
            (3, "type", Text),
            (4, "stringData", TextMap),
            (5, "immutable", Flag),
        ],
        "v1/ServiceAccount" => &[
            (1, "metadata", META),
            (2, "secrets", Messages("ObjectReference")),
            (3, "imagePullSecrets", Messages("LocalObjectReference")),
            (4, "automountServiceAccountToken", Flag),
        ],
        "ObjectReference" => &[
            (1, "kind", Text),
            (2, "namespace", Text),
            (3, "name", Text),
            (4, "uid", Text),
            (5, "apiVersion", Text),
            (6, "resourceVersion", Text),
            (7, "fieldPath", Text),
        ],
        "LocalObjectReference" => &[(1, "name", Text)],
        "v1/DeleteOptions" | "policy/v1/DeleteOptions" | "DeleteOptions" => &[
            (1, "gracePeriodSeconds", Integer),
            (2, "preconditions", Message("Preconditions")),
            (3, "orphanDependents", Flag),
            (4, "propagationPolicy", Text),
            (5, "dryRun", Texts),
        ],
        "Preconditions" => &[(1, "uid", Text), (2, "resourceVersion", Text)],
        "policy/v1/Eviction" => &[(1, "metadata", META), (2, "deleteOptions", Message("DeleteOptions"))],
        "authentication.k8s.io/v1/TokenRequest" => {
            &[(1, "metadata", META), (2, "spec", Message("TokenRequestSpec")), (3, "status", Ignored)]
        }
        "TokenRequestSpec" => &[
            (1, "audiences", Texts),
            (3, "boundObjectRef", Message("BoundObjectReference")),
            (4, "expirationSeconds", Integer),
        ],
        "BoundObjectReference" => {
            &[(1, "kind", Text), (2, "apiVersion", Text), (3, "name", Text), (4, "uid", Text)]
        }
        "authorization.k8s.io/v1/SelfSubjectAccessReview" => {
            &[(1, "metadata", META), (2, "spec", Message("AccessReviewSpec")), (3, "status", Ignored)]
        }
        "AccessReviewSpec" => &[
            (1, "resourceAttributes", Message("ResourceAttributes")),
            (2, "nonResourceAttributes", Message("NonResourceAttributes")),
        ],
        "ResourceAttributes" => &[
            (1, "namespace", Text),
            (2, "verb", Text),
            (3, "group", Text),
            (4, "version", Text),
            (5, "resource", Text),
            (6, "subresource", Text),
            (7, "name", Text),
            (8, "fieldSelector", Ignored),
            (9, "labelSelector", Ignored),
        ],
        "NonResourceAttributes" => &[(1, "path", Text), (2, "verb", Text)],
        "authentication.k8s.io/v1/SelfSubjectReview" => &[(1, "metadata", META), (2, "status", Ignored)],
        "authorization.k8s.io/v1/SelfSubjectRulesReview" => {
            &[(1, "metadata", META), (2, "spec", Message("RulesReviewSpec")), (3, "status", Ignored)]
        }
        "RulesReviewSpec" => &[(1, "namespace", Text)],
        "rbac.authorization.k8s.io/v1/Role" => &[(1, "metadata", META), (2, "rules", Messages("PolicyRule"))],
        "rbac.authorization.k8s.io/v1/ClusterRole" => {
            &[(1, "metadata", META), (2, "rules", Messages("PolicyRule"))]
        }
        "PolicyRule" => &[
            (1, "verbs", Texts),
            (2, "apiGroups", Texts),
            (3, "resources", Texts),
            (4, "resourceNames", Texts),
            (5, "nonResourceURLs", Texts),
        ],
        "rbac.authorization.k8s.io/v1/RoleBinding" | "rbac.authorization.k8s.io/v1/ClusterRoleBinding" => {
            &[(1, "metadata", META), (2, "subjects", Messages("Subject")), (3, "roleRef", Message("RoleRef"))]
        }
        "Subject" => &[(1, "kind", Text), (2, "apiGroup", Text), (3, "name", Text), (4, "namespace", Text)],
        "RoleRef" => &[(1, "apiGroup", Text), (2, "kind", Text), (3, "name", Text)],
        other => return workloads::fields(other),
    })
}

const META: Kind = Message("ObjectMeta");
const MAGIC: &[u8] = b"k8s\0";

/// Reads a body as the JSON it stands for.
pub(crate) fn parse(body: &[u8]) -> Result<Value, Status> {
    let refused = |what: String| {
        let message = format!("{MEDIA_TYPE} of {what} is not read here; send application/json");
        Status::new(415, "UnsupportedMediaType", message)
    };
    let broken = || Status::bad_request("the object provided is unrecognized: broken protobuf");
    let unknown = body.strip_prefix(MAGIC).ok_or_else(broken)?;
    let (mut kind, mut raw): (&[u8], &[u8]) = (&[], &[]);
    let mut api_version: &[u8] = &[];
    for part in Parts(unknown) {
        match part.ok_or_else(broken)? {
            (1, Wire::Bytes(types)) => {
                for part in Parts(types) {
                    match part.ok_or_else(broken)? {
                        (1, Wire::Bytes(text)) => api_version = text,
                        (2, Wire::Bytes(text)) => kind = text,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let (api_version, kind) = (String::from_utf8_lossy(api_version), String::from_utf8_lossy(kind));
    let name = format!("{api_version}/{kind}");
    let known = fields(&name).ok_or_else(|| refused(name.clone()))?;
    let mut value = message(raw, known).map_err(|error| match error {
        Failure::Broken => broken(),
        Failure::Unknown(field) => refused(format!("{name}, field {field}")),
    })?;
    value["apiVersion"] = json!(api_version);
    value["kind"] = json!(kind);
    Ok(value)
}

enum Failure {
    Broken,
    Unknown(u64),
}

enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message; `None` in place of one that is broken.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = Option<(u64, Wire<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = self.part();
        if part.is_none() {
            self.0 = &[];
        }
        Some(part)
    }
}

impl<'a> Parts<'a> {
    fn part(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Wire::Bytes(bytes)
            }
            _ => return None,
        };
        Some((tag >> 3, wire))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

fn message(bytes: &[u8], known: &[Field]) -> Result<Value, Failure> {
    let mut out = Map::new();
    for part in Parts(bytes) {
        let (number, wire) = part.ok_or(Failure::Broken)?;
        let (_, name, kind) =
            known.iter().find(|(known, ..)| *known == number).ok_or(Failure::Unknown(number))?;
        set(&mut out, name, *kind, wire)?;
    }
    Ok(Value::Object(out))
}

fn text(bytes: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(bytes).map_err(|_| Failure::Broken)
}

fn set(out: &mut Map<String, Value>, name: &str, kind: Kind, wire: Wire<'_>) -> Result<(), Failure> {
    let inner = |message_name: &str, bytes: &[u8]| message(bytes, fields(message_name).unwrap_or_default());
    let push = |out: &mut Map<String, Value>, item: Value| {
        if let Value::Array(list) = out.entry(name.to_owned()).or_insert_with(|| json!([])) {
            list.push(item);
        }
    };
    match (kind, wire) {
        (Ignored, _) => {}
        (Integer, Wire::Varint(number)) => {
            out.insert(name.to_owned(), json!(number.cast_signed()));
        }
        (Flag, Wire::Varint(number)) => {
            out.insert(name.to_owned(), json!(number != 0));
        }
        (Count | Mark, Wire::Varint(0)) => {}
        (Count, Wire::Varint(number)) => {
            out.insert(name.to_owned(), json!(number.cast_signed()));
        }
        (Mark, Wire::Varint(_)) => {
            out.insert(name.to_owned(), json!(true));
        }
        // Go writes empty strings of fields without a value.
        (Text, Wire::Bytes([])) => {}
        (IntOrText, Wire::Bytes(bytes)) => {
            out.insert(name.to_owned(), int_or_text(bytes)?);
        }
        (Text, Wire::Bytes(bytes)) => {
            out.insert(name.to_owned(), json!(text(bytes)?));
        }
        (Texts, Wire::Bytes(bytes)) => push(out, json!(text(bytes)?)),
        (Time, Wire::Bytes(bytes)) => {
            let seconds = Parts(bytes).flatten().find_map(|part| match part {
                (1, Wire::Varint(seconds)) => Some(seconds.cast_signed()),
                _ => None,
            });
            if let Some(time) = seconds.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()) {
                out.insert(name.to_owned(), json!(daemon::clock::rfc3339(time)));
            }
        }
        (TextMap | BytesMap, Wire::Bytes(bytes)) => {
            let (key, value) = entry(bytes)?;
            let value = match kind {
                BytesMap => STANDARD.encode(value),
                _ => text(value)?.to_owned(),
            };
            let key = text(key)?.to_owned();
            apimachinery::object::map_in(out, name).insert(key, json!(value));
        }
        (Message(message_name), Wire::Bytes(bytes)) => {
            out.insert(name.to_owned(), inner(message_name, bytes)?);
        }
        (Messages(message_name), Wire::Bytes(bytes)) => {
            let item = inner(message_name, bytes)?;
            push(out, item);
        }
        _ => return Err(Failure::Broken),
    }
    Ok(())
}

fn int_or_text(bytes: &[u8]) -> Result<Value, Failure> {
    let (mut is_text, mut number, mut given) = (false, 0, "");
    for part in Parts(bytes) {
        match part.ok_or(Failure::Broken)? {
            (1, Wire::Varint(kind)) => is_text = kind == 1,
            (2, Wire::Varint(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(bytes)) => given = text(bytes)?,
            _ => return Err(Failure::Broken),
        }
    }
    Ok(if is_text { json!(given) } else { json!(number) })
}

fn entry(bytes: &[u8]) -> Result<(&[u8], &[u8]), Failure> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    for part in Parts(bytes) {
        match part.ok_or(Failure::Broken)? {
            (1, Wire::Bytes(bytes)) => key = bytes,
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => return Err(Failure::Broken),
        }
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
        out.extend_from_slice(bytes);
        out
    }

    fn envelope(kind: &str, raw: &[u8]) -> Vec<u8> {
        let types = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &types), field(2, raw)].concat()
    }

    #[test]
    fn a_config_map_reads_as_json() {
        let raw = [field(1, &field(1, b"c")), field(2, &[field(1, b"k"), field(2, b"v")].concat())].concat();
        let value = parse(&envelope("ConfigMap", &raw)).unwrap();
        assert_eq!(
            value,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}})
        );
    }

    #[test]
    fn what_is_not_known_is_refused_and_noise_does_not_panic() {
        assert_eq!(parse(&envelope("Pod", &[])).unwrap_err().code, 415);
        assert_eq!(parse(&envelope("ConfigMap", &field(9, b"x"))).unwrap_err().code, 415);
        let good = envelope("ConfigMap", &field(1, &field(1, b"c")));
        for cut in 0..good.len() {
            let _ = parse(&good[..cut]);
        }
        assert_eq!(parse(b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff").unwrap_err().code, 400);
    }
}
