#!/usr/bin/env bash
# Measures the cost of MQTT reporting: processes the same clips with `handloom run --once`, alternately with and
# without a broker. The time runs from the first clip to the last file. The allowed cost is 2 %.
# usage: mqtt_cost.sh [ROUNDS] [CLIPS]
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/long/broker.sh
rounds=${1:-5} clips=${2:-60}
work=$(mktemp -d)
broker=
trap '[ -z "$broker" ] || kill "$broker" 2>/dev/null || true; rm -rf "$work"' EXIT
target/release/handloom demo --out "$work/demo" >/dev/null
tests/long/many_clips.py "$work/demo/dataset" "$work/dataset" "$clips"
start_broker "$work"
# Turns the limits of the device off. Small batches make many messages.
cat >"$work/off.toml" <<TOML
[device]
id = "bench"
[dataset]
path = "$work/dataset"
[output]
path = "$work/out"
batch_size = 10
[run]
workers = 2
[limits]
temperature_max_c = 125
memory_min_mib = 0
disk_reserve_mib = 0
TOML
{ cat "$work/off.toml"; printf '[mqtt]\nurl = "mqtt://127.0.0.1:%s"\n' "$port"; } >"$work/on.toml"

# Seconds of the job, and CPU seconds of the process.
run() {
  rm -rf "$work/out"
  local began=0 ended=0 TIMEFORMAT='%U %S'
  { time target/release/handloom run --config "$work/$1.toml" --once 2>&1 >/dev/null; } 2>"$work/cpu" |
    while IFS= read -r line; do
      case "$line" in
      *'state="processing"'*) began=$EPOCHREALTIME ;;
      *'the job is done'*) ended=$EPOCHREALTIME ;;
      esac
      [ "$ended" = 0 ] || { echo "$began $ended" >"$work/wall"; ended=0; }
    done
  awk '{wall = $2 - $1} END {getline cpu < "'"$work/cpu"'"; split(cpu, c, " "); printf "%.3f %.2f\n", wall, c[1] + c[2]}' "$work/wall"
}
run on >/dev/null # Warms the file cache.
echo "round   off s (cpu)        on s (cpu)"
for round in $(seq "$rounds"); do
  # The order alternates, so that a machine that slows down affects both.
  if [ $((round % 2)) = 1 ]; then off=$(run off) on=$(run on); else on=$(run on) off=$(run off); fi
  echo "$round $off $on" | tee -a "$work/all" | awk '{printf "%-5d %7.3f (%6.2f)   %7.3f (%6.2f)\n", $1, $2, $3, $4, $5}'
done
median() { cut -d' ' -f"$1" "$work/all" | sort -n | awk '{v[NR] = $1} END {print (v[int((NR + 1) / 2)] + v[int(NR / 2) + 1]) / 2}'; }
# Wall time is useless when other programs take the cores; CPU time alone does not include waiting.
echo "$(median 2) $(median 4) $(median 3) $(median 5) $clips" | awk '{
  printf "median  off %.3f s, on %.3f s for %d clips: %+.2f %% (2 %% are allowed)\n", $1, $2, $5, ($2 / $1 - 1) * 100
  printf "        CPU off %.2f s, on %.2f s: %+.2f %%; cores off %.2f, on %.2f\n", $3, $4, ($4 / $3 - 1) * 100, $3 / $1, $4 / $2
  if ($3 / $1 < 1.7 || $4 / $2 < 1.7) { print "bench: 2 workers did not get 2 cores: no result, try again on an idle machine"; exit 75 }
  exit $2 > $1 * 1.02 }'
