//! Completes a config: defaults that follow from other settings or the machine, and secrets from their files.

use super::errors::{Origin, Problem};
use super::keys::variable;
use super::loader::ConfigBuilder;
use super::settings::Config;
use super::sources::{DEFAULT_FILE, Sources};
use super::values::{BrokerUrl, Secret};
use crate::messages::request::CommandName;
use crate::messages::topics;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The credential with the broker's password.
const PASSWORD_CREDENTIAL: &str = "mqtt-password";

/// Default distance of the resume temperature from the highest temperature, °C.
const COOLING_C: f64 = 8.0;

/// Completes the config and records what is missing.
pub(super) fn complete(builder: &mut ConfigBuilder, sources: &Sources) {
    required(builder, sources);
    let set: Vec<&str> = builder.origins.keys().copied().collect();
    derived(&mut builder.config, &set, sources);
    secrets(builder, sources);
    let mqtt = &builder.config.mqtt;
    if let Some(address) = mqtt.url.as_ref().map(BrokerUrl::address)
        && (mqtt.password.is_some() || address.password.is_some())
        && let Some(warning) = address.plain_password_warning()
    {
        builder.warnings.push(format!("mqtt.url: {warning}"));
    }
}

/// Settings that only the user can know.
fn required(builder: &mut ConfigBuilder, sources: &Sources) {
    // A daemon with a camera needs no dataset.
    if !builder.origins.contains_key("camera.device") {
        let why = "the daemon needs a dataset to read, or a camera in camera.device";
        require(builder, sources, "dataset.path", why);
    }
    let why = "the daemon needs a folder to write to";
    require(builder, sources, "output.path", why);
}

/// Records that `key` is not set, unless the file may set it in a way that cannot be read.
fn require(builder: &mut ConfigBuilder, sources: &Sources, key: &'static str, why: &str) {
    if builder.origins.contains_key(key) || builder.has_syntax_error || !builder.are_valid(&[key]) {
        return;
    }
    let (file, missing) = match &sources.file {
        Some(file) => (file.as_path(), ""),
        None => (Path::new(DEFAULT_FILE), " (does not exist)"),
    };
    let (file, variable) = (file.display(), variable(key));
    let message = format!(
        "{file}{missing}: {key} is not set: {why}; write it there, or set {variable} or --set {key}=…"
    );
    builder.problems.push(Problem::new(message).about(key));
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
    if mqtt.password.is_some() {
        return warn_of_readers(builder, "mqtt.password");
    }
    let url = mqtt.url.as_ref().map(BrokerUrl::address);
    let in_url = url.is_some_and(|address| address.password.is_some());
    let credential = credentials.map(|folder| folder.join(PASSWORD_CREDENTIAL));
    let (path, origin) = if let Some(path) = &mqtt.password_file
        && let Some(origin) = builder.origins.get("mqtt.password_file")
    {
        (path.clone(), origin.clone())
    } else if in_url {
        return warn_of_readers(builder, "mqtt.url");
    } else if let Some(path) = credential.filter(|path| path.is_file())
        && url.is_some()
    {
        (path.clone(), Origin::Credential(path))
    } else {
        return;
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
        Err(reason) => {
            let path = path.display();
            let problem = format!(
                "mqtt.password_file = {path}: {reason}; write the password into it as one line, readable by the service's user"
            );
            builder.problems.push(Problem::at(&origin, problem));
        }
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
}
