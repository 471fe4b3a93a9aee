//! Waiting for a state.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// The result of one check.
#[derive(Clone, Debug)]
pub enum Seen<T> {
    /// The state is reached; the value is passed on.
    Done(T),
    /// Not yet; the text describes the present state.
    NotYet(String),
    /// It can never be reached; the text says why.
    Never(String),
}

/// Calls `look` repeatedly until it returns [`Seen::Done`]. Errors of `look` count as "not yet".
///
/// # Errors
///
/// When the deadline passes or `look` gives up: the awaited state and the last one seen.
pub async fn wait_until<T>(what: &str, deadline: Duration, mut look: impl AsyncFnMut() -> Result<Seen<T>>) -> Result<T> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        let seen = match look().await {
            Ok(Seen::Done(value)) => return Ok(value),
            Ok(Seen::NotYet(seen)) => seen,
            Ok(Seen::Never(reason)) => return Err(anyhow!("{what} can never happen: {reason}")),
            Err(error) => format!("error: {error:#}"),
        };
        if began.elapsed() >= deadline {
            return Err(anyhow!("waited {deadline:?} for {what}; seen last: {seen}"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(Duration::from_millis(250));
    }
}

/// Checks that something stays true for a while.
///
/// # Errors
///
/// As soon as `look` fails.
pub async fn stays(what: &str, length: Duration, mut look: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < length {
        look().await.map_err(|error| error.context(format!("{what} did not stay true")))?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
