#!/usr/bin/env bash
# Runs a script of this folder with its packages, pinned by hash, in target/quantise: nothing is installed for the user.
# usage: models/quantise/run.sh build.py|calibrate.py|accuracy.py [ARGUMENT...]     run from any folder
set -euo pipefail
root=$(realpath "$(dirname "$0")/../..")
script=$1
shift
requirements=requirements-measure.txt
[ "$script" != build.py ] || requirements=requirements.txt
python=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
packages=$root/target/quantise/${requirements%.txt}-$python
if ! cmp -s "$root/models/quantise/$requirements" "$packages/installed"; then
  rm -rf "$packages"
  python3 -m pip install --quiet --disable-pip-version-check --no-input --root-user-action ignore --no-deps --only-binary=:all: --require-hashes \
    --target "$packages" --requirement "$root/models/quantise/$requirements" </dev/null
  cp "$root/models/quantise/$requirements" "$packages/installed"
fi
PYTHONPATH=$packages exec python3 -B -s "$root/models/quantise/$script" "$@"
