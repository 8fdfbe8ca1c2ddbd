//! Rate and latency of the frames of a camera session.

use std::collections::VecDeque;
use std::time::Duration;

/// Number of the last frames that the rates are computed from.
const FRAMES: usize = 300;

/// Rate and latency of the last 300 frames.
#[derive(Clone, Debug, Default)]
pub struct LatencyStats {
    /// Time of each frame since the session's start, and time from the camera to its landmarks.
    frames: VecDeque<(Duration, Duration)>,
    /// Number of frames in the whole session.
    pub seen: u64,
}

impl LatencyStats {
    /// Adds a frame taken at `at` whose landmarks were ready `latency` later.
    pub fn note(&mut self, at: Duration, latency: Duration) {
        self.seen += 1;
        self.frames.push_back((at, latency));
        if self.frames.len() > FRAMES {
            self.frames.pop_front();
        }
    }

    /// Frames per second, by the camera's times; zero before the second frame.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "300 at most")]
    pub fn fps(&self) -> f64 {
        match (self.frames.front(), self.frames.back()) {
            (Some((first, _)), Some((last, _))) if last > first => {
                (self.frames.len() - 1) as f64 / last.saturating_sub(*first).as_secs_f64()
            }
            _ => 0.0,
        }
    }

    /// The latency that `percent` of the frames stay within; zero before the first.
    #[must_use]
    pub fn latency(&self, percent: usize) -> Duration {
        let mut all: Vec<Duration> = self.frames.iter().map(|f| f.1).collect();
        all.sort();
        let nth = (all.len() * percent.min(100)).div_ceil(100).max(1) - 1;
        all.get(nth).copied().unwrap_or_default()
    }

    /// [`Self::fps`], rounded to a tenth for messages.
    pub(crate) fn rounded_fps(&self) -> f64 {
        (self.fps() * 10.0).round() / 10.0
    }

    /// [`Self::latency`] in milliseconds, rounded to a tenth for messages.
    pub(crate) fn rounded_ms(&self, percent: usize) -> f64 {
        (self.latency(percent).as_secs_f64() * 1e4).round() / 10.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_latencies_of_the_last_frames() {
        let mut stats = LatencyStats::default();
        assert_eq!((stats.fps(), stats.latency(95)), (0.0, Duration::ZERO));
        for n in 1..=1000_u32 {
            let ms = u64::from(n % 100);
            stats.note(Duration::from_millis(40) * n, Duration::from_millis(ms));
        }
        assert!((stats.fps() - 25.0).abs() < 1e-9);
        let of = |percent| stats.latency(percent).as_millis();
        assert_eq!((of(0), of(50), of(95), of(100)), (0, 49, 94, 99));
        assert_eq!((stats.seen, stats.frames.len()), (1000, FRAMES));
    }
}
