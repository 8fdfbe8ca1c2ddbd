#!/usr/bin/env bash
# Exports 12,000 clips in each format, prints time, size and peak memory, and kills each export 20 times. Uses the
# results and the Python of `make test-interop`.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=$(mktemp -d -p target)
trap 'rm -rf "$folder"' EXIT
target/interop/python/bin/python tests/long/export_many.py target/release/handloom target/interop/work/out "$folder" "$@"
