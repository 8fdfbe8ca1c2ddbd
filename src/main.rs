//! Arguments → logging → command → exit code.

use handloom::cli::Command;
use handloom::error::Exit;
use handloom::inference::load_xnnpack;
use handloom::logging::print_fatal;
use handloom::system::malloc;
use handloom::{cli, logging};
use std::io::IsTerminal;
use std::process::ExitCode;

fn main() -> ExitCode {
    malloc::tune_malloc();
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_help = !error.use_stderr();
            if is_help || std::io::stderr().is_terminal() {
                // In color. A closed stderr is no reason to fail.
                error.print().ok();
            } else {
                print_fatal(error.to_string().trim_end());
            }
            return ExitCode::from(if is_help {
                Exit::Done as u8
            } else {
                Exit::Usage as u8
            });
        }
    };
    let wanted = std::env::var("HANDLOOM_LOG").unwrap_or_else(|_| "warn".to_owned());
    // A log that is kept for days is read long after.
    let has_times = matches!(cli.command, Command::Run(_)) && !std::io::stderr().is_terminal();
    if let Err(error) = logging::init(&wanted, has_times) {
        print_fatal(&format!(
            "handloom: HANDLOOM_LOG={wanted}: {error}; give error, warn, info, debug or trace"
        ));
        return ExitCode::from(Exit::Usage as u8);
    }
    // A line of the log would be drawn into the live view; `2>FILE` keeps the log.
    if std::io::stderr().is_terminal()
        && matches!(&cli.command, Command::Watch(args) if args.is_live())
    {
        logging::set_level("off");
    }
    if cli.command.runs_models() {
        load_xnnpack();
    }
    match cli::run(cli) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(failure) => {
            print_fatal(&format!("handloom: {}", failure.display_chain()));
            ExitCode::from(failure.exit as u8)
        }
    }
}
