//! The protocols of a kubelet's plugins, over unix sockets: registration of plugins, the node service of CSI drivers,
//! device plugins. Names and numbers are the protocols'; fields left out are skipped on reading.

#![deny(clippy::missing_errors_doc)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// `pluginregistration`: a plugin says what it is and where it listens.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod registration {
    tonic::include_proto!("pluginregistration");
}

/// `csi.v1`, the node service.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod csi {
    tonic::include_proto!("csi.v1");
}

/// `v1beta1`, device plugins.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod device {
    tonic::include_proto!("v1beta1");
}

/// A message as it goes on the wire, to be kept.
pub fn encode(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// None for bytes that are no such message.
pub fn decode<T: prost::Message + Default>(bytes: &[u8]) -> Option<T> {
    T::decode(bytes).ok()
}

const CONNECT: Duration = Duration::from_secs(10);

/// A connection to the plugin that listens at `socket`; it is made on the first call and again after a failure.
pub fn channel(socket: &Path) -> Channel {
    let path = PathBuf::from(socket);
    let connect = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_timeout(CONNECT).connect_with_connector_lazy(connect)
}
