//! The hidden subcommand that benchmarks a backend on behalf of another handloom process.

use crate::cli::progress::print_line;
use crate::error::{CliError, Exit};
use crate::inference::probe::ProbeRequest;
use crate::system::process::end_with_parent;
use anyhow::anyhow;
use std::io::{self, Read};

/// Reads the request from stdin and prints the report. Ends the process.
///
/// # Errors
/// Fails when the request cannot be read or the parent is gone.
pub(super) fn run() -> Result<Exit, CliError> {
    let io = |error: io::Error| CliError::new(Exit::InOut, error);
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(io)?;
    let request = serde_json::from_str::<ProbeRequest>(&text).map_err(|error| {
        let text = format!("this command is internal; use `handloom bench`: {error}");
        CliError::new(Exit::Usage, anyhow!(text))
    })?;
    end_with_parent(request.parent).map_err(io)?;
    let report = request.run();
    print_line(&report.map_err(|error| CliError::new(Exit::Bug, error))?);
    // Some drivers crash in their exit handlers: the report counts.
    std::process::exit(Exit::Done as i32)
}
