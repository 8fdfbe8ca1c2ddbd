#!/usr/bin/env bash
# 1,000 clips through one process: resident memory must stay flat. Prints it after each 100 clips.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
target/release/handloom demo --out "$work/demo" >/dev/null
python3 - "$work/demo/dataset" "$work/dataset" "${1:-1000}" <<'PY'
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
target/release/handloom process "$work/dataset" --out "$work/out" --workers 2 --progress json 2>/dev/null | (
  n=0
  while IFS= read -r line; do
    case "$line" in *'"event":"clip"'*)
      n=$((n + 1))
      if [ $((n % 100)) = 0 ]; then
        pid=$(pgrep -n -f "$work/out") && echo "after $n clips: $(awk '/VmRSS/{print $2}' "/proc/$pid/status") kB resident"
      fi ;;
    *'"event":"done"'*) echo "$line" ;;
    esac
  done
)
