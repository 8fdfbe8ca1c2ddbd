//! The hidden subcommand that decodes clips on behalf of another handloom process.

use crate::error::{CliError, Exit};
use crate::system::process::{end_first_without_memory, end_with_parent};
use crate::video::decoder_process::serve;
use anyhow::anyhow;
use clap::Args;
use std::io;
use std::os::fd::AsFd;

/// Arguments of `decode-clips`.
#[derive(Debug, Args)]
pub struct DecodeArgs {
    /// Process ID of the parent: this process ends with it
    parent: u32,
}

/// Serves the parent, whose socket is stdin, until it closes the socket.
///
/// # Errors
/// Fails when stdin is no such socket or the parent is gone.
pub(super) fn run(args: &DecodeArgs) -> Result<Exit, CliError> {
    let io = |error: io::Error| CliError::new(Exit::InOut, error);
    end_with_parent(args.parent).map_err(io)?;
    if let Err(error) = end_first_without_memory() {
        tracing::debug!(%error, "cannot raise the decoder process's out-of-memory score");
    }
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(io)?;
    serve(socket).map_err(|error| {
        let text = format!("this command is internal; use `handloom process`: {error}");
        CliError::new(Exit::Usage, anyhow!(text))
    })?;
    Ok(Exit::Done)
}
