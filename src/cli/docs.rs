//! `handloom docs`: the man pages and shell completions of a package, generated from the command line itself, so that
//! they equal `--help`.

use crate::cli::Cli;
use crate::error::{CliError, Exit};
use crate::storage::atomic_file::write_whole;
use anyhow::anyhow;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Arguments of `docs`.
#[derive(Debug, Args)]
pub struct DocsArgs {
    /// Folder for the pages and completions; created when missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Where bash, fish and zsh search for completions, below `/usr/share`.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "bash-completion/completions/handloom"),
    (Shell::Fish, "fish/vendor_completions.d/handloom.fish"),
    (Shell::Zsh, "zsh/vendor-completions/_handloom"),
];

/// Writes `man/man1/*.1` and the completions, laid out as below `/usr/share`.
///
/// # Errors
/// Fails when the folder cannot be written.
pub fn run(args: &DocsArgs) -> Result<Exit, CliError> {
    write(&args.out).map_err(|error| {
        let out = args.out.display();
        CliError::new(
            Exit::CannotCreate,
            anyhow!("cannot write to {out}: {error}; name another folder with --out"),
        )
    })?;
    Ok(Exit::Done)
}

fn write(out: &Path) -> io::Result<()> {
    fs::create_dir_all(out.join(MAN_FOLDER))?;
    let mut all = Cli::command().disable_help_subcommand(true);
    all.build();
    let shown = all.get_subcommands().filter(|c| !c.is_hide_set());
    for command in std::iter::once(&all).chain(shown) {
        let source = concat!("handloom ", env!("CARGO_PKG_VERSION"));
        let man = Man::new(command.clone()).source(source);
        let mut page = Vec::new();
        man.render(&mut page)?;
        let page = with_examples_as_they_stand(&String::from_utf8_lossy(&page));
        write_whole(
            out,
            &format!("{MAN_FOLDER}/{}", man.get_filename()),
            page.as_bytes(),
        )?;
    }
    for (shell, place) in COMPLETIONS {
        let path = out.join(place);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut without_hidden(), "handloom", &mut script);
        write_whole(out, place, &script)?;
    }
    Ok(())
}

/// Folder of the man pages.
const MAN_FOLDER: &str = "man/man1";

/// The command line without hidden subcommands, which completions would offer too.
fn without_hidden() -> Command {
    let all = Cli::command();
    let shown = all
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    Command::new("handloom")
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments().cloned())
        .subcommands(shown.cloned())
}

/// Indented lines of a page are examples, which must not be filled or broken.
fn with_examples_as_they_stand(page: &str) -> String {
    let mut out = String::with_capacity(page.len() + 64);
    let mut was_example = false;
    for line in page.lines() {
        let is_example = line.starts_with("  ");
        if is_example != was_example {
            out.push_str(if is_example { ".nf\n" } else { ".fi\n" });
        }
        was_example = is_example;
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_not_filled() {
        let check = |page: &str, expected: &str| {
            assert_eq!(with_examples_as_they_stand(page), expected, "{page:?}");
        };
        check("", "");
        check("a\nb\n", "a\nb\n");
        check("a\n  b\n  c\nd\n", "a\n.nf\n  b\n  c\n.fi\nd\n");
    }

    #[test]
    fn what_is_hidden_is_not_completed() {
        without_hidden().debug_assert();
        let names: Vec<String> = without_hidden()
            .get_subcommands()
            .map(|c| c.get_name().to_owned())
            .collect();
        assert!(names.contains(&"process".to_owned()), "{names:?}");
        assert!(!names.contains(&"docs".to_owned()), "{names:?}");
    }
}
