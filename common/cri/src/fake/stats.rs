//! What the fake's containers use: one second of CPU and one MiB each, while they run.

use super::state::State;
use crate::v1::*;

const CPU_NANOS: u64 = 1_000_000_000;
const MEMORY: u64 = 1 << 20;

pub(super) fn of_all(state: &State) -> Vec<ContainerStats> {
    let timestamp = state.now();
    let running = state.containers.values().filter(|c| c.state == ContainerState::ContainerRunning);
    running
        .map(|container| ContainerStats {
            attributes: Some(ContainerAttributes {
                id: container.id.clone(),
                metadata: container.config.metadata.clone(),
                labels: container.config.labels.clone(),
                annotations: container.config.annotations.clone(),
            }),
            cpu: Some(CpuUsage {
                timestamp,
                usage_core_nano_seconds: Some(UInt64Value { value: CPU_NANOS }),
                usage_nano_cores: None,
            }),
            memory: Some(MemoryUsage {
                timestamp,
                working_set_bytes: Some(UInt64Value { value: MEMORY }),
                ..Default::default()
            }),
            writable_layer: None,
            swap: None,
        })
        .collect()
}

pub(super) fn is_of(stats: &ContainerStats, id: &str) -> bool {
    stats.attributes.as_ref().is_some_and(|attributes| attributes.id == id)
}
