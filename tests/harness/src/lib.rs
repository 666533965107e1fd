//! What integration and end-to-end tests share: machines, runtimes and images of their own.

pub mod containerd;
pub mod images;
