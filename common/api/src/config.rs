//! `cloudcore.yaml` and `edgecore.yaml`, with KubeEdge's keys and defaults (docs/protocol/transport.md section 7).
//!
//! Keys that the programs act on are fields; [`keys`] says what becomes of the others.

pub mod cloudcore;
pub mod edgecore;
pub mod keys;

/// KubeEdge's project id, part of the WebSocket path.
pub const PROJECT_ID: &str = "e632aba927ea4ac2b575ec1603d56f10";
