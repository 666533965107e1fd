//! `cloudcore.yaml` and `edgecore.yaml`, with KubeEdge's keys and defaults (spec/transport.md section 7).
//!
//! Only keys that the programs act on are fields; the loader warns of the others by name.

pub mod cloudcore;
pub mod edgecore;

/// KubeEdge's project id, part of the WebSocket path.
pub const PROJECT_ID: &str = "e632aba927ea4ac2b575ec1603d56f10";
