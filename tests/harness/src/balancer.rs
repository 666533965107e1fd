//! A plain TCP balancer: round robin over backends, those that do not answer are passed over.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::relay::pump;

/// Time a backend has to accept.
const CONNECT: Duration = Duration::from_secs(1);

pub struct Balancer {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Balancer {
    pub fn start(backends: Vec<SocketAddr>) -> Result<Balancer> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("binding the balancer")?;
        let address = listener.local_addr()?;
        let ended = Arc::new(AtomicBool::new(false));
        let (end, next) = (ended.clone(), AtomicUsize::new(0));
        thread::spawn(move || {
            for near in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let first = next.fetch_add(1, Ordering::SeqCst);
                if let Ok(near) = near {
                    let backends = backends.clone();
                    thread::spawn(move || serve(near, &backends, first));
                }
            }
        });
        Ok(Balancer { address, ended })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the accepting thread so that it sees the end.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(near: TcpStream, backends: &[SocketAddr], first: usize) {
    let order = (0..backends.len()).map(|at| backends[(first + at) % backends.len()]);
    let Some(far) = order.into_iter().find_map(|to| TcpStream::connect_timeout(&to, CONNECT).ok()) else {
        return;
    };
    let (Ok(near_copy), Ok(far_copy)) = (near.try_clone(), far.try_clone()) else { return };
    thread::spawn(move || pump(far_copy, near_copy));
    pump(near, far);
}
