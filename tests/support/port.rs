//! Ports that nobody uses.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Below the range from which systems take ports for outgoing connections, so that none of those takes one of ours
/// between this look and the server's start.
const FIRST: u16 = 18_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of 127.0.0.1 that is free now and that this process has not handed out before.
///
/// # Errors
///
/// When every port of the range is taken.
pub fn free_port() -> Result<u16> {
    // Test processes that run at the same time start at different places.
    let offset = u16::try_from(std::process::id().wrapping_mul(613) % u32::from(COUNT))?;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (offset + step % COUNT) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}
