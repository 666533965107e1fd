//! A link that can be cut: relays TCP between an edge and its cloud until told to stop.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

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
        thread::spawn(move || counted(near, far, &up.carried));
        thread::spawn(move || counted(far_copy, near_copy, &down.carried));
    }
}

/// Copies until either end closes, then closes both.
pub(crate) fn pump(from: TcpStream, to: TcpStream) {
    counted(from, to, &AtomicU64::new(0));
}

fn counted(mut from: TcpStream, mut to: TcpStream, carried: &AtomicU64) {
    // Small pieces pass at once, as on a cable: waiting for acknowledgements is for the ends.
    let _ = to.set_nodelay(true);
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        carried.fetch_add(count as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
