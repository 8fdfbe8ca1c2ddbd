"""Reads frames of clips, and runs the hand landmarker of ../shared/reference with any two models."""
import importlib
import pathlib
import re
import sys

import cv2
import numpy as np

SHARED = pathlib.Path(__file__).resolve().parents[3] / "shared"
SUFFIXES = {".mp4", ".mkv", ".mov", ".avi", ".webm"}


def reference(shared):
    """The module hand_ref.py; ends the program when it is missing."""
    folder = shared / "reference"
    if not (folder / "hand_ref.py").is_file():
        sys.exit("quantise: %s/hand_ref.py is missing; name the folder with --shared" % folder)
    sys.path.insert(0, str(folder))
    return importlib.import_module("hand_ref")


def ids(path):
    """The ids in a list of clips, separated by white space; `#` starts a comment."""
    return {word for line in path.read_text(encoding="utf-8").splitlines() for word in line.partition("#")[0].split()}


def is_listed(path, listed):
    """Whether the file is a clip with one of these ids or an image from one: its name contains the id."""
    return not listed.isdisjoint(re.split("[^0-9A-Za-z]+", path.stem))


def videos(folder, is_wanted=lambda path: True):
    """The clips in `folder` by name, each with the frame count of its container; omits clips of fewer than four
    frames."""
    for path in sorted(folder.iterdir()):
        if path.suffix in SUFFIXES and is_wanted(path):
            capture = cv2.VideoCapture(str(path))
            count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
            capture.release()
            if count >= 4:
                yield path, count


def frames(path, wanted):
    """The frames of `path` with the numbers `wanted`, as RGB. Decodes from the start, since seeking misses frames."""
    capture = cv2.VideoCapture(str(path))
    for number in range(max(wanted) + 1):
        ok, frame = capture.read()
        if not ok:
            break
        if number in wanted:
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    capture.release()


def tensor(image):
    """An image of the models' size as their float input."""
    return (image.astype(np.float32) * np.float32(1 / 255))[None]


def landmarker(hand_ref, palm, hand):
    """The reference with two callables in place of its interpreters: two hands, thresholds of 0.5."""
    found = hand_ref.HandRef.__new__(hand_ref.HandRef)
    found.palm, found.hand = palm, hand
    found.warp_p = found.warp_h = hand_ref.WARPS["cv"]
    found.n, found.det, found.pres, found.track, found.prev, found.dbg = 2, 0.5, 0.5, 0.5, None, {}
    return found
