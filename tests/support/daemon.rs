//! `handloom run` as a child process that is killed when dropped, and queries of its log.

use crate::DEADLINE;
use crate::quick_models::quick_models;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longest wait for a condition; the machine may be busy with other tests.
const TIMEOUT: Duration = Duration::from_mins(2);

/// `TimeoutStopSec` of the service units.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs until it is dropped.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

/// A config for `dataset` and `out` that ends with the lines `more`. An empty `dataset` leaves its sections out.
pub fn config(dataset: &Path, out: &Path, port: Option<u16>, more: &str) -> String {
    let mqtt = port.map_or_else(String::new, |port| {
        format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\nreconnect_max_s = 1\n")
    });
    let [dataset, out] = [dataset, out].map(|path| path.display().to_string());
    let dataset = if dataset.is_empty() {
        String::new()
    } else {
        format!("[dataset]\npath = {dataset:?}\n[plan]\nmin_videos_per_gloss = 1\n")
    };
    let models = if more.contains("[models]") {
        String::new()
    } else {
        format!("[models]\npath = {:?}\ntrust = true\n", quick_models())
    };
    // Minimal limits: the test machine may be hot or short of memory or disk space.
    format!(
        "[device]\nid = \"box\"\n{dataset}{models}\
         [output]\npath = {out:?}\nbatch_size = 3\n\
         [limits]\ntemperature_max_c = 125\nmemory_min_mib = 1\nmemory_resume_mib = 2\ndisk_reserve_mib = 1\n\
         disk_resume_mib = 2\ninterval_s = 0.2\n{mqtt}{more}"
    )
}

impl Daemon {
    /// Writes `config` to `path` and starts the daemon with it.
    pub fn start(path: &Path, config: &str, args: &[&str]) -> Self {
        Self::start_with(path, config, args, &[])
    }

    /// [`Self::start`] with additional environment variables.
    pub fn start_with(
        path: &Path,
        config: &str,
        args: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        fs::write(path, config).unwrap();
        let log = path.with_extension("log");
        let mut command = Command::new(crate::binary());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HANDLOOM_") {
                command.env_remove(name);
            }
        }
        for name in [
            "CREDENTIALS_DIRECTORY",
            "CACHE_DIRECTORY",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
        ] {
            command.env_remove(name);
        }
        let child = command
            .arg("run")
            .arg("--config")
            .arg(path)
            .args(args)
            .env("XDG_CACHE_HOME", super::cache())
            // Only `cpu` gives the notebook's numbers; LiteRT may be installed.
            .env("HANDLOOM_RUN_ACCELERATOR", "cpu")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(
                File::options()
                    .append(true)
                    .create(true)
                    .open(&log)
                    .unwrap(),
            )
            .spawn()
            .unwrap();
        Self { child, log }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.id().to_string()])
            .status();
        assert!(sent.unwrap().success(), "{}", self.log());
    }

    /// Waits for the end of the daemon. Returns its exit code, or `None` when a signal ended it.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(
                begun.elapsed() < DEADLINE,
                "the daemon does not end:\n{}",
                self.log()
            );
            sleep(Duration::from_millis(20));
        }
    }

    /// Waits until `holds`; fails when the daemon ends before.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(self.is_running(), "ended before: {what}\n{}", self.log());
            assert!(
                begun.elapsed() < TIMEOUT,
                "timed out: {what}\n{}",
                self.log()
            );
            sleep(Duration::from_millis(10));
        }
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM and returns the exit code. The daemon must end before systemd would kill it.
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        self.stop_by("TERM")
    }

    /// [`Self::stop`] with another signal.
    #[track_caller]
    pub fn stop_by(&mut self, signal: &str) -> Option<i32> {
        self.signal(signal);
        let begun = Instant::now();
        let code = self.wait();
        assert!(begun.elapsed() < STOP_TIMEOUT, "{}", self.log());
        code
    }

    /// The log, including that of earlier processes with this config.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    /// How often the job entered a phase, from the log, which misses none.
    pub fn phases(&self, name: &str) -> usize {
        self.log().matches(&format!("job state=\"{name}\"")).count()
    }

    /// The clips that were started, in order, from the debug log.
    pub fn begun(&self) -> Vec<String> {
        clips(&self.log(), BEGUN)
    }

    /// The clips that were recorded, in order, from the debug log.
    pub fn recorded(&self) -> Vec<String> {
        clips(&self.log(), RECORDED)
    }

    /// The clips that were started again after they had been recorded, from the debug log.
    pub fn reprocessed_clips(&self) -> Vec<String> {
        let log = self.log();
        let mut recorded = BTreeSet::new();
        let mut twice = Vec::new();
        for line in log.lines() {
            recorded.extend(clips(line, RECORDED));
            twice.extend(
                clips(line, BEGUN)
                    .into_iter()
                    .filter(|c| recorded.contains(c)),
            );
        }
        twice
    }
}

const BEGUN: &str = "clip begun";
const RECORDED: &str = "clip recorded";

/// The `video_id` of every log line that contains `what`.
fn clips(log: &str, what: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| line.contains(what));
    let id = |line: &str| {
        let rest = line.split("video_id=").nth(1)?;
        rest.split(' ').next().map(str::to_owned)
    };
    // The last line may be incomplete.
    lines.filter_map(id).collect()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The daemon may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
