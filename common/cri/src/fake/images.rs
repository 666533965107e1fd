//! The fake's image service.

use tonic::{Request, Response, Status};

use super::service::{Answer, Service};
use crate::v1::image_service_server::ImageService;
use crate::v1::*;

/// An image of this name.
pub(super) fn made(name: &str) -> Image {
    Image {
        id: format!("sha256:{name}"),
        repo_tags: vec![name.to_owned()],
        size: 1,
        uid: Some(Int64Value { value: 0 }),
        ..Image::default()
    }
}

fn name(spec: Option<ImageSpec>) -> String {
    let image = spec.unwrap_or_default().image;
    image.strip_prefix("sha256:").map(str::to_owned).unwrap_or(image)
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(&self, _: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        let images = self.state().images.values().cloned().collect();
        Ok(Response::new(ListImagesResponse { images }))
    }

    async fn image_status(&self, request: Request<ImageStatusRequest>) -> Answer<ImageStatusResponse> {
        let image = self.state().images.get(&name(request.into_inner().image)).cloned();
        Ok(Response::new(ImageStatusResponse { image }))
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        let name = name(request.into_inner().image);
        let mut state = self.state();
        state.note("PullImage", &name);
        if let Some(status) = state.pull_failure.clone() {
            return Err(status);
        }
        let image = made(&name);
        let image_ref = image.id.clone();
        state.images.insert(name, image);
        Ok(Response::new(PullImageResponse { image_ref }))
    }

    async fn remove_image(&self, request: Request<RemoveImageRequest>) -> Answer<RemoveImageResponse> {
        let name = name(request.into_inner().image);
        match self.state().images.remove(&name) {
            Some(_) => Ok(Response::new(RemoveImageResponse {})),
            None => Err(Status::not_found(name)),
        }
    }

    async fn image_fs_info(&self, _: Request<ImageFsInfoRequest>) -> Answer<ImageFsInfoResponse> {
        Ok(Response::new(ImageFsInfoResponse::default()))
    }
}
