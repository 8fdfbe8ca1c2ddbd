//! Random broken configs: each is accepted or refused with a reason.

use super::case::{ALTERNATIVES, Case, example_with_all};
use handloom::config::{Config, KEYS};
use test_support::TestRng;

/// A value that some keys refuse.
fn odd_value(rng: &mut TestRng) -> String {
    let values = [
        "0",
        "-1",
        "1",
        "nan",
        "inf",
        "-inf",
        "true",
        "\"\"",
        "\"x\"",
        "[]",
        "[[]]",
        "{}",
        "{a.b = 1}",
        "1e400",
        "0x7f",
        "1979-05-27T07:32:00Z",
        "99999999999999999999999999999999999999999999999999",
        "-9223372036854775809",
        "\"\\u0000\"",
        "\"\"\"\n\"\"\"",
        "[1, \"a\", 2.5]",
        "'",
        "=",
        "",
    ];
    values[rng.below(values.len())].to_owned()
}

/// Changes one thing in `lines`.
fn mutate(lines: &mut Vec<Vec<u8>>, rng: &mut TestRng) {
    let at = rng.below(lines.len());
    match rng.below(8) {
        0 => {
            lines.remove(at);
        }
        1 => {
            let line = lines[at].clone();
            let to = rng.below(lines.len());
            lines.insert(to, line);
        }
        2 | 3 if !lines[at].is_empty() => {
            let byte = rng.below(lines[at].len());
            lines[at][byte] = rng.byte();
        }
        4 => lines.truncate(at + 1),
        5 => lines[at].truncate(at % 7),
        _ => {
            let text = String::from_utf8_lossy(&lines[at]).into_owned();
            if let Some((key, _)) = text.split_once('=') {
                lines[at] = format!("{key}= {}", odd_value(rng)).into_bytes();
            }
        }
    }
    if lines.is_empty() {
        lines.push(Vec::new());
    }
}

#[test]
fn no_config_makes_it_panic() {
    let all = example_with_all(&ALTERNATIVES);
    let lines: Vec<Vec<u8>> = all
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .map(|l| l.as_bytes().to_vec())
        .collect();
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..600 {
        let mut rng = TestRng::new(seed);
        let mut lines = lines.clone();
        for _ in 0..=rng.below(3) {
            mutate(&mut lines, &mut rng);
        }
        let bytes = lines.join(&b'\n');
        let mut case = Case::new(&bytes).with("mqtt-password", "geheim", 0o600);
        // Some cases also get an odd variable or flag.
        let key = &KEYS[rng.below(KEYS.len())];
        match rng.below(4) {
            0 => case = case.env(&key.variable(), &odd_value(&mut rng)),
            1 => case = case.set(&format!("{}={}", key.dotted, odd_value(&mut rng))),
            _ => {}
        }
        match case.load() {
            Ok(loaded) => {
                taken += 1;
                // The printed config loads as an equal config.
                let again = Case::new(loaded.to_toml())
                    .with("mqtt-password", "geheim", 0o600)
                    .set("mqtt.password=")
                    .good();
                let mut expected = loaded.config.clone();
                let mut found = again.config;
                for config in [&mut expected, &mut found] {
                    config.mqtt.password = None;
                    config.mqtt.password_file = None;
                }
                assert_same(&expected, &found, seed);
            }
            Err(error) => {
                refused += 1;
                for problem in &error.problems {
                    let text = problem.to_string();
                    let sources = [case.path().to_str().unwrap(), "HANDLOOM_", "--set "];
                    assert!(
                        sources.iter().any(|s| text.contains(s)),
                        "seed {seed}: {text}"
                    );
                    assert!(
                        !text.contains("geheim") && text.len() < 1_500,
                        "seed {seed}: {text}"
                    );
                    let is_clean = |c: char| !c.is_control() || c == '\n';
                    assert!(text.chars().all(is_clean), "seed {seed}: {text:?}");
                }
            }
        }
    }
    // The generator produces both kinds.
    assert!(
        taken > 50 && refused > 200,
        "{taken} accepted, {refused} refused"
    );
}

#[track_caller]
fn assert_same(a: &Config, b: &Config, seed: u64) {
    let changes = a.changes(b);
    assert!(
        changes.live.is_empty() && changes.restart.is_empty(),
        "seed {seed}: {changes:?}"
    );
}
