//! Temperature, throttling, load and memory, from the kernel's files. What a machine does not have is `None`.

use super::throttle::FirmwareThrottle;
use crate::messages::payloads::SensorReadings;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};

/// A temperature outside of this range (°C) comes from a missing or broken sensor.
const PLAUSIBLE_C: RangeInclusive<f64> = -40.0..=150.0;
/// Longest part of a file that is read, bytes.
const LONGEST_FILE: u64 = 1 << 16;

/// The sensors that this machine has.
pub struct Sensors {
    temperatures: Vec<PathBuf>,
    throttle: FirmwareThrottle,
    proc: PathBuf,
    /// The own control group first, then those around it.
    groups: Vec<PathBuf>,
}

impl Sensors {
    /// Finds the sensors of this machine.
    #[must_use]
    pub fn find() -> Self {
        let commands = std::env::var_os("PATH");
        Self::find_with(Path::new("/sys"), Path::new("/proc"), commands.as_deref())
    }

    /// Finds the sensors below `sys` and `proc`; `commands` is a list of directories like `$PATH`.
    fn find_with(sys: &Path, proc: &Path, commands: Option<&OsStr>) -> Self {
        let zones = entries(&sys.join("class/thermal"), |n| {
            n.starts_with("thermal_zone")
        });
        let zones = zones.into_iter().map(|zone| zone.join("temp"));
        let chips = entries(&sys.join("class/hwmon"), |_| true);
        let inputs = chips.iter().flat_map(|chip| entries(chip, is_temperature));
        Self {
            temperatures: zones.chain(inputs).collect(),
            throttle: FirmwareThrottle::find(sys, commands),
            proc: proc.to_path_buf(),
            groups: control_groups(sys, proc),
        }
    }

    /// Reads all sensors. Takes at most a second, when the firmware does not answer.
    pub fn read(&mut self) -> SensorReadings {
        let temperatures = self.temperatures.iter().filter_map(|path| {
            let milli: f64 = number(path)?;
            Some(milli / 1000.0).filter(|c| PLAUSIBLE_C.contains(c))
        });
        let from_kib =
            |file: &str, key: &str| Some(field(&text(&self.proc.join(file))?, key)? >> 10);
        let available = from_kib("meminfo", "MemAvailable:");
        let left = self.groups.iter().filter_map(|group| left_in(group)).min();
        SensorReadings {
            temperature_c: temperatures.reduce(f64::max),
            throttled: self.throttle.read(),
            load_1min: text(&self.proc.join("loadavg"))
                .and_then(|t| t.split_whitespace().next()?.parse().ok()),
            memory_available_mib: available.into_iter().chain(left).min(),
            memory_resident_mib: self.resident_mib(),
        }
    }
}

impl Sensors {
    /// Resident memory of this process and of its child processes, MiB. The frames that they share count once.
    fn resident_mib(&self) -> Option<u64> {
        let status = |name: &str| text(&self.proc.join(name).join("status"));
        let own = status("self")?;
        let mut kib = field(&own, "VmRSS:")?;
        if let Some(id) = field(&own, "Pid:") {
            let processes = fs::read_dir(&self.proc).into_iter().flatten().flatten();
            let children = processes
                .filter_map(|entry| entry.file_name().into_string().ok())
                .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
                .filter_map(|name| status(&name))
                .filter(|status| field(status, "PPid:") == Some(id));
            for child in children {
                let [all, shared] =
                    ["VmRSS:", "RssShmem:"].map(|key| field(&child, key).unwrap_or(0));
                kib += all.saturating_sub(shared);
            }
        }
        Some(kib >> 10)
    }
}

/// The folder's entries whose names fit, sorted; none when there is no such folder.
fn entries(folder: &Path, fits: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = found
        .filter(|entry| entry.file_name().to_str().is_some_and(&fits))
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// Whether `name` is that of a temperature of hwmon, such as `temp1_input`.
fn is_temperature(name: &str) -> bool {
    let number = name
        .strip_prefix("temp")
        .and_then(|n| n.strip_suffix("_input"));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The content of a small file; `None` when it cannot be read.
pub(super) fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = File::open(path).ok()?;
    file.take(LONGEST_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The one number that a file holds.
fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    text(path)?.trim().parse().ok()
}

/// The number after `key` at the start of a line.
fn field(text: &str, key: &str) -> Option<u64> {
    let mut words = text
        .lines()
        .map(str::split_whitespace)
        .find_map(|mut words| (words.next() == Some(key)).then_some(words))?;
    words.next()?.parse().ok()
}

/// The process's folder in the control group tree (version 2), and all above it: a limit counts for all below.
fn control_groups(sys: &Path, proc: &Path) -> Vec<PathBuf> {
    let root = sys.join("fs/cgroup");
    let groups = text(&proc.join("self/cgroup")).unwrap_or_default();
    let Some(own) = groups.lines().find_map(|line| line.strip_prefix("0::")) else {
        return Vec::new();
    };
    let own = Path::new(own.trim_start_matches('/'));
    // A group outside of what is mounted here is shown with dots; the mount's root is then all that can be seen.
    let is_below = own.components().all(|c| matches!(c, Component::Normal(_)));
    let own = if is_below { own } else { Path::new("") };
    own.ancestors().map(|group| root.join(group)).collect()
}

/// MiB that a control group may still take; `None` when it has no limit.
fn left_in(group: &Path) -> Option<u64> {
    let limits = ["memory.max", "memory.high"];
    let limit: u64 = limits
        .iter()
        .filter_map(|name| number(&group.join(name)))
        .min()?;
    let used: u64 = number(&group.join("memory.current"))?;
    // Cached files count as used but are given back on demand, as in the kernel's MemAvailable. Without this a long
    // job over many files would look short of memory for ever.
    let stat = text(&group.join("memory.stat")).unwrap_or_default();
    let cached = ["inactive_file", "active_file"].map(|key| field(&stat, key).unwrap_or(0));
    let bound = used.saturating_sub(cached[0].saturating_add(cached[1]));
    Some(limit.saturating_sub(bound) >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the files given, as `(path, content)`.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn read(files: &[(&str, &str)]) -> SensorReadings {
        let dir = tree(files);
        Sensors::find_with(&dir.path().join("sys"), &dir.path().join("proc"), None).read()
    }

    #[test]
    fn a_machine_without_sensors_reports_nothing() {
        assert_eq!(read(&[]), SensorReadings::default());
        let garbage = [
            ("sys/class/thermal/thermal_zone0/temp", "hot"),
            ("sys/class/hwmon/hwmon0/temp1_input", ""),
            ("sys/devices/platform/soc/soc:firmware/get_throttled", "?"),
            ("proc/loadavg", "\n"),
            ("proc/meminfo", "MemAvailable:\nMemFree: 12 kB"),
            ("proc/self/status", "VmRSS: much kB"),
            ("proc/self/cgroup", "nonsense"),
        ];
        assert_eq!(read(&garbage), SensorReadings::default());
    }

    #[test]
    fn the_hottest_plausible_sensor_counts() {
        let check = |files: &[(&str, &str)], expected| {
            assert_eq!(read(files).temperature_c, expected, "{files:?}");
        };
        let zone = "sys/class/thermal/thermal_zone0/temp";
        check(&[(zone, "48312\n")], Some(48.312));
        check(&[(zone, "-40000")], Some(-40.0));
        check(&[(zone, "-40001")], None);
        check(&[(zone, "150000")], Some(150.0));
        check(&[(zone, "NaN")], None);
        check(
            &[
                (zone, "48000"),
                ("sys/class/thermal/thermal_zone1/temp", "255000"),
                ("sys/class/thermal/cooling_device0/temp", "90000"),
                ("sys/class/hwmon/hwmon2/temp1_input", "51500"),
                ("sys/class/hwmon/hwmon2/temp12_input", "50000"),
                ("sys/class/hwmon/hwmon2/temp1_crit", "99000"),
                ("sys/class/hwmon/hwmon2/temp_input", "99000"),
            ],
            Some(51.5),
        );
    }

    #[test]
    fn load_and_memory_are_read() {
        let found = read(&[
            ("proc/loadavg", "1.42 0.90 0.55 2/345 6789\n"),
            (
                "proc/meminfo",
                "MemTotal:  8000000 kB\nMemFree:  100000 kB\nMemAvailable:    2097152 kB\n",
            ),
            (
                "proc/self/status",
                "Name:\thandloom\nVmHWM:\t 99 kB\nVmRSS:\t  204800 kB\n",
            ),
        ]);
        assert_eq!(found.load_1min, Some(1.42));
        assert_eq!(found.memory_available_mib, Some(2048));
        assert_eq!(found.memory_resident_mib, Some(200));
        let status = |pid: u32, parent: u32, shared: u32| {
            format!("Pid:\t{pid}\nPPid:\t{parent}\nVmRSS:\t102400 kB\nRssShmem:\t{shared} kB\n")
        };
        let found = read(&[
            ("proc/self/status", &status(7, 1, 0)),
            ("proc/7/status", &status(7, 1, 0)),
            // A decoder process, which shares its frames.
            ("proc/12/status", &status(12, 7, 20480)),
            ("proc/13/status", &status(13, 2, 0)),
            ("proc/meminfo", ""),
        ]);
        assert_eq!(found.memory_resident_mib, Some(180));
    }

    #[test]
    fn the_tightest_limit_of_the_control_groups_counts() {
        let check = |name: &str, files: &[(&str, &str)], expected| {
            let mut all = vec![("proc/meminfo", "MemAvailable: 1048576 kB\n")];
            all.extend(files);
            assert_eq!(read(&all).memory_available_mib, Some(expected), "{name}");
        };
        let own = ("proc/self/cgroup", "4:memory:/old\n0::/a.slice/b.service\n");
        let (max, current) = (
            "sys/fs/cgroup/a.slice/b.service/memory.max",
            "sys/fs/cgroup/a.slice/b.service/memory.current",
        );
        check("no limit", &[own, (max, "max\n"), (current, "5")], 1024);
        check(
            "a limit",
            &[own, (max, "536870912\n"), (current, "134217728\n")],
            384,
        );
        check(
            "a wide limit",
            &[own, (max, "8589934592"), (current, "0")],
            1024,
        );
        check("over it", &[own, (max, "1048576"), (current, "2097152")], 0);
        check(
            "cached files are given back",
            &[
                own,
                (max, "536870912"),
                (current, "536870912"),
                (
                    "sys/fs/cgroup/a.slice/b.service/memory.stat",
                    "anon 1\nfile 9\ninactive_file 104857600\nactive_file 209715200\n",
                ),
            ],
            300,
        );
        check(
            "where the kernel begins to slow it",
            &[
                own,
                (max, "536870912"),
                ("sys/fs/cgroup/a.slice/b.service/memory.high", "268435456"),
                (current, "0"),
            ],
            256,
        );
        check(
            "of a group around it",
            &[
                own,
                (max, "max"),
                (current, "1"),
                ("sys/fs/cgroup/a.slice/memory.max", "104857600"),
                ("sys/fs/cgroup/a.slice/memory.current", "0"),
            ],
            100,
        );
        check(
            "a group out of sight",
            &[
                ("proc/self/cgroup", "0::/../../x\n"),
                ("sys/fs/cgroup/memory.max", "104857600"),
                ("sys/fs/cgroup/memory.current", "52428800"),
            ],
            50,
        );
    }

    #[test]
    fn this_machine_can_be_read() {
        let found = Sensors::find().read();
        assert!(
            found.memory_available_mib.is_some_and(|m| m > 0),
            "{found:?}"
        );
        assert!(
            found.memory_resident_mib.is_some_and(|m| m > 0),
            "{found:?}"
        );
        assert!(found.load_1min.is_some_and(|l| l >= 0.0), "{found:?}");
    }
}
