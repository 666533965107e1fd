//! Where files are: KubeEdge's folders, or the same folders under `--root`.

use std::path::{Path, PathBuf};

use crate::render;

/// The tree one installation lives in.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: Option<&Path>) -> anyhow::Result<Layout> {
        let root = match root {
            None => PathBuf::from("/"),
            Some(root) => std::path::absolute(root)?,
        };
        Ok(Layout { root })
    }

    /// True for the machine's own folders; only then is systemd used.
    pub(crate) fn is_system(&self) -> bool {
        self.root == Path::new("/")
    }

    /// An absolute path of KubeEdge, under the root.
    pub(crate) fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    pub(crate) fn text(&self, absolute: &str) -> String {
        self.path(absolute).to_string_lossy().into_owned()
    }

    pub(crate) fn cloudcore_config(&self) -> PathBuf {
        self.path("/etc/kubeedge/config/cloudcore.yaml")
    }

    pub(crate) fn edgecore_config(&self) -> PathBuf {
        self.path("/etc/kubeedge/config/edgecore.yaml")
    }

    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.path("/etc/kubeedge/admin.kubeconfig")
    }

    pub(crate) fn log(&self, program: &str) -> PathBuf {
        self.path("/var/log/kubeedge").join(format!("{program}.log"))
    }

    pub(crate) fn pid_file(&self, program: &str) -> PathBuf {
        self.path("/var/lib/kubeedge").join(format!("{program}.pid"))
    }

    /// ` --root DIR` as it must be repeated in the next command.
    pub(crate) fn flag(&self) -> String {
        if self.is_system() {
            String::new()
        } else {
            format!(" --root {}", render::word(&self.root.to_string_lossy()))
        }
    }
}
