//! One file a subcommand: composition of the rooms, no behaviour of its own.

pub mod accelerator;
pub mod bench;
pub mod camera;
pub mod check;
pub mod demo;
pub mod inspect;
pub mod job;
pub mod papers;
mod picture;
pub mod process;
pub mod run;
pub mod watch;
mod way_out;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};
use way_out::Reader;

/// Runs the chosen subcommand.
///
/// # Errors
/// With the exit code and what to tell the user.
pub fn run(cli: Cli) -> Result<Exit, Failure> {
    let reader = match cli.command {
        Command::Camera(_) => Reader::TakesFlags,
        _ => Reader::Flags,
    };
    let ended = match cli.command {
        // Tells it to more than its stderr, in its own words.
        Command::Run(args) => return run::run(&args),
        Command::Process(args) => process::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Camera(args) => camera::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::ProbeAccelerator => accelerator::probe::main(),
        Command::Papers(args) => papers::run(&args),
    };
    ended.map_err(|failure| reader.told(failure))
}
