//! Signs with known places, joined with pauses, are cut where they are.

use super::stage::{FRAME, Part, film, shoot, with_detector};
use crate::common::{Dice, say, scratch};
use handloom::source::camera::Pace;
use handloom::source::camera::file::Stand;
use std::time::Duration;

#[test]
fn signs_are_cut_at_their_places() {
    let dir = scratch();
    let path = dir.path().join("film.mp4");
    let mut dice = Dice::new(11);
    let (mut parts, mut places, mut at) = (vec![Part::Pause(10)], Vec::new(), 10);
    for seed in 0..12 {
        let (sign, pause) = (20 + dice.below(45), 12 + dice.below(25));
        parts.extend([Part::Sign(seed, sign), Part::Pause(pause)]);
        places.push((at, at + sign - 1));
        at += sign + pause;
    }
    shoot(&path, &parts, 25);
    let (witness, counts, _) = with_detector(2, Duration::ZERO, |detector| {
        let stand = Stand::new(path.clone(), 25.0).at_once();
        film(Box::new(stand), Pace::Patient, detector)
    });
    assert_eq!(counts.dropped, 0);
    let frame =
        |time: Duration| usize::try_from((time.as_millis() + 20) / FRAME.as_millis()).unwrap();
    let cuts: Vec<_> = witness
        .signs
        .iter()
        .map(|s| (frame(s.begin), frame(s.end)))
        .collect();
    let is_hit = |place: &(usize, usize)| {
        cuts.iter()
            .any(|cut| cut.0.abs_diff(place.0) <= 3 && cut.1.abs_diff(place.1) <= 3)
    };
    let hits = places.iter().filter(|p| is_hit(p)).count();
    say(&format!(
        "{hits} of {} signs were cut within 3 frames: {places:?}, {cuts:?}",
        places.len()
    ));
    assert!(hits * 10 >= places.len() * 9);
    assert!(cuts.len() <= places.len() + 1);
}
