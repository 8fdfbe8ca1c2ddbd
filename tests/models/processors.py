#!/usr/bin/env python3
"""The models in f32, int8 and fp16 on one processor, against the same on another.

usage: models/quantise/run.sh tests/models/processors.py record FILE [CROPS.npy]
       models/quantise/run.sh tests/models/processors.py compare FILE fp16|no-fp16

`record` runs the hand models on drawn pictures, or on CROPS, u8 [N, 224, 224, 3], and keeps pictures and outputs.
`compare` runs them on this processor and ends with 1 when a difference is larger than allowed. The second argument says
whether the processor has arithmetic in 16-bit floats. Without it, the models must be refused in fp16.
Differences of landmarks are of x, y and z in pixels of the crop, which is 224 pixels wide. Between processors they are
limited by PIXELS. Those of fp16 from f32 are limited by what one grey level of noise does on the recording processor.
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
# Between two processors, in pixels; and of the other outputs: probabilities, and metres.
PIXELS, OTHERS = 2e-4, 1e-5


def drawn(count):
    """Soft shapes with noise, as in int8.py; what they show does not matter."""
    y, x = np.mgrid[0:224, 0:224] / 224
    random = np.random.default_rng(7)
    for i in range(count):
        soft = np.stack([np.sin((9 + i) * x + 4 * y), np.cos((7 - i) * x * y), np.sin(11 * y - (3 + i) * x)], 2) / 4 + 0.5
        yield (np.clip(soft + random.normal(0, 0.05, soft.shape), 0, 1) * 255).astype(np.uint8)


def floats(picture):
    return (picture.astype(np.float32) * np.float32(1 / 255))[None]


def outputs(name, pictures, flags=0):
    """Each output of a model for all pictures, in one array."""
    model = runtime.Model((FETCHED / name).read_bytes(), flags)
    found = [model(floats(picture)) for picture in pictures]
    return {key: np.concatenate([one[key] for one in found]) for key in found[0]}


def root_mean_square(values):
    return float(np.sqrt(np.mean(np.square(values))))


def record(target, crops=None):
    pictures = np.stack(list(drawn(6))) if crops is None else np.load(crops)
    made = {"%s %s" % (name, key): value for name in MODELS for key, value in outputs(name, pictures).items()}
    noisy = np.clip(pictures.astype(int) + np.random.default_rng(1).integers(-1, 2, pictures.shape), 0, 255).astype(np.uint8)
    noise = root_mean_square(outputs(HAND, noisy)[LANDMARKS] - made["%s %s" % (HAND, LANDMARKS)])
    np.savez(target, pictures=pictures, noise=noise, **made)


def expect(holds, what):
    print("processors: %s%s" % (what, "" if holds else ": TOO FAR"), flush=True)
    return holds


def compare(source, has_fp16):
    recorded = np.load(source)
    pictures, right = recorded["pictures"], True
    for name in MODELS:
        found = outputs(name, pictures)
        differences = {key: np.abs(found[key] - recorded["%s %s" % (name, key)]) for key in found}
        pixels = differences.pop(LANDMARKS)
        others = max(float(one.max()) for one in differences.values())
        right &= expect(pixels.max() <= PIXELS and others <= OTHERS, "%s, %d crops: landmarks differ by %.2g pixels at most, median %.2g; "
                        "other outputs by %.2g" % (name, len(pictures), pixels.max(), np.median(pixels), others))
        if name == HAND:
            f32 = found[LANDMARKS]
    for name in (HAND, PALM):
        try:
            runtime.Model((FETCHED / name).read_bytes(), runtime.FORCE_FP16)
            is_run = True
        except RuntimeError:
            is_run = False
        right &= expect(is_run == has_fp16, "%s in fp16 is %s" % (name, "run" if is_run else "refused"))
    if has_fp16:
        pixels = outputs(HAND, pictures, runtime.FORCE_FP16)[LANDMARKS] - f32
        rms, noise = root_mean_square(pixels), float(recorded["noise"])
        right &= expect(0 < rms <= noise, "%s in fp16: %.2g pixels from f32 (root mean square), %.2g at most; noise of one grey level: %.2g"
                        % (HAND, rms, np.abs(pixels).max(), noise))
    return right


if __name__ == "__main__":
    if sys.argv[1:2] == ["record"]:
        record(*map(pathlib.Path, sys.argv[2:]))
    elif sys.argv[1:2] == ["compare"] and sys.argv[3:] in (["fp16"], ["no-fp16"]):
        sys.exit(0 if compare(sys.argv[2], sys.argv[3] == "fp16") else 1)
    else:
        sys.exit(__doc__)
