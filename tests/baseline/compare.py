#!/usr/bin/env python3
"""Compares two records of record.py and prints each difference.

usage: compare.py BEFORE AFTER [--allow FILE] [--strict]

`changed` and `removed` are failures; `added` is one with --strict only. Each line of FILE is a shell pattern of paths
whose differences are intended, with the reason after `#`. Such differences are printed and do not fail. A pattern
that matches no difference is also printed.

Exit codes: 0 no difference that fails, 1 some, 2 usage.
"""
import argparse
import fnmatch
import json
import pathlib
import sys


def leaves(value, path=""):
    """Path → value of each leaf of a record; `/` separates keys."""
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, item in items for k, v in leaves(item, f"{path}/{key}").items()}
    return {path.removeprefix("/"): value}


def differences(before, after):
    """Yields (path, kind, description) of each difference."""
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            yield path, "removed", json.dumps(before[path])
        elif path not in before:
            yield path, "added", json.dumps(after[path])
        elif before[path] != after[path]:
            yield path, "changed", f"{json.dumps(before[path])} -> {json.dumps(after[path])}"


def main():
    usage, _, _ = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(description=usage)
    parser.add_argument("before", type=pathlib.Path)
    parser.add_argument("after", type=pathlib.Path)
    parser.add_argument("--allow", type=pathlib.Path)
    parser.add_argument("--strict", action="store_true")
    args = parser.parse_args()
    lines = args.allow.read_text().splitlines() if args.allow else []
    texts = [line.partition("#")[0].strip() for line in lines]
    # Brackets in a pattern are literal.
    patterns = {text.replace("[", "[[]"): 0 for text in texts if text}
    before, after = (leaves(json.loads(path.read_text())) for path in (args.before, args.after))
    failures = 0
    for path, kind, what in differences(before, after):
        allowed = [p for p in patterns if fnmatch.fnmatchcase(path, p)]
        for pattern in allowed:
            patterns[pattern] += 1
        fails = not allowed and (kind != "added" or args.strict)
        failures += fails
        print(f"{'FAIL' if fails else 'ok  '} {kind}{', allowed' if allowed else ''}: {path}: {what}")
    for pattern, count in patterns.items():
        if not count:
            print(f"note: no difference matches {pattern.replace('[[]', '[')}")
    print(f"{len(before)} facts before, {len(after)} after, {failures} differences that fail")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
