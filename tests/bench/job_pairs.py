#!/usr/bin/env python3
"""Times two ways to process the public clips in alternating runs. Except for `backends`, the results must have equal
bytes.

usage: job_pairs.py binaries BASE [NEW]     the program before a change, and after it: two workers, backend `cpu`
       job_pairs.py bad FOLDER [PROGRAM]    without and with bad clips; the test `hostile_job` writes FOLDER
                                            with HANDLOOM_SWEEP=full HANDLOOM_BAD_CLIPS=FOLDER
       job_pairs.py shards [PROGRAM]        one process with two workers, and two shards at once with one worker each
       job_pairs.py backends A B [PROGRAM]  two values of --accelerator, one worker, clips with two hands in most frames; run it
                                            under `taskset -c 0`
Options: --pairs N --copies N (of each public clip) --batch-size N. The default PROGRAM is target/release/handloom.
Needs ../shared. Ratios divide the second way by the first; for `backends`, the first by the second.
"""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
PUBLIC = ROOT.parent / "shared/goldens/public"
PROGRAM = ROOT / "target/release/handloom"


def make_dataset(folder, copies, bad=(), chosen=None):
    """Makes a dataset of `copies` of each public clip, or of those in `chosen`, with the files of `bad` among them.
    Returns the number of good instances."""
    (folder / "videos").mkdir(parents=True)
    glosses, good = {}, 0
    # The metadata contains broken entries on purpose.
    for entry in json.loads((PUBLIC / "WLASL_v0.3.json").read_text()):
        for instance in entry.get("instances", []) if "gloss" in entry else []:
            clip = PUBLIC / "videos" / (instance.get("video_id", "") + ".mp4")
            is_good = clip.exists() and clip.stat().st_size > 0 and (chosen is None or clip.stem in chosen)
            for number in range(copies if is_good else 0):
                name = "%02d%s" % (number, instance["video_id"])
                shutil.copy(clip, folder / "videos" / (name + ".mp4"))
                glosses.setdefault(entry["gloss"], []).append(dict(instance, video_id=name))
                good += 1
    names = sorted(glosses)
    for clip in bad:
        shutil.copy(clip, folder / "videos" / clip.name)
        gloss = names[zlib.crc32(clip.stem.encode()) % len(names)]
        place = zlib.crc32(clip.name.encode()) % len(glosses[gloss])
        instance = {"video_id": clip.stem, "split": "train", "frame_start": 1, "frame_end": -1}
        glosses[gloss].insert(place, instance)
    for instances in glosses.values():
        for number, instance in enumerate(instances):
            instance["instance_id"] = number
    metadata = [{"gloss": gloss, "instances": glosses[gloss]} for gloss in names]
    (folder / "WLASL_v0.3.json").write_text(json.dumps(metadata))
    return good


class Pairs:
    def __init__(self, args, work):
        self.args, self.work = args, work

    def start(self, program, dataset, out, workers, *more, backend="cpu", **environment):
        command = [program, "process", dataset, "--out", out, "--fresh", "--workers", str(workers), "--accelerator", backend,
                   "--min-videos-per-gloss", "1", "--batch-size", str(self.args.batch_size), "--progress", "json", *more]
        # A separate cache, so that no run uses a cached choice from outside.
        environment = dict(os.environ, XDG_CACHE_HOME=str(self.work / "cache"), **environment)
        errors = tempfile.TemporaryFile(dir=self.work)
        job = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        return job, errors

    def run(self, *command, **environment):
        """Runs one job; returns wall seconds without and with a merge, processor seconds, and SHA-256 of the joined
        file."""
        return self.timed(lambda: [self.start(*command, **environment)], command[2])

    def timed(self, start, out, finish=lambda: None):
        begun, before = time.monotonic(), os.times()
        jobs = start()
        for job, _ in jobs:
            job.wait()
        worked = time.monotonic() - begun
        for job, errors in jobs:
            if job.returncode != 0:
                errors.seek(0)
                sys.exit("a job ended with %d: %s" % (job.returncode, errors.read().decode("utf-8", "replace")))
        finish()
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        sha256 = hashlib.sha256((out / "wlasl_landmarks.npz").read_bytes()).hexdigest()
        return worked, time.monotonic() - begun, cpu, sha256

    def two_handed(self, program, dataset):
        """The ids, without copy number, of the clips in `dataset` that show two hands in most frames."""
        self.run(program, dataset, self.work / "found", 1)
        lines = [json.loads(line) for line in (self.work / "found/manifest.jsonl").read_text().splitlines()]
        return {line["video_id"][-5:] for line in lines
                if line["state"] == "accepted" and line["clip"]["two_hand_pairs"] >= 0.75 * (line["clip"]["sampled"] - 1)}

    def alternate(self, first, second):
        """Runs both ways once as a warm-up, then in pairs whose order alternates; yields number and results."""
        for number in range(-1, self.args.pairs):
            ways = [first, second] if number % 2 == 0 else [second, first]
            results = {way: way() for way in ways}
            if number >= 0:
                yield number, results[first], results[second]

    def backends(self, first, second):
        """Alternates two backends and prints minima, medians and ratios."""
        rows = []
        for number, (a, _, a_cpu, _), (b, _, b_cpu, _) in self.alternate(first, second):
            rows.append((a, b, a_cpu, b_cpu))
            print("pair %d: wall %.2f and %.2f s, processor %.2f and %.2f s" % ((number,) + rows[-1]), flush=True)
        for name, statistic in (("minimum", min), ("median", statistics.median)):
            a, b, a_cpu, b_cpu = (statistic(column) for column in zip(*rows))
            print("%s: wall %.2f and %.2f s, ratio %.3f; processor %.2f and %.2f s, ratio %.3f" % (
                name, a, b, a / b, a_cpu, b_cpu, a_cpu / b_cpu))

    def compare(self, first, second):
        """Alternates both ways and prints each pair, then the medians of the ratios."""
        rows = []
        for number, (a, a_all, a_cpu, a_sha), (b, b_all, b_cpu, b_sha) in self.alternate(first, second):
            if a_sha != b_sha:
                sys.exit("the bytes differ: %s and %s" % (a_sha, b_sha))
            rows.append((b / a, b_all / a_all, b_cpu / a_cpu))
            print("pair %d: %.2f and %.2f s, with the merge %.2f s, processor %.2f and %.2f s; ratios %.4f %.4f %.4f; equal bytes" % (
                (number, a, b, b_all, a_cpu, b_cpu) + rows[-1]), flush=True)
        wall, whole, cpu = (statistics.median(column) for column in zip(*rows))
        print("medians of %d pairs: wall %.4f, with the merge %.4f, processor %.4f" % (len(rows), wall, whole, cpu))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["binaries", "bad", "shards", "backends"])
    parser.add_argument("what", nargs="*")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--copies", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=10)
    args = parser.parse_args()
    if not PUBLIC.is_dir():
        sys.exit("job_pairs: no %s" % PUBLIC)
    what = list(args.what)
    wanted = {"shards": 0, "backends": 2}.get(args.kind, 1)
    if len(what) not in (wanted, wanted + 1):
        parser.error("%s takes %d arguments, and PROGRAM" % (args.kind, wanted))
    program = pathlib.Path(what[wanted]).resolve() if len(what) > wanted else PROGRAM
    other = pathlib.Path(what[0]).resolve() if wanted == 1 else None
    with tempfile.TemporaryDirectory(prefix="pairs-") as work:
        work = pathlib.Path(work)
        pairs = Pairs(args, work)
        good = make_dataset(work / "good", args.copies)
        print("%d instances" % good, flush=True)
        out, second_out = work / "out", work / "second"
        if args.kind == "binaries":
            return pairs.compare(*(lambda name=name: pairs.run(name, work / "good", out, 2) for name in (other, program)))
        if args.kind == "bad":
            bad = sorted(other.glob("videos/*.mp4"))
            if not bad:
                parser.error("%s/videos has no clips" % other)
            make_dataset(work / "mixed", args.copies, bad)
            plugins = dict(GST_PLUGIN_PATH=str(other / "plugins"), GST_REGISTRY=str(work / "registry"))
            return pairs.compare(lambda: pairs.run(program, work / "good", out, 2, **plugins),
                                 lambda: pairs.run(program, work / "mixed", second_out, 2, "--clip-timeout", "6", **plugins))
        if args.kind == "backends":
            chosen = pairs.two_handed(program, work / "good")
            print("%d instances with two hands" % make_dataset(work / "two", args.copies, chosen=chosen), flush=True)
            ways = [lambda name=name: pairs.run(program, work / "two", out, 1, backend=name) for name in what[:2]]
            return pairs.backends(*ways)
        shards, merged = work / "shards", work / "merged"

        def sharded():
            shutil.rmtree(merged, ignore_errors=True)
            start = lambda: [pairs.start(program, work / "good", shards, 1, "--shard", "%d/2" % n) for n in range(2)]
            merge = lambda: subprocess.run([program, "merge", merged, shards], check=True, stdout=subprocess.DEVNULL)
            return pairs.timed(start, merged, merge)

        return pairs.compare(lambda: pairs.run(program, work / "good", out, 2), sharded)


if __name__ == "__main__":
    main()
