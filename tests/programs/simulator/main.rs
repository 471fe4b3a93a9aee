//! A simulated Git provider as a program, to try one without an account.
//!
//! ```sh
//! cargo run --example simulator -- gitlab --listen 127.0.0.1:9000
//! ```

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use forgebind::api::v1alpha1::ProviderKind;

use testkit::sim::{Simulator, control, registry};

/// Simulates a Git provider: it keeps hooks, permissions, rate limits and delivery logs, and delivers real webhooks.
#[derive(Parser)]
#[command(name = "simulator")]
struct Arguments {
    /// Which provider, by its name in the flag `--providers`, such as github.
    #[arg(value_parser = kind)]
    provider: ProviderKind,
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Delivers to loopback and private addresses too, which the real provider refuses.
    #[arg(long)]
    allow_local_targets: bool,
}

fn kind(text: &str) -> Result<ProviderKind, String> {
    let found = registry::simulated().find(|kind| kind.flag() == text);
    let names = registry::simulated().map(ProviderKind::flag).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| format!("there is no simulator of {text}; use one of {names}"))
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("simulator: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let maker = registry::maker(arguments.provider).context("there is no simulator of this provider")?;
    let simulator = Simulator::start_at(arguments.listen, arguments.allow_local_targets, maker).await;
    let simulator = simulator.with_context(|| format!("cannot listen on {}", arguments.listen))?;
    introduce(&simulator, arguments.provider);
    tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")
}

/// Prints how to reach the simulator, and its initial data. The credentials are made up: they are useless elsewhere.
fn introduce(simulator: &Simulator, kind: ProviderKind) {
    let seed_data = simulator.seed_data();
    println!("A simulated {kind} listens on {}", simulator.url());
    println!("\nAccount: {}", seed_data.account);
    for (what, keys) in [("may do everything", &seed_data.credential), ("may read", &seed_data.reader)] {
        let keys: Vec<_> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
        println!("Credential that {what}: {}", keys.join("  "));
    }
    println!("\nspec.provider of a GitProviderConnection:\n  {}", seed_data.provider);
    println!("\nRepositories:");
    for (path, note) in [
        (Some(&seed_data.repository), "private, with a commit"),
        (Some(&seed_data.other), "private, with a commit"),
        (Some(&seed_data.empty), "without a commit"),
        (seed_data.public.as_ref(), "public"),
        (Some(&seed_data.outside), "of another owner"),
    ] {
        if let Some(path) = path {
            println!("  {path}  ({note})");
        }
    }
    for note in &seed_data.notes {
        println!("{note}");
    }
    println!("\nControl endpoints for what people and git do:");
    for line in control::usage(simulator.url()) {
        println!("  {line}");
    }
    println!("\nPress Ctrl-C to stop.");
}
