//! A disk in memory that can break, be slow, and lose what was not synced.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use redb::StorageBackend;

/// Cheap to clone; all clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct Storage(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What survives a crash.
    synced: Vec<u8>,
    /// What the process sees.
    present: Vec<u8>,
    /// The steps since the last sync.
    unsynced: Vec<Step>,
    /// Number of steps that were tried.
    steps: usize,
    /// Number of the first step that fails, as does everything after it.
    broken_from: Option<usize>,
    broken: Broken,
    slowness: Duration,
}

/// What fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Broken {
    #[default]
    Nothing,
    Syncs,
    Everything,
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, Vec<u8>),
    Length(usize),
}

impl Step {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Length(length) => content.resize(*length, 0),
            Self::Write(start, data) => {
                let end = start + data.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*start..end].copy_from_slice(data);
            }
        }
    }
}

impl State {
    /// Counts a step. Fails if it does not happen any more.
    fn step(&mut self) -> io::Result<()> {
        let is_cut = self.broken_from.is_some_and(|from| self.steps >= from);
        self.steps += 1;
        if is_cut || self.broken == Broken::Everything {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left"));
        }
        Ok(())
    }

    fn change(&mut self, step: Step) -> io::Result<()> {
        self.step()?;
        step.apply(&mut self.present);
        self.unsynced.push(step);
        Ok(())
    }
}

impl Storage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn holding(content: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State { synced: content.clone(), present: content, ..State::default() })))
    }

    /// The disk works for this number of steps and then no more.
    pub(super) fn cut_after(&self, steps: usize) {
        let mut state = self.lock();
        state.broken_from = Some(state.steps + steps);
    }

    pub(super) fn steps(&self) -> usize {
        self.lock().steps
    }

    pub fn set_broken(&self, broken: Broken) {
        self.lock().broken = broken;
    }

    /// Each sync takes this long.
    pub(super) fn set_slowness(&self, slowness: Duration) {
        self.lock().slowness = slowness;
    }

    /// The disk after a crash that lost everything since the last sync.
    pub(super) fn after_crash(&self) -> Self {
        Self::holding(self.lock().synced.clone())
    }

    /// The disk after a crash that lost some of the steps since the last sync, in any order. The seed chooses which.
    pub(super) fn after_torn_crash(&self, mut seed: u64) -> Self {
        let state = self.lock();
        let mut content = state.synced.clone();
        for step in &state.unsynced {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if seed >> 63 == 1 {
                step.apply(&mut content);
            }
        }
        Self::holding(content)
    }
}

impl StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().present.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.lock();
        let start = usize::try_from(offset).unwrap();
        let found = state.present.get(start..start + out.len());
        match found {
            Some(found) if state.broken != Broken::Everything => {
                out.copy_from_slice(found);
                Ok(())
            }
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.lock().change(Step::Length(usize::try_from(len).unwrap()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let slowness = self.lock().slowness;
        std::thread::sleep(slowness);
        let mut state = self.lock();
        state.step()?;
        if state.broken == Broken::Syncs {
            return Err(io::Error::other("the sync failed"));
        }
        let State { synced, present, unsynced, .. } = &mut *state;
        synced.clone_from(present);
        unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.lock().change(Step::Write(usize::try_from(offset).unwrap(), data.to_vec()))
    }
}
