//! Whether the firmware of a Raspberry Pi has throttled the machine: from its file, or from its command.

use super::sensors::text;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The firmware's register as a file: hexadecimal without a prefix.
const FILE: &str = "devices/platform/soc/soc:firmware/get_throttled";
/// Command that prints the register as `throttled=0x50005`.
const COMMAND: &str = "vcgencmd";
/// A command that runs longer is killed.
const LIMIT: Duration = Duration::from_secs(1);
/// Shortest time between two runs of the command.
const EVERY: Duration = Duration::from_secs(10);

/// Where the firmware's register is read.
pub(super) enum FirmwareThrottle {
    Absent,
    File(PathBuf),
    Command(FirmwareCommand),
}

impl FirmwareThrottle {
    /// `commands` is a list of directories like `$PATH`; without it no command is run.
    pub(super) fn find(sys: &Path, commands: Option<&OsStr>) -> Self {
        let file = sys.join(FILE);
        if file.is_file() {
            return Self::File(file);
        }
        let folders = commands.map(std::env::split_paths).into_iter().flatten();
        let mut candidates = folders.map(|folder| folder.join(COMMAND));
        candidates
            .find(|path| path.is_file())
            .map_or(Self::Absent, |path| {
                Self::Command(FirmwareCommand::new(path))
            })
    }

    pub(super) fn read(&mut self) -> Option<bool> {
        match self {
            Self::Absent => None,
            Self::File(path) => is_throttled(&text(path)?),
            Self::Command(firmware) => firmware.read(Instant::now()),
        }
    }
}

/// The command, with its last result.
pub(super) struct FirmwareCommand {
    path: PathBuf,
    limit: Duration,
    at: Option<Instant>,
    answer: Option<bool>,
    /// A command that was killed and still exists: a process in an uninterruptible wait may take for ever.
    stuck: Option<Child>,
}

impl FirmwareCommand {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            limit: LIMIT,
            at: None,
            answer: None,
            stuck: None,
        }
    }

    fn read(&mut self, now: Instant) -> Option<bool> {
        let is_fresh = self
            .at
            .is_some_and(|at| now.saturating_duration_since(at) < EVERY);
        if !is_fresh {
            self.at = Some(now);
            self.answer = self.run();
        }
        self.answer
    }

    fn run(&mut self) -> Option<bool> {
        if let Some(child) = &mut self.stuck {
            child.try_wait().ok()??;
            self.stuck = None;
        }
        let mut command = Command::new(&self.path);
        command.arg("get_throttled").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        let firmware = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) => {
                    // One read: the output is in the pipe, which a child of the command might keep open.
                    let mut output = [0; 64];
                    let bytes = child.stdout.take()?.read(&mut output).ok()?;
                    let output = str::from_utf8(&output[..bytes]).ok()?;
                    return is_throttled(output).filter(|_| status.success());
                }
                Ok(None) if firmware.elapsed() < self.limit => sleep(Duration::from_millis(5)),
                _ => break,
            }
        }
        if let Err(error) = child.kill() {
            tracing::debug!(command = %self.path.display(), %error, "cannot end it");
        }
        self.stuck = Some(child);
        None
    }
}

/// Parses the register. Low bits are set now, high bits were set since boot: weak supply, capped, throttled, hot.
fn is_throttled(text: &str) -> Option<bool> {
    let hex = text.trim().trim_start_matches("throttled=");
    u32::from_str_radix(hex.trim_start_matches("0x"), 16)
        .ok()
        .map(|bits| bits != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    #[test]
    fn the_register_is_read_in_both_spellings() {
        let check = |text, expected| assert_eq!(is_throttled(text), expected, "{text:?}");
        check("0\n", Some(false));
        check("50005\n", Some(true));
        check("throttled=0x0\n", Some(false));
        check("throttled=0x50000\n", Some(true));
        for other in ["", "throttled=", "error=1 error_msg=\"x\"", "0x123456789"] {
            check(other, None);
        }
    }

    #[test]
    fn the_file_is_preferred() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "50000\n").unwrap();
        let commands = command("echo throttled=0x0");
        let mut throttle = FirmwareThrottle::find(dir.path(), Some(commands.path().as_os_str()));
        assert_eq!(throttle.read(), Some(true));
        fs::write(&file, "0\n").unwrap();
        assert_eq!(throttle.read(), Some(false));
        let nowhere = FirmwareThrottle::find(Path::new("/nowhere"), Some(OsStr::new("/nowhere:")));
        assert!(matches!(nowhere, FirmwareThrottle::Absent));
    }

    /// A folder with the command, as a script that does `body`.
    fn command(body: &str) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        // Another process writes it: a program that any process holds open for writing cannot be run, and a process
        // that another test starts meanwhile would inherit our hold.
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod +x "$0""#;
        let mut shell = Command::new("sh");
        shell
            .args(["-c", write])
            .arg(dir.path().join(COMMAND))
            .arg(body);
        assert!(shell.status().unwrap().success());
        dir
    }

    fn firmware(commands: &TempDir) -> FirmwareCommand {
        match FirmwareThrottle::find(Path::new("/nowhere"), Some(commands.path().as_os_str())) {
            FirmwareThrottle::Command(firmware) => firmware,
            _ => panic!("the command is not found"),
        }
    }

    #[test]
    fn the_command_runs_every_ten_seconds() {
        let dir = command(
            r#"[ "$1" = get_throttled ] || exit 1
            echo x >> "$0.calls"
            echo "throttled=0x$(($(wc -l < "$0.calls") - 1))""#,
        );
        let mut firmware = firmware(&dir);
        let start = Instant::now();
        let answers = [0, 9, 10, 19].map(|s| firmware.read(start + Duration::from_secs(s)));
        assert_eq!(answers, [Some(false), Some(false), Some(true), Some(true)]);
        let calls = fs::read_to_string(dir.path().join("vcgencmd.calls")).unwrap();
        assert_eq!(calls.lines().count(), 2);
    }

    #[test]
    fn a_command_that_fails_reports_nothing() {
        for body in [
            "echo throttled=0x0; exit 1",
            "echo VCHI initialization failed",
            "exec >&-",
        ] {
            assert_eq!(
                firmware(&command(body)).read(Instant::now()),
                None,
                "{body}"
            );
        }
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let dir = command("exec sleep 600");
        let mut firmware = firmware(&dir);
        firmware.limit = Duration::from_millis(30);
        let start = Instant::now();
        assert_eq!(firmware.read(start), None);
        assert!(start.elapsed() < Duration::from_mins(1));
        // Waits for the killed process. Waiting for it again is allowed.
        let mut stuck = firmware.stuck.take().unwrap();
        assert!(!stuck.wait().unwrap().success());
        firmware.stuck = Some(stuck);
        assert_eq!(firmware.read(start + EVERY), None);
        firmware.stuck.take().unwrap().wait().unwrap();
    }
}
