//! The keys: the one list that file, environment, flags, printing and reloading go by.

use super::Config;
use super::backends;
use super::values::Shown;
use crate::config::constraints;
use crate::config::errors::Origin;
use crate::config::value_parsers::{Bool, Given, List, Optional, Rule};
use std::fmt::Write as _;

/// A key of the config.
#[derive(Debug)]
pub struct SettingKey {
    /// `section.key`.
    pub dotted: &'static str,
    /// Its section.
    pub section: &'static str,
    /// Its name within the section.
    pub name: &'static str,
    /// Whether a running daemon takes a change.
    pub is_live: bool,
    /// Whether its value must not be seen.
    pub is_secret: bool,
    /// Sets it.
    pub(super) set: fn(&mut Config, &Given) -> Result<(), String>,
    /// Its TOML literal, secrets hidden; `None` when unset.
    pub(super) show: fn(&Config) -> Option<String>,
    /// Whether two configs agree on it.
    pub(super) equals: fn(&Config, &Config) -> bool,
    /// Takes it from the second config into the first.
    pub(super) copy_from: fn(&mut Config, &Config),
}

impl PartialEq for SettingKey {
    fn eq(&self, other: &Self) -> bool {
        self.dotted == other.dotted
    }
}

fn equal<T: PartialEq>(a: &T, b: &T) -> bool {
    a == b
}

/// A row: `section.key`, whether a change needs a restart, the rule.
macro_rules! key {
    ($section:ident.$name:ident, $change:ident, $rule:expr) => {
        SettingKey {
            dotted: concat!(stringify!($section), ".", stringify!($name)),
            section: stringify!($section),
            name: stringify!($name),
            is_live: matches!(Change::$change, Change::Live),
            is_secret: false,
            set: |config, given| {
                config.$section.$name = $rule.read(given)?;
                Ok(())
            },
            show: |config| config.$section.$name.shown(),
            equals: |a, b| equal(&a.$section.$name, &b.$section.$name),
            copy_from: |to, from| to.$section.$name.clone_from(&from.$section.$name),
        }
    };
}

/// When a change takes effect.
enum Change {
    /// On reload.
    Live,
    /// With a new process: it decides numbers, or what is open.
    Restart,
}

/// All keys, in the order of the example file.
pub const KEYS: &[SettingKey] = &[
    key!(device.id, Restart, constraints::DeviceId),
    key!(dataset.path, Restart, constraints::FilePath),
    key!(dataset.json, Restart, Optional(constraints::FilePath)),
    key!(dataset.videos, Restart, Optional(constraints::FilePath)),
    key!(output.path, Restart, constraints::FilePath),
    key!(output.batch_size, Restart, constraints::BATCH_SIZE),
    key!(output.mirror, Live, Optional(constraints::FilePath)),
    key!(camera.device, Restart, Optional(constraints::CameraPlace)),
    key!(camera.path, Restart, Optional(constraints::FilePath)),
    key!(camera.width, Restart, constraints::SIDE),
    key!(camera.height, Restart, constraints::SIDE),
    key!(camera.fps, Restart, constraints::FPS),
    key!(camera.format, Restart, Optional(constraints::Pixels)),
    key!(camera.dataset_fps, Restart, constraints::FPS),
    key!(camera.start_frames, Restart, constraints::FRAMES),
    key!(camera.end_frames, Restart, constraints::FRAMES),
    key!(camera.min_seconds, Restart, constraints::PAUSE_S),
    key!(camera.max_seconds, Restart, constraints::SIGN_S),
    key!(camera.keep_unlabelled, Restart, Bool),
    key!(mqtt.url, Live, Optional(constraints::Url)),
    key!(mqtt.username, Live, Optional(constraints::Text)),
    SettingKey {
        is_secret: true,
        ..key!(mqtt.password, Live, Optional(constraints::Password))
    },
    key!(mqtt.password_file, Live, Optional(constraints::FilePath)),
    key!(mqtt.client_id, Live, constraints::Text),
    key!(mqtt.ca_file, Live, Optional(constraints::FilePath)),
    key!(mqtt.cert_file, Live, Optional(constraints::FilePath)),
    key!(mqtt.key_file, Live, Optional(constraints::FilePath)),
    key!(mqtt.keep_alive_s, Live, constraints::KEEP_ALIVE_S),
    key!(mqtt.reconnect_max_s, Live, constraints::RECONNECT_S),
    key!(mqtt.commands, Live, List(constraints::COMMAND)),
    key!(mqtt.home_assistant, Live, Bool),
    key!(mqtt.outbox_max_messages, Live, constraints::OUTBOX_MESSAGES),
    key!(mqtt.outbox_max_age_h, Live, constraints::OUTBOX_AGE_H),
    key!(plan.min_videos_per_gloss, Restart, constraints::COUNT),
    key!(
        plan.max_glosses,
        Restart,
        Optional(constraints::AT_LEAST_ONE)
    ),
    key!(plan.selected_glosses, Restart, List(constraints::Text)),
    key!(
        plan.max_samples_per_gloss,
        Restart,
        Optional(constraints::AT_LEAST_ONE)
    ),
    key!(sequence.profile, Restart, constraints::ProfileName),
    key!(sequence.sequence_length, Restart, constraints::LENGTH),
    key!(sequence.frame_stride, Restart, constraints::STRIDE),
    key!(sequence.min_frames, Restart, constraints::COUNT),
    key!(sequence.num_hands, Restart, constraints::HANDS),
    key!(
        sequence.min_hand_detection_confidence,
        Restart,
        constraints::PROBABILITY
    ),
    key!(
        sequence.min_hand_presence_confidence,
        Restart,
        constraints::PROBABILITY
    ),
    key!(
        sequence.min_tracking_confidence,
        Restart,
        constraints::PROBABILITY
    ),
    key!(sequence.tracking, Restart, Bool),
    key!(models.path, Restart, Optional(constraints::FilePath)),
    key!(models.palm, Restart, Optional(constraints::FilePath)),
    key!(models.hand, Restart, Optional(constraints::FilePath)),
    key!(models.trust, Restart, Bool),
    key!(run.workers, Live, Optional(constraints::WORKERS)),
    key!(run.accelerator, Restart, backends::AcceleratorWish),
    key!(run.accelerator_tolerance, Restart, constraints::TOLERANCE),
    key!(run.accelerator_timeout_s, Restart, constraints::TIMEOUT_S),
    key!(run.decoder, Restart, constraints::DecoderName),
    key!(run.clip_timeout_s, Restart, constraints::TIMEOUT_S),
    key!(delegate.name, Restart, backends::DelegateName),
    key!(delegate.library, Restart, Optional(constraints::FilePath)),
    key!(delegate.options, Restart, List(backends::DelegateOption)),
    key!(delegate.palm, Restart, Optional(constraints::FilePath)),
    key!(delegate.hand, Restart, Optional(constraints::FilePath)),
    key!(limits.temperature_max_c, Live, constraints::TEMPERATURE_C),
    key!(
        limits.temperature_resume_c,
        Live,
        constraints::TEMPERATURE_C
    ),
    key!(limits.memory_min_mib, Live, constraints::MIB_OR_OFF),
    key!(limits.memory_resume_mib, Live, constraints::MIB),
    key!(limits.disk_reserve_mib, Live, constraints::MIB_OR_OFF),
    key!(limits.disk_resume_mib, Live, constraints::MIB),
    key!(limits.interval_s, Live, constraints::INTERVAL_S),
    key!(log.level, Live, constraints::LEVEL),
];

/// The environment's variables, each with its key.
pub(super) fn variables() -> impl Iterator<Item = (String, &'static SettingKey)> {
    let short = [
        ("HANDLOOM_LOG", "log.level"),
        ("HANDLOOM_MODELS", "models.path"),
    ];
    let short = short
        .into_iter()
        .filter_map(|(name, dotted)| Some((name.to_owned(), find(dotted)?)));
    KEYS.iter().map(|key| (key.variable(), key)).chain(short)
}

impl SettingKey {
    /// The environment's variable for it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("HANDLOOM_{}_{}", self.section, self.name).to_ascii_uppercase()
    }
}

/// The key `section.key`.
pub(super) fn find(dotted: &str) -> Option<&'static SettingKey> {
    KEYS.iter().find(|key| key.dotted == dotted)
}

/// The sections, in order.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<&str> = KEYS.iter().map(|key| key.section).collect();
    sections.dedup();
    sections
}

/// Of `names`, the one that `wrong` was probably meant to be.
pub(super) fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let wrong: Vec<char> = wrong.chars().take(64).collect();
    let (distance, name) = names
        .map(|name| (distance(&wrong, name), name))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(wrong.len() / 4)).then_some(name)
}

/// Characters to insert, remove, replace or swap with their neighbour to make `right` of `wrong`.
fn distance(wrong: &[char], right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for (i, a) in wrong.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let replace = rows[i][j] + usize::from(a != b);
            let mut best = replace.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && wrong[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[wrong.len()][right.len()]
}

/// What differs between two configs, by `section.key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Can be swapped in a running daemon.
    pub live: Vec<&'static str>,
    /// Need a restart.
    pub restart: Vec<&'static str>,
}

impl Config {
    /// What a reload to `new` would change.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Changes {
        let mut changes = Changes::default();
        for key in KEYS.iter().filter(|key| !(key.equals)(self, new)) {
            if key.is_live {
                changes.live.push(key.dotted);
            } else {
                changes.restart.push(key.dotted);
            }
        }
        changes
    }

    /// This config with what a running daemon can take of `new`.
    #[must_use]
    pub fn with_live_of(&self, new: &Self) -> Self {
        let mut config = self.clone();
        for key in KEYS.iter().filter(|key| key.is_live) {
            (key.copy_from)(&mut config, new);
        }
        config
    }

    /// All settings as a config file, secrets hidden.
    #[must_use]
    pub fn to_toml(&self) -> String {
        self.to_toml_with(&[])
    }

    /// The same, with the place of what was not a default.
    pub(super) fn to_toml_with(&self, origins: &[(&'static str, Origin)]) -> String {
        let mut text = String::new();
        for section in sections() {
            let gap = if text.is_empty() { "" } else { "\n" };
            // Writing to a String cannot fail.
            writeln!(text, "{gap}[{section}]").ok();
            for key in KEYS.iter().filter(|key| key.section == section) {
                match (key.show)(self) {
                    Some(value) => write!(text, "{} = {value}", key.name).ok(),
                    None => write!(text, "# {} is not set", key.name).ok(),
                };
                if let Some((_, origin)) = origins.iter().find(|(k, _)| *k == key.dotted) {
                    write!(text, "  # {}", origin.to_string().escape_debug()).ok();
                }
                text.push('\n');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_stand_together() {
        let mut sections = sections();
        let count = sections.len();
        sections.sort_unstable();
        sections.dedup();
        assert_eq!(sections.len(), count);
        assert_eq!(count, 12);
    }

    #[test]
    fn misspelt_names_are_recognised() {
        let check = |wrong: &str, expected: Option<&str>| {
            let names = ["workers", "decoder", "clip_timeout_s"];
            assert_eq!(nearest(wrong, names.into_iter()), expected, "{wrong}");
        };
        check("worker", Some("workers"));
        check("wrokers", Some("workers"));
        check("clip_timeout", Some("clip_timeout_s"));
        check("temperature", None);
        check("", None);
    }

    #[test]
    fn changes_say_what_a_running_daemon_takes() {
        let old = Config::default();
        let mut new = old.clone();
        assert_eq!(old.changes(&new), Changes::default());
        new.limits.interval_s = 9.0;
        new.mqtt.password = Some(super::super::Secret::new("new".to_owned()));
        new.sequence.num_hands = 1;
        let changes = old.changes(&new);
        assert_eq!(changes.live, ["mqtt.password", "limits.interval_s"]);
        assert_eq!(changes.restart, ["sequence.num_hands"]);
    }
}
