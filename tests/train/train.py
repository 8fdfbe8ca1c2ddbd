"""train.py RUN [RUN ...]: prints the held-out accuracy of the notebook's LSTM for each RUN, which is OUT or OUT+OUT,
on the clips that all runs have."""
import sys
import numpy as np
import torch
from torch import nn

SEEDS, EPOCHS, T95 = 10, 80, 2.262  # Student's t for ten seeds


def accuracy(x, y, seed):
    torch.manual_seed(seed)
    order = torch.randperm(len(y))  # every fifth clip of each class is held out
    rank = torch.stack([(y[order[:n]] == y[order[n]]).sum() for n in range(len(y))])
    test, train = order[rank % 5 == 1], order[rank % 5 != 1]
    first, second = nn.LSTM(x.shape[2], 128, batch_first=True), nn.LSTM(128, 64, batch_first=True)
    dense = nn.Dropout(0.5), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, int(y.max()) + 1)
    net = nn.ModuleList([first, second, nn.Sequential(*dense)])
    logits = lambda x: net[2](second(first(x)[0])[0][:, -1])
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(EPOCHS):
        for batch in train[torch.randperm(len(train))].split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits(x[batch]), y[batch]).backward()
            optimizer.step()
    net.eval()
    return (logits(x[test]).argmax(1) == y[test]).float().mean().item()


data = []
for runs in sys.argv[1:]:
    files = [np.load(f"{run}/wlasl_landmarks.npz") for run in runs.split("+")]
    rows = [row for f in files for row in zip(f["video_ids"].tolist(), f["labels"].tolist(), f["sequences"])]
    data.append({(video_id, label): x for video_id, label, x in rows})
keys = sorted(set.intersection(*map(set, data)))
labels, y = np.unique([label for _, label in keys], return_inverse=True)
for runs, clips in zip(sys.argv[1:], data):
    x = torch.tensor(np.nan_to_num(np.stack([clips[key] for key in keys])))
    found = [accuracy(x, torch.tensor(y), seed) for seed in range(SEEDS)]
    half = T95 * np.std(found, ddof=1) / SEEDS**0.5
    print(f"{runs}: {np.mean(found):.3f} ± {half:.3f} on {len(keys)} clips of {len(labels)} classes, {SEEDS} seeds")
