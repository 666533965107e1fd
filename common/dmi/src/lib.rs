//! Device Management Interface v1beta1 (spec/devices.md section 5): both halves over unix sockets.
//!
//! EdgeCore serves `DeviceManagerService` with [`serve`] and calls mappers through [`Mapper`]; mappers do the reverse
//! with [`serve`] and [`Manager`]. Go mappers send an `:authority` that HTTP/2 libraries refuse: [`serve`] mends it.

mod authority;
mod client;
mod server;
mod values;

pub use client::{CallError, Manager, Mapper};
pub use server::{ServeError, Socket};
pub use values::{UnsupportedValue, any_from_json, json_from_any};

/// Messages and services, generated.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod v1beta1 {
    tonic::include_proto!("v1beta1");
}
