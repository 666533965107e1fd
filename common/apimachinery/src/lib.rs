//! Kubernetes API rules as pure functions over raw JSON: no I/O, no clock, no storage.
//!
//! [`kinds`] is the table of kinds, [`path`] reads URLs, [`selector`] label and field selectors, [`patch`] the four patch formats, [`schema`] the
//! structural schemas of custom resources, [`schemas`] those of the built-in kinds, [`messages`] their Protobuf messages, [`status`] the errors that clients expect, [`jsonpath`] printer columns,
//! [`listing`] the options of lists and watches, [`names`] the naming rules, [`decode`] what becomes of unknown and mistyped fields, [`quantity`] resource amounts, [`duration`] kubectl's ages, [`fields`] who owns which fields (server-side apply), [`object`] metadata access,
//! [`yaml`] how manifests are read, [`pod`] what pods have by default and must have, [`service`], [`workload`] and [`plain`] the same of services, workloads and small kinds, [`flow`] of flow schemas and priority levels, [`webhooks`] admission webhooks: who is asked
//! about what, the questions and the answers; [`rbac`] roles and bindings, [`quota`] and [`limits`] what namespaces limit, in [`amounts`], [`apiservice`] who serves which version of a group, [`autoscaling`] the two versions of autoscalers, [`traits`] what selectors look at.

#![deny(clippy::missing_errors_doc)]

pub mod amounts;
pub mod apiservice;
pub mod autoscaling;
pub mod decode;
pub mod duration;
pub mod fields;
pub mod flow;
pub mod jsonpath;
pub mod kinds;
pub mod limits;
pub mod listing;
pub mod messages;
pub mod names;
pub mod object;
pub mod patch;
pub mod path;
pub mod plain;
pub mod pod;
pub mod quantity;
pub mod quota;
pub mod rbac;
pub mod schema;
pub mod schemas;
pub mod selector;
pub mod service;
pub mod status;
pub mod traits;
pub mod webhooks;
pub mod workload;
pub mod yaml;

pub use path::RequestPath;
pub use selector::{FieldSelector, LabelSelector};
pub use status::{Cause, Status};
