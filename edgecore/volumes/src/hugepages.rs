//! emptyDir in huge pages.

use std::ffi::CString;
use std::io;
use std::path::Path;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use rustix::mount::MountFlags;

use super::mounts;
use podmodel::quantity;
use podmodel::spec::all_containers;

const RESOURCE: &str = "hugepages-";

/// The page size in bytes a medium means: `HugePages-2Mi` names it, `HugePages` means the one size the pod asks for.
/// None where there is no such size, or more than one.
pub(super) fn page_size(medium: &str, spec: &PodSpec) -> Option<i64> {
    let bytes = |text: &str| quantity::units(&Quantity(text.to_owned())).filter(|bytes| *bytes > 0);
    if let Some(size) = medium.strip_prefix("HugePages-") {
        return bytes(size);
    }
    let resources = all_containers(spec).filter_map(|container| container.resources.as_ref());
    let amounts = resources.flat_map(|one| one.limits.iter().chain(&one.requests)).flatten();
    let mut sizes: Vec<i64> =
        amounts.filter_map(|(name, _)| name.strip_prefix(RESOURCE)).filter_map(bytes).collect();
    sizes.sort_unstable();
    sizes.dedup();
    match sizes.as_slice() {
        [size] => Some(*size),
        _ => None,
    }
}

/// Mounts a folder of pages of this size; done if it is mounted.
pub(super) fn mount(path: &Path, page_size: i64) -> io::Result<()> {
    mounts::make_dir(path, 0o777)?;
    if mounts::is_mounted(path)? {
        return Ok(());
    }
    let options = CString::new(format!("pagesize={page_size},mode=0777")).map_err(io::Error::other)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(rustix::mount::mount("nodev", path, "hugetlbfs", flags, Some(options.as_c_str()))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(json: serde_json::Value) -> PodSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_size_is_named_or_the_only_one() {
        let of = |resources| spec(json!({"containers": [{"name": "a", "resources": {"limits": resources}}]}));
        let one = of(json!({"hugepages-2Mi": "4Mi", "memory": "1Gi"}));
        let two = of(json!({"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"}));
        assert_eq!(page_size("HugePages", &one), Some(2 << 20));
        assert_eq!(page_size("HugePages", &two), None);
        assert_eq!(page_size("HugePages-1Gi", &two), Some(1 << 30));
        assert_eq!(page_size("HugePages-x", &two), None);
        assert_eq!(page_size("HugePages", &of(json!({}))), None);
    }
}
