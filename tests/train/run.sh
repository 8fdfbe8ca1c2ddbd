#!/usr/bin/env bash
# run.sh DATASET: prints the held-out accuracy of the notebook's LSTM on the signs of the dataset and the demo, for
# both profiles, and for the corrected profile with the backend that `fast` chooses. Fetches PyTorch, pinned by hash,
# into target/train.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=target/train
if ! [ -e $folder/python/installed ]; then
  python3 -m venv $folder/python
  $folder/python/bin/pip install --quiet --require-hashes --requirement tests/train/requirements.txt
  touch $folder/python/installed
fi
rm -rf $folder/demo
target/release/handloom demo --out $folder/demo >/dev/null
runs=()
for run in notebook-auto corrected-auto corrected-fast; do
  options=(--profile ${run%-*} --accelerator ${run#*-} --min-videos-per-gloss 4 --fresh)
  target/release/handloom process "$1" --out $folder/$run "${options[@]}" >/dev/null
  target/release/handloom process $folder/demo/dataset --out $folder/drawn-$run "${options[@]}" >/dev/null
  runs+=($folder/$run+$folder/drawn-$run)
done
$folder/python/bin/python tests/train/train.py "${runs[@]}"
