"""Makes a sequence from the kept frames of a clip with numpy alone. `o` holds the options of run.json."""
import numpy as np

def frame_range(o, start, end, declared, count):
    total = declared if declared >= 0 else count
    if o["frame_range"] == "as_written":
        first, last = max(start, 0), min(end, total) if end > 0 else total
        last = last if last > first else total
    else:
        first, last = max(start - 1, 0), end if end > 0 else total
        first, last = (0, count) if o["frame_range"] == "whole" or not first < last <= total else (first, last)
        last = count if end <= 0 else last
    return min(first, count), min(last, count)

def choose(o, t, L):  # Indices of the sampled frames, and their times.
    n, even = len(t), np.linspace(t[0], t[-1], len(t)) if len(t) else t
    varies = n > 1 and (np.diff(t) > 0).all() and (abs(t - even) > (t[-1] - t[0]) / (n - 1) / 2).any()
    pick = np.arange(n)
    if o["sampling"] == "stride":
        pick = pick[:: o["frame_stride"]][:L]
    elif o["sampling"] == "uniform" and n > L and not varies:
        pick = (2 * np.arange(L) * (n - 1) + L - 1) // (2 * (L - 1))
    elif o["sampling"] == "uniform" and n > L:
        pick = [-1]
        for row, due in enumerate(np.linspace(t[0], t[-1], L)):
            pick.append(min(pick[-1] + 1 + np.argmin(abs(t[pick[-1] + 1 :] - due)), n - L + row))
        pick = np.array(pick[1:])
    return pick, t[pick] if varies else pick.astype(float)

def sequence(o, lm, side, score, count, t, width, height):
    L = o["sequence_length"]
    pick, at = choose(o, t, L)
    lm, side, score, count = lm[pick], side[pick], score[pick], count[pick, None]
    seen = np.arange(2) < count
    if o["slots"] == "sides":
        second = (count[:, 0] == 2) & (side[:, 0] == side[:, 1]) & (score[:, 0] < score[:, 1])
        swap = np.where(second, side[:, 0] == 0, side[:, 0] == 1)[:, None]
        lm, seen = np.where(swap[..., None, None], lm[:, ::-1], lm), np.where(swap, seen[:, ::-1], seen)
    path = [np.hypot(*np.diff(lm[seen[:, s], s, 0, :2].astype(float), axis=0).T).sum() for s in (0, 1)]
    if o["mirror"] == "dominant" and (seen[:, 0].sum(), path[0]) > (seen[:, 1].sum(), path[1]):
        lm, seen = lm[:, ::-1] * np.float32([-1, 1, 1]) + np.float32([1, 0, 0]), seen[:, ::-1]
    x = np.linspace(at[0], at[-1], L) if o["sampling"] == "interpolate" and len(at) else at
    hands, mask, filled = np.zeros((L, 2, 21, 3), "f4"), np.zeros((L, 2), bool), np.zeros((L, 2), bool)
    for s in (s for s in (0, 1) if seen[:, s].any()):
        frames = np.flatnonzero(seen[:, s])
        before, after = np.searchsorted(at[frames], x, "right") - 1, np.searchsorted(at[frames], x)
        rows = np.flatnonzero((before >= 0) & (after < len(frames)))
        gap = np.maximum(frames[after[rows]] - frames[before[rows]] - 1, 0)
        rows, gap = rows[gap <= (o["max_gap"] or 0)], gap[gap <= (o["max_gap"] or 0)]
        values = [np.interp(x[rows], at[frames], p) for p in lm[frames, s].reshape(-1, 63).T]
        hands[rows, s], mask[rows, s], filled[rows, s] = np.stack(values, 1).reshape(-1, 21, 3), True, gap > 0
    hands[..., 1] *= np.float32(height / width) if o["aspect"] else 1
    hands[..., :2] -= hands[..., :1, :2].copy()
    scale = np.sqrt((hands[..., 9:10, :2] ** 2).sum(-1, keepdims=True))
    scale[scale <= 1e-6] = 1
    hands /= np.concatenate([scale, scale, scale if o["z"] == "scaled" else np.ones_like(scale)], -1)
    hands[..., 2] *= o["z"] != "drop"
    hands[~mask] = np.nan if "nan" in o["missing"] else 0
    return hands.reshape(L, 126), mask, filled
