//! Validates the settings together. Every rule names two settings that exclude each other.

use super::errors::Problem;
use super::loader::ConfigBuilder;
use super::settings::{Config, TAKES};
use crate::selection::CUSTOM;
use crate::sequence::options::{Mirroring, Sampling, Slots};
use clap::{Arg, CommandFactory};
use std::path::{Component, Path, PathBuf};

/// Whether a rule is broken, its two keys, and the message.
type Rule = (bool, &'static str, &'static str, &'static str);

/// Records every rule that the config breaks, and settings without effect.
pub(super) fn validate(builder: &mut ConfigBuilder) {
    let is_inline =
        builder.origins.get("mqtt.password") != builder.origins.get("mqtt.password_file");
    let config = &builder.config;
    let rules = [
        numbers(config),
        sequence(config),
        folders(config),
        vec![shard(config)],
        broker(config, is_inline),
    ];
    // One is enough for a delegate without a library.
    let delegate = delegate(config)
        .into_iter()
        .find(|(is_broken, ..)| *is_broken);
    for (is_broken, first, second, why) in rules.into_iter().flatten().chain(delegate) {
        if is_broken && builder.are_valid(&[first, second]) {
            let (first, second) = (builder.describe(first), builder.describe(second));
            let message = format!("{first} and {second}: {why}");
            builder.problems.push(Problem::new(message));
        }
    }
    let is_of_broker = |key: &&str| key.starts_with("mqtt.") && *key != "mqtt.url";
    let idle: Vec<&str> = builder
        .origins
        .keys()
        .copied()
        .filter(is_of_broker)
        .collect();
    if builder.config.mqtt.url.is_none() && !idle.is_empty() && builder.are_valid(&["mqtt.url"]) {
        let idle = idle.join(", ");
        builder.warnings.push(format!(
            "mqtt.url is not set, so these have no effect: {idle}"
        ));
    }
}

impl Config {
    /// The first two flags of a command that exclude each other, with their values, and why.
    #[must_use]
    pub fn flag_conflict(&self) -> Option<String> {
        let mut rules = numbers(self)
            .into_iter()
            .chain(sequence(self))
            .chain([preferred_delegate(self)]);
        let (_, first, second, why) = rules.find(|(is_broken, ..)| *is_broken)?;
        let (command, literals) = (Self::command(), self.literals());
        let describe = |key: &str| {
            let arg = command.get_arguments().find(|arg| arg.get_id() == key);
            let flag = arg.and_then(Arg::get_long).unwrap_or(key);
            let value = literals.get(key).map(|value| format!(" {value}"));
            format!("--{flag}{}", value.unwrap_or_default())
        };
        Some(format!(
            "{} and {}: {why}",
            describe(first),
            describe(second)
        ))
    }
}

/// Numbers that depend on each other.
fn numbers(config: &Config) -> Vec<Rule> {
    let (hands, segments) = (&config.sequence.hands, &config.camera.segments);
    let limits = &config.limits;
    vec![
        (
            segments.min_seconds > segments.max_seconds,
            "camera.min_seconds",
            "camera.max_seconds",
            "the first must not exceed the second, or no sign would be recorded",
        ),
        (
            hands.rows.min_frames > hands.rows.sequence_length,
            "sequence.min_frames",
            "sequence.sequence_length",
            "the first must not exceed the second, or no clip would be accepted",
        ),
        (
            limits.temperature_resume_c >= limits.temperature_max_c,
            "limits.temperature_resume_c",
            "limits.temperature_max_c",
            "the first must be lower, or workers would start and stop without end",
        ),
        (
            limits.memory_resume_mib <= limits.memory_min_mib,
            "limits.memory_resume_mib",
            "limits.memory_min_mib",
            "the first must be higher, or workers would start and stop without end",
        ),
        (
            limits.disk_resume_mib <= limits.disk_reserve_mib,
            "limits.disk_resume_mib",
            "limits.disk_reserve_mib",
            "the first must be higher, or the job would pause and resume without end",
        ),
    ]
}

/// Options of a sequence that contradict each other. The profile is named where the other option is its default.
fn sequence(config: &Config) -> Vec<Rule> {
    let (numbers, frames) = (&config.sequence.numbers, &config.sequence.frames);
    let hands = &config.sequence.hands;
    let (options, own) = (config.sequence.options(), Config::default().sequence.hands);
    let origin = |is_set: bool, key| if is_set { key } else { "sequence.profile" };
    let sampling = origin(frames.sampling.is_some(), "sequence.sampling");
    let has_dataset = !config.dataset.path.as_os_str().is_empty();
    let is_strided = options.sampling == Sampling::Stride;
    let is_for_camera = config.camera.device.is_some() && !has_dataset;
    let camera = "a take has no frame range, and it is cut in time already; remove the first";
    vec![
        (
            numbers.max_gap.is_some() && !options.missing.interpolates(),
            "sequence.max_gap",
            origin(numbers.missing.is_some(), "sequence.missing"),
            "gaps are filled only where missing is interpolate or interpolate_nan; set it, or remove the first",
        ),
        (
            options.mirror == Mirroring::Dominant && options.slots == Slots::Detected,
            "sequence.mirror",
            origin(numbers.slots.is_some(), "sequence.slots"),
            "the dominant hand is known only where slots are sides; set them, or remove the first",
        ),
        (
            has_dataset && !is_strided && hands.rows.frame_stride != own.rows.frame_stride,
            "sequence.frame_stride",
            sampling,
            "only sampling by stride skips frames; set sampling to stride, or remove the first",
        ),
        (
            has_dataset && !is_strided && hands.rows.sequence_length < 2,
            "sequence.sequence_length",
            sampling,
            "the first and the last frame are both in a sequence; set a length of 2 or more",
        ),
        (
            config.sequence.tracking && config.output.frames.keep_frames,
            "sequence.tracking",
            "output.keep_frames",
            "tracking finds hands from frame to frame that are sampled, and kept frames are all read each by itself; remove one",
        ),
        (
            is_for_camera && frames.sampling.is_some(),
            "sequence.sampling",
            "camera.device",
            camera,
        ),
        (
            is_for_camera && frames.frame_range.is_some(),
            "sequence.frame_range",
            "camera.device",
            camera,
        ),
    ]
}

/// A preferred delegate needs its library.
fn preferred_delegate(config: &Config) -> Rule {
    let is_preferred = config.run.accelerator.preference.name() == Some(CUSTOM);
    needs_library(config, is_preferred, "run.accelerator")
}

fn needs_library(config: &Config, is_set: bool, key: &'static str) -> Rule {
    let why = "a delegate needs its library; set the second";
    let has_no_library = config.delegate.library.is_none();
    (has_no_library && is_set, key, "delegate.library", why)
}

/// A delegate needs its library.
fn delegate(config: &Config) -> [Rule; 4] {
    let (delegate, rule) = (&config.delegate, |is_set, key| {
        needs_library(config, is_set, key)
    });
    [
        preferred_delegate(config),
        rule(!delegate.options.is_empty(), "delegate.options"),
        rule(delegate.palm.is_some(), "delegate.palm"),
        rule(delegate.hand.is_some(), "delegate.hand"),
    ]
}

/// The folder of a shard gets another name when it is whole.
fn shard(config: &Config) -> Rule {
    let has_takes = config.camera.device.is_some() && config.camera.path.is_none();
    let why = "the folder of a shard is no place for takes; set the second";
    let is_broken = config.run.shard.is_some() && has_takes;
    (is_broken, "run.shard", "camera.path", why)
}

/// A mirror inside the output would copy itself.
fn folders(config: &Config) -> Vec<Rule> {
    let Some(mirror) = &config.output.mirror else {
        return Vec::new();
    };
    let (output, takes) = (plain(&config.output.path), plain(&config.takes_path()));
    let is_inside = plain(mirror).starts_with(output);
    let overlaps =
        takes.starts_with(plain(&mirror.join(TAKES))) || plain(mirror).starts_with(&takes);
    vec![
        (
            is_inside,
            "output.mirror",
            "output.path",
            "the mirror must not be the output folder or inside it; choose a folder on another medium",
        ),
        (
            config.camera.device.is_some() && overlaps && !is_inside,
            "output.mirror",
            "camera.path",
            "the mirror stores the takes in its folder camera, and the takes must not overlap it; choose another folder for one of them",
        ),
    ]
}

/// `path` from the root, without `..`; links resolved as far as it exists.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    // Without a working folder relative paths are compared as written.
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for part in whole.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
        // A path that does not exist stays as written.
        plain = plain.canonicalize().unwrap_or(plain);
    }
    plain
}

/// Address, login and TLS of the broker. `is_inline`: the password does not come from `password_file`.
fn broker(config: &Config, is_inline: bool) -> Vec<Rule> {
    let mqtt = &config.mqtt;
    let Some(url) = &mqtt.url else {
        return Vec::new();
    };
    let address = url.address();
    let (has_user, has_password) = (address.username.is_some(), address.password.is_some());
    let is_plain = |file: &Option<PathBuf>| !address.tls && file.is_some();
    let has_own = mqtt.password.is_some() && is_inline;
    let (has_file, has_name) = (mqtt.password_file.is_some(), mqtt.username.is_some());
    let (cert, key) = (mqtt.cert_file.is_some(), mqtt.key_file.is_some());
    let tls = "TLS files need an mqtts:// URL; write mqtts:// or remove the file";
    let double = "user and password are set twice; remove them from the URL";
    let twice = "the password is set twice; remove one of them";
    let name = "MQTT needs a user name with a password; set the second";
    let pair = "a certificate and its key need each other; set both";
    vec![
        (is_plain(&mqtt.ca_file), "mqtt.ca_file", "mqtt.url", tls),
        (is_plain(&mqtt.cert_file), "mqtt.cert_file", "mqtt.url", tls),
        (is_plain(&mqtt.key_file), "mqtt.key_file", "mqtt.url", tls),
        (has_user && has_name, "mqtt.username", "mqtt.url", double),
        (has_password && has_own, "mqtt.password", "mqtt.url", double),
        (
            has_password && has_file,
            "mqtt.password_file",
            "mqtt.url",
            double,
        ),
        (
            has_own && has_file,
            "mqtt.password",
            "mqtt.password_file",
            twice,
        ),
        (
            mqtt.password.is_some() && !has_user && !has_name,
            "mqtt.password",
            "mqtt.username",
            name,
        ),
        (cert && !key, "mqtt.cert_file", "mqtt.key_file", pair),
        (key && !cert, "mqtt.key_file", "mqtt.cert_file", pair),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn paths_are_compared_by_where_they_lead() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("out")).unwrap();
        std::os::unix::fs::symlink(root.join("out"), root.join("link")).unwrap();
        let check = |path: &str, inside: bool| {
            let path = plain(&root.join(path));
            assert_eq!(
                path.starts_with(plain(&root.join("out"))),
                inside,
                "{}",
                path.display()
            );
        };
        check("out", true);
        check("out/deep/er", true);
        check("./x/../out/", true);
        check("link/new", true);
        check("out2", false);
        check("out/../mirror", false);
        check("", false);
    }
}
