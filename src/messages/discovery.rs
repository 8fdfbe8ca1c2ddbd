//! Home Assistant's device discovery: one retained message that makes a device with its sensors appear there.
//!
//! The keys are Home Assistant's abbreviations: <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>.

use super::payloads::JobPhase;
use super::topics::{HEALTH, PROGRESS, STATE, STATUS, topic};
use serde_json::{Value, json};

/// The topic of the discovery message. Home Assistant allows fewer characters there than a device id has.
#[must_use]
pub fn config_topic(device: &str) -> String {
    let device = device.replace('.', "_");
    format!("homeassistant/device/handloom_{device}/config")
}

/// The message: `device` as in the topics, `version` of Handloom.
#[must_use]
pub fn config(device: &str, version: &str) -> Value {
    let id = |key: &str| format!("handloom_{device}_{key}");
    let [status, state, progress, health] =
        [STATUS, STATE, PROGRESS, HEALTH].map(|channel| topic(device, channel));
    json!({
        "dev": {
            "ids": format!("handloom_{device}"), "name": format!("Handloom {device}"),
            "mf": "Handloom", "sw": version,
        },
        "o": { "name": "handloom", "sw": version },
        "avty_t": status,
        // `stopped` is unavailable as well.
        "avty_tpl": "{{ 'online' if value_json.status == 'online' else 'offline' }}",
        "qos": 1,
        "cmps": {
            "status": {
                "p": "sensor", "uniq_id": id("status"), "name": "Status",
                "stat_t": status, "val_tpl": "{{ value_json.status }}",
                // It explains why the others are unavailable, so it is always available.
                "avty_t": status, "avty_tpl": "online",
                "dev_cla": "enum", "ops": ["online", "stopped", "offline"], "ent_cat": "diagnostic",
            },
            "state": {
                "p": "sensor", "uniq_id": id("state"), "name": "State",
                "stat_t": state, "val_tpl": "{{ value_json.state }}",
                "dev_cla": "enum", "ops": PHASES.map(JobPhase::name), "json_attr_t": state,
            },
            "progress": {
                "p": "sensor", "uniq_id": id("progress"), "name": "Progress",
                "stat_t": progress,
                "val_tpl": "{{ (100 * value_json.done / value_json.total) | round(1) if value_json.total else 0 }}",
                "unit_of_meas": "%", "stat_cla": "measurement", "json_attr_t": progress,
            },
            "clips_per_min": {
                "p": "sensor", "uniq_id": id("clips_per_min"), "name": "Speed",
                "stat_t": progress, "val_tpl": "{{ value_json.clips_per_min }}",
                "unit_of_meas": "clips/min", "stat_cla": "measurement", "sug_dsp_prc": 1,
            },
            "eta": {
                "p": "sensor", "uniq_id": id("eta"), "name": "Time left",
                "stat_t": progress, "val_tpl": "{{ value_json.eta_s }}",
                "unit_of_meas": "s", "dev_cla": "duration", "sug_dsp_prc": 0,
            },
            "temperature": {
                "p": "sensor", "uniq_id": id("temperature"), "name": "Temperature",
                "stat_t": health, "val_tpl": "{{ value_json.temperature_c }}",
                "unit_of_meas": "°C", "dev_cla": "temperature", "stat_cla": "measurement",
                "ent_cat": "diagnostic",
            },
            "disk_free": {
                "p": "sensor", "uniq_id": id("disk_free"), "name": "Disk free",
                "stat_t": health, "val_tpl": "{{ value_json.disk_free_mib }}",
                "unit_of_meas": "MiB", "dev_cla": "data_size", "stat_cla": "measurement",
                "ent_cat": "diagnostic",
            },
            "outbox": {
                "p": "sensor", "uniq_id": id("outbox"), "name": "Messages waiting",
                "stat_t": health, "val_tpl": "{{ value_json.outbox }}",
                "unit_of_meas": "messages", "stat_cla": "measurement", "ent_cat": "diagnostic",
            },
        },
    })
}

/// All values of `state`.
const PHASES: [JobPhase; 7] = [
    JobPhase::Idle,
    JobPhase::Scanning,
    JobPhase::Processing,
    JobPhase::Paused,
    JobPhase::Capturing,
    JobPhase::Degraded,
    JobPhase::Error,
];

#[cfg(test)]
mod tests {
    use super::super::payloads::{Health, Progress, StateReport, Status, StatusName};
    use super::*;

    #[test]
    fn the_message_is_as_home_assistant_reads_it() {
        insta::assert_snapshot!(
            serde_json::to_string_pretty(&config("pi-lab-3", "0.1.0")).unwrap()
        );
    }

    #[test]
    fn the_topic_keeps_to_home_assistants_characters() {
        assert_eq!(
            config_topic("pi-lab_3.local"),
            "homeassistant/device/handloom_pi-lab_3_local/config"
        );
    }

    /// A field that was renamed there would leave a dead sensor here.
    #[test]
    fn every_template_names_a_field_of_its_channel() {
        let status = Status {
            status: StatusName::Online,
            version: String::new(),
        };
        let state = StateReport {
            state: JobPhase::Idle,
            reason: None,
            run: None,
            backend: String::new(),
            backend_reason: String::new(),
            workers: 1,
            workers_max: 1,
            shard: None,
        };
        let progress = Progress {
            run: String::new(),
            total: 1,
            done: 0,
            states: std::collections::BTreeMap::new(),
            clips_per_min: None,
            eta_s: None,
            clip: None,
            shard: None,
        };
        let of_channel = |channel: &str| match channel {
            STATUS => serde_json::to_value(&status),
            STATE => serde_json::to_value(&state),
            PROGRESS => serde_json::to_value(&progress),
            HEALTH => serde_json::to_value(Health::default()),
            other => panic!("{other}"),
        };
        let config = config("pi", "0");
        let mut fields = 0;
        for (key, sensor) in config["cmps"].as_object().unwrap() {
            let (_, channel) =
                super::super::topics::split(sensor["stat_t"].as_str().unwrap()).unwrap();
            let payload = of_channel(channel).unwrap();
            let template = sensor["val_tpl"].as_str().unwrap();
            for field in template.split("value_json.").skip(1) {
                let end = field
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap();
                assert!(payload.get(&field[..end]).is_some(), "{key}: {template}");
                fields += 1;
            }
        }
        assert!(fields >= 8, "only {fields} fields were checked");
    }

    #[test]
    fn states_are_listed_as_on_the_wire() {
        for phase in PHASES {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
        }
    }
}
