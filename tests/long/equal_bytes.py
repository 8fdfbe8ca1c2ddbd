#!/usr/bin/env python3
"""Processes twelve public clips with 1, 2 and 5 workers. Every run must choose `litert:cpu` where LiteRT is
installed, and `cpu` elsewhere. The joined file and all batches of a backend must have one SHA-256.

usage: equal_bytes.py [--runs 10]. Needs ../shared, `make build` and `make setup-litert`. Run it on a busy machine.
"""
import argparse
import hashlib
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PUBLIC = ROOT.parent / "shared/goldens/public"
CLIPS = 12


def make_dataset(folder):
    """Makes a dataset of the first public clips, with the whole metadata."""
    (folder / "videos").mkdir(parents=True)
    shutil.copy(PUBLIC / "WLASL_v0.3.json", folder)
    for clip in sorted((PUBLIC / "videos").glob("*.mp4"))[:CLIPS]:
        shutil.copy(clip, folder / "videos")


def install(folder, has_litert):
    """Copies the program with its models and libraries, with or without LiteRT; returns its path."""
    models = ROOT / "models/fetched"
    ignore = None if has_litert else shutil.ignore_patterns("*LiteRt*")
    shutil.copytree(models, folder / "models/fetched", ignore=ignore)
    (folder / "target/release").mkdir(parents=True)
    for path in (ROOT / "target/release/handloom", *(models / platform.machine()).glob("libtensorflow*")):
        shutil.copy(path, folder / "target/release")
    return folder / "target/release/handloom"


def job(program, dataset, work, workers):
    """Runs one job; returns its backend and the SHA-256 of all its npz files."""
    out, cache = work / "out", work / "cache"
    for folder in (out, cache):
        shutil.rmtree(folder, ignore_errors=True)
    command = [program, "process", dataset, "--out", out, "--workers", str(workers), "--min-videos-per-gloss", "1",
               "--batch-size", "5", "--progress", "json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=dict(os.environ, XDG_CACHE_HOME=str(cache)))
    digest = hashlib.sha256()
    for path in sorted(out.rglob("*.npz")):
        digest.update(str(path.relative_to(out)).encode() + path.read_bytes())
    return json.loads((out / "run.json").read_text())["backend"]["name"], digest.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    if not PUBLIC.is_dir():
        sys.exit("equal_bytes: no %s" % PUBLIC)
    faults = 0
    for backend in ("litert:cpu", "cpu"):
        with tempfile.TemporaryDirectory(prefix="bytes-") as work:
            work = pathlib.Path(work)
            make_dataset(work / "dataset")
            program = install(work / "program", backend != "cpu")
            found = {}
            for _ in range(args.runs):
                for workers in (1, 2, 5):
                    found.setdefault(job(program, work / "dataset", work, workers), []).append(workers)
            for (name, sha256), workers in found.items():
                print("%s: %s in %d runs" % (name, sha256, len(workers)), flush=True)
            faults += [name for name, _ in found] != [backend]
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
