use super::*;

#[test]
fn names_are_plain_and_unique() {
    let mut names = BTreeSet::new();
    let mut made = |texts: &[&str]| -> Vec<_> {
        texts
            .iter()
            .map(|text| unique_name(text, &mut names))
            .collect()
    };
    assert_eq!(
        made(&["CON", "nul", "com7", "com77", "console"]),
        ["CON_2", "nul_2", "com7_2", "com77", "console"]
    );
    let made = made(&["4.72e-7-seedSOUR", "a/b", "a_b", "A_B", "", "ü", "a_b_2"]);
    assert_eq!(
        made,
        [
            "4_72e-7-seedSOUR",
            "a_b",
            "a_b_2",
            "A_B_3",
            "_2",
            "_",
            "a_b_2_2"
        ]
    );
    assert_eq!(
        unique_name(&"x".repeat(300), &mut names).len(),
        KEY_CHARS_MAX
    );
}

#[test]
fn the_rate_is_that_of_the_exported_frames() {
    let frames = |indexes: &[i32], times: &[f64]| -> Vec<FrameHands> {
        let frame = |(n, index): (usize, &i32)| FrameHands {
            time_s: times.get(n).copied(),
            ..FrameHands::of(&FrameRecord::of(u64::try_from(*index).unwrap(), &[]), None)
        };
        indexes.iter().enumerate().map(frame).collect()
    };
    let check = |indexes: &[i32], times: &[f64], fps, expected| {
        assert_eq!(rate(&frames(indexes, times), fps), expected);
    };
    check(&[0, 2, 4], &[], Some(25.0), Some(12.5));
    check(&[3, 4, 5], &[], Some(29.97), Some(29.97));
    check(&[0, 1, 2], &[0.0, 0.5, 1.0], None, Some(2.0));
    check(&[7], &[], Some(25.0), Some(25.0));
    check(&[0, 1], &[], None, None);
    check(&[], &[], Some(25.0), None);
}
