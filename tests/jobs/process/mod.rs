//! `handloom process`, `inspect` and `demo` as users run them, on a small dataset of drawn hands.

mod console_output;
mod corrected;
mod dataset;
mod inputs;
mod paths;
mod results;

use handloom::storage::npz::NpzReader;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn strings(path: &Path, name: &str) -> Vec<String> {
    NpzReader::open(path).unwrap().strings(name).unwrap()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

fn final_file(out: &Path) -> PathBuf {
    out.join("wlasl_landmarks.npz")
}
