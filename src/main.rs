//! Arguments → logging → command → exit code.

use clap::Parser;
use handloom::cli::Cli;
use handloom::exit::{Exit, Failure};
use handloom::{allocator, commands};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    allocator::give_back_large_blocks();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_help = !error.use_stderr();
            // Help and usage go to a terminal; where that fails nobody is listening.
            error.print().ok();
            return ExitCode::from(if is_help {
                Exit::Done as u8
            } else {
                Exit::Usage as u8
            });
        }
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("HANDLOOM_LOG")
        .unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    match commands::run(cli) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(Failure { exit, error }) => {
            writeln!(std::io::stderr(), "handloom: {error:#}").ok();
            ExitCode::from(exit as u8)
        }
    }
}
