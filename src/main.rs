//! The `forgebind` binary.

use std::process::ExitCode;

use clap::Parser as _;
use forgebind::cli::{Cli, Command};
use forgebind::config::{Config, ReleaseConfig};
use forgebind::run::{self, Role};

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Controller(arguments) => serve(Role::Controller, arguments),
        Command::Receiver(arguments) => serve(Role::Receiver, arguments),
        Command::Run(arguments) => serve(Role::Both, arguments),
        Command::Crd => print_definitions(),
        Command::Release(arguments) => release(arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forgebind: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(role: Role, arguments: forgebind::cli::ServerArguments) -> Result<(), Box<dyn std::error::Error>> {
    let config = Config::try_from(arguments)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(run::serve(role, config))?)
}

fn release(arguments: forgebind::cli::ReleaseArguments) -> Result<(), Box<dyn std::error::Error>> {
    let config = ReleaseConfig::try_from(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(run::release(config))?)
}

fn print_definitions() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", forgebind::crd::to_yaml()?);
    Ok(())
}
