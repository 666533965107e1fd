//! Samples for Prometheus and metrics-server; made from one summary, when asked.

mod text;

use super::ServerState;
use super::stats::{Cpu, Memory, Network, Summary};
use text::{Kind, Text};

impl ServerState {
    /// `/metrics/resource`: what metrics-server reads.
    pub(crate) async fn resource_metrics(&self) -> String {
        resource(&self.summary(true).await)
    }

    /// `/metrics/cadvisor`: the part of cAdvisor's names that dashboards use.
    pub(crate) async fn cadvisor_metrics(&self) -> String {
        let machine = (self.base.machine.cpu_milli / 1000, self.base.machine.memory);
        cadvisor(&self.summary(false).await, machine)
    }

    /// `/metrics`: this program, how much it runs, and what its rooms count.
    pub(crate) async fn process_metrics(&self) -> String {
        let running = self.running_pods().await;
        let mut text = Text::default();
        text.family("kubelet_node_name", Kind::Gauge, "The node's name. The count is always 1.");
        text.sample("kubelet_node_name", &[("node", self.base.settings.node.as_str())], 1.0, None);
        if let Ok(pods) = running {
            let containers: usize =
                pods.iter().filter_map(|pod| pod.spec.as_ref()).map(|spec| spec.containers.len()).sum();
            text.single(
                "kubelet_running_pods",
                Kind::Gauge,
                "Pods with a running sandbox.",
                pods.len() as f64,
            );
            text.single("kubelet_running_containers", Kind::Gauge, "Running containers.", containers as f64);
        }
        let open = super::SESSIONS.saturating_sub(self.sessions.available_permits());
        text.single(
            "edged_streaming_sessions",
            Kind::Gauge,
            "Open exec, attach, port-forward and log sessions.",
            open as f64,
        );
        if let Some(process) = process(&*self.host) {
            text.single("process_cpu_seconds_total", Kind::Counter, "CPU time used.", process.cpu_seconds);
            text.single(
                "process_resident_memory_bytes",
                Kind::Gauge,
                "Resident memory.",
                process.resident as f64,
            );
        }
        let started = self.started.as_second() as f64;
        text.single("process_start_time_seconds", Kind::Gauge, "Start, in Unix time.", started);
        self.metrics.read().await;
        String::from(text) + &self.metrics.render_plain()
    }
}

/// What this process used.
#[derive(Debug, PartialEq)]
struct Process {
    cpu_seconds: f64,
    resident: u64,
}

/// The kernel's unit of times in /proc, the same on every architecture Linux runs on today.
const TICKS: f64 = 100.0;

fn process(host: &dyn nodebase::host::Host) -> Option<Process> {
    let stat = host.text("/proc/self/stat").ok()?;
    // The program's name may hold anything but is closed by the last parenthesis.
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    let status = host.text("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(Process { cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS, resident: kib * 1024 })
}

/// Dashboards tell a pod from its containers by an empty name.
fn whole<'a>(labels: &Labels<'a>) -> Labels<'a> {
    match labels.first() {
        Some(("container", _)) => labels.clone(),
        _ => [("container", "")].into_iter().chain(labels.clone()).collect(),
    }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Everything that has CPU and memory: its prefix of names, its labels, its numbers.
fn measured(summary: &Summary) -> Vec<(&'static str, Labels<'_>, Option<Cpu>, Option<Memory>)> {
    let mut all = vec![("node", Vec::new(), summary.node.cpu, summary.node.memory)];
    for pod in &summary.pods {
        let of_pod = vec![("namespace", pod.pod_ref.namespace.as_str()), ("pod", pod.pod_ref.name.as_str())];
        for container in &pod.containers {
            let labels = [("container", container.name.as_str())].into_iter().chain(of_pod.clone());
            all.push(("container", labels.collect(), container.cpu, container.memory));
        }
        all.push(("pod", of_pod, pod.cpu, pod.memory));
    }
    all
}

fn seconds(cpu: &Cpu) -> f64 {
    cpu.usage_core_nano_seconds as f64 / 1e9
}

fn resource(summary: &Summary) -> String {
    let mut text = Text::default();
    let measured = measured(summary);
    for kind in ["container", "node", "pod"] {
        let name = format!("{kind}_cpu_usage_seconds_total");
        text.family(
            &name,
            Kind::Counter,
            &format!("Cumulative cpu time consumed by the {kind} in core-seconds"),
        );
        for (_, labels, cpu, _) in measured.iter().filter(|(of, ..)| *of == kind) {
            if let Some(cpu) = cpu {
                text.sample(&name, labels, seconds(cpu), Some(cpu.time));
            }
        }
        let name = format!("{kind}_memory_working_set_bytes");
        text.family(&name, Kind::Gauge, &format!("Current working set of the {kind} in bytes"));
        for (_, labels, _, memory) in measured.iter().filter(|(of, ..)| *of == kind) {
            if let Some(memory) = memory {
                text.sample(&name, labels, memory.working_set_bytes as f64, Some(memory.time));
            }
        }
    }
    starts(&mut text, summary);
    let failed = if summary.has_failed { 1.0 } else { 0.0 };
    for name in ["resource_scrape_error", "scrape_error"] {
        text.single(
            name,
            Kind::Gauge,
            "1 if there was an error while getting container metrics, 0 otherwise",
            failed,
        );
    }
    text.into()
}

fn starts(text: &mut Text, summary: &Summary) {
    let name = "container_start_time_seconds";
    text.family(name, Kind::Gauge, "Start time of the container since unix epoch in seconds");
    for pod in &summary.pods {
        for container in &pod.containers {
            let labels = [
                ("container", container.name.as_str()),
                ("namespace", pod.pod_ref.namespace.as_str()),
                ("pod", pod.pod_ref.name.as_str()),
            ];
            text.sample(name, &labels, container.start_time.as_second() as f64, None);
        }
    }
}

fn cadvisor(summary: &Summary, (cores, memory): (i64, i64)) -> String {
    let mut text = Text::default();
    text.single("machine_cpu_cores", Kind::Gauge, "Number of logical CPU cores.", cores as f64);
    text.single(
        "machine_memory_bytes",
        Kind::Gauge,
        "Amount of memory installed on the machine.",
        memory as f64,
    );
    let measured = measured(summary);
    let all: Vec<_> = measured.iter().filter(|(of, ..)| *of != "node").collect();
    let name = "container_cpu_usage_seconds_total";
    text.family(name, Kind::Counter, "Cumulative cpu time consumed in seconds.");
    for (_, labels, cpu, _) in &all {
        if let Some(cpu) = cpu {
            text.sample(name, &whole(labels), seconds(cpu), Some(cpu.time));
        }
    }
    type Pick = fn(&Memory) -> Option<u64>;
    let picks: [(&str, &str, Pick); 3] = [
        ("container_memory_working_set_bytes", "Current working set in bytes.", |m| {
            Some(m.working_set_bytes)
        }),
        ("container_memory_usage_bytes", "Current memory usage in bytes, with caches.", |m| m.usage_bytes),
        ("container_memory_rss", "Size of RSS in bytes.", |m| m.rss_bytes),
    ];
    for (name, help, pick) in picks {
        text.family(name, Kind::Gauge, help);
        for (_, labels, _, memory) in &all {
            if let Some((memory, bytes)) = memory.as_ref().and_then(|memory| Some((memory, pick(memory)?))) {
                text.sample(name, &whole(labels), bytes as f64, Some(memory.time));
            }
        }
    }
    networks(&mut text, summary);
    text.into()
}

fn networks(text: &mut Text, summary: &Summary) {
    let families = [
        ("container_network_receive_bytes_total", "Cumulative count of bytes received."),
        ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted."),
    ];
    for (index, (name, help)) in families.into_iter().enumerate() {
        text.family(name, Kind::Counter, help);
        for pod in &summary.pods {
            let Some(Network { time, interfaces, .. }) = &pod.network else { continue };
            for interface in interfaces {
                let bytes = if index == 0 { interface.rx_bytes } else { interface.tx_bytes };
                let labels = [
                    ("interface", interface.name.as_str()),
                    ("namespace", pod.pod_ref.namespace.as_str()),
                    ("pod", pod.pod_ref.name.as_str()),
                ];
                text.sample(name, &labels, bytes as f64, Some(*time));
            }
        }
    }
}

#[cfg(test)]
#[path = "metrics/tests.rs"]
mod tests;
