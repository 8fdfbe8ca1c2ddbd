#!/usr/bin/env python3
"""Tests of models/quantise: two builds give the same bytes, which are pinned; other bytes are refused; the models'
outputs are near those of f32.

usage: models/quantise/run.sh tests/models/int8.py
"""
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

import numpy as np

import build
import runtime
from flatbuffer import pack, read
from graph import fold
from quantiser import equalise

DATA = json.loads((build.HERE / "hand.json").read_text(encoding="utf-8"))
FETCHED = build.HERE.parent / "fetched"
SOURCE = FETCHED / DATA["source"]


def image():
    """An image of the model's size with soft shapes and noise; its content does not matter."""
    y, x = np.mgrid[0:224, 0:224] / 224
    soft = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * x * y), np.sin(11 * y - 3 * x)], 2) / 4 + 0.5
    return np.clip(soft + np.random.default_rng(7).normal(0, 0.05, soft.shape), 0, 1).astype(np.float32)[None]


def outputs(model):
    return runtime.Model(pack(model))(image())


def main(into):
    """Runs build.py into this folder and returns what it prints."""
    printed = io.StringIO()
    with mock.patch.object(sys, "argv", ["build.py", "--into", str(into)]), contextlib.redirect_stdout(printed):
        build.main()
    return printed.getvalue()


class Build(unittest.TestCase):
    def test_the_manifest_pins_the_same(self):
        manifest = json.loads((build.HERE.parent / "manifest.json").read_text(encoding="utf-8"))
        pinned = {made["file"]: (made["sha256"], made["bytes"]) for made in manifest["int8"] + manifest["delegates"]}
        made = {name: build.build(SOURCE, DATA, recipe) for name, recipe in DATA["files"].items()}
        self.assertEqual(pinned, {name: (steps["sha256"], len(content)) for name, (content, steps) in made.items()})

    def test_two_runs_give_the_same_bytes(self):
        with tempfile.TemporaryDirectory() as folder:
            once, twice = pathlib.Path(folder) / "once", pathlib.Path(folder) / "twice"
            main(once)
            main(twice)
            self.assertEqual(sorted(path.name for path in once.iterdir()), sorted(DATA["files"]))
            for path in once.iterdir():
                self.assertEqual(path.read_bytes(), (twice / path.name).read_bytes(), path.name)

    def test_another_number_is_refused_and_nothing_is_written(self):
        changed = json.loads(json.dumps(DATA))
        changed["layers"][20]["correction"][3] += 1
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(build.json, "loads", return_value=changed):
            with self.assertRaisesRegex(SystemExit, "hand_int8_cpu.tflite came out with unpruned_sha256 .* nothing was written"):
                main(folder)
            self.assertEqual(list(pathlib.Path(folder).iterdir()), [])

    def test_another_source_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / DATA["source"]).write_bytes(SOURCE.read_bytes()[:-1] + b"x")
            with mock.patch.object(sys, "argv", ["build.py", "--models", folder]), self.assertRaisesRegex(SystemExit, "made for"):
                build.main()


@unittest.skipUnless(runtime.LIBRARY.is_file(), "%s is missing" % runtime.LIBRARY)
class Results(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        model = read(SOURCE)
        cls.source = outputs(model)
        fold(model)
        cls.folded = outputs(model)
        equalise(model, {i: build.numbers(layer)["maxima"] for i, layer in enumerate(DATA["layers"]) if "maxima" in layer})
        cls.equalised = outputs(model)
        cls.built = {}
        for name, recipe in DATA["files"].items():
            cls.built[name] = runtime.Model(build.build(SOURCE, DATA, recipe)[0])(image())

    def differences(self, a, b):
        self.assertEqual(sorted(a), ["Identity", "Identity_1", "Identity_2", "Identity_3"])
        return [float(np.abs(a[name] - b[name]).max()) for name in sorted(a)]

    def test_folding_changes_nothing(self):
        self.assertEqual(self.differences(self.source, self.folded), [0, 0, 0, 0])

    def test_equalising_keeps_the_function(self):
        # Landmarks are in pixels of 224. On images unlike those of the calibration a ReLU6 clips a little earlier.
        landmarks, presence, side, world = self.differences(self.source, self.equalised)
        self.assertLess(landmarks, 2)
        self.assertLess(max(presence, side, world), 0.02)

    def test_f32_without_zero_channels_gives_the_same(self):
        landmarks, presence, side, world = self.differences(self.source, self.built["hand_landmark_pruned.tflite"])
        self.assertLess(max(landmarks, world), 1e-4)
        self.assertLess(max(presence, side), 1e-6)

    def test_int8_without_zero_channels_gives_the_same(self):
        for name, recipe in DATA["files"].items():
            if "heads" in recipe:
                landmarks, presence, side, world = self.differences(outputs(build.quantised(SOURCE, DATA, recipe)), self.built[name])
                self.assertLess(max(landmarks, world), 1e-4, name)
                self.assertLess(max(presence, side), 1e-6, name)

    def test_int8_stays_near_f32(self):
        for name, recipe in DATA["files"].items():
            if "heads" in recipe:
                landmarks, presence, side, world = self.differences(self.source, self.built[name])
                self.assertLess(landmarks, 8, name)
                self.assertLess(max(presence, world), 0.02, name)
                self.assertLess(side, 0.15, name)


if __name__ == "__main__":
    unittest.main()
