"""compare.py FRAMES_FOLDER OUT: prints the largest difference between OUT's sequences and those of corrected.py."""
import json, sys
from pathlib import Path
import numpy as np
from corrected import frame_range, sequence

folder, out = map(Path, sys.argv[1:])
options, compared, worst = json.loads((out / "run.json").read_text())["settings"], 0, 0.0
for path in sorted(folder.glob("*.npz")):
    kept, batch, row = dict(np.load(path)), np.load(out / "batches" / path.name), 0
    for n, name in enumerate(zip(kept["labels"], kept["video_ids"])):
        if row == len(batch["labels"]) or name != (batch["labels"][row], batch["video_ids"][row]):
            continue  # Not accepted.
        start, end = kept["offsets"][n : n + 2]
        span = [int(kept[key][n]) for key in ("frame_start", "frame_end", "declared_frames")]
        first, last = (start + at for at in frame_range(options, *span, end - start))
        keys = ("landmarks", "handedness", "handedness_score", "hand_count", "time_s")
        frames = (kept[key][first:last] for key in keys)
        made, mask, filled = sequence(options, *frames, kept["width"][n], kept["height"][n])
        expected = batch["sequences"][row]
        assert (mask == batch["mask"][row]).all() and (filled == batch["filled"][row]).all(), name
        assert (np.isnan(made) == np.isnan(expected)).all(), name
        worst = max(worst, np.nanmax(abs(made - expected), initial=0))
        compared, row = compared + 1, row + 1
    assert row == len(batch["labels"]), f"{path}: rows without kept frames"
print(f"{compared} sequences, largest difference {worst:.2e}")
sys.exit(worst > 1e-6)
