//! One file a subcommand: composition of the rooms, no behaviour of its own.

pub mod accelerator;
pub mod bench;
pub mod camera;
pub mod check;
pub mod demo;
pub mod inspect;
pub mod job;
mod keys;
pub mod papers;
mod picture;
pub mod process;
pub mod run;
pub mod watch;

use crate::cli::{Cli, Command};
use crate::exit::{Exit, Failure};

/// Runs the chosen subcommand.
///
/// # Errors
/// With the exit code and what to tell the user.
pub fn run(cli: Cli) -> Result<Exit, Failure> {
    match cli.command {
        Command::Process(args) => process::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Camera(args) => camera::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::ProbeAccelerator => accelerator::probe::main(),
        Command::Papers(args) => papers::run(&args),
    }
}
