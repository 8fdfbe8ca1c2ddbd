#!/usr/bin/env bash
# Runs the full sweeps of single flipped bits: 500 with the program (tests/jobs/flip.rs), 5000 with the storage alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
export HANDLOOM_SWEEP=full
cargo test --locked --lib -- storage::recorder::tests::a_flipped_bit --nocapture
exec cargo test --locked --test jobs -- flip:: --nocapture
