#!/usr/bin/env bash
# Runs the full power-cut sweep of tests/jobs/power.rs: the program resumes from every state that a power cut can
# leave, and loses power again after a kill at every call. About an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
HANDLOOM_SWEEP=full exec cargo test --locked --test jobs -- power:: --nocapture
