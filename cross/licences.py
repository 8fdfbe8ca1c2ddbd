#!/usr/bin/env python3
"""Prints the licences of all crates linked into the binary, with their licence texts; equal texts appear once.

usage: cross/licences.py TARGET

Reads the crates that cargo has fetched. Needs Python 3.8 and no network.
"""
import json
import pathlib
import subprocess
import sys

NAMES = ("LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE")


def linked(metadata):
    """The program's normal dependencies, direct and transitive. Build and dev dependencies are not shipped."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    found, waiting = set(), [root]
    while waiting:
        for dependency in nodes[waiting.pop()]["deps"]:
            is_normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            if is_normal and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                waiting.append(dependency["pkg"])
    return sorted((p for p in metadata["packages"] if p["id"] in found), key=lambda p: (p["name"], p["version"]))


def main():
    target = sys.argv[1]
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform", target]
    packages = linked(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    texts, without = {}, []
    print("Handloom contains these packages from crates.io, each under the licence named:\n")
    for package in packages:
        title = "%s %s" % (package["name"], package["version"])
        print("  %s: %s" % (title, package["license"] or "see its text"))
        folder = pathlib.Path(package["manifest_path"]).parent
        files = sorted(p for p in folder.iterdir() if p.is_file() and p.name.upper().startswith(NAMES))
        for path in files:
            text = path.read_text(encoding="utf-8", errors="replace").strip()
            texts.setdefault(text, []).append("%s (%s)" % (title, path.name))
        if not files:
            without.append(title)
    print("\nCarrying no text of their own: %s. The text of Apache-2.0 is in /usr/share/common-licenses." % (", ".join(without) or "none"))
    for text, titles in texts.items():
        print("\n" + "=" * 78)
        for title in titles:
            print(title)
        print("-" * 78 + "\n" + text)


if __name__ == "__main__":
    main()
