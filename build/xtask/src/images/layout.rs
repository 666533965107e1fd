//! An image as a tar of the OCI image layout (image-spec 1.1), the same for the same program: entries are sorted, times are zero.
//!
//! ```text
//! index.json --> manifest --> config (user, entry point, labels), layer (tar.gz: the program)
//! ```

use std::io::Write;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tar::{EntryType, Header};

/// The user of the chart's pods: not root, without a name.
const USER: &str = "65532:65532";
/// Where the program is.
const FOLDER: &str = "usr/local/bin";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What an image is made of.
pub(super) struct Image<'a> {
    /// Of the program.
    pub(super) name: &'a str,
    /// Of the image, with its tag.
    pub(super) reference: String,
    pub(super) version: &'a str,
    /// The commit; empty: unknown.
    pub(super) revision: &'a str,
    /// As OCI calls it.
    pub(super) architecture: &'a str,
    /// The file.
    pub(super) program: &'a [u8],
}

/// A blob and what refers to it.
struct Blob {
    bytes: Vec<u8>,
    digest: String,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Blob {
        let digest = hex(digest(&SHA256, &bytes).as_ref());
        Blob { bytes, digest }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len()})
    }
}

impl Image<'_> {
    /// The whole layout.
    pub(super) fn tar(&self) -> Result<Vec<u8>> {
        let plain = self.layer().context("writing the layer")?;
        let of_plain = hex(digest(&SHA256, &plain).as_ref());
        let layer = Blob::new(compressed(&plain).context("compressing the layer")?);
        let config = Blob::new(text(&self.config(&of_plain)));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": [layer.descriptor(LAYER)],
            "annotations": self.labels(),
        });
        let manifest = Blob::new(text(&manifest));
        let mut named = manifest.descriptor(MANIFEST);
        named["platform"] = json!({"os": "linux", "architecture": self.architecture});
        named["annotations"] = json!({
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": self.version,
        });
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]});
        let mut files: Vec<(String, Vec<u8>)> = [layer, config, manifest]
            .into_iter()
            .map(|blob| (format!("blobs/sha256/{}", blob.digest), blob.bytes))
            .collect();
        files.push(("index.json".to_owned(), text(&index)));
        files.push(("oci-layout".to_owned(), text(&json!({"imageLayoutVersion": "1.0.0"}))));
        files.sort();
        let mut tar = Tar::default();
        ["blobs", "blobs/sha256"].iter().try_for_each(|folder| tar.folder(folder))?;
        files.iter().try_for_each(|(path, bytes)| tar.file(path, 0o644, bytes))?;
        tar.end()
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut tar = Tar::default();
        ["usr", "usr/local", FOLDER].iter().try_for_each(|folder| tar.folder(folder))?;
        tar.file(&format!("{FOLDER}/{}", self.name), 0o755, self.program)?;
        tar.end()
    }

    fn config(&self, of_layer: &str) -> Value {
        json!({
            "os": "linux",
            "architecture": self.architecture,
            "config": {
                "User": USER,
                "Entrypoint": [format!("/{FOLDER}/{}", self.name)],
                "WorkingDir": "/",
                "Labels": self.labels(),
            },
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{of_layer}")]},
            "history": [{"created_by": "cargo xtask images"}],
        })
    }

    fn labels(&self) -> Value {
        let mut labels = json!({
            "org.opencontainers.image.title": self.name,
            "org.opencontainers.image.version": self.version,
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.description": format!("{} of Causeway, and nothing else", self.name),
        });
        if !self.revision.is_empty() {
            labels["org.opencontainers.image.revision"] = json!(self.revision);
        }
        labels
    }
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn compressed(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    // Neither a time nor a name is in its head.
    let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    gzip.write_all(bytes)?;
    gzip.finish()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tar in which nothing depends on who writes it, and when.
struct Tar(tar::Builder<Vec<u8>>);

impl Default for Tar {
    fn default() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }
}

impl Tar {
    fn folder(&mut self, path: &str) -> Result<()> {
        self.entry(&format!("{path}/"), EntryType::Directory, 0o755, &[])
    }

    fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        self.entry(path, EntryType::Regular, mode, bytes)
    }

    fn entry(&mut self, path: &str, kind: EntryType, mode: u32, bytes: &[u8]) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        self.0.append_data(&mut header, path, bytes).with_context(|| format!("adding {path}"))
    }

    fn end(self) -> Result<Vec<u8>> {
        self.0.into_inner().context("ending the archive")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read;

    fn image() -> Image<'static> {
        Image {
            name: "cloudcore",
            reference: "causeway/cloudcore:1.2.3".to_owned(),
            version: "1.2.3",
            revision: "0123abc",
            architecture: "amd64",
            program: b"#!/bin/true\n",
        }
    }

    /// Path, mode, owner, time and content of every entry.
    fn read(bytes: &[u8]) -> Vec<(String, u32, u64, u64, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let (header, mut content) = (entry.header().clone(), Vec::new());
            entry.read_to_end(&mut content).unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            (path, header.mode().unwrap(), header.uid().unwrap(), header.mtime().unwrap(), content)
        });
        entries.collect()
    }

    /// The blob that a descriptor names, if its size and digest are as told.
    fn blob(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Vec<u8> {
        let told = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let bytes = files.get(&format!("blobs/sha256/{told}")).unwrap();
        assert_eq!(hex(digest(&SHA256, bytes).as_ref()), told);
        assert_eq!(descriptor["size"].as_u64().unwrap(), bytes.len() as u64);
        bytes.clone()
    }

    #[test]
    fn every_digest_and_size_is_that_of_what_it_names() {
        let entries = read(&image().tar().unwrap());
        let files: BTreeMap<String, Vec<u8>> =
            entries.iter().map(|(path, .., content)| (path.clone(), content.clone())).collect();
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        assert_eq!(json(&files["oci-layout"])["imageLayoutVersion"], "1.0.0");
        let index = json(&files["index.json"]);
        let named = &index["manifests"][0];
        assert_eq!(named["annotations"]["io.containerd.image.name"], "causeway/cloudcore:1.2.3");
        let manifest = json(&blob(&files, named));
        assert_eq!((&manifest["mediaType"], &named["mediaType"]), (&json!(MANIFEST), &json!(MANIFEST)));
        let config = json(&blob(&files, &manifest["config"]));
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/usr/local/bin/cloudcore"]));
        assert_eq!(config["config"]["Labels"]["org.opencontainers.image.revision"], "0123abc");
        let mut layer = Vec::new();
        let gzip = blob(&files, &manifest["layers"][0]);
        flate2::read::GzDecoder::new(&gzip[..]).read_to_end(&mut layer).unwrap();
        let plain = format!("sha256:{}", hex(digest(&SHA256, &layer).as_ref()));
        assert_eq!(config["rootfs"]["diff_ids"], json!([plain]));
        let program = read(&layer).pop().unwrap();
        assert_eq!((program.0.as_str(), program.1), ("usr/local/bin/cloudcore", 0o755));
        assert_eq!(program.4, image().program);
        // The layer, the config and the manifest, and nothing that nobody names.
        assert_eq!(
            files.keys().filter(|path| path.starts_with("blobs/sha256/") && path.len() > 13).count(),
            3
        );
    }

    #[test]
    fn the_same_program_gives_the_same_image_whoever_makes_it_and_when() {
        let (first, again) = (image().tar().unwrap(), image().tar().unwrap());
        assert_eq!(first, again);
        let entries = read(&first);
        assert!(entries.iter().all(|(_, _, owner, time, _)| (*owner, *time) == (0, 0)));
        let paths: Vec<&String> = entries.iter().map(|(path, ..)| path).collect();
        assert!(paths.is_sorted(), "{paths:?}");
        let other = Image { program: b"#!/bin/false\n", ..image() };
        assert_ne!(other.tar().unwrap(), first);
    }
}
