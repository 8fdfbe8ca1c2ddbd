//! Times of one run of each model, `cpu` beside `litert:cpu`, one thread each: `make bench-backends`. The two
//! alternate, so that other load on the machine affects both. Compare within one run.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench prints, and stops where it cannot run"
)]

use handloom::hand::Model;
use handloom::inference::{
    CpuLoadedModel, CpuModel, LiteRt, LiteRtModel, LiteRtTarget, ModelFiles, ModelPaths,
};
use handloom::selection::Precision;
use std::path::Path;
use std::time::{Duration, Instant};

const WARM_UP: usize = 20;
const ROUNDS: usize = 300;

fn main() {
    let models = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fetched"));
    let selection = ModelPaths {
        models,
        ..ModelPaths::default()
    };
    let bundle = ModelFiles::load(&selection).expect("the models, as `make setup` fetches them");
    let runtime = LiteRt::load(None).expect("LiteRT, as `make setup-litert` fetches it");
    for file in [&bundle.palm, &bundle.hand] {
        let graph = CpuLoadedModel::new(file, Precision::F32).expect("a graph");
        let mut cpu = CpuModel::open(&graph).expect("a model");
        let mut litert = LiteRtModel::new(&runtime, file, LiteRtTarget::Cpu).expect("a model");
        let mut all: [(&str, &mut dyn Model, Vec<Duration>); 2] = [
            ("cpu", &mut cpu, Vec::new()),
            ("litert:cpu", &mut litert, Vec::new()),
        ];
        for round in 0..WARM_UP + ROUNDS {
            for (_, model, times) in &mut all {
                fill(model.input(), round);
                let start = Instant::now();
                model.invoke().expect("a run");
                if round >= WARM_UP {
                    times.push(start.elapsed());
                }
            }
        }
        for (name, _, times) in &mut all {
            times.sort_unstable();
            let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e3;
            println!(
                "{:4} {name:10} median {:6.2} ms   10 % {:6.2}   90 % {:6.2}   ({ROUNDS} runs)",
                file.spec.role.to_string(),
                at(50),
                at(10),
                at(90)
            );
        }
    }
}

/// Fills the input with another image each round.
fn fill(input: &mut [f32], round: usize) {
    let mut state = u32::try_from(round).unwrap_or(0).wrapping_add(1);
    for value in input {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = f32::from((state >> 16) as u16) / 65_535.0;
    }
}
