//! Where files are: KubeEdge's folders, or the same folders under `--root`.

use std::path::{Path, PathBuf};

use crate::render;

/// The tree one installation lives in.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: Option<&Path>) -> anyhow::Result<Layout> {
        let root = match root {
            None => PathBuf::from("/"),
            Some(root) => std::path::absolute(root)?,
        };
        Ok(Layout { root })
    }

    /// True for the machine's own folders; only then is systemd used.
    pub fn is_system(&self) -> bool {
        self.root == Path::new("/")
    }

    /// An absolute path of KubeEdge, under the root.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    pub fn text(&self, absolute: &str) -> String {
        self.path(absolute).to_string_lossy().into_owned()
    }

    pub fn cloudcore_config(&self) -> PathBuf {
        self.path("/etc/kubeedge/config/cloudcore.yaml")
    }

    pub fn edgecore_config(&self) -> PathBuf {
        self.path("/etc/kubeedge/config/edgecore.yaml")
    }

    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.path("/etc/kubeedge/admin.kubeconfig")
    }

    pub fn log(&self, program: &str) -> PathBuf {
        self.path("/var/log/kubeedge").join(format!("{program}.log"))
    }

    pub fn pid_file(&self, program: &str) -> PathBuf {
        self.path("/var/lib/kubeedge").join(format!("{program}.pid"))
    }

    /// ` --root DIR` as it must be repeated in the next command.
    pub fn flag(&self) -> String {
        if self.is_system() {
            String::new()
        } else {
            format!(" --root {}", render::word(&self.root.to_string_lossy()))
        }
    }
}
