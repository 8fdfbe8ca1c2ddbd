#!/usr/bin/env bash
# Many clips (default 1,000) through one process: resident memory after the last hundred must be within 5 % of that
# after the second, by when every kind of clip has been through. usage: soak.sh [CLIPS]
set -euo pipefail
cd "$(dirname "$0")/../.."
clips=${1:-1000}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
target/release/handloom demo --out "$work/demo" >/dev/null
python3 - "$work/demo/dataset" "$work/dataset" "$clips" <<'PY'
import json, os, sys
source, target, clips = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.makedirs(target + "/videos")
files = sorted(os.listdir(source + "/videos"))
instances = []
for n in range(clips):
    name = "%05d" % n
    os.link(os.path.join(source, "videos", files[n % len(files)]), "%s/videos/%s.mp4" % (target, name))
    instances.append({"video_id": name, "frame_start": 1, "frame_end": -1, "split": "train", "signer_id": 1})
json.dump([{"gloss": "many", "instances": instances}], open(target + "/WLASL_v0.3.json", "w"))
PY
mkfifo "$work/events"
target/release/handloom process "$work/dataset" --out "$work/out" --workers 2 --progress json >"$work/events" &
pid=$!
n=0 early=0 late=0
while IFS= read -r line; do
  case "$line" in *'"event":"clip"'*) n=$((n + 1)) ;; *) continue ;; esac
  if [ $((n % 100)) = 0 ] && [ -d "/proc/$pid" ]; then
    late=$(awk '/VmRSS/{print $2}' "/proc/$pid/status")
    [ "$n" = 200 ] && early=$late
    echo "after $n clips: $late kB resident"
  fi
done <"$work/events"
wait "$pid"
[ "$early" -gt 0 ] || { echo "soak: give at least 300 clips" >&2; exit 64; }
growth=$(((late - early) * 1000 / early))
echo "growth from clip 200 to clip $n: $((growth / 10)).$((growth % 10 < 0 ? -(growth % 10) : growth % 10)) %"
[ "$growth" -le 50 ]
