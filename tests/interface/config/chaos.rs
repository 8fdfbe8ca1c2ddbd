//! Broken configs of all kinds: each is taken or refused in words.

use super::case::{ALTERNATIVES, Case, example_with_all};
use handloom::config::{Config, KEYS};
use test_support::Dice;

/// A value that some key may not like.
fn odd_value(dice: &mut Dice) -> String {
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
    values[dice.below(values.len())].to_owned()
}

/// `lines` with one thing changed.
fn mutate(lines: &mut Vec<Vec<u8>>, dice: &mut Dice) {
    let at = dice.below(lines.len());
    match dice.below(8) {
        0 => {
            lines.remove(at);
        }
        1 => {
            let line = lines[at].clone();
            let to = dice.below(lines.len());
            lines.insert(to, line);
        }
        2 | 3 if !lines[at].is_empty() => {
            let byte = dice.below(lines[at].len());
            lines[at][byte] = dice.byte();
        }
        4 => lines.truncate(at + 1),
        5 => lines[at].truncate(at % 7),
        _ => {
            let text = String::from_utf8_lossy(&lines[at]).into_owned();
            if let Some((key, _)) = text.split_once('=') {
                lines[at] = format!("{key}= {}", odd_value(dice)).into_bytes();
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
    // Comments are of no interest.
    let lines: Vec<Vec<u8>> = all
        .lines()
        .filter(|l| !l.starts_with('#') && !l.is_empty())
        .map(|l| l.as_bytes().to_vec())
        .collect();
    let (mut taken, mut refused) = (0, 0);
    for seed in 0..600 {
        let mut dice = Dice::new(seed);
        let mut lines = lines.clone();
        for _ in 0..=dice.below(3) {
            mutate(&mut lines, &mut dice);
        }
        let bytes = lines.join(&b'\n');
        let mut case = Case::new(&bytes).with("mqtt-password", "geheim", 0o600);
        // A broken variable and a broken flag now and then.
        let key = &KEYS[dice.below(KEYS.len())];
        match dice.below(4) {
            0 => case = case.env(&key.variable(), &odd_value(&mut dice)),
            1 => case = case.set(&format!("{}={}", key.dotted, odd_value(&mut dice))),
            _ => {}
        }
        match case.load() {
            Ok(loaded) => {
                taken += 1;
                // What is taken can be printed and is the same again.
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
    // The generator finds both kinds.
    assert!(
        taken > 50 && refused > 200,
        "{taken} taken, {refused} refused"
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
