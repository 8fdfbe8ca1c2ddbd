//! The texts of a fleet, for the live view and the plain table. No cell of the table contains a blank, so that scripts can
//! split it.

use crate::fleet::devices::{DEVICES_MAX, Fleet, FleetDevice, SeenFault};
use crate::messages::payloads::{Health, JobPhase, StatusName};
use std::fmt::Write as _;
use std::time::Duration;

/// The cell of an unknown value.
pub const UNKNOWN: &str = "-";
/// Maximum number of faults of a device in the plain table.
const FAULTS_SHOWN: usize = 5;

/// Whether a device needs a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attention {
    /// No person is needed.
    None,
    /// It works with restrictions, or waits.
    Warning,
    /// It does not work.
    Critical,
}

/// A device's row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRow {
    /// Name of the device.
    pub id: String,
    /// `online`, `silent`, `stopped`, `offline` or `unknown`.
    pub status: &'static str,
    /// The job's phase.
    pub state: &'static str,
    /// Progress of the job, 0 to 100.
    pub percent: Option<u8>,
    /// Clips, as `done/total`.
    pub done: String,
    /// Clips a minute, while the device is online.
    pub clips_per_min: String,
    /// Time left, while the device is online.
    pub eta: String,
    /// Temperature of the hottest sensor.
    pub temperature: String,
    /// Number of messages that wait for the broker.
    pub outbox: String,
    /// Time since its last message.
    pub age: String,
    /// Whether it needs a person.
    pub attention: Attention,
}

impl DeviceRow {
    /// The row of `device`, which is called `id`.
    #[must_use]
    pub fn of(id: &str, device: &FleetDevice, now: Duration) -> Self {
        let progress = device.progress.as_ref();
        let status = status(device, now);
        // Rate, time left and temperature of an offline device are outdated.
        let is_current = matches!(status, "online" | "unknown");
        let running = progress.filter(|_| is_current);
        let health = device.health.as_ref().filter(|_| is_current);
        Self {
            id: id.to_owned(),
            status,
            state: device.state.as_ref().map_or(UNKNOWN, |s| s.state.name()),
            percent: progress.map(|p| percent(p.done, p.total)),
            done: or_unknown(progress.map(|p| format!("{}/{}", p.done, p.total))),
            clips_per_min: or_unknown(running.and_then(|p| p.clips_per_min).map(rate)),
            eta: or_unknown(running.and_then(|p| p.eta_s).map(seconds)),
            temperature: or_unknown(health.and_then(|h| h.sensors.temperature_c).map(celsius)),
            outbox: or_unknown(health.map(|h| h.outbox.to_string())),
            age: or_unknown(device.age(now).map(|a| seconds(a.as_secs_f64()))),
            attention: attention(device, now).0,
        }
    }

    /// The progress as a text such as `42%`.
    #[must_use]
    pub fn percent_text(&self) -> String {
        or_unknown(self.percent.map(|p| format!("{p}%")))
    }
}

/// Whether the device needs a person, and why.
#[must_use]
pub fn attention(device: &FleetDevice, now: Duration) -> (Attention, String) {
    use Attention::{Critical, Warning};
    let status = device.status.as_ref().map(|s| s.status);
    let phase = device.state.as_ref().map(|s| s.state);
    let reason = device.state.as_ref().and_then(|s| s.reason.as_ref());
    let because = |what: &str| match reason {
        Some(reason) => format!("{what}: {reason}"),
        None => what.to_owned(),
    };
    let health = device.health.clone().unwrap_or_default();
    match (status, phase) {
        (Some(StatusName::Offline), _) => {
            let why =
                "offline: the connection was lost; check its power, its network and the service";
            (Critical, why.to_owned())
        }
        (Some(StatusName::Stopped), Some(JobPhase::Error)) => {
            (Critical, because("ended with an error"))
        }
        // The daemon stopped cleanly.
        (Some(StatusName::Stopped), _) => (Attention::None, String::new()),
        _ if device.is_stale(now) => {
            let silence = seconds(device.silence(now).as_secs_f64());
            (Critical, format!("silent for {silence}, though online"))
        }
        (_, Some(JobPhase::Error)) => (Critical, because("error")),
        (_, Some(JobPhase::Degraded)) => (Warning, because("degraded")),
        (_, Some(JobPhase::Paused)) => (Warning, because("paused")),
        _ if device.is_newer => {
            let why = "speaks a newer version: update this handloom";
            (Warning, why.to_owned())
        }
        _ if health.sensors.throttled == Some(true) => {
            let why = "throttled by its firmware: check its cooling and its power supply";
            (Warning, why.to_owned())
        }
        _ if health.outbox_dropped > 0 => {
            let lost = health.outbox_dropped;
            (
                Warning,
                format!("{lost} messages lost: its outbox was full"),
            )
        }
        _ if device.unreadable > 0 => {
            let why = format!("{} messages cannot be read", device.unreadable);
            (Warning, why)
        }
        _ => (Attention::None, String::new()),
    }
}

/// Everything that is known of a device except its faults, as lines.
#[must_use]
pub fn details(device: &FleetDevice) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(state) = &device.state {
        let reason = state.reason.as_deref();
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        lines.push(format!("state    {}{reason}", state.state.name()));
        let (workers, all) = (state.workers, state.workers_max);
        let (backend, why) = (&state.backend, &state.backend_reason);
        lines.push(format!(
            "runs on  {backend} ({why}), {workers} of {all} workers"
        ));
    }
    if let Some(progress) = &device.progress {
        let states = progress.states.iter();
        let states: Vec<String> = states.map(|(s, n)| format!("{s} {n}")).collect();
        let clip = progress.clip.as_ref();
        let clip = clip.map_or_else(String::new, |c| {
            format!(", last {} {}", c.gloss, c.video_id)
        });
        lines.push(format!("clips    {}{clip}", states.join(", ")));
        let shard = progress.shard.as_ref();
        let shard = shard.map_or_else(String::new, |shard| {
            format!(
                ", shard {}/{} of job {}",
                shard.index, shard.count, shard.plan
            )
        });
        lines.push(format!("run      {}{shard}", progress.run));
    }
    if let Some(health) = &device.health {
        lines.push(format!("health   {}", machine(health)));
        lines.push(format!("queues   {}", queues(health)));
    }
    let version = device.status.as_ref().map(|s| s.version.as_str());
    lines.push(format!(
        "seen     version {}, {} batches, {} messages missing, {} unreadable",
        version.unwrap_or(UNKNOWN),
        device.batches,
        device.missing(),
        device.unreadable
    ));
    lines
}

/// The text of a fault: what happened, then what was done and what a person can do.
#[must_use]
pub fn fault(seen: &SeenFault) -> (String, String) {
    // 2026-01-31T12:00:00.000Z without the fractions.
    let when: String = seen.message.ts.chars().take(19).collect();
    let doubt = if seen.message.clock_synced { "" } else { "?" };
    let fault = &seen.message.body;
    let (when, component, reason) = (when.replace('T', " "), &fault.component, &fault.reason);
    let clip = fault.clip.as_ref();
    let clip = clip.map_or_else(String::new, |c| format!(" {} {}", c.gloss, c.video_id));
    let what = format!("{when}{doubt} {component}{clip}: {reason}");
    (what, fault.action.clone())
}

/// The fleet as a plain table, for scripts and logs.
#[must_use]
pub fn table(fleet: &Fleet, now: Duration) -> String {
    let heads = "DEVICE STATUS STATE PERCENT DONE CLIPS/MIN ETA TEMP OUTBOX AGE NEEDS";
    let heads: Vec<String> = heads.split(' ').map(str::to_owned).collect();
    let mut widths: Vec<usize> = heads.iter().map(String::len).collect();
    let mut rows = vec![heads];
    for (id, device) in fleet.devices() {
        let row = DeviceRow::of(id, device, now);
        let (status, state) = (row.status.to_owned(), row.state.to_owned());
        let (percent, needs) = (row.percent_text(), row.attention.name().to_owned());
        let cells = [
            row.id,
            status,
            state,
            percent,
            row.done,
            row.clips_per_min,
            row.eta,
        ];
        let cells = cells
            .into_iter()
            .chain([row.temperature, row.outbox, row.age, needs]);
        let cells: Vec<String> = cells.collect();
        for (width, cell) in widths.iter_mut().zip(&cells) {
            *width = cell.chars().count().max(*width);
        }
        rows.push(cells);
    }
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells.map(|(cell, &w)| format!("{cell:<w$}")).collect();
        out.push_str(line.join("  ").trim_end());
        out.push('\n');
    }
    // Writing to a String cannot fail.
    for (id, device) in fleet.devices() {
        let (attention, why) = attention(device, now);
        if attention > Attention::None {
            writeln!(out, "\n{id} {}: {why}", attention.phrase()).ok();
        } else if !device.faults.is_empty() {
            writeln!(out, "\n{id}:").ok();
        }
        for seen in device.faults.iter().take(FAULTS_SHOWN) {
            let (what, action) = fault(seen);
            writeln!(out, "  {what}\n    {action}").ok();
        }
    }
    if fleet.ignored() > 0 {
        writeln!(out, "\n{}", ignored(fleet)).ok();
    }
    out
}

/// The line about the messages that [`Fleet::ignored`] counts.
#[must_use]
pub fn ignored(fleet: &Fleet) -> String {
    format!(
        "{} messages ignored: of devices beyond the first {}, or with an invalid device name",
        fleet.ignored(),
        DEVICES_MAX
    )
}

impl Attention {
    /// The word in the table's cell.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => UNKNOWN,
            Self::Warning => "look",
            Self::Critical => "help",
        }
    }

    /// The phrase after the device's name.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::None => "is well",
            Self::Warning => "wants a look",
            Self::Critical => "NEEDS HELP",
        }
    }
}

fn status(device: &FleetDevice, now: Duration) -> &'static str {
    match device.status.as_ref().map(|s| s.status) {
        None => "unknown",
        Some(StatusName::Online) if device.is_stale(now) => "silent",
        Some(StatusName::Online) => "online",
        Some(StatusName::Stopped) => "stopped",
        Some(StatusName::Offline) => "offline",
    }
}

fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| UNKNOWN.to_owned())
}

/// `done` of `total` in percent; 100 only when all is done.
pub(super) fn percent(done: usize, total: usize) -> u8 {
    if done >= total {
        return 100;
    }
    let share = done as u128 * 100 / total as u128;
    u8::try_from(share).unwrap_or(100)
}

fn rate(clips_per_min: f64) -> String {
    match clips_per_min {
        r if (0.0..100.0).contains(&r) => format!("{r:.1}"),
        r if (100.0..1e6).contains(&r) => format!("{r:.0}"),
        _ => "?".to_owned(),
    }
}

fn celsius(degrees: f64) -> String {
    match degrees {
        d if (-100.0..1000.0).contains(&d) => format!("{d:.0}°C"),
        _ => "?".to_owned(),
    }
}

/// A duration as a short text: `45s`, `12m`, `3h05m`, `9d`.
pub(super) fn seconds(seconds: f64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    if !(0.0..1e9).contains(&seconds) {
        return "?".to_owned();
    }
    match Duration::from_secs_f64(seconds).as_secs() {
        s if s < MINUTE => format!("{s}s"),
        s if s < HOUR => format!("{}m", s / MINUTE),
        s if s < 4 * DAY => format!("{}h{:02}m", s / HOUR, s % HOUR / MINUTE),
        s => format!("{}d", s / DAY),
    }
}

fn machine(health: &Health) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown in days")]
    let uptime = health.uptime_s as f64;
    let free = |mib: Option<u64>, what: &str| mib.map(|mib| format!("{mib} MiB {what} free"));
    let parts = [
        health.sensors.temperature_c.map(celsius),
        (health.sensors.throttled == Some(true)).then(|| "throttled".to_owned()),
        health
            .sensors
            .load_1min
            .map(|load| format!("load {}", rate(load))),
        free(health.disk_free_mib, "disk"),
        free(health.sensors.memory_available_mib, "memory"),
        health
            .sensors
            .memory_resident_mib
            .map(|mib| format!("uses {mib} MiB")),
        Some(format!("{} frames/s", rate(health.frames_per_s))),
        Some(format!("up {}", seconds(uptime))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn queues(health: &Health) -> String {
    let mirror = health.mirror_waiting;
    format!(
        "{} clips, outbox {} ({} dropped), telemetry {} dropped, {} connections{}",
        health.queue,
        health.outbox,
        health.outbox_dropped,
        health.telemetry_dropped,
        health.connects,
        mirror.map_or_else(String::new, |n| format!(", {n} batches for the mirror"))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_short_whatever_comes() {
        for (given, expected) in [
            (0.0, "0s"),
            (59.9, "59s"),
            (60.0, "1m"),
            (3_599.0, "59m"),
            (11_100.0, "3h05m"),
            (345_599.0, "95h59m"),
            (345_600.0, "4d"),
            (-1.0, "?"),
            (1e300, "?"),
            (f64::NAN, "?"),
        ] {
            assert_eq!(seconds(given), expected, "{given}");
        }
        for (given, expected) in [
            (0.0, "0.0"),
            (31.25, "31.2"),
            (1234.5, "1234"),
            (-1.0, "?"),
            (1e300, "?"),
        ] {
            assert_eq!(rate(given), expected, "{given}");
        }
        assert_eq!(
            (celsius(61.4), celsius(f64::MIN)),
            ("61°C".to_owned(), "?".to_owned())
        );
    }

    #[test]
    fn a_job_is_done_only_when_it_is() {
        for (done, total, expected) in [
            (0, 0, 100),
            (0, 5, 0),
            (999, 1000, 99),
            (5, 5, 100),
            (9, 5, 100),
            (usize::MAX - 1, usize::MAX, 99),
        ] {
            assert_eq!(percent(done, total), expected, "{done}/{total}");
        }
    }
}
