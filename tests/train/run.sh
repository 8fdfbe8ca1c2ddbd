#!/usr/bin/env bash
# run.sh DATASET: held-out accuracy of the notebook's LSTM on the sequences of both profiles. Fetches PyTorch, pinned by
# hash, into target/train.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=target/train
if ! [ -e $folder/python/installed ]; then
  python3 -m venv $folder/python
  $folder/python/bin/pip install --quiet --require-hashes --requirement tests/train/requirements.txt
  touch $folder/python/installed
fi
for profile in notebook corrected; do
  target/release/handloom process "$1" --out $folder/$profile --profile $profile --min-videos-per-gloss 4 --fresh >/dev/null
done
$folder/python/bin/python tests/train/train.py $folder/notebook $folder/corrected
