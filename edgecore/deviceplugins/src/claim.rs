//! Devices for a pod: chosen and allocated before its first container starts, in the order of its containers.

use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::PodSpec;
use plugins::device::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse,
    ContainerPreferredAllocationRequest, PreStartContainerRequest, PreferredAllocationRequest,
};
use tonic::Request;

use super::inventory::{Allocation, Choice, TooFew};
use super::{ANSWER, PluginDevices};
use podmodel::plan::is_sidecar;
use podmodel::quantity;

/// What a container asks for of an extended resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub container: String,
    pub resource: String,
    pub count: usize,
    /// An init container that ends: what it had may go to the containers after it.
    pub is_passing: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It may be back soon.
    #[error("the plugin of {resource} has not registered yet")]
    Away { resource: String },
    #[error("Allocate failed due to {0}, which is unexpected")]
    TooFew(TooFew),
    #[error("Allocate failed due to rpc error: {}, which is unexpected", .0.message())]
    Refused(tonic::Status),
    #[error("the plugin of {resource} answered for {containers} containers instead of one")]
    Odd { resource: String, containers: usize },
    #[error("keeping which devices the pod was given")]
    Keep(#[source] std::io::Error),
    #[error("device plugin failed to prepare {resource}")]
    Prepare { resource: String, source: tonic::Status },
}

/// What a container gets to use its devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeviceAllocation {
    pub envs: BTreeMap<String, String>,
    pub mounts: Vec<cri::v1::Mount>,
    pub devices: Vec<cri::v1::Device>,
    pub annotations: BTreeMap<String, String>,
    pub cdi: Vec<String>,
}

/// Everything the pod asks for whose name is one of an extended resource, in the order its containers start.
pub fn needs(spec: &PodSpec) -> Vec<Need> {
    let init = spec.init_containers.iter().flatten();
    let init = init.map(|container| (container, !is_sidecar(container)));
    let all = init.chain(spec.containers.iter().map(|container| (container, false)));
    all.flat_map(|(container, is_passing)| {
        let limits = container.resources.iter().filter_map(|resources| resources.limits.as_ref()).flatten();
        limits.filter_map(move |(resource, amount)| {
            let count = quantity::units(amount).and_then(|count| usize::try_from(count).ok())?;
            let (container, resource) = (container.name.clone(), resource.clone());
            (count > 0 && resource.contains('/')).then_some(Need { container, resource, count, is_passing })
        })
    })
    .collect()
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER);
    request
}

impl PluginDevices {
    /// Gives the pod what it needs, unless it has it. Resources no plugin offers are none of ours. `lives` tells whose
    /// devices are still in use.
    pub async fn claim(
        &self,
        uid: &str,
        needs: &[Need],
        lives: impl Fn(&str) -> bool,
    ) -> Result<(), ClaimError> {
        let ours: Vec<&Need> = {
            let inventory = self.inventory();
            let missing = |need: &&Need| inventory.find(uid, &need.container, &need.resource).is_none();
            let ours = needs.iter().filter(|need| inventory.has(&need.resource));
            if !ours.clone().any(|need| missing(&need)) {
                return Ok(());
            }
            ours.collect()
        };
        let _one_by_one = self.claiming.lock().await;
        self.inventory().release(|known| known == uid || lives(known));
        let mut reusable: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for need in ours {
            let passed = reusable.entry(need.resource.clone()).or_default();
            let known =
                self.inventory().find(uid, &need.container, &need.resource).map(|g| g.devices.clone());
            let devices = match known {
                Some(devices) => devices,
                None => self.allocate(uid, need, passed).await?,
            };
            match need.is_passing {
                true => passed.extend(devices),
                false => passed.retain(|device| !devices.contains(device)),
            }
        }
        self.keep().await.map_err(ClaimError::Keep)
    }

    fn allocate<'a>(
        &'a self,
        uid: &'a str,
        need: &'a Need,
        reusable: &'a BTreeSet<String>,
    ) -> BoxFuture<'a, Result<BTreeSet<String>, ClaimError>> {
        Box::pin(async move {
            let resource = &need.resource;
            let is_forgotten = self.inventory().amount(resource).capacity == 0;
            let plugin = match self.plugin(resource) {
                None if !is_forgotten => return Err(ClaimError::Away { resource: resource.clone() }),
                plugin => plugin,
            };
            let choice =
                self.inventory().choose(resource, need.count, reusable).map_err(ClaimError::TooFew)?;
            let (mut client, options) =
                plugin.ok_or_else(|| ClaimError::Away { resource: resource.clone() })?;
            let preferred = match options.get_preferred_allocation_available {
                true => self.preferred(need, &choice).await,
                false => Vec::new(),
            };
            let devices = choice.take(need.count, &preferred);
            let one = ContainerAllocateRequest { device_ids: devices.iter().cloned().collect() };
            let answer = client.allocate(request(AllocateRequest { container_requests: vec![one] })).await;
            let answers = answer.map_err(ClaimError::Refused)?.into_inner().container_responses;
            let [answer] = answers.as_slice() else {
                return Err(ClaimError::Odd { resource: resource.clone(), containers: answers.len() });
            };
            self.inventory().given.push(Allocation {
                uid: uid.to_owned(),
                container: need.container.clone(),
                resource: resource.clone(),
                devices: devices.clone(),
                answer: plugins::encode(answer),
            });
            Ok(devices)
        })
    }

    /// What the plugin would choose; nothing, if it does not say.
    async fn preferred(&self, need: &Need, choice: &Choice) -> Vec<String> {
        let Some((mut client, _)) = self.plugin(&need.resource) else { return Vec::new() };
        let one = ContainerPreferredAllocationRequest {
            available_device_ids: choice.available.clone(),
            must_include_device_ids: choice.must.clone(),
            allocation_size: i32::try_from(need.count).unwrap_or(i32::MAX),
        };
        let asked = client
            .get_preferred_allocation(request(PreferredAllocationRequest { container_requests: vec![one] }))
            .await;
        let answers = asked.map(|answer| answer.into_inner().container_responses).unwrap_or_default();
        answers.into_iter().next().map(|answer| answer.device_ids).unwrap_or_default()
    }

    /// What a container gets, after its plugins prepared the devices where they want to.
    pub fn gear<'a>(
        &'a self,
        uid: &'a str,
        container: &'a str,
    ) -> BoxFuture<'a, Result<DeviceAllocation, ClaimError>> {
        Box::pin(async move {
            let given: Vec<Allocation> = self.inventory().of_container(uid, container).cloned().collect();
            let mut gear = DeviceAllocation::default();
            for given in given {
                let plugin = self.plugin(&given.resource).filter(|(_, options)| options.pre_start_required);
                if let Some((mut client, _)) = plugin {
                    let device_ids = given.devices.iter().cloned().collect();
                    let prepared =
                        client.pre_start_container(request(PreStartContainerRequest { device_ids })).await;
                    let resource = given.resource.clone();
                    prepared.map_err(|source| ClaimError::Prepare { resource, source })?;
                }
                gear.add(plugins::decode::<ContainerAllocateResponse>(&given.answer).unwrap_or_default());
            }
            Ok(gear)
        })
    }
}

impl DeviceAllocation {
    fn add(&mut self, answer: ContainerAllocateResponse) {
        self.envs.extend(answer.envs);
        self.annotations.extend(answer.annotations);
        self.cdi.extend(answer.cdi_devices.into_iter().map(|device| device.name));
        self.mounts.extend(answer.mounts.into_iter().map(|mount| cri::v1::Mount {
            container_path: mount.container_path,
            host_path: mount.host_path,
            readonly: mount.read_only,
            ..Default::default()
        }));
        self.devices.extend(answer.devices.into_iter().map(|device| cri::v1::Device {
            container_path: device.container_path,
            host_path: device.host_path,
            permissions: device.permissions,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(json: serde_json::Value) -> PodSpec {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn needs_come_in_the_order_containers_start() {
        let limits = |count: &str| json!({"limits": {"example.com/camera": count, "cpu": "1"}});
        let spec = spec(json!({
            "initContainers": [
                {"name": "first", "resources": limits("2")},
                {"name": "side", "restartPolicy": "Always", "resources": limits("1")}],
            "containers": [{"name": "main", "resources": limits("1")}, {"name": "none", "resources": limits("0")}]
        }));
        let found: Vec<_> = needs(&spec).into_iter().map(|n| (n.container, n.count, n.is_passing)).collect();
        let expected = [("first", 2, true), ("side", 1, false), ("main", 1, false)];
        assert_eq!(found, expected.map(|(name, count, passing)| (name.to_owned(), count, passing)));
    }
}
