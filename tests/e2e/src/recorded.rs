//! Messages recorded between a KubeEdge cloud and a KubeEdge edge (tests/interop/golden).

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// The recorded message of a file, as it is.
pub fn message(file: &str) -> Result<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop/golden").join(file);
    let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let sample: Value = serde_json::from_slice(&text)?;
    Ok(sample["message"].clone())
}

/// The recorded message with another id.
pub fn with_id(file: &str, id: &str) -> Result<Value> {
    let mut message = message(file)?;
    message["header"]["msg_id"] = id.into();
    Ok(message)
}
