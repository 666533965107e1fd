//! Which pods are behind a Service with a selector: EndpointSlices, and Endpoints for older clients
//! (`k8s.io/endpointslice`, `pkg/controller/endpoint`). Endpoints that others keep are told as EndpointSlices as well.

mod backend;
mod lists;
mod mirror;
mod slices;

pub use lists::Lists;
pub use mirror::Mirrors;
pub use slices::Slices;
