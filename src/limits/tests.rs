use super::*;
use proptest::prelude::*;

fn limits(workers_max: usize) -> ResourceLimits {
    ResourceLimits {
        workers_max,
        temperature_max_c: 80.0,
        temperature_resume_c: 70.0,
        memory_min_mib: 400,
        memory_resume_mib: 600,
        disk_reserve_mib: 256,
        disk_resume_mib: 384,
    }
}

fn heat(c: f64) -> Sample {
    Sample {
        temperature_c: Some(c),
        ..Sample::default()
    }
}

fn memory(mib: u64) -> Sample {
    Sample {
        memory_available_mib: Some(mib),
        ..Sample::default()
    }
}

fn disk(mib: u64) -> Sample {
    Sample {
        disk_free_mib: Some(mib),
        ..Sample::default()
    }
}

/// Steps a limiter of `workers_max` through `(second, sample, workers expected)`.
fn check(name: &str, workers_max: usize, steps: &[(u64, Sample, usize)]) {
    let mut limiter = ResourceLimiter::new(limits(workers_max));
    for (second, reading, expected) in steps {
        let decision = limiter.step(Duration::from_secs(*second), reading);
        assert_eq!(decision.workers, *expected, "{name}, second {second}");
    }
}

#[test]
fn the_steps_are_as_documented() {
    check(
        "heat: one fewer at once and each 30 s, never below 1",
        3,
        &[
            (0, heat(60.0), 3),
            (100, heat(80.1), 2),
            (110, heat(85.0), 2),
            (130, heat(85.0), 1),
            (160, heat(89.9), 1),
            (500, heat(89.9), 1),
        ],
    );
    check(
        "heat: back one by one, each after 60 s below the good mark",
        3,
        &[
            (0, heat(81.0), 2),
            (30, heat(81.0), 1),
            (40, heat(75.0), 1),
            (100, heat(69.9), 1),
            (159, heat(69.9), 1),
            (160, heat(69.9), 2),
            (170, heat(70.0), 2),
            // Another minute below it, counted anew.
            (215, heat(60.0), 2),
            (220, heat(60.0), 2),
            (275, heat(60.0), 3),
            (335, heat(60.0), 3),
        ],
    );
    check(
        "heat: a pause 10 degrees above, until it has cooled",
        4,
        &[
            (0, heat(90.0), 0),
            (100, heat(85.0), 0),
            (200, heat(75.0), 0),
            (300, heat(69.0), 0),
            (360, heat(69.0), 1),
            (420, heat(69.0), 2),
            (421, heat(95.0), 0),
        ],
    );
    check(
        "a reading that trembles about the bad mark takes one worker in 30 s at most",
        4,
        &[
            (0, heat(81.0), 3),
            (1, heat(79.0), 3),
            (2, heat(81.0), 3),
            (29, heat(81.0), 3),
            (30, heat(79.0), 3),
            (31, heat(81.0), 2),
        ],
    );
    check(
        "memory: the same, with a pause at half",
        3,
        &[
            (0, memory(400), 3),
            (1, memory(399), 2),
            (31, memory(201), 1),
            (90, memory(201), 1),
            (91, memory(200), 0),
            (150, memory(599), 0),
            (160, memory(600), 0),
            (220, memory(600), 1),
            (280, memory(900), 2),
            (340, memory(900), 3),
        ],
    );
    check(
        "disk: at once, and at once back",
        4,
        &[
            (0, disk(256), 4),
            (1, disk(255), 0),
            (2, disk(383), 0),
            (3, disk(384), 4),
            (4, disk(256), 4),
        ],
    );
}

#[test]
fn causes_do_not_mix() {
    let all = |t, m, d| Sample {
        temperature_c: Some(t),
        memory_available_mib: Some(m),
        disk_free_mib: Some(d),
    };
    check(
        "the strictest cause decides",
        4,
        &[
            (0, all(81.0, 1000, 1000), 3),
            (30, all(81.0, 390, 1000), 2),
            (60, all(75.0, 390, 1000), 2),
            (70, all(75.0, 390, 100), 0),
            (80, all(75.0, 390, 500), 2),
        ],
    );
    check(
        "one worker is not taken by heat, only paused",
        1,
        &[
            (0, heat(89.0), 1),
            (30, heat(89.0), 1),
            (40, heat(91.0), 0),
            (41, heat(60.0), 0),
            (101, heat(60.0), 1),
        ],
    );
    check(
        "what is unknown changes nothing",
        2,
        &[
            (0, Sample::default(), 2),
            (1, heat(f64::NAN), 2),
            (2, heat(81.0), 1),
            (100, Sample::default(), 1),
            (200, heat(f64::INFINITY), 1),
        ],
    );
    check(
        "no workers at all",
        0,
        &[(0, heat(95.0), 0), (1, disk(1), 0)],
    );
}

#[test]
fn each_hold_begins_and_ends_once() {
    let mut limiter = ResourceLimiter::new(limits(3));
    let names = |throttles: &[Throttle]| -> String {
        let names: Vec<_> = throttles.iter().map(Throttle::component).collect();
        names.join(",")
    };
    let steps = [
        // second, sample, throttles, began, ended
        (0, heat(81.0), "heat", "heat", ""),
        (30, heat(81.0), "heat", "", ""),
        (31, disk(10), "heat,disk", "disk", ""),
        (32, disk(20), "heat,disk", "", ""),
        (33, heat(60.0), "heat,disk", "", ""),
        (93, heat(60.0), "heat,disk", "", ""),
        (153, heat(60.0), "disk", "", "heat"),
        (154, disk(400), "", "", "disk"),
        (155, disk(400), "", "", ""),
        (156, disk(10), "disk", "disk", ""),
    ];
    for (second, reading, throttles, began, ended) in steps {
        let decision = limiter.step(Duration::from_secs(second), &reading);
        assert_eq!(
            (
                names(&decision.throttles),
                names(&decision.began),
                names(&decision.ended)
            ),
            (throttles.to_owned(), began.to_owned(), ended.to_owned()),
            "second {second}"
        );
    }
}

#[test]
fn throttles_name_the_fix() {
    let mut limiter = ResourceLimiter::new(limits(3));
    let reading = Sample {
        temperature_c: Some(82.26),
        memory_available_mib: Some(150),
        disk_free_mib: Some(210),
    };
    let throttles = limiter.step(Duration::ZERO, &reading).throttles;
    let words: Vec<String> = throttles.iter().map(Throttle::to_string).collect();
    assert_eq!(
        words,
        [
            "heat: 82.3 °C, 80.0 are allowed, so 2 workers are left; cool the device, workers come back below 70.0 °C",
            "memory: 150 MiB available, 400 are needed, so work is paused; stop other programs or set fewer workers, \
             workers come back above 600 MiB",
            "disk: 210 MiB free, 256 are kept in reserve; free some space, work continues above 384 MiB",
        ]
    );
}

#[test]
fn other_limits_count_from_the_next_step() {
    let mut limiter = ResourceLimiter::new(limits(4));
    let at = |s| Duration::from_secs(s);
    assert_eq!(limiter.step(at(0), &heat(81.0)).workers, 3);
    // The maximum is below what the heat allows, so the heat throttles nothing any more.
    limiter.set_limits(limits(2));
    let decision = limiter.step(at(1), &Sample::default());
    assert_eq!((decision.workers, decision.throttles.len()), (2, 0));
    assert_eq!(decision.ended.len(), 1);
    limiter.set_limits(limits(6));
    assert_eq!(limiter.step(at(2), &Sample::default()).workers, 6);
    // A pause lasts after a change of the reserve until the new resume threshold is reached.
    assert_eq!(limiter.step(at(3), &disk(100)).workers, 0);
    limiter.set_limits(ResourceLimits {
        disk_reserve_mib: 50,
        disk_resume_mib: 150,
        ..limits(6)
    });
    assert_eq!(limiter.step(at(4), &disk(100)).workers, 0);
    assert_eq!(limiter.step(at(5), &disk(150)).workers, 6);
    // Zero disables a limit.
    limiter.set_limits(ResourceLimits {
        disk_reserve_mib: 0,
        memory_min_mib: 0,
        ..limits(6)
    });
    let empty = Sample {
        memory_available_mib: Some(0),
        disk_free_mib: Some(0),
        ..Sample::default()
    };
    assert_eq!(limiter.step(at(6), &empty).workers, 6);
    // Disabling a limit ends its throttle at once.
    limiter.set_limits(limits(6));
    assert_eq!(limiter.step(at(7), &empty).workers, 0);
    limiter.set_limits(ResourceLimits {
        disk_reserve_mib: 0,
        memory_min_mib: 0,
        ..limits(6)
    });
    let decision = limiter.step(at(8), &Sample::default());
    assert_eq!((decision.workers, decision.ended.len()), (6, 2));
}

/// Any value of a sensor, often near the thresholds.
fn any_reading() -> impl Strategy<Value = Sample> {
    let temperature = prop_oneof![
        60.0..100.0,
        Just(70.0),
        Just(80.0),
        Just(90.0),
        any::<f64>()
    ];
    let memory = prop_oneof![150..700_u64, Just(200), Just(400), Just(600), any::<u64>()];
    let disk = prop_oneof![200..500_u64, Just(256), Just(384), any::<u64>()];
    (
        proptest::option::of(temperature),
        proptest::option::of(memory),
        proptest::option::of(disk),
    )
        .prop_map(
            |(temperature_c, memory_available_mib, disk_free_mib)| Sample {
                temperature_c,
                memory_available_mib,
                disk_free_mib,
            },
        )
}

/// A limiter after some steps, and its current time.
fn any_past() -> impl Strategy<Value = (ResourceLimiter, Duration)> {
    let steps = proptest::collection::vec((0..90_u64, any_reading()), 0..30);
    (0..9_usize, steps).prop_map(|(workers_max, steps)| {
        let mut limiter = ResourceLimiter::new(limits(workers_max));
        let mut now = Duration::ZERO;
        for (seconds, reading) in steps {
            now += Duration::from_secs(seconds);
            limiter.step(now, &reading);
        }
        (limiter, now)
    })
}

proptest! {
    #[test]
    fn a_constant_reading_comes_to_rest(
        (mut limiter, mut now) in any_past(),
        reading in any_reading(),
        every in 1..120_u64,
    ) {
        // The longest way is from a pause to all workers, a minute each.
        let ways = (limiter.limits.workers_max as u64 + 2) * (60 / every + 1);
        for _ in 0..ways {
            now += Duration::from_secs(every);
            limiter.step(now, &reading);
        }
        now += Duration::from_secs(every);
        let rest = limiter.step(now, &reading);
        prop_assert!(rest.began.is_empty() && rest.ended.is_empty());
        for _ in 0..200 {
            now += Duration::from_secs(every);
            prop_assert_eq!(&limiter.step(now, &reading), &rest);
        }
    }

    #[test]
    fn workers_stay_within_bounds_and_holds_explain_them(
        (mut limiter, now) in any_past(),
        reading in any_reading(),
    ) {
        let before = limiter.throttles.clone();
        let decision = limiter.step(now, &reading);
        let max = limiter.limits.workers_max;
        prop_assert!(decision.workers <= max);
        prop_assert_eq!(decision.workers < max, decision.throttles.iter().any(|_| max > 0));
        let is_disk_short = reading.disk_free_mib.is_some_and(|mib| mib < 256);
        if is_disk_short {
            prop_assert_eq!(decision.workers, 0);
        }
        let component = Throttle::component;
        let mut reported: Vec<_> = before.iter().map(component).collect();
        reported.retain(|name| !decision.ended.iter().any(|h| h.component() == *name));
        reported.extend(decision.began.iter().map(component));
        let mut held: Vec<_> = decision.throttles.iter().map(component).collect();
        reported.sort_unstable();
        held.sort_unstable();
        prop_assert_eq!(reported, held);
    }

    #[test]
    fn between_the_marks_nothing_changes(
        (mut limiter, mut now) in any_past(),
        noise in proptest::collection::vec(
            (0..200_u64, 70.0..=80.0_f64, 400..600_u64, 256..384_u64),
            1..40,
        ),
    ) {
        let settled = limiter.step(now, &Sample::default());
        for (seconds, t, m, d) in noise {
            now += Duration::from_secs(seconds);
            let reading = Sample {
                temperature_c: Some(t),
                memory_available_mib: Some(m),
                disk_free_mib: Some(d),
            };
            let decision = limiter.step(now, &reading);
            prop_assert_eq!(decision.workers, settled.workers);
            prop_assert!(decision.began.is_empty() && decision.ended.is_empty());
        }
    }

    #[test]
    fn the_unknown_changes_nothing((mut limiter, now) in any_past(), seconds in 0..500_u64) {
        let settled = limiter.step(now, &Sample::default());
        let later = limiter.step(now + Duration::from_secs(seconds), &Sample::default());
        prop_assert_eq!(later, settled);
    }

    #[test]
    fn marks_in_the_wrong_order_do_not_make_it_swing(
        mut wrong in Just(limits(4)),
        heat_c in 0.0..200.0_f64,
        memory_mib in 0..1000_u64,
        disk_mib in 0..1000_u64,
        reading in any_reading(),
    ) {
        wrong.temperature_resume_c = heat_c;
        wrong.memory_resume_mib = memory_mib;
        wrong.disk_resume_mib = disk_mib;
        let mut limiter = ResourceLimiter::new(wrong);
        let mut decisions = Vec::new();
        for step in 0..60_u64 {
            decisions.push(limiter.step(Duration::from_secs(step * 30), &reading).workers);
        }
        let turns = decisions.windows(2).filter(|w| w[0] < w[1]).count();
        prop_assert_eq!(turns, 0, "{:?}", decisions);
    }
}
