//! The writer: one thread that commits what arrived during the last commit, and tries a broken disk again.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::contents::{Batch, Contents};
use super::disk::Disk;

/// How long the writer waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Longest time until states and removals are written when no record takes them along.
    pub(super) changes: Duration,
    /// Time between attempts at a broken disk.
    pub(super) retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { changes: Duration::from_secs(1), retry: Duration::from_secs(5) }
    }
}

/// The contents, and what wakes the writer.
#[derive(Debug)]
pub(super) struct Shared {
    contents: Mutex<Contents>,
    changed: Condvar,
}

impl Shared {
    pub(super) const fn new(contents: Contents) -> Self {
        Self { contents: Mutex::new(contents), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake(&self) {
        self.changed.notify_all();
    }

    /// Changes the contents, and wakes the writer if it has nothing to write yet. Otherwise it waits for more already.
    pub(super) fn change(&self, change: impl FnOnce(&mut Contents)) {
        let mut contents = self.lock();
        let had_changes = contents.waiting.has_changes();
        change(&mut contents);
        if !had_changes && contents.waiting.has_changes() {
            self.wake();
        }
    }

    fn wait<'a>(&self, contents: MutexGuard<'a, Contents>, longest: Option<Duration>) -> MutexGuard<'a, Contents> {
        match longest {
            None => self.changed.wait(contents).unwrap_or_else(PoisonError::into_inner),
            Some(longest) => self.changed.wait_timeout(contents, longest).unwrap_or_else(PoisonError::into_inner).0,
        }
    }
}

/// The writer's thread.
pub(super) struct Writer {
    thread: JoinHandle<()>,
}

impl Writer {
    /// # Errors
    /// The system has no thread for it.
    pub(super) fn start(shared: Arc<Shared>, disk: Arc<Disk>, timing: Timing) -> io::Result<Self> {
        let thread = thread::Builder::new().name("outbox".to_owned()).spawn(move || run(&shared, &disk, timing))?;
        Ok(Self { thread })
    }

    /// Waits until the thread has ended.
    pub(super) fn join(self) {
        let _ = self.thread.join();
    }
}

fn run(shared: &Shared, disk: &Disk, timing: Timing) {
    loop {
        let (batch, is_last) = next_batch(shared, timing.changes);
        if batch.is_urgent() || batch.has_changes() {
            let result = disk.write(&batch, None);
            let mut contents = shared.lock();
            match result {
                Ok(()) => contents.written(batch),
                Err(error) => {
                    tracing::error!(%error, "the outbox cannot be written; deliveries are kept in memory and lost at a restart");
                    contents.not_written(batch, error.to_string());
                }
            }
        }
        if !shared.lock().writes_to_disk() && !recover(shared, disk, timing.retry) {
            break;
        }
        if is_last {
            break;
        }
    }
    disk.close();
}

/// Waits for something to write. Returns true if it is the last batch.
fn next_batch(shared: &Shared, longest: Duration) -> (Batch, bool) {
    let mut contents = shared.lock();
    let mut deadline = None;
    while !contents.closing && !contents.waiting.is_urgent() {
        let left = contents.waiting.has_changes().then(|| {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + longest);
            deadline.saturating_duration_since(Instant::now())
        });
        if left == Some(Duration::ZERO) {
            break;
        }
        contents = shared.wait(contents, left);
    }
    (contents.take_waiting(), contents.closing)
}

/// Tries the broken disk now and then, until it takes everything that is in memory. Returns false if the outbox was closed before.
fn recover(shared: &Shared, disk: &Disk, pause: Duration) -> bool {
    loop {
        let is_last = !wait_for_retry(shared, pause);
        if disk.reopen().is_ok() {
            let (batch, known) = {
                let mut contents = shared.lock();
                contents.move_memory_to_disk();
                (contents.take_waiting(), contents.shares.sequences().collect())
            };
            let result = disk.write(&batch, Some(&known));
            let mut contents = shared.lock();
            match result {
                Ok(()) => {
                    contents.written(batch);
                    contents.disk_error = None;
                    // What arrived meanwhile is in memory as well.
                    contents.move_memory_to_disk();
                    tracing::info!("the outbox can be written again");
                    return true;
                }
                Err(error) => contents.not_written(batch, error.to_string()),
            }
        }
        if is_last {
            return false;
        }
    }
}

/// Waits until the disk is to be tried again. Returns false if the outbox is closed.
fn wait_for_retry(shared: &Shared, pause: Duration) -> bool {
    let deadline = Instant::now() + pause;
    let mut contents = shared.lock();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if contents.closing || left.is_zero() {
            return !contents.closing;
        }
        contents = shared.wait(contents, Some(left));
    }
}
