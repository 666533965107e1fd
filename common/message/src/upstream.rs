//! What an edge tells or asks the cloud, typed. Wire forms: docs/protocol/transport.md 1.8.

mod deletion;
mod statuses;
mod version;

use crate::path::{ResourcePath, words};
use crate::reports::{NodeReport, PodReport};
use crate::volume::is_volume;
use crate::{
    Asked, Json, KeyError, Message, MessageId, NodeName, ObjectKey, ObjectKind, ObjectResponse, Reply, Route,
    Status,
};
use apimachinery::kinds::NODE_LEASES;

/// How a lease, certificate request or event changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Create,
    Update,
    Patch,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Verb::Create => "insert",
            Verb::Update => "update",
            Verb::Patch => "patch",
        }
    }
    fn parse(operation: &str) -> Option<Verb> {
        match operation {
            "insert" => Some(Verb::Create),
            "update" => Some(Verb::Update),
            "patch" => Some(Verb::Patch),
            _ => None,
        }
    }
}

/// A request the cloud answers with a [`Reply`].
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Read one object: configmap, secret, node, lease, persistentvolume(claim), volumeattachment, CSR.
    Get { key: ObjectKey },
    /// Register this node.
    CreateNode { node: NodeName, object: Json },
    /// Merge labels and annotations of this node.
    UpdateNode { node: NodeName, object: Json },
    /// Strategic merge patch of this node's status; `patch` is JSON text.
    PatchNodeStatus { node: NodeName, patch: String },
    /// Strategic merge patch of a pod's status; `patch` is JSON text and names `metadata.uid` as a guard.
    PatchPodStatus { namespace: String, name: String, patch: String },
    /// Create a mirror pod.
    CreatePod { namespace: String, name: String, object: Json },
    /// Delete a pod; `options` is a DeleteOptions object with grace 0 and a uid precondition.
    DeletePod { namespace: String, name: String, options: Json },
    /// Mint a service-account token; `request` is a TokenRequest.
    Token { namespace: String, service_account: String, request: Json },
    /// Create or update this node's lease.
    Lease { node: NodeName, verb: Verb, object: Json },
    /// Create a certificate signing request.
    CreateSigningRequest { name: String, object: Json },
    /// The cluster's CA certificates as PEM.
    ClusterCa,
    /// Old edges: whole statuses of pods.
    ReportPods { namespace: String, reports: Vec<PodReport> },
    /// Old edges: register this node unless it is registered.
    EnsureNode { node: NodeName, object: Json },
    /// Old edges: the node's whole status.
    ReportNode { node: NodeName, report: NodeReport },
}

/// One thing an edge sends up.
#[derive(Clone, Debug, PartialEq)]
pub enum Upstream {
    Keepalive,
    /// A question of the transport itself (operations config, ping, pong): answered "ack" at once, by either end.
    Control,
    /// An object or answer is durable at the edge.
    Acknowledged {
        of: MessageId,
    },
    /// The edge could not take an object; `text` says why. The cloud keeps trying.
    Complaint {
        of: MessageId,
        text: String,
    },
    /// The answer to a storage call; `content` is the driver's, or says why it `failed`.
    VolumeAnswer {
        of: MessageId,
        resource: String,
        failed: bool,
        content: Json,
    },
    /// Something the cloud answers.
    Ask(Request),
    /// A Kubernetes event; never answered.
    Event {
        namespace: String,
        name: String,
        verb: Verb,
        object: Json,
    },
    /// The twin values of a device, all of them, after a change at the edge; confirmed when written.
    TwinReport {
        namespace: String,
        name: String,
        report: Json,
    },
    /// A device's state changed; confirmed when written.
    DeviceState {
        namespace: String,
        name: String,
        report: Json,
    },
    /// The edge asks for the list of its devices.
    MembershipDetail {
        content: Json,
    },
    /// What MetaServer of a KubeEdge edge asks of the API server; answered with [`Asked::answer`].
    Application(Asked),
    /// Something this build has no room for; named so that it can be logged.
    Unsupported {
        route: Route,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum ParseUpstreamError {
    #[error("resource of an upstream message")]
    Key(#[source] KeyError),
    #[error("content of an upstream message")]
    Content(#[source] crate::JsonError),
    #[error("{0} reports in one message are too many")]
    TooMany(usize),
}

impl Request {
    fn route(&self) -> (&'static str, String) {
        let object =
            |namespace: Option<&str>, kind, name: &str| ObjectKey::new(namespace, kind, name).to_string();
        let about =
            |namespace: Option<&str>, word, name: &str| ResourcePath::new(namespace, word, name).to_string();
        match self {
            Request::Get { key } => ("query", key.to_string()),
            Request::CreateNode { node, .. } => ("insert", object(None, ObjectKind::Node, node.as_str())),
            Request::UpdateNode { node, .. } => ("update", object(None, ObjectKind::Node, node.as_str())),
            Request::PatchNodeStatus { node, .. } => ("patch", about(None, words::NODE_PATCH, node.as_str())),
            Request::PatchPodStatus { namespace, name, .. } => {
                ("patch", about(Some(namespace), words::POD_PATCH, name))
            }
            Request::CreatePod { namespace, name, .. } => {
                ("insert", object(Some(namespace), ObjectKind::Pod, name))
            }
            Request::DeletePod { namespace, name, .. } => {
                ("delete", object(Some(namespace), ObjectKind::Pod, name))
            }
            Request::Token { namespace, service_account, .. } => {
                ("query", about(Some(namespace), words::TOKEN, service_account))
            }
            Request::Lease { node, verb, .. } => {
                (verb.as_str(), object(Some(NODE_LEASES), ObjectKind::Lease, node.as_str()))
            }
            Request::CreateSigningRequest { name, .. } => {
                ("insert", object(Some("default"), ObjectKind::CertificateSigningRequest, name))
            }
            Request::ClusterCa => ("query", "k8s/ca.crt".to_owned()),
            Request::ReportPods { namespace, reports } => ("update", pods_resource(namespace, reports)),
            Request::EnsureNode { node, .. } => ("insert", about(None, words::NODE_STATUS, node.as_str())),
            Request::ReportNode { node, .. } => ("update", about(None, words::NODE_STATUS, node.as_str())),
        }
    }

    fn content(&self) -> Json {
        match self {
            Request::Get { .. } | Request::ClusterCa => Json::null(),
            Request::PatchNodeStatus { patch, .. } | Request::PatchPodStatus { patch, .. } => {
                Json::string(patch)
            }
            Request::CreateNode { object, .. }
            | Request::UpdateNode { object, .. }
            | Request::CreatePod { object, .. }
            | Request::Lease { object, .. }
            | Request::CreateSigningRequest { object, .. }
            | Request::EnsureNode { object, .. } => object.clone(),
            Request::ReportPods { reports, .. } => match reports.as_slice() {
                [one] => Json::of_own(one),
                many => Json::of_own(many),
            },
            Request::ReportNode { report, .. } => Json::of_own(report),
            Request::DeletePod { options, .. } => options.clone(),
            Request::Token { request, .. } => request.clone(),
        }
    }

    fn order_key(&self) -> String {
        match self {
            Request::CreateNode { .. }
            | Request::UpdateNode { .. }
            | Request::PatchNodeStatus { .. }
            | Request::EnsureNode { .. }
            | Request::ReportNode { .. } => "node".to_owned(),
            Request::ReportPods { namespace, reports } => match reports.as_slice() {
                [one] => format!("pod/{namespace}/{}", one.name),
                _ => format!("pods/{namespace}"),
            },
            Request::PatchPodStatus { namespace, name, .. }
            | Request::CreatePod { namespace, name, .. }
            | Request::DeletePod { namespace, name, .. } => format!("pod/{namespace}/{name}"),
            Request::Lease { .. } => "lease".to_owned(),
            Request::Token { .. } | Request::Get { .. } | Request::ClusterCa => {
                format!("read/{}", self.route().1)
            }
            Request::CreateSigningRequest { name, .. } => format!("csr/{name}"),
        }
    }

    /// True for requests whose object answer is wrapped as `{"Object":..,"Err":..}` (docs/protocol/edge-runtime.md 1.4).
    fn answers_wrapped(&self) -> bool {
        match self {
            Request::Get { key } => key.kind == ObjectKind::Lease,
            Request::UpdateNode { .. }
            | Request::DeletePod { .. }
            | Request::Token { .. }
            | Request::ReportPods { .. }
            | Request::EnsureNode { .. }
            | Request::ReportNode { .. }
            | Request::ClusterCa => false,
            _ => true,
        }
    }

    /// The answer to a query of a config map or secret that failed, for KubeEdge's edges: they take an object with an error
    /// in it for an empty object, and start the pod with an empty volume. A text is none; the mount fails and is tried
    /// again, and with this operation newer edges do not store it (`edge/pkg/metamanager/process.go`).
    pub fn undecodable_refusal(asked: &Message, status: &Status, now_ms: i64) -> Message {
        let route = Route::new("edgecontroller", "resource", "error", asked.route.resource.clone());
        Message::new(route, Json::string(&status.to_string()), now_ms).answering(&asked.header.msg_id)
    }

    /// The envelope that answers `asked` with `reply`: source edgecontroller, the request's resource, its id as
    /// parent, the object's version in the header.
    pub fn answer(&self, asked: &Message, reply: &Reply, now_ms: i64) -> Message {
        let wrapped = self.answers_wrapped();
        let content = match reply {
            Reply::Done => Json::string("OK"),
            Reply::Text(text) => Json::string(text),
            Reply::Object(object) if wrapped => ObjectResponse::object(object),
            Reply::Object(object) => object.clone(),
            Reply::Refused(status) if wrapped => ObjectResponse::error(status.clone()),
            Reply::Refused(status) => Reply::refusal(status.clone()),
        };
        let source = if *self == Request::ClusterCa { "cloudhub" } else { "edgecontroller" };
        let resource = match self {
            Request::EnsureNode { .. } | Request::ReportNode { .. } => {
                asked.route.resource.replacen("/nodestatus/", "/node/", 1)
            }
            _ => asked.route.resource.clone(),
        };
        let route = Route::new(source, "resource", "response", resource);
        let message = Message::new(route, content, now_ms).answering(&asked.header.msg_id);
        match reply {
            Reply::Object(object) => match version::of(object) {
                Some(version) => message.with_version(&version),
                None => message,
            },
            _ => message,
        }
    }
}

fn pods_resource(namespace: &str, reports: &[PodReport]) -> String {
    match reports {
        [one] => ResourcePath::new(Some(namespace), words::POD_STATUS, &one.name).to_string(),
        _ => format!("{namespace}/{}", words::POD_STATUS),
    }
}

impl Upstream {
    /// What the value is a state of, if only the newest matters: of two with the same key that wait, the later may replace
    /// the earlier.
    pub fn coalesce_key(&self) -> Option<String> {
        match self {
            Upstream::Ask(request @ (Request::PatchPodStatus { .. } | Request::PatchNodeStatus { .. })) => {
                Some(request.route().1)
            }
            Upstream::TwinReport { namespace, name, .. } => Some(format!("device/{namespace}/{name}/twin")),
            Upstream::DeviceState { namespace, name, .. } => Some(format!("device/{namespace}/{name}/state")),
            _ => None,
        }
    }

    /// What must be carried out in order: two values with the same key never overtake each other.
    pub fn order_key(&self) -> String {
        match self {
            Upstream::Ask(request) => request.order_key(),
            Upstream::Event { namespace, name, .. } => format!("event/{namespace}/{name}"),
            Upstream::TwinReport { namespace, name, .. } | Upstream::DeviceState { namespace, name, .. } => {
                format!("device/{namespace}/{name}")
            }
            Upstream::MembershipDetail { .. } => "membership".to_owned(),
            Upstream::Application(asked) => asked.order_key(),
            _ => String::new(),
        }
    }

    /// True if the cloud answers or confirms it; others are done once written to the link.
    pub fn is_answered(&self) -> bool {
        matches!(
            self,
            Upstream::Ask(_)
                | Upstream::Application(_)
                | Upstream::TwinReport { .. }
                | Upstream::DeviceState { .. }
        )
    }

    pub fn to_message(&self, now_ms: i64) -> Message {
        let edged = |operation: &str, resource: String, content: Json| {
            Message::new(Route::new("edged", "meta", operation, resource), content, now_ms)
        };
        let twin = |operation: &str, resource: String, content: Json| {
            Message::new(Route::new("twin", "resource", operation, resource), content, now_ms)
        };
        match self {
            Upstream::Control => {
                Message::new(Route::new("websocket", "resource", "ping", ""), Json::null(), now_ms)
            }
            Upstream::Keepalive => Message::new(
                Route::new("websocket", "resource", "keepalive", "node"),
                Json::string("ping"),
                now_ms,
            ),
            Upstream::Acknowledged { of } => Message::new(
                Route::new("metamanager", "resource", "response", ""),
                Json::string("OK"),
                now_ms,
            )
            .answering(of),
            Upstream::Complaint { of, text } => {
                Message::new(Route::new("metamanager", "resource", "error", ""), Json::string(text), now_ms)
                    .answering(of)
            }
            Upstream::VolumeAnswer { of, resource, failed, content } => {
                let operation = if *failed { "error" } else { "response" };
                let route = Route::new("cloudhub", "resource", operation, resource.clone());
                Message::new(route, content.clone(), now_ms).answering(of)
            }
            Upstream::Ask(request) => {
                let (operation, resource) = request.route();
                let mut message = edged(operation, resource, request.content());
                if *request == Request::ClusterCa {
                    message.route.source = "metamanager".to_owned();
                }
                message
            }
            Upstream::Event { namespace, name, verb, object } => {
                let key = ObjectKey::new(Some(namespace), ObjectKind::Event, name);
                edged(verb.as_str(), key.to_string(), object.clone())
            }
            Upstream::TwinReport { namespace, name, report } => {
                twin("update", format!("device/{namespace}/{name}/twin/edge_updated"), report.clone())
            }
            Upstream::DeviceState { namespace, name, report } => {
                twin("update", format!("device/{namespace}/{name}/state/update"), Json::string(report.text()))
            }
            Upstream::MembershipDetail { content } => {
                twin("get", "membership/detail".to_owned(), Json::string(content.text()))
            }
            Upstream::Application(asked) => asked.to_message(now_ms),
            Upstream::Unsupported { route } => Message::new(route.clone(), Json::null(), now_ms),
        }
    }

    /// Reads an envelope in the dispatch order of the Go hub (docs/protocol/transport.md 3.3).
    ///
    /// # Errors
    /// [`ParseUpstreamError`]: the resource is no object's path, the content is no JSON, or a list of statuses is too
    /// long.
    pub fn parse(message: &Message) -> Result<Upstream, ParseUpstreamError> {
        let route = &message.route;
        let parent = &message.header.parent_msg_id;
        match route.operation.as_str() {
            "config" | "ping" | "pong" => return Ok(Upstream::Control),
            "keepalive" => return Ok(Upstream::Keepalive),
            operation if is_volume(&route.resource) && !parent.is_empty() => {
                return Ok(Upstream::VolumeAnswer {
                    of: parent.clone(),
                    resource: route.resource.clone(),
                    failed: operation == "error",
                    content: message.content.clone(),
                });
            }
            "response" => return Ok(Upstream::Acknowledged { of: parent.clone() }),
            "error" => return Ok(Upstream::Complaint { of: parent.clone(), text: message.content.data() }),
            _ => {}
        }
        if route.resource == "k8s/ca.crt" {
            return Ok(Upstream::Ask(Request::ClusterCa));
        }
        if Asked::is_in(route) {
            return Asked::parse(message).map(Upstream::Application).map_err(ParseUpstreamError::Content);
        }
        match route.source.as_str() {
            "twin" => parse_twin(message),
            "metaserver" | "bus" | "servicebus" | "cloudhub" | "cloudStream" | "devicecontroller"
            | "edgecontroller" | "synccontroller" => Ok(Upstream::Unsupported { route: route.clone() }),
            _ => parse_object(message),
        }
    }
}

fn parse_twin(message: &Message) -> Result<Upstream, ParseUpstreamError> {
    let content = message.content.unwrapped().map_err(ParseUpstreamError::Content)?;
    let parts: Vec<&str> = message.route.resource.split('/').collect();
    Ok(match parts.as_slice() {
        ["device", namespace, name, "twin", "edge_updated"] => {
            Upstream::TwinReport { namespace: (*namespace).into(), name: (*name).into(), report: content }
        }
        ["device", namespace, name, "state", "update"] => {
            Upstream::DeviceState { namespace: (*namespace).into(), name: (*name).into(), report: content }
        }
        ["membership", "detail"] => Upstream::MembershipDetail { content },
        _ => Upstream::Unsupported { route: message.route.clone() },
    })
}

fn parse_object(message: &Message) -> Result<Upstream, ParseUpstreamError> {
    let route = &message.route;
    if let Some(report) = statuses::parse(message) {
        return report.map(Upstream::Ask);
    }
    if let Ok(path) = ResourcePath::parse(&route.resource)
        && let Some(request) = parse_about(&path, message)
    {
        return request.map(Upstream::Ask);
    }
    let key = ObjectKey::parse(&route.resource).map_err(ParseUpstreamError::Key)?;
    let unsupported = || Ok(Upstream::Unsupported { route: route.clone() });
    let object = || message.content.unwrapped().map_err(ParseUpstreamError::Content);
    let namespace = || key.namespace.clone().unwrap_or_default();
    let name = key.name.clone();
    if key.kind == ObjectKind::Event {
        let Some(verb) = Verb::parse(&route.operation) else { return unsupported() };
        return Ok(Upstream::Event { namespace: namespace(), name, verb, object: object()? });
    }
    let node = || NodeName::new(&key.name).map_err(ParseUpstreamError::Key);
    let request = match (&key.kind, route.operation.as_str()) {
        (ObjectKind::Pod, "query") => return unsupported(),
        (ObjectKind::Unknown(word), "query") if words::STATUSES.contains(&&**word) => return unsupported(),
        (_, "query") => Request::Get { key: key.clone() },
        (ObjectKind::Node, "insert") => Request::CreateNode { node: node()?, object: object()? },
        (ObjectKind::Node, "update") => Request::UpdateNode { node: node()?, object: object()? },
        (ObjectKind::Pod, "insert") => Request::CreatePod { namespace: namespace(), name, object: object()? },
        (ObjectKind::Pod, "delete") => {
            Request::DeletePod { namespace: namespace(), name, options: deletion::options(&message.content)? }
        }
        (ObjectKind::Lease, "insert") => {
            Request::Lease { node: node()?, verb: Verb::Create, object: object()? }
        }
        (ObjectKind::Lease, "update") => {
            Request::Lease { node: node()?, verb: Verb::Update, object: object()? }
        }
        (ObjectKind::CertificateSigningRequest, "insert") => {
            Request::CreateSigningRequest { name, object: object()? }
        }
        _ => return unsupported(),
    };
    Ok(Upstream::Ask(request))
}

/// A request whose word is no kind but says what is wanted of an object; `None` for all others.
fn parse_about(path: &ResourcePath<'_>, message: &Message) -> Option<Result<Request, ParseUpstreamError>> {
    let (namespace, name) = (path.namespace.unwrap_or_default().to_owned(), path.name.to_owned());
    let patch = || message.content.data();
    Some(match (path.word, message.route.operation.as_str()) {
        (words::TOKEN, "query") => message
            .content
            .unwrapped()
            .map_err(ParseUpstreamError::Content)
            .map(|request| Request::Token { namespace, service_account: name, request }),
        (words::NODE_PATCH, "patch") => NodeName::new(&name)
            .map_err(ParseUpstreamError::Key)
            .map(|node| Request::PatchNodeStatus { node, patch: patch() }),
        (words::POD_PATCH, "patch") => Ok(Request::PatchPodStatus { namespace, name, patch: patch() }),
        _ => return None,
    })
}
