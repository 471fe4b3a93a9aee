//! The file of the outbox: a redb database. Everything here blocks.
//!
//! Every commit is synced. redb keeps commits without a sync in the memory of the process, so they would survive no crash.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::contents::{Batch, Keep, of};
use super::record::{EventState, Record, Sequence};
use crate::text::json;

pub(super) const RECORDS: TableDefinition<Sequence, &[u8]> = TableDefinition::new("records");
/// The pieces of the bodies, in order. Every record has at least one.
pub(super) const BODIES: TableDefinition<(Sequence, u32), &[u8]> = TableDefinition::new("bodies");
/// The states of events that changed after the record was stored, by the positions of the sink and the event.
pub(super) const STATES: TableDefinition<(Sequence, u32, u32), &[u8]> = TableDefinition::new("states");
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The version of these tables and of what is in them.
const FORMAT: u64 = 1;
const FORMAT_KEY: &str = "format";
/// The number of the next record.
const NEXT_KEY: &str = "next";

pub(super) const FILE_NAME: &str = "outbox.redb";
/// redb's cache, for reading and writing together. Bodies are written once and read seldom.
const CACHE: usize = 4 * 1024 * 1024;
/// The largest piece of a body fills a page of 64 KiB. redb's pages are powers of two, and a row needs 20 bytes beside its
/// value: a piece of exactly 64 KiB would occupy 128 KiB.
const LARGEST_PAGE: usize = 64 * 1024;
const SMALLEST_PAGE: usize = 4 * 1024;
const ROW_OVERHEAD: usize = 64;
/// What is reserved for a body before it is read: more than any provider sends.
const LARGEST_RESERVATION: usize = 32 * 1024 * 1024;
/// The number of the last record that is believed. No receiver stores that many, and above it the numbers would begin again.
const LAST_SEQUENCE: Sequence = Sequence::MAX / 2;

/// Why an outbox cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "--outbox-dir: {} is in use by another process; give each receiver a directory of its own, or stop the other process", .0.display()
    )]
    InUse(PathBuf),
    /// The file is not what was stored there.
    #[error(
        "--outbox-dir: {} is damaged or is no outbox ({reason}); move it away to start with an empty outbox. Its deliveries are \
         not sent then", file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another version of Forgebind wrote it.
    #[error(
        "--outbox-dir: {} has the format {found} and this version reads {FORMAT}; start the version that wrote it until it is empty, \
         or move it away. Its deliveries are not sent then", file.display()
    )]
    OtherFormat {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The directory or the file cannot be used.
    #[error("--outbox-dir: {} cannot be used ({reason}); it must be writable, on a disk with free space", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The system has no thread for the writer.
    #[error("the writer of the outbox cannot be started: {0}")]
    NoThread(io::Error),
    /// The process stops.
    #[error("the outbox was not opened because the process stops")]
    Interrupted,
}

/// Why the file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    #[error("{0}")]
    Database(Box<redb::Error>),
    #[error("{0}")]
    Damaged(String),
    #[error("the database panicked, which it does when its file is damaged")]
    Panicked,
    #[error("the file is not open")]
    Closed,
}

impl<E: Into<redb::Error>> From<E> for DiskError {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}

/// Opens the database, again after an error.
pub(super) struct Opener {
    file: PathBuf,
    open: Box<dyn Fn() -> Result<Database, DiskError> + Send + Sync>,
}

impl Opener {
    pub(super) fn new(file: PathBuf, open: impl Fn() -> Result<Database, DiskError> + Send + Sync + 'static) -> Self {
        Self { file, open: Box::new(open) }
    }
}

/// Opens the file of a directory. Creates both if they are missing, for nobody else to read.
pub(super) fn file_opener(directory: PathBuf) -> Opener {
    let file = directory.join(FILE_NAME);
    Opener::new(file.clone(), move || {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        if !file.try_exists()? {
            create(&directory, &file)?;
        }
        open_database(&file)
    })
}

/// Creates an empty database under another name first: redb takes a file that was created in part for a damaged one.
fn create(directory: &Path, file: &Path) -> Result<(), DiskError> {
    let new = file.with_extension("redb.new");
    match open_database(&new) {
        Ok(database) => drop(database),
        Err(DiskError::Database(error)) if matches!(*error, redb::Error::DatabaseAlreadyOpen) => return Err(DiskError::Database(error)),
        // It was created in part, and holds nothing.
        Err(_) => {
            fs::remove_file(&new)?;
            drop(open_database(&new)?);
        }
    }
    fs::rename(&new, file)?;
    // The name of the file must survive a crash as its content does.
    Ok(File::open(directory)?.sync_all()?)
}

fn open_database(file: &Path) -> Result<Database, DiskError> {
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(file)?;
    opened.set_permissions(Permissions::from_mode(0o600))?;
    Ok(builder().create_with_backend(FileBackend::new(opened)?)?)
}

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    // A damaged file is then refused instead of being trusted, and redb does not panic on it later.
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder
}

/// What is stored in a file.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) next: Sequence,
    pub(super) records: Vec<StoredRecord>,
}

/// A record with the length of its body.
#[derive(Debug)]
pub(super) struct StoredRecord {
    pub(super) sequence: Sequence,
    pub(super) record: Record,
    pub(super) body: u64,
}

#[derive(Serialize)]
struct NewRow<'a> {
    body: u64,
    record: &'a Record,
}

#[derive(Deserialize)]
struct Row {
    body: u64,
    record: Record,
}

/// The open file.
pub(super) struct Disk {
    opener: Opener,
    database: Mutex<Option<Arc<Database>>>,
}

impl Disk {
    /// Opens the file and reads all of it but the bodies.
    pub(super) fn open(opener: Opener) -> Result<(Self, Stored), OpenError> {
        let read = guarded(|| {
            let database = (opener.open)()?;
            let format = prepare(&database)?;
            Ok((database, format))
        });
        let (database, format) = read.map_err(|error| open_error(&opener.file, error))?;
        if format != FORMAT {
            return Err(OpenError::OtherFormat { file: opener.file, found: format });
        }
        let stored = guarded(|| read_all(&database)).map_err(|error| open_error(&opener.file, error))?;
        Ok((Self { opener, database: Mutex::new(Some(Arc::new(database))) }, stored))
    }

    /// Opens the file again. redb refuses everything after an error of the disk until that was done.
    pub(super) fn reopen(&self) -> Result<(), DiskError> {
        self.close();
        let database = guarded(|| (self.opener.open)())?;
        *self.lock() = Some(Arc::new(database));
        Ok(())
    }

    pub(super) fn close(&self) {
        let database = self.lock().take();
        // redb writes when it closes.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }

    /// Writes a batch and syncs. With the `known` records, deletes all others: after an error nobody knows what was written.
    pub(super) fn write(&self, batch: &Batch, known: Option<&BTreeSet<Sequence>>) -> Result<(), DiskError> {
        let database = self.database()?;
        guarded(|| {
            let transaction = database.begin_write()?;
            Tables::open(&transaction)?.write(batch, known)?;
            transaction.commit()?;
            Ok(())
        })
    }

    /// The body of a record, which must have this length.
    pub(super) fn body(&self, sequence: Sequence, length: u64) -> Result<Option<Bytes>, DiskError> {
        let database = self.database()?;
        guarded(|| {
            let table = database.begin_read()?.open_table(BODIES)?;
            // The length is only what the file says: memory for a terabyte would end the process.
            let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or_default().min(LARGEST_RESERVATION));
            let mut is_there = false;
            for piece in table.range(pieces_of(sequence))? {
                body.extend_from_slice(piece?.1.value());
                is_there = true;
            }
            if is_there && body.len() as u64 != length {
                return Err(DiskError::Damaged(format!("the body of record {sequence} has {} bytes instead of {length}", body.len())));
            }
            Ok(is_there.then(|| Bytes::from(body)))
        })
    }

    /// A record with the states of its events as far as they are written, and its body.
    pub(super) fn delivery(&self, sequence: Sequence) -> Result<Option<(Record, Bytes)>, DiskError> {
        let database = self.database()?;
        let row = guarded(|| {
            let transaction = database.begin_read()?;
            let Some(row) = transaction.open_table(RECORDS)?.get(sequence)? else { return Ok(None) };
            let Row { body, mut record } = parse(row.value())?;
            for state in transaction.open_table(STATES)?.range(of(sequence))? {
                let (key, value) = state?;
                let (_, sink, event) = key.value();
                record.set(sink, event, parse(value.value())?);
            }
            Ok(Some((record, body)))
        })?;
        let Some((record, length)) = row else { return Ok(None) };
        Ok(self.body(sequence, length)?.map(|body| (record, body)))
    }

    fn database(&self) -> Result<Arc<Database>, DiskError> {
        self.lock().clone().ok_or(DiskError::Closed)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Database>>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tables in a transaction that writes.
struct Tables<'a> {
    records: Table<'a, Sequence, &'static [u8]>,
    bodies: Table<'a, (Sequence, u32), &'static [u8]>,
    states: Table<'a, (Sequence, u32, u32), &'static [u8]>,
    meta: Table<'a, &'static str, u64>,
}

impl<'a> Tables<'a> {
    fn open(transaction: &'a WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            records: transaction.open_table(RECORDS)?,
            bodies: transaction.open_table(BODIES)?,
            states: transaction.open_table(STATES)?,
            meta: transaction.open_table(META)?,
        })
    }

    fn write(mut self, batch: &Batch, known: Option<&BTreeSet<Sequence>>) -> Result<(), DiskError> {
        for keep in batch.keeps.iter().filter(|keep| !batch.removals.contains(&keep.sequence)) {
            self.insert(keep)?;
        }
        if let Some(last) = batch.keeps.iter().map(|keep| keep.sequence).max() {
            let next = self.meta.get(NEXT_KEY)?.map_or(0, |next| next.value());
            self.meta.insert(NEXT_KEY, next.max(last + 1))?;
        }
        for (key, state) in &batch.notes {
            self.states.insert(key, bytes_of(state)?.as_slice())?;
        }
        for sequence in &batch.removals {
            self.remove(*sequence)?;
        }
        if let Some(known) = known {
            let stored = self.records.iter()?.map(|row| row.map(|(sequence, _)| sequence.value())).collect::<Result<Vec<_>, _>>()?;
            for sequence in stored.into_iter().filter(|sequence| !known.contains(sequence)) {
                self.remove(sequence)?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, keep: &Keep) -> Result<(), DiskError> {
        if keep.answer.is_none() {
            // A transaction that seemed to fail may have stored the record before, with states that are older than these.
            self.states.retain_in(of(keep.sequence), |_, _| false)?;
        }
        let row = bytes_of(&NewRow { body: keep.body.len() as u64, record: &keep.record })?;
        self.records.insert(keep.sequence, row.as_slice())?;
        for (number, piece) in (0..).zip(pieces(&keep.body)) {
            self.bodies.insert((keep.sequence, number), piece)?;
        }
        Ok(())
    }

    fn remove(&mut self, sequence: Sequence) -> Result<(), DiskError> {
        self.records.remove(sequence)?;
        self.bodies.retain_in(pieces_of(sequence), |_, _| false)?;
        self.states.retain_in(of(sequence), |_, _| false)?;
        Ok(())
    }
}

/// Creates the tables in a new file. Returns the format of the file.
fn prepare(database: &Database) -> Result<u64, DiskError> {
    let transaction = database.begin_write()?;
    let Tables { mut meta, records, bodies, states } = Tables::open(&transaction)?;
    let format = meta.get(FORMAT_KEY)?.map(|format| format.value());
    if format.is_none() {
        meta.insert(FORMAT_KEY, FORMAT)?;
    }
    drop((meta, records, bodies, states));
    transaction.commit()?;
    Ok(format.unwrap_or(FORMAT))
}

fn read_all(database: &Database) -> Result<Stored, DiskError> {
    let transaction = database.begin_read()?;
    let mut records = Vec::new();
    for row in transaction.open_table(RECORDS)?.iter()? {
        let (sequence, row) = row?;
        let Row { body, record } = parse(row.value())?;
        records.push(StoredRecord { sequence: sequence.value(), record, body });
    }
    for state in transaction.open_table(STATES)?.iter()? {
        let (key, value) = state?;
        let (sequence, sink, event) = key.value();
        let place = records.binary_search_by_key(&sequence, |stored| stored.sequence).ok();
        if let Some(stored) = place.and_then(|place| records.get_mut(place)) {
            stored.record.set(sink, event, parse::<EventState>(value.value())?);
        }
    }
    let stored = transaction.open_table(META)?.get(NEXT_KEY)?.map_or(1, |next| next.value());
    // What a lost record left behind must not become part of a new one.
    let last_state = transaction.open_table(STATES)?.last()?.map(|(key, _)| key.value().0);
    let last_piece = transaction.open_table(BODIES)?.last()?.map(|(key, _)| key.value().0);
    let last = records.last().map(|last| last.sequence).max(last_state).max(last_piece);
    let next = last.map_or(stored, |last| stored.max(last.saturating_add(1)));
    if next > LAST_SEQUENCE {
        return Err(DiskError::Damaged(format!("the number of the next record is {next}")));
    }
    Ok(Stored { next, records })
}

/// redb may panic on a damaged file in spite of its checks.
fn guarded<T>(work: impl FnOnce() -> Result<T, DiskError>) -> Result<T, DiskError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(DiskError::Panicked))
}

fn open_error(file: &Path, error: DiskError) -> OpenError {
    let file = file.to_owned();
    let reason = error.to_string();
    match error {
        DiskError::Database(error) => match *error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => OpenError::InUse(file),
            redb::Error::Io(error) if !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                OpenError::Unusable { file, reason }
            }
            redb::Error::PreviousIo => OpenError::Unusable { file, reason },
            _ => OpenError::Damaged { file, reason },
        },
        DiskError::Damaged(_) | DiskError::Panicked | DiskError::Closed => OpenError::Damaged { file, reason },
    }
}

fn bytes_of(value: &impl Serialize) -> Result<Vec<u8>, DiskError> {
    serde_json::to_vec(value).map_err(|error| DiskError::Damaged(format!("a row cannot be written: {error}")))
}

fn parse<T: for<'a> Deserialize<'a>>(row: &[u8]) -> Result<T, DiskError> {
    json::read(row).map_err(|error| DiskError::Damaged(format!("a row cannot be read: {error}")))
}

/// Cuts a body into pieces that fill pages: as many of the largest as there are, and then one of each smaller size that fits.
/// What remains shares a page with others. A single piece would occupy up to twice its length.
pub(super) fn pieces(body: &[u8]) -> Vec<&[u8]> {
    let (mut pieces, mut rest, mut page) = (Vec::new(), body, LARGEST_PAGE);
    while page > SMALLEST_PAGE {
        match rest.split_at_checked(page - ROW_OVERHEAD) {
            Some((piece, after)) => {
                pieces.push(piece);
                rest = after;
            }
            None => page /= 2,
        }
    }
    if pieces.is_empty() || !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

/// The keys of all pieces of a record.
const fn pieces_of(sequence: Sequence) -> RangeInclusive<(Sequence, u32)> {
    (sequence, 0)..=(sequence, u32::MAX)
}
