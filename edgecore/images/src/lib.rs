//! Images: policy, credentials, pulling (docs/protocol/edge-runtime.md 5.15).

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests wait for nobody else"))]

pub mod collector;
pub mod credentials;
mod ours;
pub mod pace;
mod reference;

use futures_util::future::BoxFuture;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cri::v1;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use collector::Collector;
use credentials::Credentials;
use metamanager::LinkState;
use nodebase::base::Base;
use pace::Pace;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// The policy written, or Kubernetes' default: `Always` for `:latest`.
    pub fn of(written: Option<&str>, image: &str) -> PullPolicy {
        match written {
            Some("Always") => PullPolicy::Always,
            Some("Never") => PullPolicy::Never,
            Some("IfNotPresent") => PullPolicy::IfNotPresent,
            _ if normalize(image).ends_with(":latest") => PullPolicy::Always,
            _ => PullPolicy::IfNotPresent,
        }
    }
}

/// The reference with its tag written out.
pub fn normalize(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    match name.contains([':', '@']) {
        true => image.to_owned(),
        false => format!("{image}:latest"),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("container image {image:?} is not present with pull policy of Never")]
    NeverPulled { image: String },
    #[error("couldn't parse image name {image:?}: invalid reference format: {fault}")]
    InvalidName { image: String, fault: &'static str },
    #[error("inspecting image {image:?}")]
    Inspect { image: String, source: cri::CallError },
    #[error("pulling image {image:?}")]
    Pull { image: String, source: cri::CallError },
    #[error("image {image:?} was pulled and is not there")]
    Vanished { image: String },
}

impl ImageError {
    /// The waiting reason the API shows.
    pub fn reason(&self) -> &'static str {
        match self {
            ImageError::NeverPulled { .. } => "ErrImageNeverPull",
            ImageError::InvalidName { .. } => "InvalidImageName",
            ImageError::Inspect { .. } => "ImageInspectError",
            ImageError::Pull { .. } | ImageError::Vanished { .. } => "ErrImagePull",
        }
    }
}

/// How an image came to be here.
/// Handle of the images: what has them pulled, and remembers which are not used.
pub struct Images {
    base: Arc<Base>,
    /// Pulls under way: a thin link is better used by few images at a time.
    pulls: Semaphore,
    pull_pace: Pace,
    collector: Collector,
    /// Until when registries are taken for unreachable, for images that are present anyway.
    no_registry_until: Mutex<Option<Instant>>,
}

impl Images {
    pub fn new(base: Arc<Base>) -> Images {
        let settings = &base.settings.images;
        Images {
            pulls: Semaphore::new(settings.parallel_pulls),
            pull_pace: Pace::new(settings.pulls_per_second, settings.burst),
            collector: Collector::default(),
            no_registry_until: Mutex::new(None),
            base,
        }
    }
}

#[derive(Debug, PartialEq)]
pub enum EnsuredImage {
    Present(v1::Image),
    Pulled(v1::Image),
}

/// The image, pulled if the policy says so; `pulling` runs while it is.
pub fn ensure<'a>(
    images: &'a Images,
    image: &'a str,
    policy: PullPolicy,
    credentials: &'a Credentials,
    pulling: BoxFuture<'a, ()>,
) -> BoxFuture<'a, Result<EnsuredImage, ImageError>> {
    Box::pin(async move {
        if let Some(fault) = reference::fault(image) {
            return Err(ImageError::InvalidName { image: image.to_owned(), fault });
        }
        let image = normalize(image);
        let present = status(images, &image).await?;
        match (present, policy) {
            (Some(found), PullPolicy::IfNotPresent | PullPolicy::Never) => Ok(EnsuredImage::Present(found)),
            (None, PullPolicy::Never) => Err(ImageError::NeverPulled { image }),
            (Some(found), PullPolicy::Always) => refresh(images, found, &image, credentials, pulling).await,
            (None, _) => match pull(images, &image, credentials, pulling).await {
                Ok(reference) => pulled(images, &reference, image, None).await,
                Err(source) => Err(ImageError::Pull { image, source }),
            },
        }
    })
}

/// What a pull brought. An image that `was_there` before is still of who brought it.
async fn pulled(
    images: &Images,
    reference: &str,
    image: String,
    was_there: Option<&v1::Image>,
) -> Result<EnsuredImage, ImageError> {
    let found = match status(images, reference).await? {
        Some(found) => found,
        None => status(images, &image).await?.ok_or(ImageError::Vanished { image })?,
    };
    if was_there.is_none_or(|before| before.id != found.id)
        && let Err(error) = ours::pulled(&images.base.objects, &found.id).await
    {
        // It is then never removed beside another node agent, and like any other without one.
        tracing::warn!(image = %found.id, error = %podmodel::errors::chain(&error), "not noted that an image was pulled");
    }
    Ok(EnsuredImage::Pulled(found))
}

/// How long a registry has to answer for an image that is present, while the cloud cannot be reached.
const OFFLINE_PATIENCE: Duration = Duration::from_secs(2);
/// How long registries are left alone after that, so that many pods start offline without waiting in turn.
const OFFLINE_REST: Duration = Duration::from_secs(60);

/// Pulls an image that is present, and takes the present one when nothing answers.
async fn refresh(
    images: &Images,
    present: v1::Image,
    image: &str,
    credentials: &Credentials,
    pulling: BoxFuture<'_, ()>,
) -> Result<EnsuredImage, ImageError> {
    let offline = *images.base.link.borrow() == LinkState::Disconnected;
    let resting = *images.no_registry_until.lock().unwrap_or_else(PoisonError::into_inner);
    if offline && resting.is_some_and(|until| Instant::now() < until) {
        return Ok(EnsuredImage::Present(present));
    }
    let attempt = pull(images, image, credentials, pulling);
    let answer = match offline {
        true => tokio::time::timeout(OFFLINE_PATIENCE, attempt).await.ok(),
        false => Some(attempt.await),
    };
    match answer {
        Some(Ok(reference)) => pulled(images, &reference, image.to_owned(), Some(&present)).await,
        Some(Err(source)) if !is_unreachable(&source) => {
            Err(ImageError::Pull { image: image.to_owned(), source })
        }
        _ => {
            tracing::info!(image, "registry not reachable, the image on disk is used");
            let rest = Some(Instant::now() + OFFLINE_REST);
            *images.no_registry_until.lock().unwrap_or_else(PoisonError::into_inner) = rest;
            Ok(EnsuredImage::Present(present))
        }
    }
}

async fn status(images: &Images, image: &str) -> Result<Option<v1::Image>, ImageError> {
    let answer = images.base.runtime.image_status(image).await;
    answer.map_err(|source| ImageError::Inspect { image: image.to_owned(), source })
}

/// Pulls; `pulling` runs beside it from the moment the registry is asked.
async fn pull(
    images: &Images,
    image: &str,
    credentials: &Credentials,
    pulling: BoxFuture<'_, ()>,
) -> Result<String, cri::CallError> {
    // The semaphore is never closed; without a permit the pull goes ahead all the same.
    let _turn = images.pulls.acquire().await;
    images.pull_pace.wait().await;
    let asked = async {
        let mut last = None;
        for auth in credentials.matching(image) {
            match images.base.runtime.pull_image(image, Some(auth), None).await {
                Ok(reference) => return Ok(reference),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error),
            None => images.base.runtime.pull_image(image, None, None).await,
        }
    };
    let told = async {
        pulling.await;
        std::future::pending().await
    };
    tokio::select! {
        answer = asked => answer,
        answer = told => answer,
    }
}

/// Whether nothing answered, as opposed to a registry that said no.
fn is_unreachable(error: &cri::CallError) -> bool {
    let text = error.reason().to_ascii_lowercase();
    let network = [
        "dial tcp",
        "no such host",
        "connection refused",
        "i/o timeout",
        "network is unreachable",
        "no route to host",
        "deadline exceeded",
        "failed to do request",
        "temporary failure in name resolution",
        "server misbehaving",
        "connection reset",
    ];
    network.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_defaults_by_the_tag() {
        for (written, image, expected) in [
            (None, "busybox", PullPolicy::Always),
            (None, "busybox:latest", PullPolicy::Always),
            (None, "host:5000/busybox", PullPolicy::Always),
            (None, "busybox:1", PullPolicy::IfNotPresent),
            (None, "busybox@sha256:0", PullPolicy::IfNotPresent),
            (Some("Never"), "busybox", PullPolicy::Never),
        ] {
            assert_eq!(PullPolicy::of(written, image), expected, "{image}");
        }
        assert_eq!(normalize("host:5000/a"), "host:5000/a:latest");
    }
}
