//! Waiting for a state.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// What was seen.
#[derive(Clone, Debug)]
pub enum Seen<T> {
    /// It is so; the value is handed on.
    Done(T),
    /// Not yet; the text tells what is there instead.
    NotYet(String),
    /// Not, and never will be; the text tells why.
    Never(String),
}

/// Looks again and again until `look` says that it is so. Errors of `look` count as "not yet".
///
/// # Errors
///
/// When the deadline passes or `look` gives up: what was waited for, and what was seen last.
pub async fn wait_until<T>(what: &str, deadline: Duration, mut look: impl AsyncFnMut() -> Result<Seen<T>>) -> Result<T> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        let seen = match look().await {
            Ok(Seen::Done(value)) => return Ok(value),
            Ok(Seen::NotYet(seen)) => seen,
            Ok(Seen::Never(reason)) => return Err(anyhow!("{what} will not come: {reason}")),
            Err(error) => format!("error: {error:#}"),
        };
        if began.elapsed() >= deadline {
            return Err(anyhow!("waited {deadline:?} for {what}; seen last: {seen}"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(250));
    }
}

/// Watches that something stays so for a while.
///
/// # Errors
///
/// As soon as `look` fails.
pub async fn stays(what: &str, length: Duration, mut look: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < length {
        look().await.map_err(|error| error.context(format!("{what} did not stay so")))?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
