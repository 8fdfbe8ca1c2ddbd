//! `handloom papers`: the man pages and shell completions that a package carries, made from the command line itself, so
//! that they cannot say something else than `--help`.

use crate::cli::{Cli, PapersArgs};
use crate::exit::{Exit, Failure};
use anyhow::anyhow;
use clap::CommandFactory;
use clap_complete::Shell;
use std::fs;
use std::io;
use std::path::Path;

/// Bash, fish and zsh look for them under these names below `/usr/share`.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/handloom"),
    (Shell::Fish, "fish/vendor_completions.d/handloom.fish"),
    (Shell::Zsh, "zsh/vendor-completions/_handloom"),
];

/// Writes `man/man1/*.1` and the completions, laid out as below `/usr/share`.
///
/// # Errors
/// When the folder cannot be written.
pub fn run(args: &PapersArgs) -> Result<Exit, Failure> {
    write(&args.out).map_err(|error| {
        let out = args.out.display();
        Failure::new(
            Exit::CannotCreate,
            anyhow!("cannot write to {out}: {error}; name another folder with --out"),
        )
    })?;
    Ok(Exit::Done)
}

fn write(out: &Path) -> io::Result<()> {
    let pages = out.join("man/man1");
    fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(Cli::command(), &pages)?;
    for (shell, place) in COMPLETIONS {
        let path = out.join(place);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "handloom", &mut script);
        fs::write(path, script)?;
    }
    Ok(())
}
