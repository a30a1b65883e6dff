//! `amie-runner`: the command line. The only place that prints, and that decides the exit status.
#![allow(clippy::print_stdout, clippy::print_stderr)] // commands print; the library does not

mod cli;
mod commands;
mod present;

use clap::Parser;
use cli::{Cli, Command};
use runner::exit::Exit;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    log_to_stderr(cli.verbose);
    if let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(cli.threads).build_global() {
        tracing::warn!(%error, "the thread pool keeps its default size");
    }
    let result = match cli.command {
        Command::Demo(args) => commands::demo::demo(&args),
        Command::Check(args) => commands::check::check(&args),
        Command::Parse(args) => commands::parse::parse(&args),
        Command::Transform(args) => commands::transform::transform(&args),
        Command::Run(args) => commands::run::run(&args),
        Command::Restate(args) => commands::restate::restate(&args),
        Command::Adjust(args) => commands::adjust::adjust(&args),
        Command::Explain(args) => commands::explain::explain(&args),
        Command::Status(args) => commands::status::status(&args),
        Command::Failed(args) => commands::failed::failed(&args),
        Command::Report(args) => commands::report::report(&args),
        Command::Held(args) => commands::held::held(&args),
        Command::Quarantine(args) => commands::quarantine::quarantine(&args),
        Command::Ledger(args) => commands::ledger::ledger(&args),
        Command::Sandbox(args) => commands::sandbox::sandbox(&args),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => present::failure(&error),
    }
}

/// Sets tracing up: people read stderr, so that stdout stays data.
fn log_to_stderr(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("AMIE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}
