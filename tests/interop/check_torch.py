#!/usr/bin/env python3
"""check_torch.py OUT: checks tests/python/handloom_data.py with torch. The dataset's tensors must equal the
sequences, also through spawned DataLoader workers."""
import pathlib
import sys

import numpy as np
import torch
import torch.utils.data

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "python"))
import handloom_data as hd

OUT = sys.argv[1]


def main():
    clips = hd.Clips(OUT)
    dataset = hd.SignDataset(OUT)
    assert isinstance(dataset, torch.utils.data.Dataset)
    for context in (None, "spawn"):
        workers = 0 if context is None else 2
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=4, num_workers=workers, multiprocessing_context=context
        )
        found = [(sequences, labels) for sequences, labels in loader]
        sequences = torch.cat([sequences for sequences, _ in found])
        labels = torch.cat([labels for _, labels in found])
        assert sequences.dtype == torch.float32 and labels.dtype == torch.int64
        assert np.array_equal(sequences.numpy(), np.stack([clip["sequences"] for clip in clips]))
        assert labels.tolist() == [clip["label_id"] for clip in clips]
    print(f"torch {torch.__version__}: {len(dataset)} sequences, equal to those of the npz files")


if __name__ == "__main__":
    main()
