#!/usr/bin/env python3
"""Processes mutated clips of many formats. No clip may crash the program or exceed the clip timeout by more than
GRACE_S, and each must have the same state in every run. Prints states, times and the peak memory of all processes
together.

usage: tests/long/mutated_clips.py PROGRAM [--clips N] [--seed N] [--runs N] [--timeout SECONDS] [--keep DIR]

GStreamer's encoders and muxers (gst-launch-1.0) make the clips, so only formats whose elements are installed are
tested; at least 25 are required. Clip n depends on the seed and n alone. --keep leaves dataset and results in DIR.
"""
import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

FORMATS = {
    "mp4-h264": "x264enc key-int-max=5 ! mp4mux", "mp4-h264-faststart": "x264enc ! mp4mux faststart=true",
    "mp4-h264-fragments": "x264enc ! mp4mux fragment-duration=200", "mov-h264": "x264enc ! qtmux", "3gp-h264": "x264enc ! 3gppmux",
    "mp4-mpeg4": "avenc_mpeg4 ! mp4mux", "mp4-h265": "x265enc ! h265parse ! mp4mux", "mp4-openh264": "openh264enc ! h264parse ! mp4mux",
    "mov-mjpeg": "jpegenc ! qtmux", "mov-prores": "avenc_prores_ks ! qtmux", "mov-png": "videoconvert ! pngenc ! qtmux",
    "mj2": "openjpegenc ! mj2mux", "avi-mpeg4": "avenc_mpeg4 ! avimux", "avi-mjpeg": "jpegenc ! avimux", "avi-h264": "x264enc ! avimux",
    "avi-raw": "videoconvert ! video/x-raw,format=YUY2 ! avimux", "avi-wmv2": "avenc_wmv2 ! avimux",
    "avi-msmpeg4": "avenc_msmpeg4 ! avimux", "avi-huffyuv": "videoconvert ! avenc_huffyuv ! avimux",
    "mkv-h264": "x264enc ! matroskamux", "mkv-mpeg4": "avenc_mpeg4 ! matroskamux", "mkv-h265": "x265enc ! h265parse ! matroskamux",
    "mkv-live": "x264enc ! matroskamux streamable=true", "mkv-theora": "theoraenc ! matroskamux", "mkv-ffv1": "avenc_ffv1 ! matroskamux",
    "webm-vp8": "vp8enc deadline=1 ! webmmux", "webm-vp9": "vp9enc deadline=1 ! webmmux", "webm-av1": "av1enc cpu-used=8 ! av1parse ! webmmux",
    "flv-h264": "x264enc ! flvmux", "flv-sorenson": "avenc_flv ! flvmux", "ts-h264": "x264enc ! mpegtsmux",
    "ts-mpeg2": "mpeg2enc ! mpegvideoparse ! mpegtsmux", "ts-h265": "x265enc ! h265parse ! mpegtsmux",
    "ps-mpeg2": "mpeg2enc ! mpegvideoparse ! mpegpsmux", "ogg-theora": "theoraenc ! oggmux", "asf-wmv2": "avenc_wmv2 ! asfmux",
    "mxf-mpeg2": "mpeg2enc ! mpegvideoparse ! mxfmux", "h264": "x264enc ! video/x-h264,stream-format=byte-stream",
    "h265": "x265enc ! h265parse ! video/x-h265,stream-format=byte-stream", "m2v": "mpeg2enc", "m4v": "avenc_mpeg4",
    "y4m": "y4menc",
}
FORMATS_MIN = 25
# Seconds above the clip timeout, for a busy machine.
GRACE_S = 20


def encode(folder, name):
    """A short clip of the format, or `None` where an element is missing."""
    path = folder / name
    source = "videotestsrc num-buffers=12 pattern=ball ! video/x-raw,format=I420,width=96,height=64,framerate=25/1"
    line = "%s ! videoconvert ! %s ! filesink location=%s" % (source, FORMATS[name], path)
    done = subprocess.run(["gst-launch-1.0", "-q"] + line.split(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120)
    if done.returncode != 0 or not path.exists() or path.stat().st_size == 0:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        print("mutated: no %s here: %s" % (name, reason[0] if reason else "empty"))
        return None
    return path.read_bytes()


def mutate(clip, rng):
    """A clip with one to six changes; some change nothing."""
    clip = bytearray(clip)
    for _ in range(rng.randint(1, 6)):
        if not clip:
            break
        # Half of the changes are in the headers, which affect more than samples do.
        end = len(clip) if rng.random() < 0.5 else min(len(clip), 2048)
        at, count = rng.randrange(end), rng.choice([1, 1, 2, 4, 16, 200])
        kind = rng.randrange(9)
        if kind == 0:
            clip[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            clip[at:at + count] = bytes(rng.randrange(256) for _ in range(count))
        elif kind == 2:
            clip[at:at + count] = bytes(count)
        elif kind == 3:
            clip[at:at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\1", b"\x80\0\0\0"])
        elif kind == 4:
            del clip[at:at + count]
        elif kind == 5:
            clip[at:at] = bytes(rng.randrange(256) for _ in range(count))
        elif kind == 6:
            other = rng.randrange(len(clip))
            clip[at:at + count] = clip[other:other + count]
        elif kind == 7:
            del clip[rng.randrange(len(clip)):]
        else:
            clip[at:at] = clip[at:at + 500]
    return bytes(clip)


def make(dataset, count, seed):
    """Makes the dataset and returns the format of each clip."""
    videos = dataset / "videos"
    videos.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(2) as pool:
        encoded = dict(zip(FORMATS, pool.map(lambda name: encode(pathlib.Path(folder), name), FORMATS)))
    encoded = {name: clip for name, clip in encoded.items() if clip}
    if len(encoded) < FORMATS_MIN:
        sys.exit("mutated: this machine can make %d formats, %d are required" % (len(encoded), FORMATS_MIN))
    names, instances = sorted(encoded), []
    format_of = {}
    for number in range(count):
        rng = random.Random("%d %d" % (seed, number))
        format_of["%05d" % number] = names[number % len(names)]
        (videos / ("%05d.mp4" % number)).write_bytes(mutate(encoded[names[number % len(names)]], rng))
        instances.append({"video_id": "%05d" % number, "frame_start": 1, "frame_end": -1, "instance_id": number,
                          "signer_id": 1, "split": "train"})
    (dataset / "WLASL_v0.3.json").write_text(json.dumps([{"gloss": "ball", "instances": instances}]))
    return format_of


def memory_mib(group):
    """Proportional memory of all processes of a process group."""
    total = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            if os.getpgid(int(entry.name)) == group:
                rollup = pathlib.Path(entry.path, "smaps_rollup").read_text()
                total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue
    return total // 1024


def run(program, dataset, out, timeout):
    """Runs the job; returns exit code, longest pause between clips, peak memory, and states and reasons by clip."""
    command = [program, "process", dataset, "--out", out, "--fresh", "--min-videos-per-gloss", "1", "--workers", "2",
               "--clip-timeout", str(timeout), "--accelerator", "cpu", "--progress", "json"]
    with open(out.with_suffix(".stderr"), "wb") as errors:
        job = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
    peak, is_over = [0], threading.Event()

    def watch():
        while not is_over.wait(0.2):
            peak[0] = max(peak[0], memory_mib(job.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    last, pause = time.monotonic(), 0.0
    for line in job.stdout:
        if b'"clip"' in line:
            pause, last = max(pause, time.monotonic() - last), time.monotonic()
    code = job.wait()
    is_over.set()
    watcher.join()
    manifest = out / "manifest.jsonl"
    lines = [json.loads(line) for line in manifest.read_text().splitlines()] if manifest.exists() else []
    states = {line["video_id"]: (line["state"], (line.get("clip") or {}).get("sampled")) for line in lines}
    reasons = {line["video_id"]: line["reason"] for line in lines}
    return code, pause, peak[0], states, reasons


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=lambda path: str(pathlib.Path(path).resolve()))
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=10)
    parser.add_argument("--keep", type=pathlib.Path)
    args = parser.parse_args()
    folder = args.keep or pathlib.Path(tempfile.mkdtemp(prefix="mutated-"))
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "dataset", ignore_errors=True)
    formats = make(folder / "dataset", args.clips, args.seed)
    print("mutated: %d clips of %d formats" % (args.clips, len(set(formats.values()))), flush=True)
    faults, all_states = [], []
    for number in range(args.runs):
        started = time.monotonic()
        code, pause, peak, states, reasons = run(args.program, folder / "dataset", folder / ("out-%d" % number), args.timeout)
        counts = collections.Counter(state for state, _ in states.values())
        print("run %d: exit %d, %s, %.0f s, longest pause %.1f s, peak %d MiB" % (
            number, code, dict(sorted(counts.items())), time.monotonic() - started, pause, peak), flush=True)
        # 1: no sequence was extracted, since the clips show no hand.
        if code not in (0, 1):
            faults.append("run %d ends with %d" % (number, code))
        if len(states) != args.clips:
            faults.append("run %d has %d states for %d clips" % (number, len(states), args.clips))
        if pause > args.timeout + GRACE_S:
            faults.append("run %d made no progress for %.0f s" % (number, pause))
        all_states.append(states)
    for clip, name in sorted(formats.items()):
        seen = [states.get(clip) for states in all_states]
        if len(set(seen)) > 1:
            faults.append("%s (%s): %s" % (clip, name, seen))
    slow = [clip for clip, reason in reasons.items() if reason and "within" in reason]
    print("mutated: %d clips reached the timeout: %s" % (len(slow), collections.Counter(formats[clip] for clip in slow)))
    if not args.keep:
        shutil.rmtree(folder)
    for fault in faults:
        print("FAULT: " + fault)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
