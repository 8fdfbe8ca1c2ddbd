//! Hints how to fix an error, in the terms of its audience: a command line has flags, a config has keys. The modules know
//! neither: their errors give the reason, and a fix where it does not depend on the audience.

use crate::dataset::plan::Warning;
use crate::dataset::wlasl::MetadataError;
use crate::error::{CliError, Exit};
use crate::http::PreviewError;
use crate::inference::{ModelFileError, SelectionError};
use crate::storage::{KeptResultsError, StoreError};
use crate::video::dataset_source::DatasetError;
use crate::video::decoder::DecoderError;
use std::error::Error;

/// Who reads an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The user of a command.
    Flags,
    /// The user of `handloom camera`, whose takes are never replaced.
    TakesFlags,
    /// The owner of a config.
    Keys,
    /// The owner of a config, about the directory of the takes.
    TakesKeys,
}

impl Audience {
    /// `error` with its hint.
    #[must_use]
    pub fn describe(self, error: &(dyn Error + 'static)) -> String {
        format!("{}{error}{}", self.before(error), self.after(error))
    }

    /// `failure` and its causes, with their hints.
    #[must_use]
    pub fn display_chain(self, failure: &CliError) -> String {
        let mut text = failure.display_chain();
        for cause in failure.error.chain() {
            text = format!("{}{text}{}", self.before(cause), self.after(cause));
        }
        text
    }

    /// `failure` with its hints, as it is reported to the user. A usage error in a config gets the exit code of a config
    /// error.
    #[must_use]
    pub fn with_hint(self, failure: CliError) -> CliError {
        let exit = match failure.exit {
            Exit::Usage if self.has_config() => Exit::Config,
            exit => exit,
        };
        let text = self.display_chain(&failure);
        CliError::new(exit, failure.error.context(text))
    }

    fn has_config(self) -> bool {
        matches!(self, Self::Keys | Self::TakesKeys)
    }

    fn is_of_takes(self) -> bool {
        matches!(self, Self::TakesFlags | Self::TakesKeys)
    }

    /// The name of a setting.
    fn name(self, flag: &'static str, key: &'static str) -> &'static str {
        if self.has_config() { key } else { flag }
    }

    /// The setting of the output directory.
    fn output(self) -> &'static str {
        match self {
            Self::TakesKeys => "camera.path",
            _ => self.name("--out", "output.path"),
        }
    }

    fn before(self, error: &(dyn Error + 'static)) -> &'static str {
        match error.downcast_ref() {
            Some(DecoderError::Unknown { .. }) => self.name("--decoder ", "run.decoder = "),
            _ => "",
        }
    }

    fn after(self, error: &(dyn Error + 'static)) -> String {
        if let Some(error) = error.downcast_ref::<StoreError>() {
            self.of_store(error)
        } else if let Some(error) = error.downcast_ref::<ModelFileError>() {
            self.of_models(error)
        } else if let Some(error) = error.downcast_ref::<DatasetError>() {
            self.of_dataset(error)
        } else if let Some(Warning::TooFewVideos(_)) = error.downcast_ref() {
            let name = self.name("--min-videos-per-gloss", "plan.min_videos_per_gloss");
            format!(": lower {name} to keep it")
        } else if let Some(SelectionError::Gone(_)) = error.downcast_ref() {
            let output = self.output();
            if self.is_of_takes() {
                format!("\nmake it work again, or choose another {output}")
            } else {
                format!("\nmake it work again, choose another {output}, or start over with --fresh")
            }
        } else if let Some(error) = error.downcast_ref::<KeptResultsError>() {
            of_kept_results(error)
        } else if error.is::<PreviewError>() {
            "; choose another --preview HOST:PORT".to_owned()
        } else {
            String::new()
        }
    }

    fn of_store(self, error: &StoreError) -> String {
        let output = self.output();
        let is_of_takes = self.is_of_takes();
        match error {
            StoreError::Write { .. } | StoreError::Unknown { .. } | StoreError::Locked { .. } => {
                format!(", or choose another {output}")
            }
            StoreError::TooLong { .. } | StoreError::NoLocks { .. } => format!(" with {output}"),
            StoreError::Create { .. } | StoreError::Undivided { .. } => {
                format!("; choose another {output}")
            }
            StoreError::OtherPlan { .. } => {
                format!("; start each with --fresh, or choose another {output} for all")
            }
            StoreError::Occupied { .. } | StoreError::Merged { .. } if is_of_takes => {
                format!("; choose another {output}, or move the folder away")
            }
            StoreError::Occupied { is_dataset, .. } => {
                let rescan = if *is_dataset {
                    "; --rescan keeps what has not changed"
                } else {
                    ""
                };
                format!("; choose another {output}, or replace them with --fresh{rescan}")
            }
            StoreError::Merged { .. } => {
                format!("; choose another {output}, or replace them with --fresh")
            }
            StoreError::BadLedger { .. } if is_of_takes => {
                "; move the folder away to start over".to_owned()
            }
            StoreError::BadLedger { .. } => {
                "; --fresh starts over, or move the file away to keep it".to_owned()
            }
            StoreError::Read { .. }
            | StoreError::Broken { .. }
            | StoreError::BadShard { .. }
            | StoreError::Ledger { .. }
            | StoreError::Link { .. }
            | StoreError::Lost { .. } => String::new(),
        }
    }

    fn of_models(self, error: &ModelFileError) -> String {
        let models = self.name("--models", "models.path");
        match error {
            ModelFileError::Missing { role, .. } => {
                let file = if self.has_config() {
                    format!("models.{role}")
                } else {
                    format!("--{role}-model")
                };
                format!(", or name a .tflite or hand_landmarker.task file with {file} or {models}")
            }
            ModelFileError::NoModels(_) => {
                format!(", or name the folder or hand_landmarker.task file with {models}")
            }
            ModelFileError::Hash(_) => {
                let trust = self.name("--trust-models", "models.trust = true");
                format!(", or set {trust} to accept it")
            }
            _ => String::new(),
        }
    }

    fn of_dataset(self, error: &DatasetError) -> String {
        let (is_found, name) = match error {
            DatasetError::NoJson { candidates, .. } => {
                (!candidates.json_files.is_empty(), self.json())
            }
            DatasetError::NoVideos { candidates, .. } => {
                let name = self.name("--videos DIR", "dataset.videos");
                (!candidates.video_folders.is_empty(), name)
            }
            DatasetError::Metadata {
                source: MetadataError::SplitList { .. },
                ..
            } => return format!(", with {}", self.json()),
            _ => return String::new(),
        };
        let hint = if is_found { "choose one" } else { "name it" };
        format!("\n{hint} with {name}")
    }

    fn json(self) -> &'static str {
        self.name("--metadata FILE", "dataset.json")
    }
}

/// Only users of commands get this error, so its hint names flags.
fn of_kept_results(error: &KeptResultsError) -> String {
    let again = "process the dataset";
    match error {
        KeptResultsError::NotFinished { .. } => {
            format!("; {again} into it to the end, with --keep-frames")
        }
        KeptResultsError::NotKept { .. } => {
            format!("; {again} with --keep-frames, or with the options that are wanted")
        }
        KeptResultsError::Changed { .. } => format!(
            "; restore it from a copy, or {again} with --keep-frames into the same folder, which reads its clips again"
        ),
        KeptResultsError::OverLimit { .. } => format!(
            "; {again} with --keep-frames and without --max-samples-per-gloss, or with the options that are wanted"
        ),
        KeptResultsError::OtherPlan { profile, .. } => {
            format!("; {again} with --profile {profile}")
        }
        KeptResultsError::SameFolder { .. } => "; choose another --out".to_owned(),
        KeptResultsError::Shards { .. }
        | KeptResultsError::Partial { .. }
        | KeptResultsError::Store(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::model_files::ModelRole;
    use std::io::ErrorKind;

    const ALL: [Audience; 4] = [
        Audience::Flags,
        Audience::TakesFlags,
        Audience::Keys,
        Audience::TakesKeys,
    ];

    /// Checks how the description for each of [`ALL`] ends.
    fn check(error: &(dyn Error + 'static), ends: [&str; 4]) {
        for (audience, end) in ALL.into_iter().zip(ends) {
            let text = audience.describe(error);
            assert!(text.ends_with(end), "{audience:?}: {text}");
        }
    }

    #[test]
    fn a_backend_of_earlier_results_that_is_gone_has_a_hint() {
        let fresh = "or start over with --fresh";
        let ends = [fresh, "another --out", fresh, "another camera.path"];
        check(&SelectionError::Gone("gone".to_owned()), ends);
    }

    #[test]
    fn each_reader_has_its_own_words_for_the_output() {
        let path = || "out".into();
        let full = StoreError::Write {
            path: path(),
            source: ErrorKind::StorageFull.into(),
        };
        let ends = ["--out", "--out", "output.path", "camera.path"];
        check(
            &full,
            ends.map(|name| format!("(`df -h`, `df -i`), or choose another {name}"))
                .each_ref()
                .map(String::as_str),
        );
        let occupied = |is_dataset| StoreError::Occupied {
            path: path(),
            difference: "x".to_owned(),
            is_dataset,
        };
        let ends = [
            "(x); choose another --out, or replace them with --fresh",
            "(x); choose another --out, or move the folder away",
            "(x); choose another output.path, or replace them with --fresh",
            "(x); choose another camera.path, or move the folder away",
        ];
        check(&occupied(false), ends);
        assert!(
            Audience::Flags
                .describe(&occupied(true))
                .contains("; --rescan")
        );
        let bad = StoreError::BadLedger {
            path: path(),
            reason: "x".to_owned(),
        };
        let [job, takes] = [
            "x; --fresh starts over, or move the file away to keep it",
            "x; move the folder away to start over",
        ];
        check(&bad, [job, takes, job, takes]);
    }

    #[test]
    fn each_reader_has_its_own_words_for_models_and_glosses() {
        let missing = ModelFileError::Missing {
            role: ModelRole::Palm,
            path: "x".into(),
        };
        let [flags, keys] = [
            "with --palm-model or --models",
            "with models.palm or models.path",
        ];
        check(&missing, [flags, flags, keys, keys]);
        let few = Warning::TooFewVideos("1 clips on disk, 2 are needed".to_owned());
        let [flags, keys] = [
            "2 are needed: lower --min-videos-per-gloss to keep it",
            "lower plan.min_videos_per_gloss to keep it",
        ];
        check(&few, [flags, flags, keys, keys]);
    }

    #[test]
    fn an_error_gets_its_hint_once_and_keeps_its_type() {
        let unknown = DecoderError::Unknown {
            name: "x".to_owned(),
        };
        let hinted = Audience::Keys.with_hint(CliError::new(Exit::Usage, unknown));
        assert_eq!(hinted.exit, Exit::Config);
        assert!(hinted.error.is::<DecoderError>());
        let text = hinted.display_chain();
        assert!(text.starts_with("run.decoder = x: no such"), "{text}");
        assert_eq!(text.matches("no such").count(), 1, "{text}");
        let split = DatasetError::Metadata {
            path: "a.json".into(),
            source: MetadataError::SplitList {
                video_id: "1".to_owned(),
            },
        };
        let inner = anyhow::Error::new(split).context("scan");
        let hinted = Audience::Flags.with_hint(CliError::new(Exit::Usage, inner));
        assert_eq!(hinted.exit, Exit::Usage);
        let text = hinted.display_chain();
        assert!(text.starts_with("scan: a.json: a list"), "{text}");
        assert!(text.ends_with("instead, with --metadata FILE"), "{text}");
    }
}
