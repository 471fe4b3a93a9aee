//! The `forgebind` binary: parses the command line and runs the command.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use forgebind::check::{self, CheckSettings};
use forgebind::cli::{self, CheckArguments, Cli, Command, OutputFormat};
use forgebind::config::{Config, UninstallConfig};
use forgebind::run::{self, Role};

/// Exit code for unusable input, the same as clap's for invalid arguments.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Check(arguments) => return check_and_tell(arguments),
        Command::Controller(arguments) => serve(Role::Controller, arguments),
        Command::Receiver(arguments) => serve(Role::Receiver, arguments),
        Command::Run(arguments) => serve(Role::Both, arguments),
        Command::Crd => print_definitions(),
        Command::Uninstall(arguments) => uninstall(arguments),
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

fn uninstall(arguments: forgebind::cli::UninstallArguments) -> Result<(), Box<dyn std::error::Error>> {
    let config = UninstallConfig::try_from(arguments)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(run::uninstall(config))?)
}

fn check_and_tell(arguments: CheckArguments) -> ExitCode {
    match check_manifests(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("forgebind: {error}");
            ExitCode::from(UNUSABLE)
        }
    }
}

/// Runs a check, prints the result, and returns whether the check passed.
fn check_manifests(arguments: CheckArguments) -> Result<bool, Box<dyn std::error::Error>> {
    let settings = CheckSettings::try_from(arguments)?;
    let output = settings.output;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(check::run(settings, &mut std::io::stdin()))?;
    let mut out = std::io::stdout();
    let text = match output {
        OutputFormat::Json => result.to_json(),
        OutputFormat::Table => {
            let colours = out.is_terminal() && !cli::colours_are_unwelcome();
            let width = if out.is_terminal() { terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)) } else { None };
            check::table(&result, check::Style { colours, width })
        }
    };
    // A reader that closes the pipe early, such as head, is not a failure.
    match out.write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(result.ok),
    }
}

fn print_definitions() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", forgebind::api::crd::to_yaml()?);
    Ok(())
}
