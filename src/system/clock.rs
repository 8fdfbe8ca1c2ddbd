//! The clocks: the wall clock for records, with whether it is synchronised, and a monotonic clock for everything else. A
//! Raspberry Pi has no battery-backed clock; its first synchronisation may jump by years.

use crate::messages::payloads::Timestamp;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The last second that RFC 3339 can write, since 1970.
const LAST_SECOND: u64 = 253_402_300_799;
/// File that systemd-timesyncd creates once it has synchronised the clock.
const TIMESYNCD_MARK: &str = "/run/systemd/timesync/synchronized";

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Time since the program's first call of this function, which its start should make. Monotonic.
#[must_use]
pub fn uptime() -> Duration {
    STARTED.elapsed()
}

/// UTC by the wall clock, RFC 3339 with milliseconds: `2026-01-31T12:00:00.000Z`.
#[must_use]
pub fn now_utc() -> String {
    rfc3339(SystemTime::now())
}

/// The time by the wall clock, for records and messages.
#[must_use]
pub fn timestamp() -> Timestamp {
    let now = SystemTime::now();
    Timestamp {
        ts: rfc3339(now),
        clock_synced: clock_synced(),
        unix_s: now.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
    }
}

fn rfc3339(time: SystemTime) -> String {
    // The formatter panics outside of 1970 to 9999, where an unset clock may well be.
    let since_1970 = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let bounded = since_1970.min(Duration::from_secs(LAST_SECOND));
    humantime::format_rfc3339_millis(UNIX_EPOCH + bounded).to_string()
}

/// Whether the wall clock is synchronised, as the kernel reports.
///
/// A service with `ProtectClock=yes` may not query the kernel; there the mark of systemd-timesyncd counts.
#[must_use]
pub fn clock_synced() -> bool {
    kernel_reports_synced().unwrap_or_else(|| Path::new(TIMESYNCD_MARK).exists())
}

/// `None` when the kernel does not answer.
#[allow(unsafe_code, reason = "only adjtimex reports it")]
fn kernel_reports_synced() -> Option<bool> {
    // SAFETY: timex is a plain C struct of integers, for which all zeros is a valid value.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live timex of ours, which only this thread uses, and adjtimex does not keep it
    // after the call. modes is 0, so it only reads the kernel's state, which needs no privilege.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    is_synced(answer, state.status)
}

/// Interprets adjtimex's return value and status.
fn is_synced(answer: libc::c_int, status: libc::c_int) -> Option<bool> {
    match answer {
        -1 => None,
        libc::TIME_ERROR => Some(false),
        _ => Some(status & libc::STA_UNSYNC == 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_whatever_the_clock() {
        let check = |time, expected: &str| assert_eq!(rfc3339(time), expected);
        let second = Duration::from_secs(1);
        check(UNIX_EPOCH, "1970-01-01T00:00:00.000Z");
        check(
            UNIX_EPOCH + Duration::from_millis(1_769_860_800_007),
            "2026-01-31T12:00:00.007Z",
        );
        check(UNIX_EPOCH - second, "1970-01-01T00:00:00.000Z");
        let far = UNIX_EPOCH + Duration::from_secs(LAST_SECOND);
        check(far, "9999-12-31T23:59:59.000Z");
        check(far + second, "9999-12-31T23:59:59.000Z");
        assert_eq!(now_utc().len(), 24);
    }

    #[test]
    fn the_kernels_report_is_read() {
        assert_eq!(is_synced(libc::TIME_OK, 0), Some(true));
        assert_eq!(is_synced(libc::TIME_OK, libc::STA_PLL), Some(true));
        assert_eq!(is_synced(libc::TIME_OK, libc::STA_UNSYNC), Some(false));
        assert_eq!(is_synced(libc::TIME_ERROR, 0), Some(false));
        assert_eq!(is_synced(-1, 0), None);
        // Reading needs no privilege.
        assert!(kernel_reports_synced().is_some());
    }

    #[test]
    fn uptime_does_not_go_back() {
        let first = uptime();
        assert!(uptime() >= first);
    }
}
