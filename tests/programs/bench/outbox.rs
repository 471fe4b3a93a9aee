//! Deliveries that no sink accepts, so that each is stored in the outbox on a disk; and the time to open a large outbox.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use testkit::operator::{Operator, Options};
use testkit::scratch::Scratch;

use crate::Progress;
use crate::deliveries::{Shape, Target};
use crate::figures::Figures;
use crate::receiver::{FULL, Servers, Signer, Subject, median, tell_ratio};

/// Bindings whose deliveries are stored. Each has a share of 64 MiB.
const BINDINGS: usize = 32;
/// Deliveries of one round.
const COUNT: usize = 8_000;
const ROUNDS: usize = 5;
/// How long the disk is measured.
const SYNCS: Duration = Duration::from_secs(2);
/// Deliveries of 25 KiB in the outbox that is opened: 1 GiB of bodies.
const LARGE: usize = 42_000;
/// The first commit, far from those of the other measurements.
const FIRST: usize = 1 << 32;
const KIB: usize = 1024;

/// A folder in memory, removed in the end.
struct InMemory(PathBuf);

impl InMemory {
    fn new() -> Result<Self> {
        let path = PathBuf::from(format!("/dev/shm/forgebind-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Measures the outbox in memory, because the disks of machines differ, and the disk beside it. The sinks must refuse.
///
/// # Errors
///
/// When the receiver does not start, or answers something else than 202.
pub async fn measure(subject: &Subject<'_>, figures: &mut Figures, progress: &Progress) -> Result<()> {
    let folder = InMemory::new()?;
    let options = subject.options.beside()?.with("outbox", "disk").with("outbox-limit", "2Gi");
    let options = options.with("outbox-dir", folder.0.to_str().context("UTF-8")?);
    let targets: &[Target] = subject.targets.get(..BINDINGS).context("too few bindings")?;
    let mut signer = Signer::new(targets, FIRST);
    // Every sink wants this branch.
    let shape = |length| Shape { length, branch: "main", branches: 1 };

    progress.say("delivering into the outbox");
    let servers = Servers::start(subject, options.clone()).await?;
    servers.receiver.round(&signer.sign(BINDINGS, shape(KIB))?, FULL).await?;
    let pairs = servers.pairs(&signer.rounds(ROUNDS, COUNT, shape(8 * KIB))?, FULL).await?;
    tell_ratio(figures, "ratio to the bare server, 8 KiB, through the outbox in memory".to_owned(), &pairs, 0.25);
    let rate = median(pairs.iter().map(|(ours, _)| ours.answers.rate()));
    figures.note("deliveries per second through the outbox", format!("{rate:.0}"));
    figures.note("fsyncs of 8 KiB per second by the disk", format!("{:.0}", syncs_per_second()?));

    progress.say("filling the outbox to 1 GiB");
    servers.receiver.round(&signer.sign(LARGE, shape(25 * KIB))?, FULL).await?;
    servers.stop(subject, true).await?;
    let (opened, large) = (start(&options).await?, size(&folder.0)? / 1024 / 1024);
    figures.note(
        format!("start to ready after a kill, with {LARGE} bodies in a file of {large} MiB"),
        format!("{:.2} s", opened.as_secs_f64()),
    );
    Ok(())
}

/// The time until a receiver is ready.
async fn start(options: &Options) -> Result<Duration> {
    let began = Instant::now();
    let operator = Operator::start(options.clone().only("receiver")).await?;
    let taken = began.elapsed();
    ensure!(operator.terminate(Duration::from_secs(60)).await?.success(), "the operator failed while stopping");
    Ok(taken)
}

/// The size of the files in a folder, in bytes.
fn size(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        sum += entry?.metadata()?.len();
    }
    Ok(sum)
}

/// How often the disk of the temporary folder stores 8 KiB in a second.
fn syncs_per_second() -> Result<f64> {
    let scratch = Scratch::new("disk")?;
    let mut file: File = OpenOptions::new().create(true).append(true).open(scratch.path().join("file"))?;
    let (began, mut count) = (Instant::now(), 0_u32);
    while began.elapsed() < SYNCS {
        file.write_all(&[b'x'; 8 * KIB])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}
