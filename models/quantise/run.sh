#!/usr/bin/env bash
# Runs a script with its Python packages, pinned by hash, in target/quantise; installs nothing for the user.
# usage: models/quantise/run.sh SCRIPT [ARGUMENT...]     e.g. models/quantise/run.sh models/quantise/build.py
set -euo pipefail
root=$(realpath "$(dirname "$0")/../..")
script=$1
shift
case $script in
  */calibrate.py | */accuracy.py) requirements=requirements-measure.txt ;;
  *) requirements=requirements.txt ;;
esac
python=$(python3 -c 'import sys, platform; print("%d.%d-%s" % (*sys.version_info[:2], platform.machine()))')
packages=$root/target/quantise/${requirements%.txt}-$python
if ! cmp -s "$root/models/quantise/$requirements" "$packages/installed"; then
  rm -rf "$packages"
  python3 -m pip install --quiet --disable-pip-version-check --no-input --root-user-action ignore --no-deps --only-binary=:all: \
    --require-hashes --target "$packages" --requirement "$root/models/quantise/$requirements" </dev/null
  cp "$root/models/quantise/$requirements" "$packages/installed"
fi
PYTHONPATH=$packages:$root/models/quantise exec python3 -B -s "$script" "$@"
