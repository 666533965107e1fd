//! Which pods are behind a Service with a selector: EndpointSlices, and Endpoints for older clients
//! (`k8s.io/endpointslice`, `pkg/controller/endpoint`).

mod backend;
mod lists;
mod slices;

pub use lists::Lists;
pub use slices::Slices;
