#!/usr/bin/env python3
"""check.py PROGRAM FOLDER: reads every export of a small job with pose_format, pyarrow, datasets, webdataset, pandas
and numpy, and the job itself with tests/python/handloom_data.py. All values must equal those of the npz files."""
import glob
import io
import json
import os
import pathlib
import pickle
import subprocess
import sys

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset as wds
from pose_format import Pose
from pose_format.pose_visualizer import PoseVisualizer

ROOT = pathlib.Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/python"))
import handloom_data as hd

PROGRAM, FOLDER = sys.argv[1], pathlib.Path(sys.argv[2])
OUT = FOLDER / "out"


def handloom(*args):
    done = subprocess.run([PROGRAM, *map(str, args)], stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]


def make_results():
    """Runs a job over the demo's clips, with varied splits and signers and unusual glosses."""
    handloom("demo", "--out", FOLDER / "demo")
    path = FOLDER / "demo/dataset/WLASL_v0.3.json"
    metadata = json.loads(path.read_text())
    names = {"hello": "thank you, \"sir\"", "book": "café"}
    number = 0
    for entry in metadata:
        entry["gloss"] = names.get(entry["gloss"], entry["gloss"])
        for instance in entry["instances"]:
            instance["split"] = ["train", "test", ""][number % 3]
            instance["signer_id"] = number % 4
            number += 1
    path.write_text(json.dumps(metadata))
    flags = ["--keep-frames", "--min-videos-per-gloss", "1", "--batch-size", "4", "--frame-stride", "3"]
    handloom("process", FOLDER / "demo/dataset", "--out", OUT, *flags)


def check_loader():
    """The loader's arrays equal those of numpy.load."""
    rows = 0
    clips = hd.Clips(OUT)
    for path in sorted(glob.glob(f"{OUT}/batches/*.npz")):
        with np.load(path) as npz:
            for row in range(len(npz["labels"])):
                clip = clips[rows]
                count = (npz["frame_index"][row] >= 0).sum()
                for key in npz:
                    if key == "glosses":
                        continue
                    whole = key in ("sequences", "mask", "filled") or npz[key].ndim == 1
                    np.testing.assert_array_equal(clip[key], npz[key][row] if whole else npz[key][row][:count])
                rows += 1
    assert rows == len(clips) > 5, rows
    assert sum(len(hd.Clips(OUT, split=split)) for split in ("train", "test", "")) == rows
    frames = hd.Frames(OUT)
    assert len(frames) == rows
    for clip, kept in zip(clips, frames):
        assert (clip["video_ids"], clip["labels"]) == (kept["video_ids"], kept["labels"])
        # The frames of the sequence are among the kept ones.
        at = np.searchsorted(kept["frame_index"], clip["frame_index"])
        for key in ("landmarks", "world_landmarks", "handedness", "handedness_score", "hand_count"):
            np.testing.assert_array_equal(kept[key][at], clip[key])
        assert len(kept["time_s"]) == len(kept["landmarks"]) and "glosses" not in kept and "offsets" not in kept
    copy = pickle.loads(pickle.dumps(clips))
    np.testing.assert_array_equal(copy[3]["sequences"], clips[3]["sequences"])
    pairs = hd.SignDataset(OUT, split="train", transform=lambda sequence: sequence * 2)
    sequence, label = pairs[0]
    first = hd.Clips(OUT, split="train")[0]
    np.testing.assert_array_equal(sequence, first["sequences"] * 2)
    assert label == first["label_id"] and len(pairs) == len(hd.Clips(OUT, split="train"))
    assert "torch" not in sys.modules
    for bad in (FOLDER, FOLDER / "none"):
        try:
            hd.Clips(bad)
        except FileNotFoundError as error:
            assert "has no batches" in str(error)
        else:
            raise AssertionError(bad)


def check_readme_example():
    """The README's example runs unchanged."""
    codes = (ROOT / "README.md").read_text().split("```python\n")
    [example] = [code for code in codes if code.startswith("from handloom_data")]
    for name in ("out", "every"):
        if not (FOLDER / name).exists():
            (FOLDER / name).symlink_to(OUT.resolve())
    here = os.getcwd()
    os.chdir(FOLDER)
    found = {}
    exec(example.split("```")[0], found)
    os.chdir(here)
    assert found["hands"].shape[1:] == (2, 21, 3) and len(found["pairs"]) > 2 and len(found["frames"]) > 5


def equal(found, wanted):
    """Checks for the same shape, type and values; any NaN equals any other."""
    found = np.asarray(found)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype), (found.shape, found.dtype, wanted.shape)
    np.testing.assert_array_equal(found, wanted)


def check_pose(folder, clips):
    index = pd.read_csv(folder / "index.csv", dtype={"video_id": str})
    assert list(index.video_id) == [clip["video_ids"] for clip in clips]
    for (_, line), clip in zip(index.iterrows(), clips):
        assert (line.label, line.label_id) == (clip["labels"], clip.get("label_id", line.label_id))
        content = (folder / line.path).read_bytes()
        pose = Pose.read(content)
        rewritten = io.BytesIO()
        pose.write(rewritten)
        assert rewritten.getvalue() == content, "pose_format writes other bytes than it read"
        hands, same = clip.sides()
        seen = ~np.isnan(hands[:, :, 0, 0])
        scale = np.array([clip["width"], clip["height"], 1], np.float32)
        wanted = np.nan_to_num(hands, nan=0.0) * scale
        equal(pose.body.data.data, wanted.reshape(-1, 1, 42, 3))
        assert (pose.body.confidence > 0).tolist() == np.repeat(seen, 21, 1)[:, None].tolist()
        assert [c.name for c in pose.header.components] == ["LEFT_HAND_LANDMARKS", "RIGHT_HAND_LANDMARKS"]
        np.testing.assert_allclose(line.fps, pose.body.fps, rtol=1e-6)
        assert line.same_side_frames == same.sum()
        drawn = [np.asarray(image) for image in PoseVisualizer(pose).draw()]
        assert len(drawn) == len(hands) and drawn[0].shape == (clip["height"], clip["width"], 3)
        for image, is_seen in zip(drawn, seen.any(1)):
            assert (image != image[0, 0]).any() == is_seen
    points = [("LEFT_HAND_LANDMARKS", name) for name in ("WRIST", "PINKY_MCP")]
    pose.normalize(pose.header.normalization_info(*points))
    try:
        pose.normalize()
    except ValueError as error:
        assert "component" in str(error)
    else:
        raise AssertionError("the card says that normalize() fails without shoulders")


def check_parquet(folder, clips):
    of_split = {split: [clip for clip in clips if (clip["split"] or "train") == split] for split in ("test", "train")}
    files = sorted(glob.glob(f"{folder}/data/train-*.parquet"))
    schema = pq.read_schema(files[0])
    point = pa.list_(pa.list_(pa.list_(pa.float32(), 3), 21), 2)
    assert schema.field("landmarks").type.value_type.equals(point), schema.field("landmarks")
    table = pa.concat_tables(pq.read_table(file) for file in files)
    assert table["video_id"].to_pylist() == [clip["video_ids"] for clip in of_split["train"]]
    inner = table["landmarks"].combine_chunks()
    for n, clip in enumerate(of_split["train"]):
        values = inner[n].values
        flat = values.flatten().flatten().flatten().to_numpy(zero_copy_only=False)
        equal(flat.reshape(-1, 2, 21, 3), clip.sides()[0])
    by_card = datasets.load_dataset(str(folder))
    by_files = datasets.load_dataset("parquet", data_files={"train": files})
    assert {split: len(by_card[split]) for split in by_card} == {split: len(of_split[split]) for split in of_split}
    for loaded in (by_card, by_files):
        feature = loaded["train"].features["landmarks"]
        for length in (-1, 2, 21, 3):
            assert feature.length == length, loaded["train"].features
            feature = feature.feature
        assert feature.dtype == "float32"
        for row, clip in zip(loaded["train"].with_format("numpy"), of_split["train"]):
            equal(row["landmarks"], clip.sides()[0])
            equal(row["frame_index"].astype(np.int32), np.array(clip["frame_index"]))
            assert row["label"] == clip["labels"] and row["signer_id"] == clip["signer_id"]


def check_asl_signs(folder, clips):
    train = pd.read_csv(folder / "train.csv", dtype={"video_id": str})
    assert list(train.columns[:4]) == ["path", "participant_id", "sequence_id", "sign"]
    signs = json.loads((folder / "sign_to_prediction_index_map.json").read_text())
    for (_, line), clip in zip(train.iterrows(), clips):
        assert line.path == f"train_landmark_files/{line.participant_id}/{line.sequence_id}.parquet"
        assert line.sign == clip["labels"] and line.sign in signs
        # As Kaggle's own loader does.
        data = pd.read_parquet(folder / line.path, columns=["x", "y", "z"])
        frames = int(len(data) / 543)
        assert frames * 543 == len(data)
        data = data.values.reshape(frames, 543, 3)
        assert data.dtype == np.float64
        hands, _ = clip.sides()
        equal(data[:, 468:489].astype(np.float32), hands[:, 0])
        equal(data[:, 522:543].astype(np.float32), hands[:, 1])
        assert np.isnan(data[:, :468]).all() and np.isnan(data[:, 489:522]).all()
    whole = pd.read_parquet(folder / line.path)
    dtypes = [str(dtype) for dtype in whole.dtypes]
    assert dtypes[0] == dtypes[3] == "int16" and dtypes[4:] == ["float64"] * 3, dtypes
    assert whole.row_id[468] == f"{whole.frame[468]}-left_hand-0"
    assert len(train) == len(clips)


def check_webdataset(folder, clips):
    for split in ("train", "test"):
        wanted = [clip for clip in clips if (clip["split"] or "train") == split]
        shards = sorted(glob.glob(f"{folder}/{split}-*.tar"))
        members = ("__key__", "landmarks.npy", "json")
        samples = list(wds.WebDataset(shards, shardshuffle=False).decode().to_tuple(*members))
        assert [facts["video_id"] for _, _, facts in samples] == [clip["video_ids"] for clip in wanted]
        for (key, landmarks, facts), clip in zip(samples, wanted):
            hands, same = clip.sides()
            equal(landmarks, hands.reshape(-1, 42, 3))
            assert facts["same_side"] == same.tolist() and facts["label"] == clip["labels"] and "." not in key
        assert len(samples) == len(wanted)


def check_npy(folder, clips):
    index = pd.read_csv(folder / "index.csv", dtype={"video_id": str})
    assert len(index) == len(clips)
    for (_, line), clip in zip(index.iterrows(), clips):
        equal(np.load(folder / line.path), clip.sides()[0].reshape(-1, 42, 3))
        assert line.frames == len(clip["landmarks"])


CHECKS = {
    "pose": check_pose,
    "parquet": check_parquet,
    "asl-signs": check_asl_signs,
    "webdataset": check_webdataset,
    "npy": check_npy,
}

make_results()
check_loader()
check_readme_example()
print("handloom_data.py: equal to numpy.load")
for which, clips in (("frames", hd.Frames(OUT)), ("sequences", hd.Clips(OUT))):
    clips = list(clips)
    for name, check in CHECKS.items():
        dest = FOLDER / f"{name}-{which}"
        handloom("export", OUT, "--to", name, "--dest", dest, "--from", which, "--clips-per-shard", 3)
        check(dest, clips)
        size = sum(os.path.getsize(path) for path in dest.rglob("*") if path.is_file())
        print(f"{name} from {which}: {len(clips)} clips, {size >> 10} KiB, read by its own tools, all values equal")
