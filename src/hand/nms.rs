//! Weighted non-maximum suppression: overlapping palms become one, averaged by score.
//! Source: `HAND_LANDMARKER` specification, section 3.

use super::palm::Palm;
use crate::geometry::UprightBox;

/// Palms that overlap the best one by more than this belong to it.
const IOU_MIN: f32 = 0.3;

/// Clusters `palms` and returns one palm a cluster, best score first. The score is the cluster's best, box and
/// keypoints are score-weighted means. Overlap is always measured against the best palm as detected.
///
/// ```
/// use handloom::geometry::UprightBox;
/// use handloom::hand::{nms, palm::Palm};
///
/// let palm = |score, x| Palm {
///     score,
///     bounds: UprightBox { x, y: 0.1, w: 0.2, h: 0.2 },
///     keypoints: [[x, 0.1]; 7],
/// };
/// // The first two overlap and become one; the third is another hand.
/// let merged = nms::weighted(vec![palm(0.6, 0.11), palm(0.9, 0.10), palm(0.7, 0.60)]);
/// assert_eq!(merged.iter().map(|p| p.score).collect::<Vec<_>>(), [0.9, 0.7]);
/// assert!((merged[0].bounds.x - 0.104).abs() < 1e-6); // (0.6 × 0.11 + 0.9 × 0.10) / 1.5
/// ```
#[must_use]
pub fn weighted(mut palms: Vec<Palm>) -> Vec<Palm> {
    // Stable: equal scores keep their row order.
    palms.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut out = Vec::new();
    while let Some(&top) = palms.first() {
        let before = palms.len();
        let (cluster, rest): (Vec<Palm>, Vec<Palm>) = palms
            .into_iter()
            .partition(|p| p.bounds.iou(&top.bounds) > IOU_MIN);
        out.push(if cluster.is_empty() {
            top
        } else {
            mean(&top, &cluster)
        });
        // A box without area does not even overlap itself; the palms that follow cannot be compared with it.
        if rest.len() == before {
            break;
        }
        palms = rest;
    }
    out
}

/// The score-weighted mean of `cluster`, summed in list order from zero.
fn mean(top: &Palm, cluster: &[Palm]) -> Palm {
    let (mut total, mut x0, mut y0, mut x1, mut y1) = (0.0_f32, 0.0_f32, 0.0_f32, 0.0_f32, 0.0_f32);
    let mut keypoints = [[0.0_f32; 2]; super::palm::KEYPOINTS];
    for p in cluster {
        let (s, b) = (p.score, &p.bounds);
        total += s;
        x0 += b.x * s;
        y0 += b.y * s;
        x1 += (b.x + b.w) * s;
        y1 += (b.y + b.h) * s;
        for (sum, point) in keypoints.iter_mut().zip(&p.keypoints) {
            sum[0] += point[0] * s;
            sum[1] += point[1] * s;
        }
    }
    let (x, y) = (x0 / total, y0 / total);
    Palm {
        score: top.score,
        bounds: UprightBox {
            x,
            y,
            w: x1 / total - x,
            h: y1 / total - y,
        },
        keypoints: keypoints.map(|[kx, ky]| [kx / total, ky / total]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn palm(score: f32, x: f32, y: f32, side: f32) -> Palm {
        Palm {
            score,
            bounds: UprightBox {
                x,
                y,
                w: side,
                h: side,
            },
            keypoints: [[x, y]; 7],
        }
    }

    #[test]
    fn overlapping_palms_become_one_with_the_best_score() {
        let out = weighted(vec![
            palm(0.6, 0.11, 0.1, 0.2),
            palm(0.9, 0.1, 0.1, 0.2),
            palm(0.7, 0.6, 0.6, 0.2),
        ]);
        assert_eq!(out.len(), 2);
        assert!(
            (out[0].score - 0.9).abs() < f32::EPSILON && (out[1].score - 0.7).abs() < f32::EPSILON
        );
        assert!((out[0].bounds.x - (0.6 * 0.11 + 0.9 * 0.1) / 1.5).abs() < 1e-6);
        assert!((out[0].keypoints[3][0] - out[0].bounds.x).abs() < 1e-6);
    }

    #[test]
    fn a_box_without_area_ends_the_list() {
        assert_eq!(
            weighted(vec![palm(0.9, 0.5, 0.5, 0.0), palm(0.8, 0.1, 0.1, 0.0)]).len(),
            1
        );
    }

    proptest! {
        #[test]
        fn never_grows_and_stays_sorted(list in proptest::collection::vec((0.0_f32..1.0, 0.0_f32..1.0, 0.0_f32..1.0, 0.01_f32..0.5), 0..40)) {
            let palms: Vec<Palm> = list.iter().map(|&(s, x, y, w)| palm(s, x, y, w)).collect();
            let out = weighted(palms.clone());
            prop_assert!(out.len() <= palms.len());
            prop_assert_eq!(out.is_empty(), palms.is_empty());
            prop_assert!(out.windows(2).all(|w| w[0].score >= w[1].score));
        }
    }
}
