//! Client of the Container Runtime Interface, version 1, over a unix socket: containerd 1.6 to 2.x and CRI-O.
//!
//! Promises: every call has a deadline; an error names the call and the object it was about; "not found" and
//! "unimplemented" can be told apart from trouble. The connection is made on first use and made again after a failure.

#![deny(clippy::missing_errors_doc)]

mod client;
mod error;
#[cfg(feature = "fake")]
pub mod fake;
mod tasks;

pub use client::{Call, EndpointError, Runtime};
pub use error::CallError;
pub use tonic::Code;

/// The protocol's messages, as generated from `proto/cri.proto`.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// Labels and annotations that tie runtime objects to pods; other tools read them (docs/protocol/edge-runtime.md 6.4).
pub mod labels {
    pub const POD_NAME: &str = "io.kubernetes.pod.name";
    pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub const POD_UID: &str = "io.kubernetes.pod.uid";
    pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
    pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    pub const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    pub const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    pub const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
    pub const PORTS: &str = "io.kubernetes.container.ports";
    pub const DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
    pub const TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
}
