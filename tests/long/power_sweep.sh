#!/usr/bin/env bash
# The whole power-cut sweep of tests/jobs/power.rs: the program goes on from every state that a cut can leave, and is cut
# again after a kill at every call. About an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
HANDLOOM_SWEEP=full exec cargo test --locked --test jobs -- power:: --nocapture
