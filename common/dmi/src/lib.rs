//! Device Management Interface v1beta1 (docs/protocol/devices.md section 5): both halves over unix sockets.
//!
//! EdgeCore serves `DeviceManagerService` at a [`Socket`] and calls mappers through [`Mapper`]; mappers do the reverse
//! with [`Socket`] and [`Manager`]. Go mappers send an `:authority` that HTTP/2 libraries refuse: [`Socket`] mends it. DMI
//! itself carries no identity; a request says which program ([`Peer`]) it came from.

#![deny(clippy::missing_errors_doc)]

mod authority;
mod client;
mod peer;
mod server;
mod values;

pub use client::{DmiCallError, Manager, Mapper};
pub use peer::{Peer, Process};
pub use server::{BindError, Socket};
pub use values::{UnsupportedValue, any_from_json, json_from_any};

/// Messages and services, generated.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod v1beta1 {
    tonic::include_proto!("v1beta1");
}
