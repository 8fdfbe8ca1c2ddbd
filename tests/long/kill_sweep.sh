#!/usr/bin/env bash
# Runs the full kill sweep of tests/jobs/kill.rs: 320 instants. A few minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
HANDLOOM_SWEEP=full exec cargo test --locked --test jobs -- kill:: --nocapture
