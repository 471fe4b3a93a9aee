//! The `forgebind` binary: parses the command line and runs the command.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::FromArgMatches as _;
use forgebind::check::{self, CheckSettings};
use forgebind::cli::{self, CanArguments, CheckArguments, Cli, Command, OutputFormat};
use forgebind::config::{Config, UninstallConfig};
use forgebind::run::{self, Role};
use forgebind::trace;

/// Exit code for unusable input, the same as clap's for invalid arguments.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    let plugin = std::env::args_os().next().is_some_and(|program| cli::is_plugin(&program));
    let parsed = Cli::from_arg_matches(&cli::command(plugin).get_matches());
    let result = match parsed.unwrap_or_else(|error| error.exit()).command {
        Command::Why(arguments) => return trace_and_tell(async |style| trace::why(arguments, style).await),
        Command::Deliveries(arguments) => return trace_and_tell(async |style| trace::deliveries(arguments, style).await),
        Command::Redeliver(arguments) => return trace_and_tell(async |_| trace::redeliver(arguments).await),
        Command::Repositories(arguments) => return trace_and_tell(async |_| trace::repositories(arguments).await),
        Command::Completion(arguments) => print_all(&cli::completion(arguments.shell, plugin)),
        Command::Check(arguments) => return tell(check_manifests(arguments)),
        Command::Can(arguments) => return tell(can(&arguments)),
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

fn tell(result: Result<bool, Box<dyn std::error::Error>>) -> ExitCode {
    match result {
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
    let out = std::io::stdout();
    let text = match output {
        OutputFormat::Json => result.to_json(),
        OutputFormat::Table => {
            let colours = out.is_terminal() && !cli::colours_are_unwelcome();
            let width = if out.is_terminal() { terminal_size::terminal_size().map(|(width, _)| usize::from(width.0)) } else { None };
            check::table(&result, check::Style { colours, width })
        }
    };
    print_all(text.as_bytes())?;
    Ok(result.ok)
}

/// Prints whether a namespace may use a connection for a repository, and returns it.
fn can(arguments: &CanArguments) -> Result<bool, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(check::can(arguments, &mut std::io::stdin()))?;
    print_all(answer.show(arguments.output).as_bytes())?;
    Ok(answer.allowed)
}

/// Runs a command that reads what became of deliveries, and prints its answer.
fn trace_and_tell<F>(command: F) -> ExitCode
where
    F: AsyncFnOnce(trace::Style) -> Result<trace::Answer, trace::TraceError>,
{
    let style = trace::Style { colours: std::io::stdout().is_terminal() && !cli::colours_are_unwelcome() };
    let run = || -> Result<bool, Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer = runtime.block_on(command(style))?;
        print_all(answer.text.as_bytes())?;
        Ok(answer.ok)
    };
    tell(run())
}

/// Prints to standard output. A reader that closes the pipe early, such as head, is not a failure.
fn print_all(text: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn print_definitions() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", forgebind::api::crd::to_yaml()?);
    Ok(())
}
