#!/usr/bin/env bash
# Measures the cost of many shards: plan, division into shards and merge, with a stub detector. 12,000 clips in 50
# shards, then 1 million short ones in 1,000 shards (10 GB below target/), or as many as the arguments request.
set -euo pipefail
cd "$(dirname "$0")/../.."
for scale in 12000/50/32 "${1:-1000000}/${2:-1000}/${3:-2}"; do
  HANDLOOM_SHARD_SCALE=$scale RUST_TEST_THREADS=1 cargo test --locked --test jobs -- merge::scale --nocapture
done
