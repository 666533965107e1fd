use super::*;
use crate::stats::{ContainerUsage, NodeUsage, PodReference, PodUsage};
use jiff::Timestamp;
use nodebase::host::Recorded;

fn summary() -> Summary {
    let time = Timestamp::from_millisecond(5).unwrap();
    let cpu = Some(Cpu { time, usage_nano_cores: None, usage_core_nano_seconds: 1_500_000_000 });
    let memory = Some(Memory { time, working_set_bytes: 64, rss_bytes: Some(9), ..Memory::default() });
    let container = ContainerUsage {
        name: "c".into(),
        start_time: Timestamp::from_second(7).unwrap(),
        cpu,
        memory,
        ..ContainerUsage::default()
    };
    Summary {
        node: NodeUsage { cpu, memory, ..NodeUsage::default() },
        pods: vec![PodUsage {
            pod_ref: PodReference { name: "web".into(), namespace: "d".into(), uid: "u".into() },
            containers: vec![container],
            cpu,
            ..PodUsage::default()
        }],
        has_failed: false,
    }
}

#[test]
fn resource_metrics_have_the_kubelets_names_labels_and_times() {
    let text = resource(&summary());
    for line in [
        "# TYPE container_cpu_usage_seconds_total counter",
        "container_cpu_usage_seconds_total{container=\"c\",namespace=\"d\",pod=\"web\"} 1.5 5",
        "container_memory_working_set_bytes{container=\"c\",namespace=\"d\",pod=\"web\"} 64 5",
        "container_start_time_seconds{container=\"c\",namespace=\"d\",pod=\"web\"} 7",
        "node_cpu_usage_seconds_total 1.5 5",
        "node_memory_working_set_bytes 64 5",
        "pod_cpu_usage_seconds_total{namespace=\"d\",pod=\"web\"} 1.5 5",
        "resource_scrape_error 0",
        "scrape_error 0",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("pod_memory_working_set_bytes{"), "what is not known is not told");
    assert!(resource(&Summary { has_failed: true, ..summary() }).contains("\nscrape_error 1\n"));
}

#[test]
fn cadvisor_metrics_name_pods_by_an_empty_container() {
    let text = cadvisor(&summary(), (4, 1024));
    for line in [
        "machine_cpu_cores 4",
        "container_cpu_usage_seconds_total{container=\"\",namespace=\"d\",pod=\"web\"} 1.5 5",
        "container_memory_rss{container=\"c\",namespace=\"d\",pod=\"web\"} 9 5",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
}

#[test]
fn labels_are_escaped() {
    let mut text = Text::default();
    text.sample("a", &[("b", "x\"y\\z\n")], 1.0, None);
    assert_eq!(String::from(text), "a{b=\"x\\\"y\\\\z\\n\"} 1\n");
}

#[test]
fn the_process_is_read_whatever_its_name() {
    let stat = format!("1 (a) b) S {} 250 50 0", ["0"; 10].join(" "));
    let host = Recorded::default()
        .with("/proc/self/stat", &stat)
        .with("/proc/self/status", "Name: x\nVmRSS:\t  20 kB\n");
    assert_eq!(process(&host), Some(Process { cpu_seconds: 3.0, resident: 20_480 }));
}
