#!/usr/bin/env python3
"""Makes the int8 hand models and a smaller f32 one from the pinned f16 model and hand.json, and checks their SHA-256.

usage: models/quantise/run.sh models/quantise/build.py [--models DIR] [--into DIR]

Every machine makes the same bytes; quantiser.py explains why. Safe to repeat.
Needs Python 3.9 or newer with the packages of requirements.txt; `make models-int8` fetches them.
"""
import argparse
import hashlib
import json
import os
import pathlib
import sys

import numpy as np

from flatbuffer import pack, read
from graph import fold
from prune import prune
from quantiser import equalise, move_heads, quantise

HERE = pathlib.Path(__file__).resolve().parent


def numbers(entry):
    """An entry of the data file with lists as arrays. Each decimal is the shortest that gives the same f32 or f64."""
    kinds = {"maxima": "f4", "correction": "f8", "scale": "f4"}
    return {key: np.asarray(value, kinds.get(key, "f8")) for key, value in entry.items()}


def quantised(source, data, recipe):
    """The int8 model of `recipe`, with all channels."""
    layers = [numbers(entry) for entry in data["layers"]]
    model = read(source)
    fold(model)
    equalise(model, {number: layer["maxima"] for number, layer in enumerate(layers) if "maxima" in layer})
    quantise(model, layers, numbers(data["picture"]), recipe["float_operators"], recipe["integer_input"])
    move_heads(model, numbers(recipe["heads"]))
    return model


def build(source, data, recipe):
    """The file content of `recipe`, an entry of data["files"], and the SHA-256 of each step."""
    hashes = {}
    if "heads" in recipe:
        model = quantised(source, data, recipe)
        hashes["unpruned_sha256"] = hashlib.sha256(pack(model)).hexdigest()
    else:
        model = read(source)
        fold(model)
    prune(model, before_heads="heads" in recipe)
    content = pack(model)
    return content, {**hashes, "sha256": hashlib.sha256(content).hexdigest()}


def write(target, content):
    """Writes a file beside the target, syncs and renames it, so that the target is never incomplete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    with open(partial, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(partial, target)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, default=HERE.parent / "fetched", help="folder of the f16 model")
    parser.add_argument("--into", type=pathlib.Path, help="target folder (default: that of the f16 model)")
    args = parser.parse_args()
    data = json.loads((HERE / "hand.json").read_text(encoding="utf-8"))
    source = args.models / data["source"]
    if not source.is_file():
        sys.exit("quantise: %s is missing; `make setup` fetches it" % source)
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    if found != data["source_sha256"]:
        sys.exit("quantise: %s has SHA-256 %s, hand.json is made for %s" % (source, found, data["source_sha256"]))
    for name, recipe in data["files"].items():
        target = (args.into or args.models) / name
        content, made = build(source, data, recipe)
        for step, found in made.items():
            if found != recipe[step]:
                sys.exit("quantise: %s came out with %s %s, pinned is %s; nothing was written" % (name, step, found, recipe[step]))
        write(target, content)
        print("quantise: %s is made, SHA-256 %s" % (target, made["sha256"]))


if __name__ == "__main__":
    main()
