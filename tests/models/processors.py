#!/usr/bin/env python3
"""Compares the models in f32, int8 and fp16 between two processors.

usage: models/quantise/run.sh tests/models/processors.py record FILE [CROPS.npy]
       models/quantise/run.sh tests/models/processors.py compare FILE fp16|no-fp16

`record` runs the hand models on drawn images, or on CROPS, u8 [N, 224, 224, 3], and stores images and outputs in
FILE. `compare` runs them on this processor and ends with 1 when a difference is larger than allowed. Its second
argument states whether the processor has arithmetic in 16-bit floats. Without it, the runtime must refuse the models
in fp16. Differences of landmarks are in x, y and z, in pixels of the crop, which is 224 pixels wide. PIXELS limits
them between processors. For fp16 against f32 the limit is the effect of one grey level of noise on the recording
processor.
"""
import json
import pathlib
import sys

import numpy as np

import build
import runtime

FETCHED = build.HERE.parent / "fetched"
HAND, PALM = "hand_landmark_full.tflite", "palm_detection_full.tflite"
MODELS = [HAND, *sorted(name for name, recipe in json.loads((build.HERE / "hand.json").read_text(encoding="utf-8"))["files"].items()
                        if "heads" in recipe)]
LANDMARKS = "Identity"
# Limits between two processors: of landmarks in pixels, and of the other outputs (probabilities, metres).
PIXELS, OTHERS = 2e-4, 1e-5


def drawn_images(count):
    """Images of soft shapes with noise, as in int8.py; their content does not matter."""
    y, x = np.mgrid[0:224, 0:224] / 224
    random = np.random.default_rng(7)
    for i in range(count):
        soft = np.stack([np.sin((9 + i) * x + 4 * y), np.cos((7 - i) * x * y), np.sin(11 * y - (3 + i) * x)], 2) / 4 + 0.5
        yield (np.clip(soft + random.normal(0, 0.05, soft.shape), 0, 1) * 255).astype(np.uint8)


def floats(image):
    return (image.astype(np.float32) * np.float32(1 / 255))[None]


def outputs(name, images, flags=0):
    """Each output of a model for all images, in one array."""
    model = runtime.Model((FETCHED / name).read_bytes(), flags)
    found = [model(floats(image)) for image in images]
    return {key: np.concatenate([one[key] for one in found]) for key in found[0]}


def root_mean_square(values):
    return float(np.sqrt(np.mean(np.square(values))))


def record(target, crops=None):
    images = np.stack(list(drawn_images(6))) if crops is None else np.load(crops)
    made = {"%s %s" % (name, key): value for name in MODELS for key, value in outputs(name, images).items()}
    noisy = np.clip(images.astype(int) + np.random.default_rng(1).integers(-1, 2, images.shape), 0, 255).astype(np.uint8)
    noise = root_mean_square(outputs(HAND, noisy)[LANDMARKS] - made["%s %s" % (HAND, LANDMARKS)])
    np.savez(target, images=images, noise=noise, **made)


def expect(holds, what):
    print("processors: %s%s" % (what, "" if holds else ": TOO FAR"), flush=True)
    return holds


def compare(source, has_fp16):
    recorded = np.load(source)
    images, is_equal = recorded["images"], True
    for name in MODELS:
        found = outputs(name, images)
        differences = {key: np.abs(found[key] - recorded["%s %s" % (name, key)]) for key in found}
        pixels = differences.pop(LANDMARKS)
        others = max(float(one.max()) for one in differences.values())
        is_equal &= expect(pixels.max() <= PIXELS and others <= OTHERS, "%s, %d crops: landmarks differ by %.2g pixels at most, median %.2g; "
                        "other outputs by %.2g" % (name, len(images), pixels.max(), np.median(pixels), others))
        if name == HAND:
            f32 = found[LANDMARKS]
    for name in (HAND, PALM):
        try:
            runtime.Model((FETCHED / name).read_bytes(), runtime.FORCE_FP16)
            is_run = True
        except RuntimeError:
            is_run = False
        is_equal &= expect(is_run == has_fp16, "%s in fp16 is %s" % (name, "run" if is_run else "refused"))
    if has_fp16:
        pixels = outputs(HAND, images, runtime.FORCE_FP16)[LANDMARKS] - f32
        rms, noise = root_mean_square(pixels), float(recorded["noise"])
        is_equal &= expect(0 < rms <= noise, "%s in fp16: %.2g pixels from f32 (root mean square), %.2g at most; noise of one grey level: %.2g"
                        % (HAND, rms, np.abs(pixels).max(), noise))
    return is_equal


if __name__ == "__main__":
    if sys.argv[1:2] == ["record"]:
        record(*map(pathlib.Path, sys.argv[2:]))
    elif sys.argv[1:2] == ["compare"] and sys.argv[3:] in (["fp16"], ["no-fp16"]):
        sys.exit(0 if compare(sys.argv[2], sys.argv[3] == "fp16") else 1)
    else:
        sys.exit(__doc__)
