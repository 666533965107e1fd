//! The health check of gRPC servers, `grpc.health.v1.Health/Check`, without TLS.

use std::time::Duration;

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    #[error("{address} is not an address")]
    Address { address: String },
    #[error("connecting to {address}: {source}")]
    Connect { address: String, source: tonic::transport::Error },
    #[error("health check: {:?}: {}", .0.code(), .0.message())]
    Refused(tonic::Status),
    #[error("service unhealthy (responded with status {status})")]
    NotServing { status: i32 },
}

/// Good if the server says that the service (all of it when empty) is serving.
pub(super) async fn check(host: &str, port: u16, service: &str, limit: Duration) -> Result<(), CheckError> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let address = format!("{host}:{port}");
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint.map_err(|_| CheckError::Address { address: address.clone() })?;
    let endpoint = endpoint.connect_timeout(limit).user_agent("kube-probe/1.33");
    let endpoint = endpoint.map_err(|_| CheckError::Address { address: address.clone() })?;
    let channel = endpoint.connect().await.map_err(|source| CheckError::Connect { address, source })?;
    let mut client = Grpc::new(channel).max_decoding_message_size(4096);
    client.ready().await.map_err(|error| CheckError::Refused(tonic::Status::unknown(error.to_string())))?;
    let request = tonic::Request::new(HealthCheckRequest { service: service.to_owned() });
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let answer = client.unary(request, path, codec).await.map_err(CheckError::Refused)?.into_inner();
    match answer.status {
        SERVING => Ok(()),
        status => Err(CheckError::NotServing { status }),
    }
}
