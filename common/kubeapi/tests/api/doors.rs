//! Sockets.

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use kubeapi::{CONNECTIONS, Door, Settings, Transport};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::asking::api;

async fn ask(address: std::net::SocketAddr, path: &str) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().uri(path).header("host", "x").header("x-user", "ann");
    let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn one_api_has_several_doors_and_the_backend_knows_which() {
    let (api, stop) = (api(Settings::default()), CancellationToken::new());
    let mut served = Vec::new();
    for what in ["the first", "the second"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let door = Door { what, transport: Transport::Plain, connections: CONNECTIONS };
        served.push(tokio::spawn(kubeapi::serve(api.clone(), listener, door, stop.clone())));
        assert_eq!(ask(address, "/door").await, what);
    }
    stop.cancel();
    for one in served {
        one.await.unwrap();
    }
}
