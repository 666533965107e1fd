//! The images a node tells of, so that a scheduler may prefer it: the largest, as many as configured (KubeEdge: none).

use std::time::Duration;

use cri::v1;
use k8s_openapi::api::core::v1::ContainerImage;
use tokio::time::Instant;

use nodebase::base::Base;

/// Names told of one image.
const NAMES: usize = 5;
/// How old the list may be.
const AGE: Duration = Duration::from_secs(60);

/// The list told last.
#[derive(Default)]
pub(super) struct ReportedImages {
    list: Vec<ContainerImage>,
    at: Option<Instant>,
}

impl ReportedImages {
    pub(super) async fn told(&mut self, base: &Base) -> Vec<ContainerImage> {
        let most = base.settings.max_images_told;
        let fresh = self.at.is_some_and(|at| at.elapsed() < AGE);
        if most > 0
            && !fresh
            && let Ok(images) = base.runtime.list_images().await
        {
            self.list = largest(images, most);
            self.at = Some(Instant::now());
        }
        self.list.clone()
    }
}

/// The largest images, each with its digests before its tags.
fn largest(mut images: Vec<v1::Image>, most: usize) -> Vec<ContainerImage> {
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    let told = images.into_iter().take(most).map(|image| ContainerImage {
        names: Some(image.repo_digests.into_iter().chain(image.repo_tags).take(NAMES).collect()),
        size_bytes: i64::try_from(image.size).ok(),
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_told_with_digests_first() {
        let image = |id: &str, size| v1::Image {
            id: id.to_owned(),
            size,
            repo_tags: vec![format!("{id}:1")],
            repo_digests: vec![format!("{id}@sha256:0")],
            ..Default::default()
        };
        let told = largest(vec![image("small", 1), image("large", 9), image("middle", 5)], 2);
        let names: Vec<Vec<String>> = told.into_iter().map(|image| image.names.unwrap()).collect();
        assert_eq!(names, [["large@sha256:0", "large:1"], ["middle@sha256:0", "middle:1"]]);
    }
}
