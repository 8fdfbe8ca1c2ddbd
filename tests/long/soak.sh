#!/usr/bin/env bash
# Processes many clips in one process. Resident memory after the last hundred clips may exceed that after the second
# hundred by at most 5 %. Every kind of clip is among the first two hundred.
# usage: soak.sh [process|run] [CLIPS]; run is `handloom run --once` with MQTT and its own mosquitto.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/long/broker.sh
kind=${1:-run} clips=${2:-2000}
[ "$clips" -ge 300 ] || { echo "soak: give at least 300 clips" >&2; exit 64; }
work=$(mktemp -d)
broker=
trap '[ ! -f "$work/pid" ] || kill "$(cat "$work/pid")" 2>/dev/null || true; [ -z "$broker" ] || kill "$broker" 2>/dev/null || true; rm -rf "$work"' EXIT
target/release/handloom demo --out "$work/demo" >/dev/null
tests/long/many_clips.py "$work/demo/dataset" "$work/dataset" "$clips"

# Runs the job, prints its events or log lines, and writes its process id to $work/pid.
job() {
  if [ "$kind" = process ]; then
    target/release/handloom process "$work/dataset" --out "$work/out" --workers 2 --progress json 2>"$work/log" &
  else
    target/release/handloom run --config "$work/handloom.toml" --once 2>&1 >/dev/null &
  fi
  echo $! >"$work/pid"
  wait $! || echo "soak: the job failed" >&2
}

case "$kind" in
process) is_clip='"event":"clip"' ;;
run)
  is_clip='clip recorded'
  start_broker "$work"
  # Turns the limits of the device off.
  cat >"$work/handloom.toml" <<TOML
[device]
id = "soak"
[dataset]
path = "$work/dataset"
[output]
path = "$work/out"
[run]
workers = 2
[mqtt]
url = "mqtt://127.0.0.1:$port"
[limits]
temperature_max_c = 125
memory_min_mib = 0
disk_reserve_mib = 0
[log]
level = "debug"
TOML
  ;;
*) echo "soak: process or run, not $kind" >&2; exit 64 ;;
esac

mkfifo "$work/events"
job >"$work/events" &
n=0 early=0 late=0
while IFS= read -r line; do
  case "$line" in *"$is_clip"*) n=$((n + 1)) ;; *) continue ;; esac
  [ $((n % 100)) = 0 ] || continue
  pid=$(cat "$work/pid")
  if rss=$(awk '/VmRSS/{print $2}' "/proc/$pid/status" 2>/dev/null) && [ -n "$rss" ]; then
    late=$rss
    [ "$n" != 200 ] || early=$late
    echo "after $n clips: $late kB resident; ledger $(cd "$work/out" && stat -c '%n %s' ledger.sqlite* | tr '\n' ' ')"
  fi
done <"$work/events"
[ "$n" = "$clips" ] && [ -f "$work/out/wlasl_landmarks.npz" ] || { echo "soak: $n of $clips clips" >&2; exit 1; }
[ "$early" -gt 0 ]
growth=$(((late - early) * 1000 / early))
[ "$growth" -lt 0 ] && sign=- || sign=
growth=${growth#-}
echo "$kind: growth from clip 200 to clip $n: $sign$((growth / 10)).$((growth % 10)) % (5 % are allowed)"
[ -n "$sign" ] || [ "$growth" -le 50 ]
