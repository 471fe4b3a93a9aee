//! What holds when the file of the outbox is opened, whatever is in it: the records or an error that says what to do. Nothing
//! panics or hangs, and nothing is deleted.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::disk::{BODIES, FILE_NAME, META, OpenError, RECORDS, STATES, builder};
use super::record::{EventState, Record, Sequence, SinkPart};
use super::{KeepError, Outbox, OutboxConfig, OutboxKind};
use crate::providers::webhook::{Change, Event};
use crate::receiver::envelope::Envelope;

/// It takes milliseconds to open a file.
const PATIENCE: Duration = Duration::from_secs(20);

/// The first byte says what the others are: the file itself; places and bytes that replace those of an intact file; or the same
/// after the file was cut.
pub(crate) fn outbox_file(data: &[u8]) {
    let Some((form, mut rest)) = data.split_first() else { return };
    let content = match form % 3 {
        0 => rest.to_vec(),
        form => {
            let mut content = intact().to_vec();
            if form == 2 {
                let length = place(&mut rest, content.len());
                content.truncate(length);
            }
            while let Some((count, after)) = rest.split_first() {
                rest = after;
                let place = place(&mut rest, content.len());
                let (bytes, after) = rest.split_at_checked(1 + usize::from(count % 16)).unwrap_or((rest, &[]));
                rest = after;
                for (old, new) in content.iter_mut().skip(place).zip(bytes) {
                    *old = *new;
                }
            }
            content
        }
    };
    let directory = Directory::new();
    fs::write(directory.file(), &content).unwrap_or_else(|error| panic!("{error}"));
    open(&directory, Some(&content));
}

/// A place in a file, from three bytes.
fn place(rest: &mut &[u8], length: usize) -> usize {
    let (bytes, after) = rest.split_at_checked(3).unwrap_or((rest, &[]));
    *rest = after;
    bytes.iter().fold(0, |place, byte| place << 8 | usize::from(*byte)) % length.max(1)
}

/// Lines of a sound database whose rows are anything: `r SEQUENCE JSON`, `b SEQUENCE PIECE TEXT`, `s SEQUENCE SINK EVENT JSON` and
/// `m KEY NUMBER`.
pub(crate) fn outbox_rows(data: &[u8]) {
    let directory = Directory::new();
    write(&directory, data).unwrap_or_else(|error| panic!("{error}"));
    open(&directory, None);
}

fn write(directory: &Directory, data: &[u8]) -> Result<(), redb::Error> {
    let transaction = builder().create(directory.file())?.begin_write()?;
    {
        let (mut records, mut bodies) = (transaction.open_table(RECORDS)?, transaction.open_table(BODIES)?);
        let (mut states, mut meta) = (transaction.open_table(STATES)?, transaction.open_table(META)?);
        for line in data.split(|byte| *byte == b'\n').take(64) {
            let text = String::from_utf8_lossy(line);
            let mut words = text.splitn(5, ' ');
            let mut word = || words.next().unwrap_or_default();
            let (kind, first) = (word(), word());
            let number = |text: &str| text.parse().unwrap_or(0_u64);
            let position = |text: &str| text.parse().unwrap_or(0_u32);
            match kind {
                "r" => drop(records.insert(number(first), text.splitn(3, ' ').nth(2).unwrap_or_default().as_bytes())?),
                "b" => drop(bodies.insert((number(first), position(word())), text.splitn(4, ' ').nth(3).unwrap_or_default().as_bytes())?),
                "s" => {
                    let key = (number(first), position(word()), position(word()));
                    states.insert(key, word().as_bytes())?;
                }
                "m" => drop(meta.insert(first, number(word()))?),
                _ => {}
            }
        }
    }
    Ok(transaction.commit()?)
}

/// Opens the file, works with what is in it, and opens it again: everything is still there.
fn open(directory: &Directory, content: Option<&[u8]>) {
    let _quiet = Quiet::new();
    runtime().block_on(async {
        let opened = timeout(PATIENCE, Outbox::open(&directory.config())).await.expect("the file is opened in time");
        let stored = match opened {
            Ok((outbox, stored)) => work(outbox, stored).await,
            Err(error) => {
                let is_told = matches!(error, OpenError::Damaged { .. } | OpenError::OtherFormat { .. });
                assert!(is_told && !error.to_string().contains("canary"), "{error}");
                if let Some(content) = content {
                    let found = fs::read(directory.file()).unwrap_or_default();
                    assert_eq!(found.len(), content.len(), "a file that is refused stays as it is: {error}");
                }
                return;
            }
        };
        if let Some(stored) = stored {
            let opened = timeout(PATIENCE, Outbox::open(&directory.config())).await.expect("the file is opened again in time");
            let (outbox, again) = opened.unwrap_or_else(|error| panic!("a file that was used is refused: {error}"));
            outbox.close().await;
            let again: BTreeSet<Sequence> = again.into_iter().map(|(sequence, _)| sequence).collect();
            assert!(again.is_superset(&stored), "{stored:?} were stored, and {again:?} are left");
        }
    });
    let names: Vec<_> = fs::read_dir(&directory.0).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, [FILE_NAME], "files of the directory");
}

/// Reads every body and stores a record. Returns what must be in the file; `None` if the disk failed, or if records lost their room.
async fn work(outbox: Outbox, stored: Vec<(Sequence, Record)>) -> Option<BTreeSet<Sequence>> {
    let work = async {
        let mut sequences: BTreeSet<Sequence> = stored.into_iter().map(|(sequence, _)| sequence).collect();
        for sequence in &sequences {
            // An error, if the body is not what the record says.
            let _ = outbox.body(*sequence).await;
        }
        let body = Bytes::from_static(b"{}");
        let kept = outbox.keep(record(), body.clone()).await;
        let has_room = kept.dropped.is_empty();
        match kept.result {
            Ok(place) => {
                assert!(sequences.last().is_none_or(|last| *last < place.sequence), "{place:?} is not the last: {sequences:?}");
                sequences.insert(place.sequence);
                if has_room {
                    assert_eq!(outbox.body(place.sequence).await, Ok(body), "the body of a new record");
                }
                (has_room && place.durable).then_some(sequences)
            }
            Err(KeepError::Full) => None,
            Err(error) => panic!("a record is not stored: {error}"),
        }
    };
    let sequences = timeout(PATIENCE, work).await.expect("the outbox works in time");
    timeout(PATIENCE, outbox.close()).await.expect("the outbox closes in time");
    sequences
}

/// The file of an outbox with three records.
fn intact() -> &'static [u8] {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    CONTENT.get_or_init(|| {
        let directory = Directory::new();
        runtime().block_on(async {
            let (outbox, _) = Outbox::open(&directory.config()).await.unwrap_or_else(|error| panic!("{error}"));
            for body in ["{\"canary\": 1}", "", "{}"] {
                let kept = outbox.keep(record(), Bytes::from_static(body.as_bytes())).await;
                assert!(kept.result.is_ok(), "{kept:?}");
            }
            outbox.note(1, 0, 0, EventState::Accepted);
            outbox.close().await;
        });
        fs::read(directory.file()).unwrap_or_else(|error| panic!("{error}"))
    })
}

fn record() -> Record {
    let event = Event::of_reference("refs/heads/canary", Change::Updated);
    let text = |text: &str| text.to_owned();
    let envelope = Envelope {
        uid: text("uid"),
        namespace: text("team"),
        name: text("shop"),
        delivery: text("delivery"),
        id: text("delivery"),
        source: text("https://git.example/acme/shop"),
        repository_id: text("7"),
        at: Timestamp::UNIX_EPOCH,
        events: event.into_iter().collect(),
    };
    Record {
        envelope,
        sinks: vec![SinkPart { name: text("ci"), events: vec![(0, EventState::Pending)], omitted: 0 }],
        not_served: Vec::new(),
    }
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| Builder::new_current_thread().enable_all().build().unwrap_or_else(|error| panic!("{error}")))
}

/// A directory that is deleted with everything in it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forgebind-fuzz-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join(FILE_NAME)
    }

    fn config(&self) -> OutboxConfig {
        OutboxConfig::new(OutboxKind::Disk(self.0.clone()))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

type Hook = Box<dyn Fn(&std::panic::PanicHookInfo<'_>) + Send + Sync>;

/// While it exists, a panic of redb that the product catches does not end the fuzzer, whose hook aborts. One that is not caught
/// still does.
struct Quiet(Option<Hook>);

impl Quiet {
    fn new() -> Self {
        Self(cfg!(not(test)).then(|| {
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
            hook
        }))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Some(hook) = self.0.take().filter(|_| !std::thread::panicking()) {
            std::panic::set_hook(hook);
        }
    }
}
