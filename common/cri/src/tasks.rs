//! containerd's own tasks, below its CRI. A StartContainer whose caller goes away in the middle can leave a task that
//! containerd's CRI no longer knows of (seen in 1.6.20): the container counts as exited, its process waits for ever, and
//! RemoveContainer is refused until containerd is restarted. Other runtimes do not have the service.

use std::time::Duration;

use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};

use crate::{Call, CallError, Runtime};

/// The namespace of containerd that its CRI lives in.
const NAMESPACE: &str = "k8s.io";
const SIGKILL: u32 = 9;
const DEADLINE: Duration = Duration::from_secs(30);
/// How often the task is looked at while its process ends.
const ENDING: Duration = Duration::from_millis(50);
const ATTEMPTS: u32 = 40;

/// `containerd.services.tasks.v1.KillRequest`
#[derive(Clone, PartialEq, prost::Message)]
struct KillRequest {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(uint32, tag = "3")]
    signal: u32,
    #[prost(bool, tag = "4")]
    all: bool,
}

/// `containerd.services.tasks.v1.DeleteTaskRequest`
#[derive(Clone, PartialEq, prost::Message)]
struct DeleteTaskRequest {
    #[prost(string, tag = "1")]
    container_id: String,
}

/// Nothing of the answers is used.
#[derive(Clone, PartialEq, prost::Message)]
struct Answer {}

impl Runtime {
    /// Ends the process of a container that RemoveContainer is refused for, and has containerd forget its task.
    /// Fails as unimplemented where the runtime is another.
    ///
    /// # Errors
    /// [`CallError`]: the runtime is not containerd (unimplemented), cannot be reached, or refused.
    pub fn drop_task<'a>(&'a self, id: &'a str) -> Call<'a, ()> {
        Box::pin(async move {
            let container_id = id.to_owned();
            let kill = KillRequest { container_id: container_id.clone(), signal: SIGKILL, all: true };
            match self.task("Kill", id, kill).await {
                // It has ended already.
                Err(error) if error.is_not_found() => {}
                other => other?,
            }
            let mut attempts = 0;
            loop {
                match self.task("Delete", id, DeleteTaskRequest { container_id: container_id.clone() }).await
                {
                    Err(error) if error.is_not_found() => return Ok(()),
                    Err(error) if error.source.code() == Code::FailedPrecondition && attempts < ATTEMPTS => {
                        attempts += 1;
                        tokio::time::sleep(ENDING).await;
                    }
                    other => return other,
                }
            }
        })
    }

    async fn task<M>(&self, call: &'static str, id: &str, message: M) -> Result<(), CallError>
    where
        M: prost::Message + Default + Send + Sync + 'static,
    {
        let failed = |source| CallError { call, object: id.to_owned(), source };
        let mut client = tonic::client::Grpc::new(self.channel());
        let ready = client.ready().await;
        ready.map_err(|error| failed(tonic::Status::unavailable(error.to_string())))?;
        let mut request = Request::new(message);
        request.set_timeout(DEADLINE);
        request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
        let path = match call {
            "Kill" => PathAndQuery::from_static("/containerd.services.tasks.v1.Tasks/Kill"),
            _ => PathAndQuery::from_static("/containerd.services.tasks.v1.Tasks/Delete"),
        };
        let codec = tonic_prost::ProstCodec::<M, Answer>::default();
        client.unary(request, path, codec).await.map(|_| ()).map_err(failed)
    }
}
