//! Certificates, keys and join tokens, in the forms KubeEdge uses (docs/protocol/transport.md section 4).
//!
//! [`Authority`] signs; [`Identity`] is a certificate with its key; [`token`] mints and checks join tokens; [`tls`]
//! turns identities into rustls configurations whose content can be changed while they are in use; [`Bundle`] is whom a
//! peer trusts; [`CaSecret`] replaces a CA step by step; [`files`] keeps private material at mode 0600. Private keys never
//! print. Time is an argument (Unix seconds): this crate reads no clock.

#![deny(clippy::missing_errors_doc)]

mod authority;
mod bundle;
mod der;
mod error;
pub mod files;
mod identity;
mod pem;
mod request;
mod rotation;
mod subject;
pub mod tls;
pub mod token;

pub use authority::{Authority, Profile, Usage, fingerprint};
pub use bundle::{Bundle, BundleError};
pub use error::AuthorityError;
pub use identity::{Identity, IdentityError};
pub use request::{SigningRequest, node_request, serving_request};
pub use rotation::{CaSecret, RotationError};
pub use subject::{EdgeSubject, Subject, SubjectError, edge_common_name, hosts_of, node_of};

/// Seconds in a day, the unit of certificate lifetimes in configuration files.
pub const DAY: i64 = 86_400;

/// Certificates are valid from a little before they are made, for peers whose clock is behind.
pub const BACKDATE: i64 = 3600;

/// Seconds by which the clocks of cloud and operator may differ.
pub const CLOCK_SKEW: i64 = 300;

/// Organisation of edge nodes' certificates.
pub const NODES_GROUP: &str = "system:nodes";

/// Installs ring as the one cryptography provider of this process. Call once, first thing.
pub fn install_provider() {
    // An error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests;
