//! Free ports.

use std::fs::File;
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, bail};

/// Below the range from which systems choose ports for outgoing connections, so that no such connection takes a port between this
/// check and the server's start.
const FIRST: u16 = 18_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// One locked file for each port that this process has handed out. A port stays reserved while its server is down between two
/// starts, also for test processes that run at the same time. The locks end with the process, however it ends.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A free port of 127.0.0.1 that no running test process has handed out.
///
/// # Errors
///
/// When every port of the range is taken, or no file in the folder for temporary files can be locked.
pub fn free_port() -> Result<u16> {
    // Test processes that run at the same time begin at different ports.
    let offset = u16::try_from(std::process::id().wrapping_mul(613) % u32::from(COUNT))?;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + (offset + step % COUNT) % COUNT;
        if hold(port)? && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}

/// Reserves the port for this process; false if another process has it.
fn hold(port: u16) -> Result<bool> {
    let folder = std::env::temp_dir().join("forgebind-test-ports");
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let file = File::options().create(true).truncate(false).write(true).open(folder.join(port.to_string()))?;
    let held = file.try_lock().is_ok();
    if held {
        HELD.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(file);
    }
    Ok(held)
}
