//! What the machine has.

#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes of the file system that holds the pods.
    pub disk: i64,
    /// Bytes by resource name.
    pub huge_pages: Vec<(String, i64)>,
    pub has_apparmor: bool,
    /// One hierarchy of cgroups for all controllers.
    pub has_cgroup2: bool,
}
