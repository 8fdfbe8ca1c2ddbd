#!/usr/bin/env bash
# Times Handloom and the notebook's own pipeline on the same clips, one after the other.
# usage: side_by_side.sh [ROUNDS]; needs ../shared and PYTHON (default python3) with mediapipe 0.10.21,
# opencv-python-headless 4.8.1.78, numpy 1.26.4, and TASK, the hand_landmarker.task bundle. ACCELERATORS lists the
# values of --accelerator to run (default: auto).
set -euo pipefail
cd "$(dirname "$0")/../.."
shared=../shared python=${PYTHON:-python3} task=${TASK:-hand_landmarker.task} rounds=${1:-3}
read -ra accelerators <<<"${ACCELERATORS:-auto}"
[ -d "$shared/goldens/public" ] || { echo "bench: no $shared/goldens/public, nothing to compare with"; exit 0; }
"$python" -c 'import mediapipe, cv2' 2>/dev/null || { echo "bench: $python lacks mediapipe or cv2; set PYTHON"; exit 1; }
[ -f "$task" ] || { echo "bench: no bundle at $task; set TASK (../shared/reference/make_task.py makes one)"; exit 1; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
# Wall and CPU seconds (user and system) of a command; a command that fails ends the bench with its output.
seconds() {
  local TIMEFORMAT='%R %U %S'
  { time "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }; } 2>"$work/time"
  awk '{print $1, $2 + $3}' "$work/time"
}
ours() {
  seconds target/release/handloom process "$shared/goldens/public" --out "$work/out" --fresh --progress json \
    --workers "$1" --accelerator "$2"
}
echo "round  accelerator            notebook s (cpu)   1 worker s (cpu)   2 workers s (cpu)   ratio 1   ratio 2"
for round in $(seq "$rounds"); do
  note=$(seconds "$python" "$shared/reference/run_notebook.py" "$shared/goldens/public" "$task" "$work/notebook" --nodebug)
  for accelerator in "${accelerators[@]}"; do
    one=$(ours 1 "$accelerator")
    two=$(ours 2 "$accelerator")
    echo "$round $accelerator $note $one $two" |
      awk '{printf "%-6d %-22s %8.1f (%5.1f)   %8.1f (%5.1f)   %9.1f (%5.1f)   %7.2f   %7.2f\n", $1, $2, $3, $4, $5, $6, $7, $8, $3/$5, $3/$7}'
  done
done
