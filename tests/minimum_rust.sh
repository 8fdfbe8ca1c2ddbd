#!/usr/bin/env bash
# Checks the crate and its dependencies against Cargo.toml's rust-version. clippy's incompatible_msrv, part of `make
# lint`, finds uses of newer parts of the standard library in our own code. This finds dependencies that require a
# newer compiler, and compiles with exactly that version where rustup has it.
set -euo pipefail
cd "$(dirname "$0")/.."
minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
host=$(rustc -vV | sed -n "s/^host: //p")
cargo metadata --locked --format-version 1 --filter-platform "$host" | python3 -c '
import json, sys
minimum = tuple(int(n) for n in sys.argv[1].split("."))
packages = json.load(sys.stdin)["packages"]
newer = [
    "%s %s requires Rust %s" % (p["name"], p["version"], p["rust_version"])
    for p in packages
    if p["rust_version"] and tuple(int(n) for n in p["rust_version"].split("."))[: len(minimum)] > minimum
]
if newer:
    sys.exit("minimum_rust: Cargo.toml promises Rust %s, but:\n%s" % (sys.argv[1], "\n".join(newer)))
print("minimum_rust: %d packages declare that they build with Rust %s" % (len(packages), sys.argv[1]))
' "$minimum"
if rustup run "$minimum" rustc --version >/dev/null 2>&1; then
  rustup run "$minimum" cargo check --locked --lib --bins --target-dir "target/rust-$minimum"
else
  echo "SKIPPED: minimum_rust: rustup has no toolchain $minimum here, so nothing was compiled with it"
fi
