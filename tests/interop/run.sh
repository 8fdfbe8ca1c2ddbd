#!/usr/bin/env bash
# run.sh PROGRAM: checks the output of `handloom export` with real client libraries. Fetches them, pinned by hash,
# into target/interop.
set -euo pipefail
cd "$(dirname "$0")/../.."
program=$(realpath "$1")
folder=target/interop
if ! cmp -s tests/interop/requirements.txt $folder/python/installed; then
  rm -rf $folder/python
  python3 -m venv $folder/python
  $folder/python/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement tests/interop/requirements.txt
  cp tests/interop/requirements.txt $folder/python/installed
fi
rm -rf $folder/work
mkdir $folder/work
export HF_HUB_OFFLINE=1 HF_HOME=$PWD/$folder/work/cache
$folder/python/bin/python tests/interop/check.py "$program" $folder/work
# PyTorch is 3 GB, so this uses the copy that `make test-train` fetches.
python=${TORCH_PYTHON:-target/train/python/bin/python}
if [ -x "$python" ]; then
  "$python" tests/interop/check_torch.py $folder/work/out
else
  echo "SKIPPED: torch: no $python; make test-train fetches it"
fi
