//! Selects the frames of a camera that a sequence is made of, so that it spans the same time as a clip of the
//! dataset.

use std::num::NonZeroU64;
use std::time::Duration;

/// The times at which a sequence samples its sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResampleGrid {
    /// Time between frames at the dataset's rate; above zero. WLASL's clips have 25 or 30 frames per second.
    pub frame: Duration,
    /// Every `stride`-th frame is sampled.
    pub stride: NonZeroU64,
}

/// One sampled frame of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplePoint {
    /// The frame's number as a clip at the dataset's rate would count it, from 0.
    pub number: u64,
    /// Index of the nearest frame in time; `None` when none is within one step, because the camera gave no frames.
    pub nearest: Option<usize>,
}

impl ResampleGrid {
    /// Time from one sample to the next.
    #[must_use]
    pub fn step(self) -> Duration {
        let stride = u32::try_from(self.stride.get()).unwrap_or(u32::MAX);
        self.frame.saturating_mul(stride)
    }

    /// Number of frames of a clip at the dataset's rate that spans `times`; 0 for none.
    #[must_use]
    pub fn frames(self, times: &[Duration]) -> u64 {
        let (Some(first), Some(last)) = (times.first(), times.last()) else {
            return 0;
        };
        let span = last.saturating_sub(*first) + self.frame / 2;
        u64::try_from(span.as_nanos() / self.frame.as_nanos().max(1)).unwrap_or(u64::MAX - 1) + 1
    }

    /// The samples of a sequence, at most `length`, from the first of `times`, which ascend.
    #[must_use]
    pub fn points(self, times: &[Duration], length: usize) -> Vec<SamplePoint> {
        let Some(&first) = times.first() else {
            return Vec::new();
        };
        let count = self.frames(times).div_ceil(self.stride.get());
        let count = count.min(u64::try_from(length).unwrap_or(u64::MAX));
        let mut at = 0;
        let mut due = first;
        (0..count)
            .map(|nth| {
                // Of two equally near frames the earlier is taken.
                while times
                    .get(at + 1)
                    .is_some_and(|next| next.abs_diff(due) < times[at].abs_diff(due))
                {
                    at += 1;
                }
                let is_near = times[at].abs_diff(due) <= self.step();
                due = due.saturating_add(self.step());
                SamplePoint {
                    number: nth.saturating_mul(self.stride.get()),
                    nearest: is_near.then_some(at),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::sampling::{Window, sampled};
    use proptest::prelude::*;

    const STRIDE: NonZeroU64 = NonZeroU64::MIN.saturating_add(1);

    fn grid(rate: u64) -> ResampleGrid {
        ResampleGrid {
            frame: Duration::from_nanos(1_000_000_000 / rate),
            stride: STRIDE,
        }
    }

    fn times(count: u64, rate: u64) -> Vec<Duration> {
        let at = |n| Duration::from_secs(7) + Duration::from_nanos(n * 1_000_000_000 / rate);
        (0..count).map(at).collect()
    }

    fn picked(grid: ResampleGrid, times: &[Duration]) -> Vec<usize> {
        let points = grid.points(times, 32);
        points.iter().map(|m| m.nearest.unwrap()).collect()
    }

    #[test]
    fn a_camera_at_the_datasets_rate_is_sampled_as_a_clip() {
        for rate in [25, 30] {
            for count in [0, 1, 2, 3, 31, 63, 64, 65, 200] {
                let window = Window {
                    start: 0,
                    end: count,
                };
                let samples = sampled(window, STRIDE, 32);
                let expected: Vec<usize> = samples.map(|n| n as usize).collect();
                assert_eq!(picked(grid(rate), &times(count, rate)), expected);
                let points = grid(rate).points(&times(count, rate), 32);
                assert!(points.iter().all(|m| Some(m.number as usize) == m.nearest));
            }
        }
    }

    #[test]
    fn other_rates_span_the_same_time() {
        assert_eq!(picked(grid(25), &times(120, 50))[..4], [0, 4, 8, 12]);
        assert_eq!(picked(grid(25), &times(120, 30))[..5], [0, 2, 5, 7, 10]);
        // A camera of half the sampled rate: each frame stands for two samples.
        assert_eq!(picked(grid(25), &times(20, 6))[..5], [0, 0, 1, 1, 2]);
        assert_eq!(picked(grid(25), &times(13, 12)).len(), 13);
    }

    #[test]
    fn where_the_camera_was_away_no_frame_is_invented() {
        let mut times = times(100, 25);
        times.drain(10..40);
        let points = grid(25).points(&times, 32);
        assert_eq!(points.len(), 32);
        let missing: Vec<u64> = points
            .iter()
            .filter(|m| m.nearest.is_none())
            .map(|m| m.number)
            .collect();
        assert_eq!(missing, (12..38).step_by(2).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn jitter_does_not_matter(late in proptest::collection::vec(0_u64..18, 80)) {
            let times: Vec<Duration> = times(80, 25)
                .into_iter()
                .zip(&late)
                .map(|(at, ms)| at + Duration::from_millis(*ms))
                .collect();
            let mut steady = times.clone();
            steady[0] = Duration::from_secs(7) + Duration::from_millis(9);
            let expected: Vec<usize> = (0..64).step_by(2).collect();
            prop_assert_eq!(picked(grid(25), &steady), expected);
        }

        #[test]
        fn nearest_is_nearest(steps in proptest::collection::vec(1_u64..300, 1..200)) {
            let mut at = Duration::ZERO;
            let times: Vec<Duration> = steps.iter().map(|ms| {
                at += Duration::from_millis(*ms);
                at
            }).collect();
            let grid = grid(25);
            for (nth, point) in grid.points(&times, 1000).iter().enumerate() {
                let due = times[0] + grid.step() * u32::try_from(nth).unwrap();
                let best = times.iter().map(|t| t.abs_diff(due)).min().unwrap();
                match point.nearest {
                    Some(n) => prop_assert_eq!(times[n].abs_diff(due), best),
                    None => prop_assert!(best > grid.step()),
                }
            }
        }
    }
}
