#!/usr/bin/env python3
"""Compares pairs of models with the f32 pair on clips and images, and prints the effect of one grey level of noise.

usage: models/quantise/run.sh models/quantise/accuracy.py FOLDER... [--without LIST] [--pair NAME=PALM,HAND]... [--every N]

LIST is a file of ids such as calibration_clips.txt: clips and images with one of them in their name are left out.
PALM and HAND are files, in models/fetched unless they have a folder; `:fp16` after a file forces half-precision
arithmetic. The default is the shipped pairs. The models run in TensorFlow Lite 2.17.1 on one thread.
Needs Python 3.11 with the packages of requirements-measure.txt, ../shared/reference and `make setup`.
"""
import argparse
import pathlib
import sys

import cv2
import numpy as np

import clips
from build import HERE
from runtime import FORCE_FP16, Model

PALM, HAND = "palm_detection_full.tflite", "hand_landmark_full.tflite"
PAIRS = ["fp16 both=%s:fp16,%s:fp16" % (PALM, HAND), "hand_int8_cpu, palm f32=%s,hand_int8_cpu.tflite" % PALM,
         "hand_int8_cpu, palm fp16=%s:fp16,hand_int8_cpu.tflite" % PALM, "hand_int8_npu, palm f32=%s,hand_int8_npu.tflite" % PALM]


def load_images(folders, every, is_wanted):
    """The images of the folders, and every N-th frame of their clips."""
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in (".png", ".jpg", ".jpeg") and is_wanted(path):
                yield cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        for path, count in clips.videos(folder, is_wanted):
            yield from clips.frames(path, set(range(0, count, every)))


def load(models, name):
    file, _, precision = name.partition(":")
    path = models / file
    return Model(path.read_bytes(), flags=FORCE_FP16 if precision == "fp16" else 0)


def distances(a, b, size):
    """Distances between the points of two hands, in pixels."""
    return np.hypot(*((a["lm"][:, :2].astype("f8") - b["lm"][:, :2]) * size).T)


def normalised(hand):
    """The landmarks as in Handloom's sequences: relative to the wrist, in palm lengths."""
    points = hand["lm"].astype("f8")
    points[:, :2] -= points[0, :2]
    length = np.hypot(*points[9, :2])
    points[:, :2] /= length if length > 1e-6 else 1.0
    return points


def compare(exact, found):
    """One row of the table. `exact` and `found` are lists of (size, hands) of the same images."""
    equal = hands = missed = extra = matched = sides = 0
    apart, relative, vectors = [], [], []
    for (size, before), (_, after) in zip(exact, found):
        hands, equal = hands + len(before), equal + (len(before) == len(after))
        pairs = []
        for i, a in enumerate(before):
            length = max(np.hypot(*((a["lm"][9, :2].astype("f8") - a["lm"][0, :2]) * size)), 1e-6)
            pairs += [(distances(a, b, size).mean() / length, i, j, length) for j, b in enumerate(after)]
        taken = [set(), set()]
        for distance, i, j, length in sorted(pairs):
            if i in taken[0] or j in taken[1] or distance > 1:
                continue
            taken[0].add(i)
            taken[1].add(j)
            a, b = before[i], after[j]
            matched, sides = matched + 1, sides + (a["label"] == b["label"])
            apart.append(np.abs(a["lm"][:, :2].astype("f8") - b["lm"][:, :2]).ravel())
            relative.append(distances(a, b, size) / length)
            vectors.append(np.abs(normalised(a) - normalised(b)).ravel())
        missed, extra = missed + len(before) - len(taken[0]), extra + len(after) - len(taken[1])
    digits = lambda parts, levels, factor=1: " / ".join("%.2g" % (factor * v) for v in np.percentile(np.concatenate(parts), levels))
    return "%.1f | %d/%d of %d | %.1f | %s | %s | %s" % (
        100 * equal / len(exact), missed, extra, hands, 100 * sides / max(matched, 1), digits(apart, [50, 95, 99, 100]),
        digits(relative, [50, 95, 99], 100), digits(vectors, [50, 95, 99]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path, help="folders of clips or images")
    parser.add_argument("--without", type=pathlib.Path, metavar="LIST", help="file with the ids of clips to leave out")
    parser.add_argument("--pair", action="append", help="a pair to compare, instead of the shipped ones")
    parser.add_argument("--every", type=int, default=8, help="use every N-th frame of a clip (default: 8)")
    parser.add_argument("--models", type=pathlib.Path, default=HERE.parent / "fetched", help="folder of the models")
    parser.add_argument("--shared", type=pathlib.Path, default=clips.SHARED, help="folder with reference/hand_ref.py")
    args = parser.parse_args()
    hand_ref = clips.reference(args.shared)
    left_out = clips.ids(args.without) if args.without else set()
    images = list(load_images(args.folders, args.every, lambda path: not clips.is_listed(path, left_out)))
    if not images:
        sys.exit("accuracy: no clip and no image in %s" % ", ".join(map(str, args.folders)))

    def run(palm, hand, noise=None):
        pipeline, results = clips.landmarker(hand_ref, load(args.models, palm), load(args.models, hand)), []
        for number, image in enumerate(images):
            if noise is not None:
                rng = np.random.default_rng(1000 * noise + number)
                image = np.clip(image.astype(np.int16) + rng.integers(-1, 2, image.shape, np.int16), 0, 255).astype(np.uint8)
            results.append((image.shape[1::-1], pipeline.detect(image)))
        return results

    exact = run(PALM, HAND)
    print("%d images, %d hands\n" % (len(images), sum(len(hands) for _, hands in exact)))
    print("| | hands counted equal, % | missed/extra | side equal, % | x,y: median / p95 / p99 / max "
          "| of the hand's size, % med / p95 / p99 | normalised: med / p95 / p99 |\n|---|---|---|---|---|---|---|", flush=True)
    for seed in 1, 2:
        print("| noise of one grey level, seed %d | %s |" % (seed, compare(exact, run(PALM, HAND, seed))), flush=True)
    for pair in args.pair or PAIRS:
        name, _, files = pair.rpartition("=")
        print("| %s | %s |" % (name, compare(exact, run(*files.split(",")))), flush=True)


if __name__ == "__main__":
    main()
