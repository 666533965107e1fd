//! Both ends joined, with a Node API of a few lines behind the edge's.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::*;

struct Ends {
    cloud: CloudEnd,
    edge: EdgeEnd,
    connected: mpsc::Receiver<DuplexStream>,
    connect: mpsc::Sender<DuplexStream>,
}

impl Ends {
    fn new() -> Ends {
        let (connect, connected) = mpsc::channel(8);
        Ends { cloud: CloudEnd::default(), edge: EdgeEnd::default(), connected, connect }
    }

    fn at_edge(&mut self, frame: Frame) {
        let connect = self.connect.clone();
        let connection = move || async move {
            let (near, far) = tokio::io::duplex(64 * 1024);
            connect.send(near).await.map_err(io::Error::other)?;
            Ok(far)
        };
        // As on the wire.
        let frame = Frame::decode(frame.encode().into()).unwrap();
        if let Some(answer) = self.edge.take_in(frame, connection).unwrap() {
            self.at_cloud(answer);
        }
    }

    fn at_cloud(&mut self, frame: Frame) {
        if let Some(answer) = self.cloud.take_in(frame) {
            self.at_edge(answer);
        }
    }

    /// Carries messages both ways while `work` runs.
    async fn carry<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                frame = self.cloud.next() => self.at_edge(frame),
                frame = self.edge.next() => self.at_cloud(frame),
            }
        }
    }

    async fn settle(&mut self) {
        self.carry(tokio::time::sleep(Duration::from_millis(20))).await;
    }

    /// The Node API's end of the next connection.
    async fn connection(&mut self) -> DuplexStream {
        let (_, idle) = mpsc::channel(8);
        let mut connected = std::mem::replace(&mut self.connected, idle);
        let connection = self.carry(connected.recv()).await.unwrap();
        self.connected = connected;
        connection
    }
}

async fn head(from: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(from.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn all(from: &mut DuplexStream) -> String {
    let mut all = Vec::new();
    from.read_to_end(&mut all).await.unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test(start_paused = true)]
async fn logs_are_answered_to_their_end() {
    let mut ends = Ends::new();
    let mut client = ends.cloud.open().unwrap();
    client.write_all(b"GET /containerLogs/d/p/c?follow=true HTTP/1.1\r\nHost: n\r\n\r\n").await.unwrap();
    let mut api = ends.connection().await;
    let talk = async {
        let asked = head(&mut api).await;
        assert!(asked.starts_with("GET /containerLogs/d/p/c?follow=true HTTP/1.1\r\n"), "{asked}");
        api.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n").await.unwrap();
        api.write_all(b"4\r\ntwo\n\r\n0\r\n\r\n").await.unwrap();
        all(&mut client).await
    };
    let answer = ends.carry(talk).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\none\ntwo\n"), "{answer}");
    ends.settle().await;
    assert_eq!((ends.cloud.count(), ends.edge.count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_follows_logs_and_leaves_ends_them_at_the_edge() {
    let mut ends = Ends::new();
    let mut client = ends.cloud.open().unwrap();
    client.write_all(b"GET /containerLogs/d/p/c HTTP/1.1\r\nHost: n\r\n\r\n").await.unwrap();
    let mut api = ends.connection().await;
    let begin = async {
        head(&mut api).await;
        api.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n").await.unwrap();
        while !head(&mut client).await.is_empty() && client.read_u8().await.unwrap() != b'o' {}
    };
    ends.carry(begin).await;
    drop(client);
    assert_eq!(ends.carry(all(&mut api)).await, "");
    ends.settle().await;
    assert_eq!((ends.cloud.count(), ends.edge.count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_goes_byte_by_byte() {
    let mut ends = Ends::new();
    let mut client = ends.cloud.open().unwrap();
    let asked = b"POST /exec/d/p/c?command=ls HTTP/1.1\r\nHost: n\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\nearly";
    client.write_all(asked).await.unwrap();
    let mut api = ends.connection().await;
    let talk = async {
        let asked = head(&mut api).await;
        assert!(asked.starts_with("POST /exec/d/p/c?command=ls HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("upgrade: SPDY/3.1\r\n") && asked.contains("host: node\r\n"), "{asked}");
        let mut early = [0; 5];
        api.read_exact(&mut early).await.unwrap();
        assert_eq!(&early, b"early");
        api.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n\xff\x00bytes").await.unwrap();
        drop(api);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        answer
    };
    assert_eq!(ends.carry(talk).await, b"HTTP/1.1 101 Switching Protocols\r\n\r\n\xff\x00bytes");
    ends.settle().await;
    assert_eq!((ends.cloud.count(), ends.edge.count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn requests_to_ports_keep_their_bodies_and_their_answers_keep_status_and_headers() {
    let mut ends = Ends::new();
    for path in ["/ports/9100/a?b=c", "/podPorts/d/p/https:443/", "/ports/1/exec/d/p/c"] {
        let mut client = ends.cloud.open().unwrap();
        let request = format!("PUT {path} HTTP/1.1\r\nHost: n\r\nContent-Length: 4\r\n\r\nbody");
        client.write_all(request.as_bytes()).await.unwrap();
        let mut api = ends.connection().await;
        let answered = "HTTP/1.1 404 Not Found\r\nX-Own: 1\r\nContent-Length: 4\r\n\r\nnone";
        let talk = async {
            let asked = head(&mut api).await;
            assert!(asked.starts_with(&format!("PUT {path} HTTP/1.1\r\n")), "{asked}");
            assert!(asked.contains("content-length: 4\r\n"), "{asked}");
            let mut body = [0; 4];
            api.read_exact(&mut body).await.unwrap();
            assert_eq!(&body, b"body");
            api.write_all(answered.as_bytes()).await.unwrap();
            drop(api);
            all(&mut client).await
        };
        assert_eq!(ends.carry(talk).await, answered);
    }
    ends.settle().await;
    assert_eq!((ends.cloud.count(), ends.edge.count()), (0, 0));
}

#[tokio::test]
async fn what_the_tunnel_does_not_carry_is_refused() {
    let mut ends = Ends::new();
    for (asked, status) in [
        (
            "POST /portForward/d/p HTTP/1.1\r\nHost: n\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
            "501",
        ),
        ("POST /podTcp/d/p/80 HTTP/1.1\r\nHost: n\r\n\r\n", "501"),
        ("POST /exec/d/p/c HTTP/1.1\r\nHost: n\r\n\r\n", "501"),
        ("no request\r\n\r\n", "400"),
    ] {
        let mut client = ends.cloud.open().unwrap();
        client.write_all(asked.as_bytes()).await.unwrap();
        let answer = ends.carry(all(&mut client)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{asked}: {answer}");
    }
}

#[tokio::test]
async fn a_connection_nobody_reads_is_lost_and_no_other() {
    let mut ends = Ends::new();
    let mut stuck = ends.cloud.open().unwrap();
    stuck.write_all(b"GET /metrics HTTP/1.1\r\nHost: n\r\n\r\n").await.unwrap();
    let _api = ends.connection().await;
    let mut lost = None;
    for _ in 0..2 * QUEUE / CHUNK {
        lost = lost.or(ends.cloud.take_in(Frame::new(1, Kind::Data, vec![1; CHUNK])));
    }
    assert_eq!(lost, Some(Frame::new(1, Kind::Remove, Bytes::new())));
    assert_eq!(ends.cloud.count(), 0);
    let _stuck = ends.cloud.open().unwrap();
    let empty = || Frame::new(2, Kind::Data, Bytes::new());
    let lost = (0..QUEUE).find_map(|_| ends.cloud.take_in(empty()));
    assert_eq!(lost, Some(Frame::new(2, Kind::Remove, Bytes::new())), "empty messages take space as well");
    assert!(ends.cloud.open().is_some());
}

#[tokio::test]
async fn a_cloud_that_ends_the_tunnel_or_asks_for_nonsense_is_heard() {
    let mut edge = EdgeEnd::default();
    let connect = || async { Ok(tokio::io::duplex(1).0) };
    let nonsense = Frame::new(3, Kind::Exec, &b"{}"[..]);
    assert_eq!(edge.take_in(nonsense, connect).unwrap(), Some(Frame::new(3, Kind::Remove, Bytes::new())));
    let close = Frame::new(0, Kind::Close, &b"port taken"[..]);
    let end = edge.take_in(close, connect).unwrap_err();
    assert_eq!(end.to_string(), "the cloud ended the tunnel: port taken");
}

struct Wants(tokio::sync::oneshot::Sender<Option<DuplexStream>>);

impl Asked for Wants {
    fn answer(self, pipe: Option<DuplexStream>) {
        let _ = self.0.send(pipe);
    }
}

#[tokio::test]
async fn both_ends_carry_bytes_that_are_no_text_over_a_websocket() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let stop = tokio_util::sync::CancellationToken::new();
    let (connect, mut connected) = mpsc::channel(8);
    let connection = move || {
        let connect = connect.clone();
        async move {
            let (near, far) = tokio::io::duplex(64 * 1024);
            connect.send(near).await.map_err(io::Error::other)?;
            Ok(far)
        }
    };
    let edge = tokio::spawn(run_edge(far, connection, stop.clone()));
    let (ask, asks) = mpsc::channel(8);
    let asks = std::sync::Arc::new(tokio::sync::Mutex::new(asks));
    let next = move || {
        let asks = asks.clone();
        async move { asks.lock().await.recv().await.unwrap_or_else(|| unreachable!("the test holds a sender")) }
    };
    let cloud = tokio::spawn(run_cloud(near, next, stop.clone()));
    let (wants, pipe) = tokio::sync::oneshot::channel();
    ask.send(Wants(wants)).await.map_err(|_| "the cloud ended").unwrap();
    let mut client = pipe.await.unwrap().unwrap();
    let asked = b"POST /attach/d/p/c HTTP/1.1\r\nHost: n\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
    client.write_all(asked).await.unwrap();
    let mut api = connected.recv().await.unwrap();
    assert!(head(&mut api).await.starts_with("POST /attach/d/p/c "));
    let bytes: Vec<u8> = (0..300_000).map(|at| (at % 251) as u8).collect();
    let (to_api, from_api) = (bytes.clone(), bytes.clone());
    let there = async {
        client.write_all(&to_api).await.unwrap();
        let mut back = vec![0; from_api.len()];
        client.read_exact(&mut back).await.unwrap();
        back
    };
    let here = async {
        // Both write before either reads: the link has to take both.
        api.write_all(&from_api).await.unwrap();
        let mut read = vec![0; bytes.len()];
        api.read_exact(&mut read).await.unwrap();
        read
    };
    let (back, read) = tokio::join!(there, here);
    assert!(back == bytes && read == bytes);
    stop.cancel();
    assert!(matches!(cloud.await.unwrap(), Over::Stopped));
    edge.await.unwrap();
}
