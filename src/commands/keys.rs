//! What the flags of `process` are called in a config: errors of the rooms name flags, and whoever has a config reads
//! keys.

use crate::exit::{Exit, Failure};
use anyhow::anyhow;

/// The flags that errors name, and the keys that stand for them.
const FLAGS: [(&str, &str); 9] = [
    ("--trust-models", "models.trust = true"),
    ("--palm-model", "models.palm"),
    ("--hand-model", "models.hand"),
    ("--models", "models.path"),
    ("--decoder", "run.decoder ="),
    ("--json", "dataset.json"),
    ("--videos", "dataset.videos"),
    ("--selected-glosses", "plan.selected_glosses"),
    ("--out", "output.path"),
];

/// `text` with the keys of the config in place of flags.
pub(super) fn in_keys(text: &str) -> String {
    FLAGS
        .iter()
        .fold(text.to_owned(), |text, (flag, key)| text.replace(flag, key))
}

/// `failure` as its config's owner needs it: what is wrong on a command line is wrong in the config.
pub(super) fn of_config(failure: &Failure) -> Failure {
    let exit = match failure.exit {
        Exit::Usage => Exit::Config,
        exit => exit,
    };
    Failure::new(exit, anyhow!(in_keys(&failure.story())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_names_keys() {
        let missing = Failure::new(Exit::Usage, anyhow!("no such decoder: say --decoder auto"));
        let told = of_config(&missing);
        assert_eq!(told.exit, Exit::Config);
        assert_eq!(told.story(), "no such decoder: say run.decoder = auto");
        assert_eq!(in_keys("say --trust-models"), "say models.trust = true");
    }
}
