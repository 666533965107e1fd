//! The mapper's half of DMI, called by EdgeCore.

use std::sync::Arc;

use dmi::v1beta1::device_mapper_service_server::DeviceMapperService;
use dmi::v1beta1::{
    CreateDeviceModelRequest, CreateDeviceModelResponse, GetDeviceRequest, GetDeviceResponse,
    RegisterDeviceRequest, RegisterDeviceResponse, RemoveDeviceModelRequest, RemoveDeviceModelResponse,
    RemoveDeviceRequest, RemoveDeviceResponse, UpdateDeviceModelRequest, UpdateDeviceModelResponse,
    UpdateDeviceRequest, UpdateDeviceResponse,
};
use tonic::{Request, Response, Status};

use crate::device::Device;
use crate::driver::{Driver, DriverError};
use crate::registry::{Refused, Registry};

pub(crate) struct Service<F>(pub Arc<Registry<F>>);

impl From<Refused> for Status {
    fn from(refused: Refused) -> Status {
        match refused {
            Refused::NoName => Status::invalid_argument(refused.to_string()),
            Refused::Full => Status::resource_exhausted(refused.to_string()),
        }
    }
}

fn given<T>(part: Option<T>) -> Result<T, Status> {
    part.ok_or_else(|| Status::invalid_argument("request is empty"))
}

#[tonic::async_trait]
impl<F, D> DeviceMapperService for Service<F>
where
    D: Driver,
    F: Fn(&Device) -> Result<D, DriverError> + Send + Sync + 'static,
{
    async fn register_device(
        &self,
        request: Request<RegisterDeviceRequest>,
    ) -> Result<Response<RegisterDeviceResponse>, Status> {
        let device = given(request.into_inner().device)?;
        let (device_name, device_namespace) = (device.name.clone(), device.namespace.clone());
        self.0.put_device(device)?;
        Ok(Response::new(RegisterDeviceResponse { device_name, device_namespace }))
    }

    async fn remove_device(
        &self,
        request: Request<RemoveDeviceRequest>,
    ) -> Result<Response<RemoveDeviceResponse>, Status> {
        let RemoveDeviceRequest { device_name, device_namespace } = request.into_inner();
        self.0.remove_device(&device_namespace, &device_name).await;
        Ok(Response::new(RemoveDeviceResponse {}))
    }

    async fn update_device(
        &self,
        request: Request<UpdateDeviceRequest>,
    ) -> Result<Response<UpdateDeviceResponse>, Status> {
        self.0.put_device(given(request.into_inner().device)?)?;
        Ok(Response::new(UpdateDeviceResponse {}))
    }

    async fn create_device_model(
        &self,
        request: Request<CreateDeviceModelRequest>,
    ) -> Result<Response<CreateDeviceModelResponse>, Status> {
        let model = given(request.into_inner().model)?;
        let (device_model_name, device_model_namespace) = (model.name.clone(), model.namespace.clone());
        self.0.put_model(model)?;
        Ok(Response::new(CreateDeviceModelResponse { device_model_name, device_model_namespace }))
    }

    async fn remove_device_model(
        &self,
        request: Request<RemoveDeviceModelRequest>,
    ) -> Result<Response<RemoveDeviceModelResponse>, Status> {
        let RemoveDeviceModelRequest { model_name, model_namespace } = request.into_inner();
        self.0.remove_model(&model_namespace, &model_name);
        Ok(Response::new(RemoveDeviceModelResponse {}))
    }

    async fn update_device_model(
        &self,
        request: Request<UpdateDeviceModelRequest>,
    ) -> Result<Response<UpdateDeviceModelResponse>, Status> {
        self.0.put_model(given(request.into_inner().model)?)?;
        Ok(Response::new(UpdateDeviceModelResponse {}))
    }

    async fn get_device(
        &self,
        request: Request<GetDeviceRequest>,
    ) -> Result<Response<GetDeviceResponse>, Status> {
        let GetDeviceRequest { device_name, device_namespace } = request.into_inner();
        let device = self.0.device(&device_namespace, &device_name);
        let device =
            device.ok_or_else(|| Status::not_found(format!("no device {device_namespace}/{device_name}")))?;
        Ok(Response::new(GetDeviceResponse { device: Some(device) }))
    }
}
