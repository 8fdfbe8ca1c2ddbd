#!/usr/bin/env python3
"""Builds the fuzz targets, runs them one after the other and prints a table of the results.

usage: tests/fuzz/run.py [--seconds N] [--sanitizer none|address] [TARGET...]

Corpus and crashing inputs stay in target/fuzz/{corpus,artifacts}/TARGET. Ends with 1 when an input crashes a target,
takes longer than 10 s or needs more than 1 GiB. Repeat one input with: target/fuzz/HOST/release/TARGET FILE
"""
import argparse
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys

import seeds

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "tests/fuzz"
WORK = ROOT / "target/fuzz"
COLUMNS = "%-16s %12s %9s %10s %10s %8s %8s"


def build(sanitizer):
    # Uses the program's locked versions; cargo adds libFuzzer.
    shutil.copy(ROOT / "Cargo.lock", HERE / "Cargo.lock")
    tools = ROOT / "target/tools/bin"
    environment = dict(os.environ, PATH="%s:%s" % (tools, os.environ["PATH"]))
    if sanitizer != "none":
        # Sanitizers are an unstable compiler option, which stable Rust accepts with this variable.
        environment["RUSTC_BOOTSTRAP"] = "1"
    command = ["cargo", "fuzz", "build", "--fuzz-dir", str(HERE), "--target-dir", str(WORK), "--sanitizer", sanitizer]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def run(target, seconds):
    """Runs `target`; returns its row of the table, and whether no input failed."""
    corpus, artifacts = WORK / "corpus" / target, WORK / "artifacts" / target
    for folder in (corpus, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds.SEEDS[target]):
        (corpus / ("seed-%02d" % number)).write_bytes(seed)
    old = set(artifacts.iterdir())
    program = WORK / ("%s-unknown-linux-gnu" % platform.machine()) / "release" / target
    command = [str(program), str(corpus), "-max_total_time=%d" % seconds, "-print_final_stats=1", "-timeout=10",
               "-rss_limit_mb=1024", "-max_len=65536", "-artifact_prefix=%s/" % artifacts]
    dictionary = HERE / "dictionaries" / (target + ".txt")
    if dictionary.exists():
        command.append("-dict=%s" % dictionary)
    environment = dict(os.environ, LD_LIBRARY_PATH=str(ROOT / "models/fetched" / platform.machine()))
    log = WORK / (target + ".log")
    with open(log, "wb") as out:
        code = subprocess.run(command, env=environment, stdout=out, stderr=subprocess.STDOUT).returncode
    text = log.read_text(errors="replace")
    stat = lambda name: (re.findall(r"stat::%s:\s+(\d+)" % name, text) or ["?"])[-1]
    covered = (re.findall(r"cov: (\d+) ft: (\d+)", text) or [("?", "?")])[-1]
    found = sorted(set(artifacts.iterdir()) - old)
    row = (target, stat("number_of_executed_units"), covered[0], covered[1], stat("peak_rss_mb") + " MB", len(found), code)
    for path in found:
        print("  %s: %s" % (target, path.relative_to(ROOT)))
        print("    " + (re.findall(r"(?:panicked at|ERROR: libFuzzer:) (.*)", text) or ["see " + str(log)])[0])
    return row, code == 0 and not found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--sanitizer", choices=["none", "address"], default="none",
                        help="address also watches unsafe code of dependencies, at half the speed")
    parser.add_argument("target", nargs="*", help="default: all")
    args = parser.parse_args()
    manifest = (HERE / "Cargo.toml").read_text(encoding="utf-8")
    targets = re.findall(r'^path = "targets/(\w+)\.rs"', manifest, re.MULTILINE)
    unknown = [name for name in args.target if name not in targets]
    if unknown:
        sys.exit("fuzz: there is no target %s; there are %s" % (", ".join(unknown), ", ".join(targets)))
    build(args.sanitizer)
    rows = []
    for target in args.target or targets:
        print("fuzz: %s, %d s" % (target, args.seconds), flush=True)
        rows.append(run(target, args.seconds))
    print(COLUMNS % ("target", "inputs", "coverage", "features", "peak", "crashes", "exit"))
    for row, _ in rows:
        print(COLUMNS % row)
    sys.exit(0 if all(is_good for _, is_good in rows) else 1)


if __name__ == "__main__":
    main()
