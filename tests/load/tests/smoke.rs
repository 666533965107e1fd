//! The scenarios on a small scale and debug builds: that they run, and what must hold at any scale.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;

/// Runs a scenario and gives its last line.
fn run(arguments: &[&str]) -> Value {
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_load")).parent().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_load"));
    command.arg(arguments[0]).arg("--programs").arg(programs).args(&arguments[1..]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text.lines().rev().find_map(|line| line.strip_prefix("RESULT "));
    let result = result.unwrap_or_else(|| panic!("{text}\n{}", String::from_utf8_lossy(&output.stderr)));
    serde_json::from_str(result).unwrap()
}

#[test]
fn cuts_and_kills_lose_revert_and_double_nothing() {
    let result = run(&["cuts", "--cuts", "6", "--kills", "2", "--reports", "2000", "--updates", "200"]);
    for key in ["lost", "reverted", "duplicates"] {
        assert_eq!(result[key], 0, "{result}");
    }
    assert_eq!(result["sent"], 2200);
}

#[test]
fn a_small_fleet_is_in_sync_again_after_cloudcore_was_killed() {
    let result = run(&["fleet", "--edges", "40", "--idle", "1"]);
    assert!(result["resync_s"].as_f64().unwrap() > 0.0, "{result}");
    assert!(result["bystander_samples"].as_u64().unwrap() > 0, "{result}");
    assert!(result["busy_s"].as_f64().unwrap() > 0.0, "{result}");
    assert!(result["busy_bystander_samples"].as_u64().unwrap() > 0, "{result}");
    // The edges that read nothing were behind, held up nobody, and cost CloudCore no copy of each update.
    assert_eq!(result["slow_edges"], 4, "{result}");
    assert!(result["slow_behind"].as_u64().unwrap() >= 2, "{result}");
    let (calm, slow) = (&result["calm_cloudcore_kb"], &result["slow_cloudcore_kb"]);
    assert!(slow.as_u64().unwrap() < calm.as_u64().unwrap() + 16 * 1024, "{result}");
}

#[test]
fn a_small_fleet_over_quic_is_in_sync_again_as_well() {
    let result = run(&["fleet", "--edges", "20", "--idle", "1", "--quic"]);
    assert!(result["resync_s"].as_f64().unwrap() > 0.0, "{result}");
    assert!(result["busy_s"].as_f64().unwrap() > 0.0, "{result}");
}

#[test]
fn programs_under_attack_live_on_128_mib() {
    let result = run(&["attack", "--seconds", "2", "--connections", "300"]);
    assert_eq!(result["killed"], 0, "{result}");
    let attacks = [
        "half_open",
        "slow_upgrade",
        "lengths",
        "deep",
        "unpack",
        "registration",
        "quic",
        "mqtt",
        "mappers",
        "hostile_cloud",
    ];
    for attack in attacks {
        assert!(result[format!("{attack}_opened")].as_u64().unwrap() > 0, "{attack}: {result}");
        let peak = result[format!("{attack}_peak_kb")].as_u64().unwrap();
        assert!((1024..=128 * 1024).contains(&peak), "{attack}: {result}");
    }
}
