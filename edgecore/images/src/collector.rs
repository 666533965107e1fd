//! Images nobody uses go when their file system is short of space (docs/protocol/edge-runtime.md 5.15, 5.21).
//!
//! An image stays while a container was made from it, whoever made the container, while any pod of this node names it
//! (also one that does not run: without a link it could not be pulled again), while the runtime pins it, and if it is the
//! sandboxes'. Beside pods of another node agent only images go that this installation pulled; alone on its runtime it
//! removes whatever nobody uses, as the kubelet does.

use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cri::v1;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodSpec;
use tokio_util::sync::CancellationToken;

use super::Images;
use super::{normalize, ours};
use nodebase::events::Kind;
use nodebase::host::{self, Disk, Host};
use nodebase::owner::{self, Owner};
use podmodel::errors::chain;
use podmodel::spec::{all_containers, as_container};

/// How often the image file system is looked at.
const EVERY: Duration = Duration::from_secs(300);

/// Since when each image is not used, by id.
#[derive(Default)]
pub struct Collector {
    unused: Mutex<BTreeMap<String, Timestamp>>,
}

/// How much is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// What the thresholds and ages ask for.
    Due,
    /// Everything nobody uses.
    All,
}

#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("asking the runtime what images and pods there are")]
    Runtime(#[source] cri::CallError),
    #[error("reading which images were pulled")]
    Pulled(#[source] store::StoreError),
}

/// Looks again and again until `stop`.
pub fn run(images: Arc<Images>, host: Arc<dyn Host>, stop: CancellationToken) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        loop {
            tokio::select! {
                biased;
                _ = stop.cancelled() => return,
                _ = tokio::time::sleep(EVERY) => {}
            }
            if !images.base.facts.borrow().ready {
                continue;
            }
            if let Err(error) = collect(&images, &host, Want::Due).await {
                tracing::warn!(error = %chain(&error), "images not looked through");
            }
        }
    })
}

/// Removes images and returns how many bytes they had.
pub fn collect<'a>(
    images: &'a Images,
    host: &'a Arc<dyn Host>,
    want: Want,
) -> BoxFuture<'a, Result<u64, CollectError>> {
    Box::pin(async move {
        let runtime = &images.base.runtime;
        let all = runtime.list_images().await.map_err(CollectError::Runtime)?;
        let containers = runtime.list_containers(None).await.map_err(CollectError::Runtime)?;
        let made_from = containers.iter().flat_map(|container| {
            [container.image_ref.clone(), container.image.clone().unwrap_or_default().image]
        });
        let used: BTreeSet<String> = made_from.chain(named(images)).filter(|name| !name.is_empty()).collect();
        let now = images.base.clock.now();
        let mut unused = images.collector.unused(&all, &used, now);
        let pulled = ours::of(&images.base.objects, &all).await.map_err(CollectError::Pulled)?;
        // A pod has its sandbox before its images are pulled: who has none yet needs none of them.
        let sandboxes = runtime.list_pod_sandboxes(None).await.map_err(CollectError::Runtime)?;
        if sandboxes.iter().any(|sandbox| is_foreign(images, &sandbox.labels)) {
            unused.retain(|id, _| pulled.contains(id));
        }
        let settings = &images.base.settings.images;
        let disk = match want {
            Want::All => None,
            Want::Due => filesystem(images, host).await,
        };
        let wanted = CollectionNeed {
            bytes: match want {
                Want::All => u64::MAX,
                Want::Due => {
                    disk.map_or(0, |disk| surplus(disk, settings.high_percent, settings.low_percent))
                }
            },
            least_age: if want == Want::All { Duration::ZERO } else { settings.least_age },
            most_age: settings.most_age,
        };
        let chosen = choose(&all, &unused, &wanted, now);
        let mut freed = 0;
        for image in chosen {
            match runtime.remove_image(&image.id).await {
                Ok(()) => {
                    tracing::info!(image = %image.id, bytes = image.size, "unused image removed");
                    freed += image.size;
                }
                Err(error) => tracing::warn!(image = %image.id, error = %chain(&error), "image not removed"),
            }
        }
        if wanted.bytes != u64::MAX && freed < wanted.bytes {
            let text = format!(
                "Failed to garbage collect required amount of images. Attempted to free {} bytes, but only found {freed} bytes eligible to free.",
                wanted.bytes
            );
            images.base.events.record_node(Kind::Warning, "FreeDiskSpaceFailed", &text);
        }
        Ok(freed)
    })
}

/// A pod of another node agent. One without a mark that runs here counts as ours: an older version made it.
fn is_foreign(images: &Images, labels: &HashMap<String, String>) -> bool {
    let uid = labels.get(cri::labels::POD_UID);
    match owner::of(labels, &owner::mark(&images.base.settings)) {
        Owner::Us => false,
        Owner::Another => true,
        Owner::Unknown => uid.is_none_or(|uid| images.base.board.get(uid).is_none()),
    }
}

/// What the pods of this node name, and what sandboxes are made from.
fn named(images: &Images) -> Vec<String> {
    let mut names = vec![images.base.facts.borrow().sandbox_image.clone()];
    let pods = images.base.board.entries().into_iter().filter_map(|entry| entry.pod()?.spec);
    for spec in pods {
        names.extend(images_of(&spec));
    }
    names
}

fn images_of(spec: &PodSpec) -> Vec<String> {
    let guests = spec.ephemeral_containers.iter().flatten().map(as_container);
    let containers = all_containers(spec).cloned().chain(guests);
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.image.as_ref()?.reference.clone());
    let named = containers.filter_map(|container| container.image);
    named.chain(volumes).map(|image| normalize(&image)).collect()
}

async fn filesystem(images: &Images, host: &Arc<dyn Host>) -> Option<Disk> {
    let filesystems = images.base.runtime.image_filesystems().await.ok()?;
    let place = filesystems.first()?.fs_id.as_ref()?.mountpoint.clone();
    host::disk(host, PathBuf::from(place)).await.ok()
}

/// The bytes to free so that usage falls from the high threshold to the low one.
fn surplus(disk: Disk, high_percent: u64, low_percent: u64) -> u64 {
    let used = disk.bytes.saturating_sub(disk.available);
    let hundredth = disk.bytes / 100;
    match hundredth > 0 && used >= hundredth * high_percent {
        true => used.saturating_sub(hundredth * low_percent),
        false => 0,
    }
}

struct CollectionNeed {
    bytes: u64,
    least_age: Duration,
    most_age: Duration,
}

/// The images to remove: those unused for too long, then the longest unused ones until enough is free.
fn choose<'a>(
    images: &'a [v1::Image],
    unused: &BTreeMap<String, Timestamp>,
    wanted: &CollectionNeed,
    now: Timestamp,
) -> Vec<&'a v1::Image> {
    let age = |image: &v1::Image| {
        let since = unused.get(&image.id)?;
        Some(Duration::try_from(now.duration_since(*since)).unwrap_or_default())
    };
    let mut candidates: Vec<(Duration, &v1::Image)> =
        images.iter().filter_map(|image| Some((age(image)?, image))).collect();
    candidates.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
    let mut freed = 0u64;
    let mut chosen = Vec::new();
    for (age, image) in candidates {
        let too_old = !wanted.most_age.is_zero() && age >= wanted.most_age;
        if too_old || (freed < wanted.bytes && age >= wanted.least_age) {
            freed = freed.saturating_add(image.size);
            chosen.push(image);
        }
    }
    chosen
}

impl Collector {
    /// Notes which images are used now; the others since when they are not. New ones begin now.
    fn unused(
        &self,
        images: &[v1::Image],
        used: &BTreeSet<String>,
        now: Timestamp,
    ) -> BTreeMap<String, Timestamp> {
        let mut known = self.unused.lock().unwrap_or_else(PoisonError::into_inner);
        let is_used = |image: &v1::Image| {
            let names = image.repo_tags.iter().chain(&image.repo_digests).chain([&image.id]);
            image.pinned || names.into_iter().any(|name| used.contains(name))
        };
        let unused = images.iter().filter(|image| !is_used(image));
        *known =
            unused.map(|image| (image.id.clone(), known.get(&image.id).copied().unwrap_or(now))).collect();
        known.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, size: u64) -> v1::Image {
        v1::Image { id: id.to_owned(), size, repo_tags: vec![format!("{id}:1")], ..Default::default() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_used_named_or_pinned_is_never_unused() {
        let mut pinned = image("pinned", 1);
        pinned.pinned = true;
        let images = [image("container", 1), image("named", 1), pinned, image("nobody", 1)];
        let used = BTreeSet::from(["container".to_owned(), "named:1".to_owned()]);
        let collector = Collector::default();
        assert_eq!(collector.unused(&images, &used, at(1)), BTreeMap::from([("nobody".to_owned(), at(1))]));
        // Used for a while, it begins anew.
        let more = BTreeSet::from(["nobody".to_owned()]);
        assert!(!collector.unused(&images, &more, at(2)).contains_key("nobody"));
        assert_eq!(collector.unused(&images, &used, at(3))["nobody"], at(3));
    }

    #[test]
    fn the_longest_unused_go_first_and_young_ones_stay() {
        let images = [image("young", 10), image("old", 10), image("older", 10)];
        let unused = BTreeMap::from(
            [("young", 990), ("old", 500), ("older", 100)].map(|(id, second)| (id.to_owned(), at(second))),
        );
        let ids = |bytes, most| {
            let wanted = CollectionNeed {
                bytes,
                least_age: Duration::from_secs(120),
                most_age: Duration::from_secs(most),
            };
            choose(&images, &unused, &wanted, at(1000))
                .iter()
                .map(|image| image.id.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(0, 0), Vec::<String>::new());
        assert_eq!(ids(5, 0), ["older"]);
        assert_eq!(ids(1000, 0), ["older", "old"]);
        assert_eq!(ids(0, 900), ["older"]);
    }

    #[test]
    fn space_is_freed_from_the_high_threshold_down_to_the_low_one() {
        let disk = |available| Disk { bytes: 1000, available, ..Disk::default() };
        assert_eq!(surplus(disk(200), 85, 80), 0);
        assert_eq!(surplus(disk(150), 85, 80), 50);
        assert_eq!(surplus(disk(0), 85, 80), 200);
        assert_eq!(surplus(Disk::default(), 85, 80), 0);
    }
}
