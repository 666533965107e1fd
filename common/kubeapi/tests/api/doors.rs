//! Sockets.

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use kubeapi::{CONNECTIONS, Door, Settings, Transport};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::asking::api;

type Sender = hyper::client::conn::http1::SendRequest<Empty<bytes::Bytes>>;

async fn connect(address: std::net::SocketAddr) -> Sender {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn send(sender: &mut Sender, path: &str) -> hyper::Result<http::Response<hyper::body::Incoming>> {
    let request = http::Request::builder().uri(path).header("host", "x").header("x-user", "ann");
    sender.send_request(request.body(Empty::new()).unwrap()).await
}

async fn ask(address: std::net::SocketAddr, path: &str) -> String {
    let answer = send(&mut connect(address).await, path).await.unwrap();
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn an_idle_connection_gives_way_in_a_full_house_and_a_watch_does_not() {
    let (api, stop) = (api(Settings::default()), CancellationToken::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door { what: "the door", transport: Transport::Plain, connections: 3 };
    let served = tokio::spawn(kubeapi::serve(api.clone(), listener, door, stop.clone()));
    let mut watching = connect(address).await;
    let maps = "/api/v1/namespaces/n/configmaps";
    let watch = send(&mut watching, &format!("{maps}?watch=true&resourceVersion=0")).await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut one = connect(address).await;
        let answer = send(&mut one, maps).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key("content-length")), (200, true));
        answer.into_body().collect().await.unwrap();
        idle.push(one);
    }
    // More than there are places, one after the other.
    for _ in 0..6 {
        assert_eq!(ask(address, "/door").await, "the door");
        let mut newcomer = connect(address).await;
        assert_eq!(send(&mut newcomer, maps).await.unwrap().status(), 200);
        idle.push(newcomer);
    }
    assert!(send(&mut idle[0], maps).await.is_err(), "the longest idle one is closed");
    let last = idle.last_mut().unwrap();
    assert_eq!(send(last, maps).await.unwrap().status(), 200);
    assert!(!watching.is_closed());
    drop(watch);
    stop.cancel();
    served.await.unwrap();
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
