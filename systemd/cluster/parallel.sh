#!/bin/bash
# A dataset over a handful of machines with GNU parallel and ssh, one shard at a time on each.
#
#   DATASET=/mnt/share/wlasl OUT=/mnt/share/out MERGED=/mnt/share/merged bash parallel.sh pi-1 pi-2 pi-3
#
# A machine is what parallel takes for --sshlogin: HOST, USER@HOST, or an ssh command. The same paths must exist on all,
# and ssh must need no password. The same command resumes after an interruption and leaves alone what is done.
set -eu

if [ $# = 0 ]; then
  sed -n '4,7s/^# \{0,3\}//p' "$0" >&2
  exit 64
fi
# More shards than machines, so that the fast ones take more of them.
SHARDS=${SHARDS:-$(($# * 2))}
WORKERS=${WORKERS:-2}
# More options of `handloom process`, the same in every run.
OPTIONS=${OPTIONS:-}
PROGRAM=${PROGRAM:-handloom}
: "${DATASET:?}" "${OUT:?}" "${MERGED:?}"

machines=()
for machine in "$@"; do
  # 1/: one shard at a time.
  machines+=(--sshlogin "1/$machine")
done

# A shard that fails is tried on the other machines too.
parallel "${machines[@]}" --quote --retries 3 --tag --line-buffer --workdir / \
  "$PROGRAM" process "$DATASET" --out "$OUT" --shard "{}/$SHARDS" --workers "$WORKERS" --progress json $OPTIONS \
  ::: $(seq 0 $((SHARDS - 1)))
"$PROGRAM" merge "$MERGED" "$OUT"
