//! Measures the costs of an installation: sizes, times, memory, writes and calls of the release binary, on a real API server and
//! etcd, with a simulator as the provider. Times are also given as a ratio to a bare client that sends the same requests, and to
//! a bare server that only verifies deliveries, in the same run: the ratio is meaningful on any machine, the seconds only on this
//! one.
//!
//! `make bench` runs it. `SIZE=10000` uses 10,000 bindings instead of 1,000; `ONLY=memory` measures only the memory under hostile
//! peers. It asserts nothing.

#![allow(clippy::disallowed_methods, clippy::indexing_slicing)]

mod bare;
mod deliveries;
mod figures;
mod installation;
mod memory;
mod process;
mod receiver;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};

use figures::Figures;
use installation::Installation;
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
    let image = image::image().await?;
    let mut figures = Figures::default();
    figures.sizes(image).await?;
    progress.say("starting etcd, kube-apiserver and the simulator");
    let installation = Installation::start(image.root.join("forgebind"), size).await?;
    if std::env::var("ONLY").is_ok_and(|only| only == "memory") {
        installation.measure_memory(&mut figures, &progress).await?;
    } else {
        installation.measure(&mut figures, &progress).await?;
    }
    println!("{figures}");
    Ok(())
}
