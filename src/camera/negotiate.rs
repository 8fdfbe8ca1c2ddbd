//! Chooses one of a camera's formats, sizes and rates. Pure.

use super::{FormatRequest, PixelFormat};
use std::fmt;

/// A rate of at least this share of the requested one is fast enough.
const RATE_SLACK: f64 = 0.9;

/// A format that a camera offers, at one size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FormatOffer {
    /// Pixel format.
    pub format: PixelFormat,
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Maximum frames per second; `None` when the driver states none.
    pub rate: Option<f64>,
}

impl fmt::Display for FormatOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}x{}", self.format, self.width, self.height)?;
        self.rate
            .map_or(Ok(()), |rate| write!(f, " at {rate:.0} fps"))
    }
}

/// Frame sizes of one format, as drivers list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameSizes {
    /// One size, width and height.
    One(u32, u32),
    /// All sizes from the first to the second in steps of the third, each `[width, height]`.
    Range([u32; 2], [u32; 2], [u32; 2]),
}

impl FrameSizes {
    /// The size nearest to `width` × `height`.
    #[must_use]
    pub fn nearest(self, width: u32, height: u32) -> (u32, u32) {
        let on_grid = |wanted: u32, min: u32, max: u32, step: u32| {
            let inside = wanted.clamp(min, max.max(min));
            min + (inside - min) / step.max(1) * step.max(1)
        };
        match self {
            Self::One(width, height) => (width, height),
            Self::Range(min, max, step) => (
                on_grid(width, min[0], max[0], step[0]),
                on_grid(height, min[1], max[1], step[1]),
            ),
        }
    }
}

/// Chooses a size: the smallest that is at least as large as requested, else the largest.
#[must_use]
pub fn best_size(sizes: &[FrameSizes], request: &FormatRequest) -> Option<(u32, u32)> {
    let area = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
    let reachable = || {
        sizes
            .iter()
            .map(|s| s.nearest(request.width, request.height))
    };
    let is_enough =
        |(width, height): &(u32, u32)| *width >= request.width && *height >= request.height;
    let enough = reachable().filter(is_enough).min_by_key(|s| area(*s));
    enough.or_else(|| reachable().max_by_key(|s| area(*s)))
}

/// Chooses an offer of the requested format, if any: the one with the least work among those that are fast enough,
/// else the fastest.
#[must_use]
pub fn choose(offers: &[FormatOffer], request: &FormatRequest) -> Option<FormatOffer> {
    let fits = |o: &&FormatOffer| request.format.is_none_or(|f| f == o.format);
    let work = |o: &FormatOffer| PixelFormat::ALL.iter().position(|f| *f == o.format);
    let is_fast = |o: &&FormatOffer| o.rate.is_none_or(|r| r >= request.rate * RATE_SLACK);
    let fast = offers.iter().filter(fits).filter(is_fast);
    let slow = || {
        let rate = |o: &FormatOffer| o.rate.unwrap_or(0.0);
        offers.iter().filter(fits).max_by(|a, b| {
            // Of two equally fast offers, the one with less work wins.
            rate(a).total_cmp(&rate(b)).then(work(b).cmp(&work(a)))
        })
    };
    fast.min_by_key(|o| work(o)).or_else(slow).copied()
}

/// Offers as text for messages.
#[must_use]
pub fn describe(offers: &[FormatOffer]) -> String {
    if offers.is_empty() {
        return "no format that is supported".to_owned();
    }
    let offers: Vec<String> = offers.iter().map(ToString::to_string).collect();
    offers.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use PixelFormat::{Mjpg, Nv12, Yuyv};
    use proptest::prelude::*;

    fn offer(format: PixelFormat, rate: f64) -> FormatOffer {
        FormatOffer {
            format,
            width: 640,
            height: 480,
            rate: Some(rate),
        }
    }

    #[test]
    fn the_rate_comes_first_then_the_least_work() {
        let check =
            |offers: &[FormatOffer], wanted: Option<PixelFormat>, expected: Option<PixelFormat>| {
                let request = FormatRequest {
                    format: wanted,
                    ..FormatRequest::default()
                };
                assert_eq!(choose(offers, &request).map(|o| o.format), expected);
            };
        check(&[], None, None);
        check(&[offer(Mjpg, 30.0), offer(Yuyv, 30.0)], None, Some(Yuyv));
        check(&[offer(Mjpg, 30.0), offer(Yuyv, 10.0)], None, Some(Mjpg));
        check(&[offer(Mjpg, 30.0), offer(Yuyv, 29.97)], None, Some(Yuyv));
        check(&[offer(Mjpg, 15.0), offer(Nv12, 15.0)], None, Some(Nv12));
        check(
            &[offer(Mjpg, 30.0), offer(Yuyv, 10.0)],
            Some(Yuyv),
            Some(Yuyv),
        );
        check(&[offer(Mjpg, 30.0)], Some(Yuyv), None);
    }

    #[test]
    fn the_size_is_large_enough_where_one_is() {
        let one = FrameSizes::One;
        let check = |sizes: &[FrameSizes], expected| {
            assert_eq!(best_size(sizes, &FormatRequest::default()), expected);
        };
        check(&[], None);
        check(
            &[one(320, 240), one(1280, 720), one(800, 600)],
            Some((800, 600)),
        );
        check(&[one(320, 240), one(160, 120)], Some((320, 240)));
        check(
            &[FrameSizes::Range([32, 32], [1920, 1080], [8, 8])],
            Some((640, 480)),
        );
        check(
            &[FrameSizes::Range([48, 32], [320, 200], [0, 0])],
            Some((320, 200)),
        );
    }

    #[test]
    fn offers_are_described() {
        let text = describe(&[offer(Yuyv, 30.0), offer(Mjpg, 5.0)]);
        assert_eq!(text, "YUYV 640x480 at 30 fps, MJPG 640x480 at 5 fps");
        assert!(describe(&[]).contains("no format"));
    }

    proptest! {
        #[test]
        fn a_size_is_one_that_is_offered(
            min in 1_u32..100, span in 0_u32..3000, step in 0_u32..64, width in 0_u32..4000, height in 0_u32..4000,
        ) {
            let (w, h) = FrameSizes::Range([min, min], [min + span, min + span], [step, step]).nearest(width, height);
            for side in [w, h] {
                prop_assert!(side >= min && side <= min + span && (side - min) % step.max(1) == 0);
            }
        }
    }
}
