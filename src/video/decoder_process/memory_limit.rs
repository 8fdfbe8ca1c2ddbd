//! The limit of the decoder process's own memory. It applies to the peak of resident memory, which does not depend on
//! how fast the limit is noticed. A decoder whose allocation fails may silently drop frames, so the system's limit of
//! allocations is far above.

use super::protocol::{Channel, DecoderReply};
use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

/// Shortest time between two measurements.
const POLL_INTERVAL_MIN: Duration = Duration::from_millis(5);
/// Maximum bytes that a decoder fills in a millisecond: no measurement is due before it can have filled the rest.
const FILL_BYTES_MAX: u64 = 4 << 20;
/// Allocations that the system allows beyond twice the limit, in bytes: the stacks of threads, mostly unused.
const UNUSED_BYTES: u64 = 256 << 20;

/// Measures the memory of this process.
pub(super) struct MemoryLimit {
    limit_bytes: u64,
    status: File,
}

impl MemoryLimit {
    /// A limit of `limit_bytes`. It opens its file now, because the sandbox allows no file later.
    pub(super) fn new(limit_bytes: u64) -> io::Result<Self> {
        let status = File::open("/proc/self/status")?;
        Ok(Self {
            limit_bytes,
            status,
        })
    }

    /// Makes the system refuse allocations far above the limit.
    pub(super) fn cap_allocations(&self) -> io::Result<()> {
        let bytes = self.limit_bytes.saturating_mul(2) + UNUSED_BYTES;
        let most = getrlimit(Resource::Data).maximum;
        let bytes = most.map_or(bytes, |most| most.min(bytes));
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        Ok(setrlimit(Resource::Data, limit)?)
    }

    /// Starts the thread that ends this process above the limit.
    pub(super) fn watch(&self, channel: Channel) -> io::Result<()> {
        let watched = Self {
            limit_bytes: self.limit_bytes,
            status: self.status.try_clone()?,
        };
        let thread = thread::Builder::new().name("memory-limit".into());
        thread.spawn(move || {
            loop {
                let rest = watched.check(&channel);
                let safe = Duration::from_millis(rest / FILL_BYTES_MAX);
                thread::sleep(safe.max(POLL_INTERVAL_MIN));
            }
        })?;
        Ok(())
    }

    /// Ends this process if it has ever used more than the limit. Returns the number of bytes that it may still fill.
    pub(super) fn check(&self, channel: &Channel) -> u64 {
        let peak = self.peak_bytes().unwrap_or(0);
        if peak > self.limit_bytes {
            // When the other process is gone, there is no one to report to.
            channel.send(&DecoderReply::TooMuchMemory, None).ok();
            kill_process(getpid(), Signal::KILL).ok();
        }
        self.limit_bytes.saturating_sub(peak)
    }

    /// Peak of resident memory so far, in bytes.
    fn peak_bytes(&self) -> Option<u64> {
        let mut text = [0; 4096];
        let length = self.status.read_at(&mut text, 0).ok()?;
        peak(&text[..length])
    }
}

/// The field `VmHWM` of `/proc/self/status`, in bytes.
fn peak(status: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(status);
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_stays_after_the_memory_is_free() {
        let limit = MemoryLimit::new(u64::MAX).unwrap();
        let before = limit.peak_bytes().unwrap();
        assert!(before > 0);
        let size = 64 << 20;
        drop(vec![1_u8; usize::try_from(before).unwrap() + size]);
        assert!(limit.peak_bytes().unwrap() >= before + size as u64 / 2);
        assert_eq!(peak(b"Name:\tx\nVmHWM:\t   52 kB\n"), Some(52 << 10));
        assert_eq!(peak(b"Name:\tx\n"), None);
    }
}
