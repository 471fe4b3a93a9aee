//! Measures the costs of an installation: sizes, times, memory, writes and calls of the release binary, on a real API server and
//! etcd, with a simulator as the provider. Times are also given as a ratio to a bare client that sends the same requests, and to
//! a bare server that only verifies deliveries, in the same run: the ratio is meaningful on any machine, the seconds only on this
//! one.
//!
//! `make bench` runs it. `SIZE=10000` uses 10,000 bindings instead of 1,000; `ONLY=memory` measures only the memory under hostile
//! peers, `ONLY=deliveries` only the receiver. It asserts nothing.

#![allow(clippy::disallowed_methods, clippy::indexing_slicing)]

mod bare;
mod deliveries;
mod figures;
mod installation;
mod memory;
mod outbox;
mod process;
mod receiver;
mod tenants;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};

use figures::Figures;
use installation::Installation;
use testkit::container::Image;
use testkit::image;

/// The number of bindings without `SIZE`.
const SIZE: usize = 1000;

/// Reports the progress on standard error; the figures are printed on standard output.
pub struct Progress {
    began: Instant,
}

impl Progress {
    /// Prints the present step.
    pub fn say(&self, what: &str) {
        eprintln!("bench: {:>4} s  {what}", self.began.elapsed().as_secs());
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, address, secrets] = arguments.as_slice()
        && command == receiver::BARE
    {
        return receiver::serve_bare(address, secrets).await;
    }
    let size = match std::env::var("SIZE") {
        Ok(size) if !size.is_empty() => size.parse().context("SIZE must be a number of bindings")?,
        _ => SIZE,
    };
    let progress = Progress { began: Instant::now() };
    progress.say("building the release binary and the image (takes minutes the first time)");
    let mut figures = Figures::default();
    let image = image::image().await?;
    figures.sizes(image).await?;
    let measured = measure(image, size, &mut figures, &progress).await;
    // What was measured before a failure is worth reading.
    println!("{figures}");
    measured
}

async fn measure(image: &Image, size: usize, figures: &mut Figures, progress: &Progress) -> Result<()> {
    progress.say("starting etcd, kube-apiserver and the simulator");
    let installation = Installation::start(image.root.join("forgebind"), size).await?;
    match std::env::var("ONLY").as_deref() {
        Ok("memory") => installation.measure_memory(figures, progress).await,
        Ok("deliveries") => installation.measure_deliveries(figures, progress).await,
        Ok("") | Err(_) => installation.measure(figures, progress).await,
        Ok(other) => anyhow::bail!("ONLY is {other:?}, but must be memory or deliveries"),
    }
}
