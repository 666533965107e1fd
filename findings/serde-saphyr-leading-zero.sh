#!/bin/bash
# serde-saphyr 2.0.0 (crates.io), a YAML reader for serde: a plain number with a leading zero, as in `defaultMode: 0644`,
# becomes the floating point number 644.0 in a tree of serde_json.
# Guessed before: 644, an integer, as YAML 1.2's core schema reads it, or 420, as YAML 1.1 and Kubernetes' own reader do.
# Seen: 644.0; and with the option `legacy_octal_numbers` it is the integer 420. `0o644` is 420 either way.
# So a tool that passes manifests on through such a tree sends a float where an API server wants an integer.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat > Cargo.toml <<'TOML'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"
[dependencies]
serde-saphyr = { version = "=2.0.0", default-features = false, features = ["deserialize"] }
serde_json = "=1.0.154"
TOML
cat > src/main.rs <<'RUST'
use serde_json::Value;

fn main() {
    for text in ["mode: 0644", "mode: 0o644", "mode: 644"] {
        let plain: Value = serde_saphyr::from_str(text).unwrap();
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let octal: Value = serde_saphyr::from_str_with_options(text, options).unwrap();
        println!("{text} -> {} / {}", plain["mode"], octal["mode"]);
    }
}
RUST
cargo run --quiet > seen
cat seen
diff seen - <<'WANTED'
mode: 0644 -> 644.0 / 420
mode: 0o644 -> 420 / 420
mode: 644 -> 644 / 644
WANTED
