//! Free ports on loopback.

use std::net::TcpListener;

use anyhow::{Context, Result};

/// A port that was free a moment ago. The kernel hands them out round robin, so two callers get different ones.
pub fn free() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?.port())
}
