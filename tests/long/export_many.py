#!/usr/bin/env python3
"""export_many.py PROGRAM OUT FOLDER [CLIPS [KILLS [FORMAT...]]]: repeats the results OUT to CLIPS clips and exports
them in each format. Prints seconds, MB and peak memory. Then kills the same export KILLS times with SIGKILL, resumes
it each time and compares all bytes. Needs numpy."""
import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

import numpy as np

program, source, folder = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
clips = int(sys.argv[4]) if len(sys.argv) > 4 else 12000
kills = int(sys.argv[5]) if len(sys.argv) > 5 else 20
MEMORY_MAX_MB = 200
BATCH = 256


def repeat(out):
    """Writes results that repeat the rows of `source` under new names."""
    (out / "batches").mkdir(parents=True)
    batches = [dict(np.load(path)) for path in sorted((source / "batches").glob("*.npz"))]
    glosses = batches[0].pop("glosses")
    for batch in batches[1:]:
        batch.pop("glosses")
    rows = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    count = len(rows["labels"])
    with open(out / "manifest.jsonl", "w") as manifest:
        for number, start in enumerate(range(0, clips, BATCH)):
            numbers = np.arange(start, min(start + BATCH, clips))
            batch = {key: value[numbers % count] for key, value in rows.items()}
            batch["video_ids"] = np.array([f"{n:05}" for n in numbers])
            batch["split"] = np.array([["train", "train", "train", "val", "test"][n % 5] for n in numbers])
            # Copies of a clip must differ in their bits.
            batch["landmarks"] = batch["landmarks"] * (1 + numbers / 1e6).astype("f4")[:, None, None, None, None]
            np.savez(out / f"batches/{number:05}.npz", glosses=glosses, **batch)
            for row, n in enumerate(numbers):
                line = {
                    "gloss": str(batch["labels"][row]), "video_id": f"{n:05}", "state": "accepted", "position": int(n),
                    "split": str(batch["split"][row]), "signer_id": int(batch["signer_id"][row]),
                    "stored": {"batch": number, "row": row},
                }
                manifest.write(json.dumps(line) + "\n")
    (out / "run.json").write_text(json.dumps({"settings": {}, "finished": {}}))


def start(name, dest):
    args = [program, "export", out, "--to", name, "--dest", dest]
    return subprocess.Popen(args, stdout=subprocess.DEVNULL)


def digest(dest):
    found = hashlib.sha256()
    for path in sorted(path for path in dest.rglob("*") if path.is_file()):
        found.update(str(path.relative_to(dest)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


out = folder / "many"
repeat(out)
rng = random.Random(1)
for name in sys.argv[6:] or ["npy", "pose", "webdataset", "parquet", "asl-signs"]:
    dest = folder / name
    started = time.monotonic()
    process = start(name, dest)
    _, status, usage = os.wait4(process.pid, 0)
    seconds, peak = time.monotonic() - started, usage.ru_maxrss / 1024
    assert status == 0, (name, status)
    size = sum(path.stat().st_size for path in dest.rglob("*") if path.is_file())
    wanted = digest(dest)
    print(f"{name}: {clips} clips in {seconds:.1f} s, {size / 1e6:.0f} MB, peak {peak:.0f} MB", flush=True)
    assert peak <= MEMORY_MAX_MB, peak
    shutil.rmtree(dest)
    killed = 0
    for _ in range(kills):
        process = start(name, dest)
        time.sleep(rng.uniform(0, 2.2 * seconds / kills))
        process.kill()
        killed += process.wait() == -9
    process = start(name, dest)
    assert process.wait() == 0, name
    assert digest(dest) == wanted, f"{name}: the bytes differ after {killed} kills"
    print(f"{name}: killed {killed} times and resumed: the same bytes", flush=True)
    shutil.rmtree(dest)
