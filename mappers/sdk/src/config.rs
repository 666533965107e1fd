//! KubeEdge's mapper configuration file (docs/protocol/devices.md 6.2).

use std::path::{Path, PathBuf};

use daemon::config::ConfigError;
use dmi::v1beta1::MapperInfo;
use serde::{Deserialize, Serialize};

/// The file's form. `dev_init` of mappers before 1.16 is read and ignored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    pub grpc_server: GrpcServer,
    pub common: Common,
    pub dev_init: serde_json::Map<String, serde_json::Value>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GrpcServer {
    pub socket_path: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Common {
    pub name: String,
    pub version: String,
    pub api_version: String,
    pub protocol: String,
    /// Not used, as upstream.
    pub address: String,
    pub edgecore_sock: PathBuf,
    /// Not used: this mapper has no REST server.
    pub http_port: String,
}

impl Default for Common {
    fn default() -> Common {
        Common {
            name: String::new(),
            version: "v1.0.0".into(),
            api_version: "v1.0.0".into(),
            protocol: String::new(),
            address: "127.0.0.1".into(),
            edgecore_sock: "/etc/kubeedge/dmi.sock".into(),
            http_port: "7777".into(),
        }
    }
}

/// Checked configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    pub name: String,
    pub version: String,
    pub api_version: String,
    /// Devices of this protocol name belong to this mapper.
    pub protocol: String,
    /// Where the mapper listens; EdgeCore must reach the same path.
    pub socket: PathBuf,
    /// Where EdgeCore listens.
    pub edgecore: PathBuf,
}

/// Reads and checks the file; unknown keys are warnings.
pub fn load(path: &Path) -> Result<Settings, ConfigError> {
    let (config, unknown) = daemon::config::load::<Config>(path)?;
    for key in unknown {
        tracing::warn!(name = key, "unknown key in the configuration file");
    }
    config.check().map_err(|reason| ConfigError::BadValue { path: path.to_owned(), reason })
}

impl Config {
    /// All problems at once, each with its key.
    fn check(self) -> Result<Settings, String> {
        let Common { name, version, api_version, protocol, edgecore_sock, .. } = self.common;
        let socket = self.grpc_server.socket_path;
        let mut problems = Vec::new();
        for (key, value) in [("common.name", &name), ("common.protocol", &protocol)] {
            if value.is_empty() {
                problems.push(format!("{key} is empty"));
            }
        }
        for (key, path) in [("grpc_server.socket_path", &socket), ("common.edgecore_sock", &edgecore_sock)] {
            if !path.is_absolute() {
                problems.push(format!("{key}: {path:?} is not an absolute path"));
            }
        }
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        Ok(Settings { name, version, api_version, protocol, socket, edgecore: edgecore_sock })
    }
}

impl Settings {
    /// What EdgeCore is told at registration.
    pub(crate) fn info(&self) -> MapperInfo {
        MapperInfo {
            name: self.name.clone(),
            version: self.version.clone(),
            api_version: self.api_version.clone(),
            protocol: self.protocol.clone(),
            address: self.socket.as_os_str().as_encoded_bytes().to_vec(),
            state: "OK".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let (config, unknown) = daemon::config::parse::<Config>(text, Path::new("config.yaml")).unwrap();
        assert!(unknown.is_empty(), "{unknown:?}");
        config.check()
    }

    #[test]
    fn a_file_written_for_a_go_mapper_is_read() {
        let text = "grpc_server: {socket_path: /etc/kubeedge/modbus.sock}\n\
                    common:\n  name: modbus-mapper\n  version: v1.13.0\n  api_version: v1.0.0\n  protocol: modbus\n  \
                    address: 127.0.0.1\n  edgecore_sock: /etc/kubeedge/dmi.sock\n  http_port: \"7777\"\n";
        let settings = read(text).unwrap();
        assert_eq!(settings.protocol, "modbus");
        assert_eq!(settings.info().address, b"/etc/kubeedge/modbus.sock");
    }

    #[test]
    fn every_problem_is_named() {
        let problems = read("common: {edgecore_sock: dmi.sock}").unwrap_err();
        for key in ["common.name", "common.protocol", "grpc_server.socket_path", "common.edgecore_sock"] {
            assert!(problems.contains(key), "{problems}");
        }
    }
}
