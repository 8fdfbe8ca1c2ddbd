#!/usr/bin/env bash
# Builds cargo-deb of one version in the target folder: nothing is installed for the user. Its crates are those of its own
# lock file, each held by cargo against its SHA-256.
set -euo pipefail
cd "$(dirname "$0")/.."
version=3.8.0
[ "$(target/tools/bin/cargo-deb --version 2>/dev/null)" != "cargo-deb $version" ] || exit 0
echo "tools: building cargo-deb $version"
cargo install --quiet --force --locked "cargo-deb@$version" --root target/tools --target-dir target/tools/build
rm -rf target/tools/build
