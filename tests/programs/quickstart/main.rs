//! Forgebind's main job from end to end, on real servers: a cluster, a Gitea, the operator, one connection and one binding.
//!
//! `make quickstart` runs it with a real Gitea; `PROVIDER=github` and so on use a simulator instead. With `ONCE=1` it ends
//! after the last step; otherwise everything keeps running until Ctrl-C. `CLUSTER=current` uses the cluster of the present
//! kubeconfig instead of starting one.

#![allow(clippy::disallowed_methods)]

mod host;
mod story;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match story::tell().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe quickstart failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
