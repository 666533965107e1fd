//! A link that can be cut, and slow: relays TCP between an edge and its cloud until told to stop.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::wait;

/// Pieces that a slow link holds each way.
const UNDER_WAY: usize = 1024;

/// Relays connections of its own port to a target.
pub struct Relay {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    target: SocketAddr,
    up: AtomicBool,
    ended: AtomicBool,
    live: Mutex<Vec<TcpStream>>,
    /// Bytes both ways.
    carried: AtomicU64,
    /// Milliseconds each way.
    delay: AtomicU64,
}

impl Relay {
    pub fn start(target: SocketAddr) -> Result<Relay> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("binding the relay")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            target,
            up: AtomicBool::new(true),
            ended: AtomicBool::new(false),
            live: Mutex::new(Vec::new()),
            carried: AtomicU64::new(0),
            delay: AtomicU64::new(0),
        });
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.ended.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(stream) = stream {
                    shared.clone().relay(stream);
                }
            }
        });
        Ok(Relay { address, state })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes every connection and accepts none.
    pub fn cut(&self) {
        self.state.up.store(false, Ordering::SeqCst);
        let mut live = self.state.live.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in live.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Bytes that went through so far, both ways.
    pub fn carried(&self) -> u64 {
        self.state.carried.load(Ordering::Relaxed)
    }

    /// Connections that are made from now on carry everything this much later, each way.
    pub fn delay(&self, delay: Duration) {
        self.state.delay.store(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    pub fn heal(&self) {
        self.state.up.store(true, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the accepting thread so that it sees the end.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn relay(self: Arc<State>, near: TcpStream) {
        if !self.up.load(Ordering::SeqCst) {
            return;
        }
        let Ok(far) = TcpStream::connect(self.target) else { return };
        let copies = (near.try_clone(), far.try_clone());
        let (Ok(near_copy), Ok(far_copy)) = copies else { return };
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.extend([near.try_clone(), far.try_clone()].into_iter().flatten());
        drop(live);
        let (up, down) = (self.clone(), self.clone());
        let delay = Duration::from_millis(self.delay.load(Ordering::SeqCst));
        thread::spawn(move || counted(near, far, &up.carried, delay));
        thread::spawn(move || counted(far_copy, near_copy, &down.carried, delay));
    }
}

/// Copies until either end closes, then closes both.
pub(crate) fn pump(from: TcpStream, to: TcpStream) {
    counted(from, to, &AtomicU64::new(0), Duration::ZERO);
}

fn counted(from: TcpStream, mut to: TcpStream, carried: &AtomicU64, delay: Duration) {
    // Small pieces pass at once, as on a cable: waiting for acknowledgements is for the ends.
    let _ = to.set_nodelay(true);
    if delay.is_zero() {
        pass(&from, carried, |piece| to.write_all(piece).is_ok());
    } else {
        late(&from, &mut to, carried, delay);
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// Gives what is read to `take`, until it says no or there is no more.
fn pass(mut from: &TcpStream, carried: &AtomicU64, mut take: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        carried.fetch_add(count as u64, Ordering::Relaxed);
        if !take(&buffer[..count]) {
            break;
        }
    }
}

fn late(from: &TcpStream, to: &mut TcpStream, carried: &AtomicU64, delay: Duration) {
    let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    thread::scope(|scope| {
        scope.spawn(move || {
            for (due, piece) in receiver {
                wait::pause(due.saturating_duration_since(wait::now()));
                if to.write_all(&piece).is_err() {
                    break;
                }
            }
        });
        pass(from, carried, |piece| sender.send((wait::now() + delay, piece.to_vec())).is_ok());
        drop(sender);
    });
}
