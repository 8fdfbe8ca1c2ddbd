use super::*;

#[test]
fn weights_of_the_odd_mpeg4_clip() {
    // 121 chroma rows to 241, as swscale 6.7 computes them.
    let filter = Filter::new(121, 241, VERTICAL_ONE);
    for (row, position, weights) in [
        (0, 0, [4432, -336, 0, 0]),
        (1, 0, [3212, 1002, -118, 0]),
        (4, 0, [-108, 938, 3607, -341]),
        (5, 1, [-350, 3526, 1044, -124]),
        (236, 117, [-341, 3606, 939, -108]),
        (240, 117, [0, 0, -345, 4441]),
    ] {
        assert_eq!(filter.row(row), (position, &weights[..]), "row {row}");
    }
}

#[test]
fn rows_keep_the_sum_and_stay_inside() {
    for one in [VERTICAL_ONE, HORIZONTAL_ONE] {
        for target in 1..=130_usize {
            let source = target.div_ceil(2);
            let filter = Filter::new(source, target, one);
            for index in 0..target {
                let (first, weights) = filter.row(index);
                let sum: i64 = weights.iter().map(|&weight| i64::from(weight)).sum();
                assert!((sum - one).abs() <= 1, "{target}: {sum}");
                assert!(first + weights.len() <= source, "{target}: {index}");
            }
        }
    }
}
