#!/usr/bin/env bash
# Prints how a job with one worker on the backend `cpu` spends processor time: models, decoder, conversion and crops,
# kernel.
# usage: cpu_share.sh DATASET BINARY...; alternates between the binaries; ROUNDS (default 3); needs perf, which
# samples the processor clock, also of the decoder process. "else" is the share of everything except the models.
set -euo pipefail
dataset=$1; shift
rounds=${ROUNDS:-3}
command -v perf >/dev/null || { echo "bench: perf is not installed (apt-get install linux-perf)"; exit 0; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
printf '%-6s %-40s %8s %8s %8s %8s %8s %8s %8s\n' round binary 'cpu s' models decode ours libc kernel else
for round in $(seq "$rounds"); do
  for binary in "$@"; do
    perf record -q -e cpu-clock -F 1999 -o "$work/data" -- "$binary" process "$dataset" --out "$work/out" --fresh \
      --progress json --workers 1 --accelerator "${BACKEND:-cpu}" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
    perf report -i "$work/data" --sort dso -F period,dso -t, --stdio 2>/dev/null | awk -F, -v round="$round" -v name="$binary" '
      $1 + 0 > 0 {
        kind = "decode"
        if ($2 ~ /tensorflowlite|LiteRt/) kind = "models"
        else if ($2 ~ /handloom/) kind = "ours"
        else if ($2 ~ /libc\.so|libc-|ld-linux|vdso/) kind = "libc"
        else if ($2 ~ /kernel/) kind = "kernel"
        time[kind] += $1; total += $1
      }
      END {
        printf "%-6d %-40s %8.2f", round, substr(name, length(name) - 39), total / 1e9
        for (n = split("models decode ours libc kernel", kinds, " "); ++i <= n;) printf " %7.2f%%", 100 * time[kinds[i]] / total
        printf " %7.2f%%\n", 100 * (1 - time["models"] / total)
      }'
  done
done
