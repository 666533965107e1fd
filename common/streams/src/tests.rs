use std::time::Duration;

use native::frames::stream_frame::What;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Both ends of a session; each stream is connected to a pipe whose other end is given back.
struct Ends {
    cloud: Mux,
    edge: Mux,
    connected: mpsc::Receiver<DuplexStream>,
    connect: mpsc::Sender<DuplexStream>,
}

impl Ends {
    fn new() -> Ends {
        let (connect, connected) = mpsc::channel(8);
        Ends { cloud: Mux::at(End::Cloud), edge: Mux::at(End::Edge), connected, connect }
    }

    fn at_edge(&mut self, frame: StreamFrame) {
        let connect = self.connect.clone();
        let connection = move || async move {
            let (near, far) = tokio::io::duplex(1024);
            connect.send(near).await.map_err(io::Error::other)?;
            Ok(far)
        };
        if let Some(answer) = self.edge.take_in_and_connect(frame, connection).unwrap() {
            self.cloud.take_in(answer).unwrap();
        }
    }

    async fn open(&mut self) -> (DuplexStream, DuplexStream) {
        let (cloud, frame) = self.cloud.open().unwrap();
        self.at_edge(frame);
        (cloud, self.connected.recv().await.unwrap())
    }

    /// Carries frames both ways while `work` runs.
    async fn carry<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                frame = self.cloud.next() => self.at_edge(frame),
                frame = self.edge.next() => self.cloud.take_in(frame).unwrap(),
            }
        }
    }

    /// Until nothing moves: the clock stands still while anything does.
    async fn settle(&mut self) {
        self.carry(tokio::time::sleep(Duration::from_millis(20))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_go_both_ways_and_each_way_ends_by_itself() {
    let mut ends = Ends::new();
    let (mut cloud, mut edge) = ends.open().await;
    let sent: Vec<u8> = (0..3 * WINDOW).map(|byte| byte as u8).collect();
    let work = async {
        let write = async {
            cloud.write_all(&sent).await.unwrap();
            cloud.shutdown().await.unwrap();
            let mut answer = String::new();
            cloud.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let read = async {
            let mut all = Vec::new();
            edge.read_to_end(&mut all).await.unwrap();
            edge.write_all(b"thank you").await.unwrap();
            edge.shutdown().await.unwrap();
            all
        };
        tokio::join!(write, read)
    };
    let (answer, all) = ends.carry(work).await;
    assert!(all == sent && answer == "thank you");
    ends.settle().await;
    assert_eq!((ends.cloud.count(), ends.edge.count()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_holds_up_no_other_and_costs_a_window() {
    let mut ends = Ends::new();
    let (_unread, mut flood) = ends.open().await;
    let (mut cloud, mut edge) = ends.open().await;
    let flooding = tokio::spawn(async move {
        let mut written = 0;
        let mut state = 1u64;
        // Bytes that do not get smaller.
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        };
        while flood.write_all(&[(); 1024].map(|()| noise())).await.is_ok() {
            written += 1024;
            assert!(written < 2 * WINDOW, "more than anybody takes");
        }
    });
    ends.settle().await;
    let work = async {
        edge.write_all(b"quick").await.unwrap();
        let mut read = [0; 5];
        cloud.read_exact(&mut read).await.unwrap();
        read
    };
    assert_eq!(&ends.carry(work).await, b"quick");
    assert!(!flooding.is_finished());
    flooding.abort();
}

#[tokio::test(start_paused = true)]
async fn who_leaves_ends_the_stream_at_the_other_end() {
    let mut ends = Ends::new();
    let (cloud, mut edge) = ends.open().await;
    drop(cloud);
    let work = async {
        let mut rest = Vec::new();
        edge.read_to_end(&mut rest).await.unwrap();
        // What is written to one who has gone is lost, and the writer hears of it.
        while edge.write_all(&[0; 1024]).await.is_ok() {}
    };
    ends.carry(work).await;
    ends.settle().await;
    assert_eq!((ends.cloud.count(), ends.edge.count()), (0, 0));
}

#[tokio::test]
async fn a_stream_that_cannot_be_connected_ends_with_the_reason() {
    let mut ends = Ends::new();
    let (mut cloud, frame) = ends.cloud.open().unwrap();
    let refused = || async { Err::<DuplexStream, _>(io::Error::other("nobody listens")) };
    let credit = ends.edge.take_in_and_connect(frame, refused).unwrap().unwrap();
    ends.cloud.take_in(credit).unwrap();
    let reset = ends.edge.next().await;
    assert!(matches!(&reset.what, Some(What::Reset(why)) if why == "nobody listens"), "{reset:?}");
    ends.cloud.take_in(reset).unwrap();
    let mut rest = Vec::new();
    assert_eq!(cloud.read_to_end(&mut rest).await.unwrap(), 0);
}

#[tokio::test]
async fn the_end_of_the_session_ends_its_streams() {
    let mut ends = Ends::new();
    let (mut cloud, mut edge) = ends.open().await;
    drop(ends);
    let mut rest = Vec::new();
    assert_eq!(cloud.read_to_end(&mut rest).await.unwrap(), 0);
    assert_eq!(edge.read_to_end(&mut rest).await.unwrap(), 0);
}

#[tokio::test]
async fn what_no_end_may_send_is_noticed() {
    let frame = |id, what| StreamFrame { id, what: Some(what) };
    let mut ends = Ends::new();
    let (_cloud, _edge) = ends.open().await;
    assert_eq!(ends.cloud.take_in(frame(9, What::Open(1))), Err(Violation::WrongWay));
    assert_eq!(ends.cloud.take_in(StreamFrame { id: 1, what: None }), Err(Violation::Empty));
    assert_eq!(ends.cloud.take_in(frame(1, What::Credit(u64::MAX))), Err(Violation::Credit));
    assert_eq!(ends.cloud.take_in(frame(7, What::Data(vec![0; 10]))), Ok(()), "it may have ended here");
    let connect = || async { Ok(tokio::io::duplex(1).0) };
    assert_eq!(ends.edge.take_in_and_connect(frame(1, What::Open(1)), connect), Err(Violation::Twice));
    let flood = (0..).map(|_| ends.cloud.take_in(frame(1, What::Data(vec![0; CHUNK]))));
    assert_eq!(flood.take(WINDOW / CHUNK + 1).find(Result::is_err), Some(Err(Violation::Flood)));
    let (_cloud, _edge) = ends.open().await;
    let mut say = |what| ends.cloud.take_in(frame(2, what));
    assert_eq!(say(What::End(true)), Ok(()));
    assert_eq!(say(What::End(true)), Err(Violation::AfterEnd), "it would wait for its reader uncounted");
    assert_eq!(say(What::Data(Vec::new())), Err(Violation::AfterEnd));
    assert_eq!(say(What::Reset(String::new())), Ok(()));
    assert_eq!(say(What::Reset(String::new())), Err(Violation::AfterEnd));
}

#[tokio::test]
async fn more_streams_than_there_may_be_are_refused_one_by_one() {
    let mut mux = Mux::at(End::Cloud);
    let mut kept = Vec::new();
    while let Some(opened) = mux.open() {
        kept.push(opened);
    }
    assert_eq!(kept.len(), STREAMS);
    let mut edge = Mux::at(End::Edge);
    let connect = || async { Ok(tokio::io::duplex(1).0) };
    for id in 1..=STREAMS as u64 {
        let frame = StreamFrame { id, what: Some(What::Open(1)) };
        assert!(edge.take_in_and_connect(frame, connect).unwrap().is_some());
    }
    let frame = StreamFrame { id: 1000, what: Some(What::Open(1)) };
    let refusal = edge.take_in_and_connect(frame, connect).unwrap().unwrap();
    assert!(matches!(refusal.what, Some(What::Reset(_))));
}

#[tokio::test(start_paused = true)]
async fn an_edge_opens_streams_beside_those_of_the_cloud() {
    let mut ends = Ends::new();
    let (mut to_node, mut at_node) = ends.open().await;
    let (mut to_cloud, frame) = ends.edge.open().unwrap();
    let (mut at_cloud, far) = tokio::io::duplex(1024);
    let answer = ends.cloud.take_in_and_connect(frame, || async { Ok(far) }).unwrap().unwrap();
    ends.edge.take_in(answer).unwrap();
    let talk = async {
        to_cloud.write_all(b"what may I read?").await.unwrap();
        to_cloud.shutdown().await.unwrap();
        let mut asked = String::new();
        at_cloud.read_to_string(&mut asked).await.unwrap();
        at_cloud.write_all(b"this").await.unwrap();
        drop(at_cloud);
        let mut answer = String::new();
        to_cloud.read_to_string(&mut answer).await.unwrap();
        to_node.write_all(b"logs?").await.unwrap();
        let mut other = [0; 5];
        at_node.read_exact(&mut other).await.unwrap();
        (asked, answer, other)
    };
    let (asked, answer, other) = ends.carry(talk).await;
    assert_eq!((asked.as_str(), answer.as_str(), &other), ("what may I read?", "this", b"logs?"));
}

#[tokio::test]
async fn each_end_opens_streams_of_its_own_and_no_more_than_it_may() {
    let connect = || async { Ok(tokio::io::duplex(1).0) };
    let (mut cloud, mut edge) = (Mux::at(End::Cloud), Mux::at(End::Edge));
    let mut kept = Vec::new();
    while let Some((pipe, frame)) = edge.open() {
        assert!(cloud.take_in_and_connect(frame, connect).unwrap().is_some());
        kept.push(pipe);
    }
    assert_eq!(kept.len(), STREAMS_OF_EDGE);
    assert!(cloud.open().is_some(), "the cloud's streams are counted apart");
    let frame = |id| StreamFrame { id, what: Some(What::Open(1)) };
    let refusal = cloud.take_in_and_connect(frame(OF_EDGE | 1000), connect).unwrap().unwrap();
    assert!(matches!(refusal.what, Some(What::Reset(_))));
    assert_eq!(cloud.take_in_and_connect(frame(7), connect), Err(Violation::WrongWay));
    assert_eq!(edge.take_in_and_connect(frame(OF_EDGE | 7), connect), Err(Violation::WrongWay));
}
