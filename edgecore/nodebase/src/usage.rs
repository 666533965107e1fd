//! What cgroups and folders use; read when asked, by the node API and by eviction.

pub mod cgroup;
pub mod folder;
