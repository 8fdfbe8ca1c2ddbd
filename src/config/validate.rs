//! Completes a config with the defaults that follow from other settings or the machine and with secrets from their
//! files, then validates the settings together.

use super::errors::{Origin, Problem};
use super::keys::SettingKey;
use super::loader::ConfigBuilder;
use super::settings::{Config, TAKES};
use super::sources::{DEFAULT_FILE, Sources};
use super::values::Secret;
use crate::messages::request::CommandName;
use crate::messages::topics;
use crate::selection::CUSTOM;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// The credential with the broker's password.
const PASSWORD_CREDENTIAL: &str = "mqtt-password";

/// Default distance of the resume temperature from the highest temperature, °C.
const COOLING_C: f64 = 8.0;

/// Completes the config and records its problems.
pub(super) fn complete(builder: &mut ConfigBuilder, sources: &Sources) {
    required(builder, sources);
    derived(
        &mut builder.config,
        &builder.origins.keys().copied().collect::<Vec<_>>(),
        sources,
    );
    numbers(builder);
    delegate(builder);
    mirror(builder);
    secrets(builder, sources);
    broker(builder);
}

/// Settings that only the user can know.
fn required(builder: &mut ConfigBuilder, sources: &Sources) {
    let file = sources.file.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    for (key, why) in [
        (
            "dataset.path",
            "the daemon needs a dataset to read, or a camera in camera.device",
        ),
        ("output.path", "the daemon needs a folder to write to"),
    ] {
        // A daemon with a camera needs no dataset.
        let is_needed = key != "dataset.path" || !builder.origins.contains_key("camera.device");
        if let Some(known) = SettingKey::find(key)
            && is_needed
            && !builder.origins.contains_key(key)
            && builder.are_valid(&[key])
            // Of a file that cannot be parsed nobody knows what it sets.
            && !builder.problems.iter().any(|p| matches!(p, Problem::Syntax { .. }))
        {
            builder.problems.push(Problem::Missing {
                file: if sources.file.is_some() {
                    file.display().to_string()
                } else {
                    format!("{} (does not exist)", file.display())
                },
                key: known.dotted,
                why,
                variable: known.variable(),
            });
        }
    }
}

/// Defaults that follow from other settings or the machine.
fn derived(config: &mut Config, set: &[&str], sources: &Sources) {
    let is_unset = |key: &str| !set.contains(&key);
    if is_unset("device.id") {
        config.device.id = device_id(sources.host.as_deref().unwrap_or_default());
    }
    if is_unset("mqtt.client_id") {
        config.mqtt.client_id = format!("handloom-{}", config.device.id);
    }
    if is_unset("mqtt.commands") {
        // A snapshot shows people: only when the user allows it.
        let commands = CommandName::ALL
            .into_iter()
            .filter(|c| *c != CommandName::Snapshot);
        config.mqtt.commands = commands.map(|c| c.name().to_owned()).collect();
    }
    let limits = &mut config.limits;
    if is_unset("limits.temperature_resume_c") {
        limits.temperature_resume_c = limits.temperature_max_c - COOLING_C;
    }
    let half_more = |mib: u64| mib.saturating_add(mib.div_ceil(2)).max(1);
    if is_unset("limits.memory_resume_mib") {
        limits.memory_resume_mib = half_more(limits.memory_min_mib);
    }
    if is_unset("limits.disk_resume_mib") {
        limits.disk_resume_mib = half_more(limits.disk_reserve_mib);
    }
}

/// The device id of a host name.
fn device_id(host: &str) -> String {
    let fitting = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '-'
        }
    };
    let id: String = host.trim().chars().take(64).map(fitting).collect();
    if topics::is_device_id(&id) {
        id
    } else {
        "handloom".to_owned()
    }
}

/// Numbers that depend on each other.
fn numbers(builder: &mut ConfigBuilder) {
    let (s, l) = (&builder.config.sequence.hands, &builder.config.limits);
    let c = &builder.config.camera.segments;
    let checks = [
        (
            c.min_seconds <= c.max_seconds,
            "camera.min_seconds",
            "camera.max_seconds",
            "the first must not exceed the second, or no sign would be recorded",
        ),
        (
            s.min_frames <= s.sequence_length,
            "sequence.min_frames",
            "sequence.sequence_length",
            "the first must not exceed the second, or no clip would be accepted",
        ),
        (
            l.temperature_resume_c < l.temperature_max_c,
            "limits.temperature_resume_c",
            "limits.temperature_max_c",
            "the first must be lower, or workers would start and stop without end",
        ),
        (
            l.memory_resume_mib > l.memory_min_mib,
            "limits.memory_resume_mib",
            "limits.memory_min_mib",
            "the first must be higher, or workers would start and stop without end",
        ),
        (
            l.disk_resume_mib > l.disk_reserve_mib,
            "limits.disk_resume_mib",
            "limits.disk_reserve_mib",
            "the first must be higher, or the job would pause and resume without end",
        ),
    ];
    for (is_right, first, second, why) in checks {
        contradict(builder, !is_right, first, second, why);
    }
}

/// A custom delegate needs its library.
fn delegate(builder: &mut ConfigBuilder) {
    let config = &builder.config;
    let own = &config.delegate;
    let is_nameless = own.name == CUSTOM && own.library.is_none();
    let is_preferred = config.run.accelerator.preference.name() == Some(CUSTOM);
    for (is_meant, first) in [
        (is_preferred, "run.accelerator"),
        (!own.options.is_empty(), "delegate.options"),
        (own.palm.is_some(), "delegate.palm"),
        (own.hand.is_some(), "delegate.hand"),
    ] {
        if is_nameless && is_meant {
            contradict(
                builder,
                true,
                first,
                "delegate.library",
                "a custom delegate needs its library; set delegate.library, or delegate.name to a known delegate",
            );
            return;
        }
    }
}

/// Records a contradiction if `is_wrong` and neither side is invalid by itself.
fn contradict(
    builder: &mut ConfigBuilder,
    is_wrong: bool,
    first: &'static str,
    second: &'static str,
    why: &'static str,
) {
    if is_wrong && builder.are_valid(&[first, second]) {
        builder.problems.push(Problem::Contradiction {
            first: Box::new(builder.setting(first)),
            second: Box::new(builder.setting(second)),
            why,
        });
    }
}

/// A mirror inside the output would copy itself.
fn mirror(builder: &mut ConfigBuilder) {
    let output = &builder.config.output;
    let is_inside = output
        .mirror
        .as_ref()
        .is_some_and(|m| plain(m).starts_with(plain(&output.path)));
    contradict(
        builder,
        is_inside,
        "output.mirror",
        "output.path",
        "the mirror must not be the output folder or inside it; choose a folder on another medium",
    );
    let takes = plain(&builder.config.takes_path());
    let is_mixed = builder.config.camera.device.is_some()
        && builder.config.output.mirror.as_ref().is_some_and(|m| {
            takes.starts_with(plain(&m.join(TAKES))) || plain(m).starts_with(&takes)
        });
    contradict(
        builder,
        is_mixed && !is_inside,
        "output.mirror",
        "camera.path",
        "the mirror stores the takes in its folder camera, and the takes must not overlap it; choose another folder for one of them",
    );
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

/// Resolves the paths of secret files and reads the password.
fn secrets(builder: &mut ConfigBuilder, sources: &Sources) {
    let credentials = sources.credentials.as_deref();
    let folder = sources.file.as_deref().and_then(Path::parent);
    let mqtt = &mut builder.config.mqtt;
    for file in [
        &mut mqtt.password_file,
        &mut mqtt.ca_file,
        &mut mqtt.cert_file,
        &mut mqtt.key_file,
    ]
    .into_iter()
    .flatten()
    {
        let credential = credentials.map(|c| c.join(&*file)).filter(|p| p.exists());
        let beside = || folder.map_or_else(|| file.clone(), |f| f.join(&*file));
        *file = credential.unwrap_or_else(beside);
    }
    let (has_password, in_url) = (
        mqtt.password.is_some(),
        mqtt.url
            .as_ref()
            .is_some_and(|url| url.address().password.is_some()),
    );
    if has_password {
        warn_of_readers(builder, "mqtt.password");
    }
    if in_url {
        warn_of_readers(builder, "mqtt.url");
    }
    let mqtt = &builder.config.mqtt;
    let credential = credentials
        .map(|c| c.join(PASSWORD_CREDENTIAL))
        .filter(|p| p.is_file());
    let (path, origin) = match (&mqtt.password_file, credential) {
        _ if has_password => return,
        (Some(path), _) => match builder.origins.get("mqtt.password_file") {
            Some(origin) => (path.clone(), origin.clone()),
            None => return,
        },
        (None, Some(path)) if mqtt.url.is_some() && !in_url => {
            (path.clone(), Origin::Credential(path))
        }
        _ => return,
    };
    match password(&path) {
        Ok(password) => {
            builder.config.mqtt.password = Some(password);
            builder.origins.insert("mqtt.password", origin);
            if is_readable_by_all(&path) {
                builder.warnings.push(format!(
                    "{}: everybody on this machine can read the password; chmod 640 it",
                    path.display()
                ));
            }
        }
        Err(reason) => builder.problems.push(Problem::PasswordFile {
            origin,
            path,
            reason,
        }),
    }
}

/// The password in `path`.
fn password(path: &Path) -> Result<Secret, String> {
    let failed = |error: std::io::Error| error.to_string();
    // A pipe would block on opening.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    Secret::in_file(path).map_err(failed)
}

/// Warns when `key` holds a password in a file that everybody can read.
fn warn_of_readers(builder: &mut ConfigBuilder, key: &str) {
    if let Some(Origin::File(place)) = builder.origins.get(key)
        && is_readable_by_all(&place.path)
    {
        builder.warnings.push(format!(
            "{place}: everybody on this machine can read the password in {key}; chmod 640 the file, or use mqtt.password_file"
        ));
    }
}

fn is_readable_by_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.mode() & 0o004 != 0)
}

/// The settings of the broker.
fn broker(builder: &mut ConfigBuilder) {
    let m = &builder.config.mqtt;
    let Some(url) = &m.url else {
        let is_of_broker = |key: &&str| key.starts_with("mqtt.") && *key != "mqtt.url";
        let idle: Vec<&str> = builder
            .origins
            .keys()
            .copied()
            .filter(is_of_broker)
            .collect();
        if !idle.is_empty() && builder.are_valid(&["mqtt.url"]) {
            builder.warnings.push(format!(
                "mqtt.url is not set, so these have no effect: {}",
                idle.join(", ")
            ));
        }
        return;
    };
    let address = url.address();
    let is_tls = address.tls;
    let (has_user, has_password) = (address.username.is_some(), address.password.is_some());
    let is_file = builder.origins.get("mqtt.password") == builder.origins.get("mqtt.password_file");
    let (cert, key) = (m.cert_file.is_some(), m.key_file.is_some());
    let user = has_user || m.username.is_some();
    let (own, file) = (m.password.is_some() && !is_file, m.password_file.is_some());
    let (ca, username) = (m.ca_file.is_some(), m.username.is_some());
    let plain = "TLS files need an mqtts:// URL; write mqtts:// or remove the file";
    let double = "user and password are set twice; remove them from the URL";
    for (is_wrong, first, second, why) in [
        (!is_tls && ca, "mqtt.ca_file", "mqtt.url", plain),
        (!is_tls && cert, "mqtt.cert_file", "mqtt.url", plain),
        (!is_tls && key, "mqtt.key_file", "mqtt.url", plain),
        (has_user && username, "mqtt.username", "mqtt.url", double),
        (has_password && own, "mqtt.password", "mqtt.url", double),
        (
            has_password && file,
            "mqtt.password_file",
            "mqtt.url",
            double,
        ),
        (
            own && file,
            "mqtt.password",
            "mqtt.password_file",
            "the password is set twice; remove one of them",
        ),
        (
            m.password.is_some() && !user,
            "mqtt.password",
            "mqtt.username",
            "MQTT needs a user name with a password; set the second",
        ),
        (
            cert && !key,
            "mqtt.cert_file",
            "mqtt.key_file",
            "a certificate needs its key; set both",
        ),
        (
            key && !cert,
            "mqtt.key_file",
            "mqtt.cert_file",
            "a key needs its certificate; set both",
        ),
    ] {
        contradict(builder, is_wrong, first, second, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_host_name_makes_a_device_id() {
        let check = |host: &str, id: &str| assert_eq!(device_id(host), id, "{host}");
        check("pi-lab-3.local", "pi-lab-3.local");
        check("küche pi", "k-che-pi");
        check("", "handloom");
        check(&"x".repeat(300), &"x".repeat(64));
    }

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
