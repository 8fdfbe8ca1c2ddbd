//! What the flags of `process` are called in a config: errors of the rooms name flags, and whoever has a config reads
//! keys.

use crate::exit::{Exit, Failure};
use crate::store::StoreError;
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

/// What errors of takes say otherwise: their folder has a key of its own, and starting over is not a flag's matter.
const OF_TAKES: [(&str, &str); 4] = [
    (
        "choose another output folder, or replace them with --fresh",
        "choose another camera.path, or move the folder away",
    ),
    (
        "--fresh starts over, or move the file away to keep it",
        "move the folder away to start over",
    ),
    ("choose another output folder", "choose another camera.path"),
    ("--out", "camera.path"),
];

/// `text` of takes with the keys of the config in place of flags.
pub(super) fn takes_in_keys(text: &str) -> String {
    let replace = |text: String, (flag, key): &(&str, &str)| text.replace(flag, key);
    in_keys(&OF_TAKES.iter().fold(text.to_owned(), replace))
}

/// `error` of takes as a command line has it, which cannot start over.
pub(super) fn in_flags(error: StoreError) -> Failure {
    let text = error.to_string();
    let replace = |text: String, (flag, key): &(&str, &str)| {
        text.replace(flag, &key.replace("camera.path", "--out"))
    };
    let told = OF_TAKES.iter().fold(text.clone(), replace);
    let failure = Failure::from(error);
    if told == text {
        return failure;
    }
    Failure::new(failure.exit, anyhow!(told))
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
    use std::io::ErrorKind;

    #[test]
    fn a_daemon_names_keys() {
        let missing = Failure::new(Exit::Usage, anyhow!("no such decoder: say --decoder auto"));
        let told = of_config(&missing);
        assert_eq!(told.exit, Exit::Config);
        assert_eq!(told.story(), "no such decoder: say run.decoder = auto");
        assert_eq!(in_keys("say --trust-models"), "say models.trust = true");
    }

    #[test]
    fn a_daemon_with_a_camera_names_the_keys_of_takes() {
        let path = || "takes".into();
        let reason = || "x".to_owned();
        let errors = [
            StoreError::Occupied {
                path: path(),
                difference: reason(),
                is_dataset: false,
            },
            StoreError::BadLedger {
                path: path(),
                reason: reason(),
            },
            StoreError::Write {
                path: path(),
                source: ErrorKind::StorageFull.into(),
            },
        ];
        for error in errors {
            let told = takes_in_keys(&error.to_string());
            assert!(!told.contains("--"), "{told}");
            let told = in_flags(error).story();
            assert!(!told.contains("--fresh"), "{told}");
        }
        assert_eq!(takes_in_keys("say --models"), "say models.path");
    }
}
