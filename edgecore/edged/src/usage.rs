//! What cgroups and folders use; read when asked, by the node API and by eviction.

pub(crate) mod cgroup;
pub(crate) mod folder;
