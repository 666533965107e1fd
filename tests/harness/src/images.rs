//! Container images made from the machine's own static busybox: no registry is needed.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

const BUSYBOX: &str = "/bin/busybox";

/// Programs every test image has as links to busybox.
const APPLETS: &[&str] = &[
    "sh", "sleep", "cat", "echo", "ls", "id", "env", "true", "false", "hostname", "wget", "nc", "httpd",
    "tar", "ip", "mkdir", "touch", "stat", "grep", "tr", "date", "awk", "base64", "cut", "dd", "head",
    "kill", "ln", "mknod", "mount", "ps", "pwd", "readlink", "rm", "sed", "sort", "tail", "test", "umount",
    "wc",
];

/// An image to be imported.
#[derive(Clone, Debug)]
pub struct Image {
    /// The full reference: `docker.io/library/busybox:test`.
    pub reference: String,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// `uid[:gid]` or a name; empty for root.
    pub user: String,
}

/// A busybox image under this reference; it sleeps unless told otherwise.
pub fn busybox(reference: &str) -> Image {
    let command = ["sleep", "2147483647"].map(str::to_owned).to_vec();
    Image { reference: reference.to_owned(), entrypoint: Vec::new(), command, user: String::new() }
}

/// An image for sandboxes: it waits and ends at once when told to.
pub fn pause(reference: &str) -> Image {
    let script = "trap 'exit 0' TERM INT; sleep 2147483647 & wait";
    let entrypoint = ["/bin/busybox", "sh", "-c", script].map(str::to_owned).to_vec();
    Image { reference: reference.to_owned(), entrypoint, command: Vec::new(), user: String::new() }
}

/// What an image is made of.
pub struct Blobs {
    pub config: Vec<u8>,
    /// One tar, not compressed.
    pub layer: Vec<u8>,
}

impl Image {
    pub fn blobs(&self) -> Result<Blobs> {
        let layer = layer()?;
        let config = serde_json::to_vec(&json!({
            "architecture": architecture(), "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Entrypoint": self.entrypoint, "Cmd": self.command, "User": self.user},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))]},
        }))?;
        Ok(Blobs { config, layer })
    }

    /// Writes the image as a docker-archive: manifest, configuration, one layer.
    pub fn write(&self, path: &Path) -> Result<()> {
        let Blobs { config, layer } = self.blobs()?;
        let name = format!("{}.json", sha256(&config));
        let manifest = serde_json::to_vec(&json!([
            {"Config": name, "RepoTags": [self.reference], "Layers": ["layer.tar"]}
        ]))?;
        let file = std::fs::File::create(path).with_context(|| format!("creating {}", path.display()))?;
        let mut archive = tar::Builder::new(file);
        let parts = [("layer.tar", layer), (name.as_str(), config), ("manifest.json", manifest)];
        for (name, bytes) in parts {
            append(&mut archive, name, &bytes, 0o644)?;
        }
        archive.finish().context("finishing the image archive")
    }
}

fn layer() -> Result<Vec<u8>> {
    let busybox =
        std::fs::read(BUSYBOX).with_context(|| format!("reading {BUSYBOX} (package busybox-static)"))?;
    let mut archive = tar::Builder::new(Vec::new());
    for folder in ["bin/", "etc/", "proc/", "sys/", "dev/", "tmp/", "run/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if folder == "tmp/" { 0o1777 } else { 0o755 });
        header.set_size(0);
        archive.append_data(&mut header, folder, std::io::empty())?;
    }
    append(&mut archive, "bin/busybox", &busybox, 0o755)?;
    append(&mut archive, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nwww:x:33:33:www:/:/bin/sh\n", 0o644)?;
    append(&mut archive, "etc/group", b"root:x:0:\nwww:x:33:\n", 0o644)?;
    for applet in APPLETS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        archive.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    archive.into_inner().context("finishing the layer")
}

fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, name, bytes).with_context(|| format!("adding {name} to an archive"))
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A digest in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
