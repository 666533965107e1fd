//! Tables: what `kubectl get` prints.

mod batch;
mod cluster;
mod custom;
mod devices;
mod endpoints;
mod flows;
mod networks;
mod nodes;
mod parts;
mod pods;
mod rights;
mod scaling;
mod storage;
mod volumes;
mod workloads;

use apimachinery::duration;
use apimachinery::object::{name, text};
use serde_json::{Value, json};

use crate::registry::Served;

/// One column. Columns of priority 1 are shown by `-o wide` only.
pub(crate) struct Column {
    name: String,
    kind: &'static str,
    format: &'static str,
    description: String,
    priority: i64,
}

impl Column {
    fn text(name: &str) -> Column {
        Column { name: name.to_owned(), kind: "string", format: "", description: String::new(), priority: 0 }
    }
    fn wide(name: &str) -> Column {
        Column { priority: 1, ..Column::text(name) }
    }
    fn name() -> Column {
        Column { format: "name", ..Column::text("Name") }
    }
}

type Cells = fn(&Value, i64) -> Vec<Value>;

/// How one resource prints.
pub(crate) enum Printer {
    Builtin(Vec<Column>, Cells),
    Custom(custom::Columns),
}

impl Printer {
    pub(crate) fn of(served: &Served) -> Printer {
        let resource = &served.resource;
        if resource.custom {
            return Printer::Custom(custom::Columns::of(&served.version().columns));
        }
        let (columns, cells): (Vec<Column>, Cells) = match (resource.group.as_str(), resource.plural.as_str())
        {
            ("", "pods") => (pods::columns(), pods::cells),
            ("", "nodes") => (nodes::columns(), nodes::cells),
            ("", "configmaps") => (cluster::columns(&["Data"]), cluster::config_map),
            ("", "secrets") => (cluster::columns(&["Type", "Data"]), cluster::secret),
            ("", "namespaces") => (cluster::columns(&["Status"]), cluster::namespace),
            ("", "services") => (cluster::service_columns(), cluster::service),
            ("" | crate::events::GROUP, "events") => (cluster::event_columns(), cluster::event),
            ("coordination.k8s.io", _) => (cluster::columns(&["Holder"]), cluster::lease),
            ("apiregistration.k8s.io", _) => {
                (cluster::columns(&["Service", "Available"]), cluster::api_service)
            }
            ("apiextensions.k8s.io", _) => (created(), rights::role),
            ("admissionregistration.k8s.io", "validatingadmissionpolicies") => {
                (cluster::columns(&["Validations", "ParamKind"]), cluster::policy)
            }
            ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => {
                (cluster::columns(&["Mutations", "ParamKind"]), cluster::policy)
            }
            (
                "admissionregistration.k8s.io",
                "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings",
            ) => (cluster::columns(&["PolicyName", "ParamRef"]), cluster::policy_binding),
            ("admissionregistration.k8s.io", _) => (cluster::columns(&["Webhooks"]), cluster::webhooks),
            ("apps", "deployments") => {
                (workloads::columns(&["Ready", "Up-to-date", "Available"]), workloads::deployment)
            }
            ("apps", "replicasets") => {
                (workloads::columns(&["Desired", "Current", "Ready"]), workloads::replica_set)
            }
            ("apps", "statefulsets") => (workloads::stateful_set_columns(), workloads::stateful_set),
            ("apps", "daemonsets") => (
                workloads::columns(&[
                    "Desired",
                    "Current",
                    "Ready",
                    "Up-to-date",
                    "Available",
                    "Node Selector",
                ]),
                workloads::daemon_set,
            ),
            ("batch", "jobs") => (workloads::columns(&["Status", "Completions", "Duration"]), batch::job),
            ("batch", "cronjobs") => (
                workloads::columns(&["Schedule", "Timezone", "Suspend", "Active", "Last Schedule"]),
                batch::cron_job,
            ),
            ("policy", "poddisruptionbudgets") => (
                cluster::columns(&["Min Available", "Max Unavailable", "Allowed Disruptions"]),
                batch::budget,
            ),
            ("", "persistentvolumes") => (volumes::volume_columns(), volumes::volume),
            ("", "persistentvolumeclaims") => (volumes::claim_columns(), volumes::claim),
            ("", "podtemplates") => (workloads::pod_template_columns(), workloads::pod_template),
            ("", "replicationcontrollers") => {
                (workloads::columns(&["Desired", "Current", "Ready"]), workloads::replication_controller)
            }
            ("", "resourcequotas") => (cluster::columns(&["Request", "Limit"]), scaling::quota),
            ("", "limitranges") => (created(), scaling::limit_range),
            ("apps", "controllerrevisions") => {
                (cluster::columns(&["Controller", "Revision"]), scaling::revision)
            }
            ("autoscaling", _) => (
                cluster::columns(&["Reference", "Targets", "MinPods", "MaxPods", "Replicas"]),
                scaling::autoscaler,
            ),
            ("certificates.k8s.io", "certificatesigningrequests") => {
                (rights::signing_request_columns(), rights::signing_request)
            }
            ("networking.k8s.io", "networkpolicies") => {
                (cluster::columns(&["Pod-Selector"]), networks::policy)
            }
            ("networking.k8s.io", "ingresses") => {
                (cluster::columns(&["Class", "Hosts", "Address", "Ports"]), networks::ingress)
            }
            ("networking.k8s.io", "ingressclasses") => {
                (cluster::columns(&["Controller", "Parameters"]), networks::ingress_class)
            }
            ("networking.k8s.io", "servicecidrs") => (cluster::columns(&["CIDRs"]), networks::service_range),
            ("networking.k8s.io", "ipaddresses") => {
                (vec![Column::name(), Column::text("ParentRef")], networks::address)
            }
            ("flowcontrol.apiserver.k8s.io", "flowschemas") => (flows::schema_columns(), flows::schema),
            ("flowcontrol.apiserver.k8s.io", _) => (flows::level_columns(), flows::level),
            ("storage.k8s.io", "volumeattributesclasses") => {
                (cluster::columns(&["DriverName"]), storage::attributes)
            }
            ("node.k8s.io", "runtimeclasses") => (cluster::columns(&["Handler"]), scaling::runtime_class),
            ("rbac.authorization.k8s.io", "roles" | "clusterroles") => (created(), rights::role),
            ("rbac.authorization.k8s.io", _) => (rights::binding_columns(), rights::binding),
            ("scheduling.k8s.io", "priorityclasses") => {
                (scaling::priority_class_columns(), scaling::priority_class)
            }
            ("storage.k8s.io", "storageclasses") => (
                cluster::columns(&[
                    "Provisioner",
                    "ReclaimPolicy",
                    "VolumeBindingMode",
                    "AllowVolumeExpansion",
                ]),
                storage::class,
            ),
            ("storage.k8s.io", "csidrivers") => (
                cluster::columns(&[
                    "AttachRequired",
                    "PodInfoOnMount",
                    "StorageCapacity",
                    "TokenRequests",
                    "RequiresRepublish",
                    "Modes",
                ]),
                storage::driver,
            ),
            // kube-apiserver has other columns for it, and does not show them.
            ("storage.k8s.io", "csistoragecapacities") => (created(), rights::role),
            ("resource.k8s.io", "resourceclaims") => (cluster::columns(&["State"]), devices::claim),
            ("resource.k8s.io", "resourceslices") => {
                (cluster::columns(&["Node", "Driver", "Pool"]), devices::slice)
            }
            ("storage.k8s.io", "csinodes") => (cluster::columns(&["Drivers"]), storage::node),
            ("storage.k8s.io", "volumeattachments") => {
                (cluster::columns(&["Attacher", "PV", "Node", "Attached"]), storage::attachment)
            }
            ("", "endpoints") => (cluster::columns(&["Endpoints"]), endpoints::list_cells),
            ("discovery.k8s.io", "endpointslices") => {
                (cluster::columns(&["AddressType", "Ports", "Endpoints"]), endpoints::slice)
            }
            _ => (cluster::columns(&[]), cluster::plain),
        };
        Printer::Builtin(columns, cells)
    }

    pub(crate) fn columns(&self) -> Value {
        let columns = match self {
            Printer::Builtin(columns, _) => columns,
            Printer::Custom(custom) => custom.columns(),
        };
        let column = |column: &Column| {
            json!({
                "name": column.name, "type": column.kind, "format": column.format, "description": column.description,
                "priority": column.priority,
            })
        };
        columns.iter().map(column).collect()
    }

    /// The row of an object at `now` (Unix seconds).
    pub(crate) fn cells(&self, object: &Value, now: i64) -> Vec<Value> {
        match self {
            Printer::Builtin(_, cells) => cells(object, now),
            Printer::Custom(custom) => custom.cells(object, now),
        }
    }
}

/// Columns of kinds that tell nothing but when they were made.
fn created() -> Vec<Column> {
    vec![Column::name(), Column::text("Created At")]
}

/// The time since an RFC 3339 timestamp.
fn since(timestamp: &str, now: i64) -> String {
    match timestamp.parse::<jiff::Timestamp>() {
        Ok(time) => duration::human(now - time.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}

fn age(object: &Value, now: i64) -> Value {
    json!(since(text(object, "/metadata/creationTimestamp"), now))
}

fn own_name(object: &Value) -> Value {
    json!(name(object))
}

fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

#[cfg(test)]
mod tests;
