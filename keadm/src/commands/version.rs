//! `keadm version`.

use clap::Args;

use crate::render;

#[derive(Args)]
pub(crate) struct Flags {
    /// short, yaml or json; empty: one line.
    #[arg(short, long, default_value = "", value_parser = ["", "short", "yaml", "json"])]
    output: String,
}

pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    let version = format!("v{}", env!("CARGO_PKG_VERSION"));
    let facts = serde_json::json!({
        "gitVersion": version,
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        "compatibleWith": "KubeEdge v1.23",
    });
    match flags.output.as_str() {
        "short" => render::result(&version),
        "json" => render::result(&serde_json::to_string_pretty(&facts)?),
        "yaml" => render::result(daemon::config::to_yaml(&facts).map_err(anyhow::Error::msg)?.trim_end()),
        _ => render::result(&format!("version: causeway {version}, compatible with KubeEdge v1.23")),
    }
    Ok(())
}
