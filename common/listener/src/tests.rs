//! The loop with clients that say nothing, too little, or do not end.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::*;

const SOON: Duration = Duration::from_secs(20);

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("nothing happened")
}

fn terms(places: usize) -> Terms {
    let first_byte = Duration::from_secs(3600);
    Terms { what: "the test's port", places, first_byte, drain: Duration::from_millis(200) }
}

struct Running {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// Answers each byte `x` with the same, which settles the client; `hang` makes it deaf.
async fn echo(terms: Terms) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let answer = |mut client: Client<TcpListener>| async move {
        let mut said = [0; 1];
        while client.stream.read_exact(&mut said).await.is_ok() {
            match said {
                [b'x'] => client.place.settle(),
                [b'h'] => std::future::pending().await,
                _ => continue,
            }
            if client.stream.write_all(&said).await.is_err() {
                return;
            }
        }
    };
    let task = tokio::spawn(serve(listener, terms, stop.clone(), answer));
    Running { address, stop, task }
}

async fn ask(address: std::net::SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    soon(client.write_all(b"x")).await.unwrap();
    assert_eq!(soon(client.read_u8()).await.unwrap(), b'x');
    client
}

#[tokio::test]
async fn silence_locks_out_nobody_and_holds_no_stop() {
    let server = echo(terms(8)).await;
    let served = ask(server.address).await;
    let mut silent = Vec::new();
    for number in 0..100 {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        if number % 2 == 0 {
            client.write_all(b"-").await.unwrap();
        }
        silent.push(client);
    }
    let newcomer = ask(server.address).await;
    let mut deaf = TcpStream::connect(server.address).await.unwrap();
    deaf.write_all(b"xh").await.unwrap();
    assert_eq!(soon(deaf.read_u8()).await.unwrap(), b'x');
    server.stop.cancel();
    soon(server.task).await.unwrap();
    drop((served, newcomer, silent));
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed_at_its_deadline() {
    let server = echo(Terms { first_byte: Duration::from_millis(50), ..terms(8) }).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(soon(silent.read(&mut [0])).await.unwrap(), 0, "closed");
}

#[tokio::test]
async fn a_client_that_left_is_served_no_longer() {
    let server = echo(terms(1)).await;
    for _ in 0..3 {
        drop(TcpStream::connect(server.address).await.unwrap());
        drop(ask(server.address).await);
    }
    server.stop.cancel();
    soon(server.task).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failed_accept_is_followed_by_a_rest() {
    struct Empty(std::sync::atomic::AtomicU32, UnixListener);
    impl Listen for Empty {
        type Stream = UnixStream;
        type Peer = ();
        async fn accept(&self) -> std::io::Result<(UnixStream, ())> {
            if self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 50 {
                return Err(std::io::Error::from_raw_os_error(24));
            }
            Listen::accept(&self.1).await
        }
    }
    let path = std::env::temp_dir().join(format!("listener-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = Empty(Default::default(), UnixListener::bind(&path).unwrap());
    let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let began = tokio::time::Instant::now();
    next(&listener, "the test's socket").await;
    assert!(began.elapsed() >= Duration::from_secs(5), "{:?} for fifty failures", began.elapsed());
    std::fs::remove_file(&path).unwrap();
}
