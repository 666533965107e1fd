//! An HTTP proxy that takes CONNECT and nothing else, and remembers where it was asked to.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use crate::relay::pump;

pub struct ConnectProxy {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    pub fn start() -> Result<ConnectProxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("binding the proxy")?;
        let address = listener.local_addr()?;
        let (ended, asked) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<String>>>::default());
        let (end, note) = (ended.clone(), asked.clone());
        thread::spawn(move || {
            for near in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(near) = near {
                    let note = note.clone();
                    thread::spawn(move || serve(near, &note));
                }
            }
        });
        Ok(ConnectProxy { address, ended, asked })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The `host:port` of each connection so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the accepting thread so that it sees the end.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(near: TcpStream, asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(near.try_clone().ok()?);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let target = first.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    let mut line = first;
    while line.trim_end() != "" {
        line.clear();
        reader.read_line(&mut line).ok()?;
    }
    let far = TcpStream::connect(&target).ok()?;
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(target);
    let mut near = near;
    near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (near_copy, far_copy) = (near.try_clone().ok()?, far.try_clone().ok()?);
    thread::spawn(move || pump(far_copy, near_copy));
    pump(near, far);
    Some(())
}
