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
    let result = run(&[
        "cuts",
        "--cuts",
        "6",
        "--kills",
        "2",
        "--outages",
        "3",
        "--reports",
        "2000",
        "--updates",
        "200",
    ]);
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
    assert!(result["calm_later_cloudcore_kb"].as_u64().unwrap() > 0, "{result}");
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
fn edges_are_in_step_again_after_outages_of_the_api_server() {
    let result = run(&["recovery", "--pairs", "2", "--outage", "4"]);
    for key in ["api_outage_s", "api_blackhole_s", "cloud_restart_s"] {
        assert!(result[key].as_f64().unwrap() > 0.0, "{key}: {result}");
    }
    assert_eq!(result["runs"], 2, "{result}");
}

#[test]
fn an_api_server_that_fails_hangs_and_restarts_loses_reverts_and_cuts_off_nothing() {
    let result = run(&[
        "soak",
        "--edges",
        "3",
        "--pods",
        "15",
        "--reports",
        "30",
        "--seconds",
        "30",
        "--restart-every",
        "12",
        "--fail",
        "10",
        "--hang",
        "1",
    ]);
    for key in ["lost", "reverted", "duplicates", "out_of_step", "sessions_cut"] {
        assert_eq!(result[key], 0, "{key}: {result}");
    }
    assert!(result["failed"].as_u64().unwrap() > 10 && result["restarts"].as_u64().unwrap() > 0, "{result}");
}

#[test]
fn cloudcore_starts_beside_devices_and_an_edge_takes_values_that_outlive_its_kill() {
    let result = run(&[
        "devices",
        "--devices",
        "120",
        "--nodes",
        "2",
        "--properties",
        "2,5",
        "--starts",
        "1",
        "--clients",
        "3",
        "--in-flight",
        "16",
        "--seconds",
        "2",
        "--warm-up",
        "1",
    ]);
    for key in ["cloud_start_s", "twin_reports_per_s", "edge_cpu_ms_per_1000"] {
        assert!(result[key].as_f64().unwrap() > 0.0, "{key}: {result}");
    }
    // Neither a request nor a report for each device.
    assert!(result["cloud_start_requests"].as_u64().unwrap() < 60, "{result}");
    assert_eq!((&result["lost"], &result["stale"]), (&0.into(), &0.into()), "{result}");
    assert!(result["reports"].as_u64().unwrap() > 100, "{result}");
}

/// What runs containers needs root and a runtime.
fn is_without_containers() -> bool {
    let Some(reason) = harness::containerd::missing(true) else { return false };
    assert!(std::env::var_os("CI").is_none(), "this test must run in CI, and cannot: {reason}");
    true
}

#[test]
fn kills_of_edgecore_start_nothing_twice_and_leave_nothing_behind() {
    if is_without_containers() {
        return;
    }
    let result = run(&["crash", "--kills", "4"]);
    for key in ["started_twice", "stuck", "orphaned", "restarted_without_cause"] {
        assert_eq!(result[key], 0, "{result}");
    }
    assert!(result["pods"].as_u64().unwrap() > 4, "{result}");
    assert!(result["containers"].as_u64().unwrap() > 6, "{result}");
    assert!(result["looks"].as_u64().unwrap() > 50, "{result}");
}

#[test]
fn pods_that_come_and_go_leave_no_mounts_folders_cgroups_or_files() {
    if is_without_containers() {
        return;
    }
    let result = run(&["churn", "--cycles", "24", "--warm-up", "12"]);
    for key in ["mount_delta", "cgroup_delta", "pod_folder_delta", "log_folder_delta"] {
        assert_eq!(result[key], 0, "{result}");
    }
    // The counting would have seen them.
    for key in ["pod_mounts", "pod_cgroups", "pod_folders", "pod_logs"] {
        assert!(result[key].as_u64().unwrap() > 0, "{key}: {result}");
    }
    assert!(result["fd_delta"].as_i64().unwrap().abs() <= 4, "{result}");
    assert!(result["rss_kb"].as_u64().unwrap() > 1024, "{result}");
}

#[test]
fn a_pod_starts_and_is_measured_against_the_runtime_alone() {
    if is_without_containers() {
        return;
    }
    let result = run(&["pods", "--runs", "2", "--at-once", "3"]);
    for key in ["cri_ms", "create_to_running_ms", "ratio_to_cri", "fifty_pods_s"] {
        assert!(result[key].as_f64().unwrap() > 0.0, "{key}: {result}");
    }
}

#[test]
fn memory_is_measured_with_pods_and_idling_without_much_written() {
    if is_without_containers() {
        return;
    }
    let result = run(&["memory", "--pods", "0,2", "--idle-pods", "2", "--idle", "5", "--rest", "1"]);
    for key in ["rss_0_kb", "rss_2_kb"] {
        assert!(result[key].as_u64().unwrap() > 1024, "{key}: {result}");
    }
    assert!(result["idle_cpu_pct"].is_number() && result["idle_written_kb_hour"].is_number(), "{result}");
}

#[test]
fn all_pods_run_after_every_power_on_without_a_link() {
    if is_without_containers() {
        return;
    }
    let result = run(&["poweron", "--runs", "2", "--pods", "3"]);
    assert_eq!((&result["runs"], &result["ok"]), (&2.into(), &2.into()), "{result}");
    assert_eq!(result["converged"], true, "{result}");
}

#[test]
fn programs_under_attack_live_on_128_mib() {
    let result = run(&["attack", "--seconds", "2", "--connections", "300", "--later", "2"]);
    assert_eq!(result["killed"], 0, "{result}");
    let attacks = [
        "half_open",
        "slow_upgrade",
        "lengths",
        "deep",
        "unpack",
        "makes",
        "registration",
        "renewals",
        "quic",
        "broker_flood",
        "mqtt",
        "silent_mappers",
        "mappers",
        "hostile_cloud",
    ];
    for attack in attacks {
        assert!(result[format!("{attack}_opened")].as_u64().unwrap() > 0, "{attack}: {result}");
        let peak = result[format!("{attack}_peak_kb")].as_u64().unwrap();
        assert!((1024..=128 * 1024).contains(&peak), "{attack}: {result}");
    }
}

#[test]
fn a_start_with_anything_damaged_stops_nothing_and_makes_nothing_twice() {
    if is_without_containers() {
        return;
    }
    let result = run(&["damage", "--starts", "14"]);
    let bad = ["refused_without_name_or_cure", "stopped_without_cause", "made_twice", "foreign_touched"];
    for key in bad {
        assert_eq!(result[key], 0, "{key}: {result}");
    }
    assert_eq!((&result["starts"], &result["refused"]), (&14.into(), &5.into()), "{result}");
}

#[test]
fn texts_that_no_edge_uses_do_not_stay_in_cloudcores_memory() {
    let result = run(&["unused", "--objects", "2000", "--bytes", "20000", "--used", "5", "--rest", "12"]);
    let kb = |key: &str| result[key].as_u64().unwrap();
    // There are 39,000 KiB of text. As they come, and listed at a start, which reads them in pages.
    assert!(kb("watched_kb") < kb("empty_kb") + 20 * 1024, "{result}");
    assert!(kb("cloudcore_kb") < kb("empty_kb") + 36 * 1024, "{result}");
}
