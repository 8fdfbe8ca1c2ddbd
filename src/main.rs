//! Arguments → logging → command → exit code.

use clap::Parser;
use handloom::cli::{Cli, Command};
use handloom::exit::{Exit, Failure};
use handloom::{allocator, commands};
use std::io::{IsTerminal, Write};
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
    let wanted = std::env::var("HANDLOOM_LOG").unwrap_or_else(|_| "warn".to_owned());
    let filter = match tracing_subscriber::EnvFilter::try_new(&wanted) {
        Ok(filter) => filter,
        Err(error) => {
            tell(&format!(
                "HANDLOOM_LOG={wanted}: {error}; give error, warn, info, debug or trace"
            ));
            return ExitCode::from(Exit::Usage as u8);
        }
    };
    // A line of the log would be drawn into the live view; `2>FILE` keeps the log.
    let is_drawn_over = std::io::stderr().is_terminal()
        && matches!(&cli.command, Command::Watch(args) if args.is_live());
    let filter = if is_drawn_over {
        tracing_subscriber::EnvFilter::new("off")
    } else {
        filter
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .init();
    match commands::run(cli) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(Failure { exit, error }) => {
            tell(&whole_story(&error));
            ExitCode::from(exit as u8)
        }
    }
}

/// The error and its causes, each said once: our messages mostly name their cause themselves.
fn whole_story(error: &anyhow::Error) -> String {
    let mut story = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !story.contains(&cause) {
            story = format!("{story}: {cause}");
        }
    }
    story
}

/// Says `text` on stderr; where that fails nobody is listening.
fn tell(text: &str) {
    writeln!(std::io::stderr(), "handloom: {text}").ok();
}
