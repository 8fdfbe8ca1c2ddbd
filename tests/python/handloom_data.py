"""Reads the results of Handloom from Python. Copy this file into your project: it needs numpy alone.

    from handloom_data import Clips, Frames, SignDataset

    for clip in Clips("out", split="train"):        # one dictionary per clip: the arrays of batches/, unpadded
        hands, same_side = clip.sides()             # [T, 2, 21, 3] left and right hand, NaN where there is none
    for clip in Frames("out"):                      # the same with every frame; needs a job with --keep-frames
        clip["landmarks"], clip["time_s"]
    loader = torch.utils.data.DataLoader(SignDataset("out", split="train"), batch_size=32, shuffle=True)

Arrays are read-only memory maps of the files, so data is loaded on first use. Copy an array before you change it.
When torch is imported before this file, `SignDataset` is a `torch.utils.data.Dataset` that returns tensors.
"""
import json
import pathlib
import sys
import zipfile

import numpy as np

_torch = sys.modules.get("torch")
_Dataset = _torch.utils.data.Dataset if _torch else object


def open_npz(path):
    """The arrays of an uncompressed npz file by name, each a read-only view of the file."""
    arrays = {}
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{path}: {member.filename} is compressed; Handloom writes no such files")
            file.seek(member.header_offset + 26)
            name_bytes, extra_bytes = np.frombuffer(file.read(4), "<u2").tolist()
            file.seek(name_bytes + extra_bytes, 1)
            np.lib.format.read_magic(file)
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
            order = "F" if fortran_order else "C"
            name = member.filename.removesuffix(".npy")
            # A memory map cannot be empty.
            if 0 in shape:
                arrays[name] = np.empty(shape, dtype)
            else:
                arrays[name] = np.memmap(path, dtype, "r", file.tell(), shape, order)
    return arrays


def sides(landmarks, handedness, score):
    """The left and the right hand of each frame, and whether the detector assigned both hands to the same side.

    landmarks [T, 2, 21, 3], handedness [T, 2] and score [T, 2] are in the order of detection. When both hands have
    one side, the hand with the better score keeps it. Returns [T, 2, 21, 3], NaN where there is no hand, and bool
    [T].
    """
    same = (handedness[:, 0] == handedness[:, 1]) & (handedness[:, 0] >= 0)
    swap = np.where(same & (score[:, 0] < score[:, 1]), handedness[:, 0] == 0, handedness[:, 0] == 1)
    hands = np.where((handedness >= 0)[:, :, None, None], landmarks, np.float32(np.nan))
    return np.where(swap[:, None, None, None], hands[:, ::-1], hands), same


class Clip(dict):
    """The data of one clip by array name: numbers, text, and arrays with one row for each frame."""

    def sides(self):
        """`sides` of this clip's landmarks."""
        return sides(self["landmarks"], self["handedness"], self["handedness_score"])


class _Results:
    """The accepted clips of an output folder. A pickled copy, as in a DataLoader worker, opens the files again."""

    def __init__(self, out, split=None):
        self.out = pathlib.Path(out)
        self._arrays = {}
        if not any((self.out / "batches").glob("*.npz")):
            raise FileNotFoundError(f"{self.out} has no batches: give the folder that `handloom process` wrote to")
        locations = list(self._all())
        self._locations = [location for location in locations if split is None or location[0] == split]
        if not self._locations and split is not None:
            known = sorted({location[0] for location in locations})
            raise ValueError(f"no accepted clip of {self.out} has the split {split!r}; it has {known}")

    def __len__(self):
        return len(self._locations)

    def __getstate__(self):
        return {**self.__dict__, "_arrays": {}}

    def _open(self, name):
        if name not in self._arrays:
            self._arrays[name] = open_npz(self.out / name)
        return self._arrays[name]


class Clips(_Results):
    """The clips of batches/, in the order of the plan."""

    def _all(self):
        for path in sorted((self.out / "batches").glob("*.npz")):
            name = f"batches/{path.name}"
            for row, split in enumerate(self._open(name)["split"]):
                yield str(split), name, row

    def __getitem__(self, n):
        _, name, row = self._locations[n]
        arrays = self._open(name)
        frames = arrays["frame_index"][row] >= 0
        clip = Clip()
        for key, array in arrays.items():
            if key != "glosses":
                value = array[row]
                of_frames = key not in ("sequences", "mask", "filled") and array.shape[1:2] == frames.shape
                clip[key] = value[: frames.sum()] if of_frames else value
        return clip


class Frames(_Results):
    """The kept frames of the same clips, from frames/."""

    OF_FRAMES = (
        "landmarks", "world_landmarks", "handedness", "handedness_score", "hand_count", "frame_index", "time_s"
    )

    def _all(self):
        if not (self.out / "frames").is_dir():
            raise FileNotFoundError(f"{self.out} has no frames/: run `handloom process --keep-frames`")
        with open(self.out / "manifest.jsonl", encoding="utf-8") as lines:
            for line in map(json.loads, lines):
                if line["state"] == "accepted":
                    name = f"frames/{line['stored']['batch']:05}.npz"
                    yield line["split"], name, line

    def __getitem__(self, n):
        _, name, line = self._locations[n]
        arrays = self._open(name)
        row = int(np.flatnonzero(arrays["positions"] == line["position"])[0])
        start, end = arrays["offsets"][row : row + 2]
        clip = Clip(split=line["split"], signer_id=line["signer_id"])
        for key, array in arrays.items():
            if key not in ("glosses", "facts", "offsets"):
                clip[key] = array[start:end] if key in self.OF_FRAMES else array[row]
        return clip


class SignDataset(_Dataset):
    """Pairs of the sequence f32 [L, 126] and its `label_id`, for a DataLoader; `transform` is applied to the sequence.

    `classes` has the gloss of each label_id, also of classes without a clip.
    """

    def __init__(self, out, split=None, transform=None):
        self.clips = Clips(out, split)
        self.transform = transform
        first = min((self.clips.out / "batches").glob("*.npz"))
        self.classes = open_npz(first)["glosses"].tolist()

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, n):
        clip = self.clips[n]
        sequence = np.array(clip["sequences"])
        if _torch:
            sequence = _torch.from_numpy(sequence)
        return self.transform(sequence) if self.transform else sequence, int(clip["label_id"])
