#!/usr/bin/env python3
"""Records what users and other programs see of a handloom binary, for compare.py.

usage: record.py BINARY RECORD [--shared DIR]      DIR is ../shared of the repository by default

Runs BINARY in a temporary folder on the public golden clips, with a mosquitto of its own. RECORD is a JSON file:
npz      SHA-256 of every npz file, and of manifest.jsonl without its texts
schemas  keys and types of JSON lines, manifest.jsonl, run.json and ledger; the settings that decide a resume
mqtt     topics with QoS and retain flag; keys and types of their messages; the replies to commands
options  options of every subcommand with default, environment variable and possible values, from its help
exit     exit codes of the command lines in situations.txt, and of some more
config   every config key with its default
Texts for people, times and paths are left out. Records can be compared when one machine made both: the model
runtime's kernels depend on the processor.

Exit codes: 0 recorded, 1 BINARY did not do what the recording needs, 77 the golden clips are not there.
"""
import argparse
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
import zipfile

from daemon import record_daemon
from program import Program, WORDS, digests, ledger, manifest, shape

HERE = pathlib.Path(__file__).resolve().parent
ABSENT = 77
METADATA = "WLASL_v0.3.json"
# The small dataset: clips that are accepted, too short, without hands, unreadable, and one that is not there.
SMALL = ["14893", "53199", "90015", "90005", "90006", "69536", "99999"]
HANDLESS = ["90006"]
FILM = "14882.mp4"
STILL = "photos/images/wlasl_15753_f010.png"
# A service without broker, on a machine that may be short of anything.
SERVICE = """
[device]
id = "box"
[dataset]
path = "small"
[output]
path = "service"
batch_size = 3
[plan]
min_videos_per_gloss = 1
[run]
workers = 1
[limits]
temperature_max_c = 125
memory_min_mib = 1
memory_resume_mib = 2
disk_reserve_mib = 1
disk_resume_mib = 2
"""


def make_dataset(folder, public, ids):
    """A dataset of one gloss; clips that the golden ones lack are missing here, too."""
    (folder / "videos").mkdir(parents=True)
    instance = {"frame_start": 1, "frame_end": -1, "split": "train", "signer_id": 9, "instance_id": 0}
    entry = {"gloss": "hello", "instances": [instance | {"video_id": name} for name in ids]}
    (folder / METADATA).write_text(json.dumps([entry]))
    for clip in (public / "videos").iterdir():
        if clip.stem in ids:
            shutil.copy(clip, folder / "videos")
    return folder


def make_places(folder, public):
    """What situations.txt has in braces."""
    places = {name: folder / name for name in ("text", "empty", "damaged", "service")}
    places["text"].write_text("no film, no model, no archive, no config\n")
    places["empty"].mkdir()
    places["damaged"].mkdir()
    (places["damaged"] / "ledger.sqlite").write_text("scrambled" * 500)
    places["service"] = folder / "service.toml"
    places["service"].write_text(SERVICE)
    for name, ids in {"small": SMALL, "handless": HANDLESS, "broken": []}.items():
        places[name] = make_dataset(folder / name, public, ids)
    (places["broken"] / METADATA).write_text("{ no JSON")
    return places | {"public": public, "film": f"file:{public / 'videos' / FILM}"}


def record_exit_codes(program, places, record):
    for line in (HERE / "situations.txt").read_text().splitlines():
        if not line.startswith("#"):
            record["exit"][line or "no arguments"] = program.run(line.format_map(places))[0]


def record_events(program, name, lines, record):
    """JSON lines, by their `event` where they have one."""
    for event in sorted({line.get("event", "") for line in lines}):
        # The state in a camera's status is chance.
        words = WORDS - {"state"} if event == "status" else WORDS
        found = shape([line for line in lines if line.get("event", "") == event], words)
        record["schemas"].setdefault(f"{name} {event}".strip(), {}).update(found)


def record_output(name, out, record):
    run = json.loads((out / "run.json").read_text())
    record["npz"][name] = digests(out)
    record["schemas"][f"{name}: settings"] = run["settings"]
    record["schemas"][f"{name}: run.json"] = shape([run])
    record["schemas"][f"{name}: manifest.jsonl"] = shape(manifest(out))
    record["schemas"][f"{name}: ledger"] = ledger(out)


def record_jobs(program, public, record):
    """`process` over all golden clips: as a folder, as a zip, with tracking, with one worker and two."""
    archive = program.folder / "public.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in [public / METADATA, *sorted((public / "videos").iterdir())]:
            file.write(path, path.relative_to(public))
    for name, args in {
        "folder": f"{public} --workers 1",
        "folder, 2 workers": f"{public} --workers 2",
        "zip": f"{archive} --workers 2 --batch-size 10",
        "tracking": f"{public} --workers 2 --tracking",
    }.items():
        out = program.folder / name
        record_events(program, "process", program.lines(f"process {args} --out '{out}'"), record)
        record_output(name, out, record)


def record_interruption(program, public, record):
    """A job that is interrupted after its first clip, resumed, and given again when it is complete."""
    command = f"process {public} --out interrupted --workers 1 --selected-glosses deaf,hello"
    lines = []
    with program.start(command) as child:
        for line in child.stdout:
            lines.append(json.loads(line))
            if lines[-1]["event"] == "clip":
                child.send_signal(signal.SIGINT)
                break
        lines += [json.loads(line) for line in child.stdout]
    record["exit"]["process, SIGINT"] = child.returncode
    record_events(program, "process, SIGINT", lines, record)
    for name, more in {"resumed": "", "complete": "", "retry": "--retry-failed", "rescan": "--rescan"}.items():
        record_events(program, f"process, {name}", program.lines(f"{command} {more}"), record)
    record_output("interrupted", program.folder / "interrupted", record)


def record_camera(program, places, still, record):
    """`camera` on a clip without dropping a frame, and on a still with commands on stdin."""
    for more in ("--gloss deaf", "--signer 4 --split val"):
        command = f"camera --device {places['film']} --at-once --max-seconds 1 --out takes {more}"
        record_events(program, "camera", program.lines(command), record)
    record_output("camera", program.folder / "takes", record)
    # What is typed when an event has come.
    script = [("status", None), ("sign", "make coffee"), ("refused", "record thank you 2"), ("record", None)]
    script += [("sign", "undo"), ("undo", "cancel"), ("cancel", None), ("status", "quit"), ("done", None)]
    command = f"camera --device file:{still} --fps 10 --max-seconds 1.2 --seconds 300 --preview 127.0.0.1:0"
    command += " --out typed --gloss wave"
    lines = []
    with program.start(command, stdin=subprocess.PIPE) as child:
        for line in child.stdout:
            lines.append(json.loads(line))
            # A busy machine drops frames, and signs with them.
            if script and lines[-1]["event"] == script[0][0] and lines[-1].get("state") != "too_short":
                if typed := script.pop(0)[1]:
                    print(typed, file=child.stdin, flush=True)
    if script:
        sys.exit(f"record: {command}: no event {script[0][0]} among {lines}")
    record["exit"]["camera, typed commands"] = child.returncode
    record_events(program, "camera, typed commands", lines, record)


def record_reports(program, places, record):
    """The JSON of other subcommands, and the demo's files."""
    for name, args in {
        "process --list": f"{places['public']}",
        "inspect --json": "folder/wlasl_landmarks.npz folder/batches/00000.npz takes/batches/00000.npz",
        "check --json": f"--config {places['service']}",
        "bench --json": "--seconds 0.2 --workers 1",
    }.items():
        record_events(program, name, program.lines(f"{name} {args}"), record)
    program.output("demo --out demo --workers 2")
    [demo] = (program.folder / "demo").rglob("manifest.jsonl")
    record["npz"]["demo"] = digests(demo.parent)


def record_options(program, record):
    """A default of several words is text."""
    commands = re.findall(r"^  ([a-z-]+)  ", program.output("--help").partition("\nCommands:")[2], re.M)
    for command in ["", *(name for name in commands if name != "help")]:
        found = record["options"][command or "handloom"] = {}
        # An option's line, and the deeper ones below it.
        option = r"^(?:  -(\w), |      )(--[a-z][\w-]*).*\n((?: {8,}.*\n| *\n)*)"
        for short, name, text in re.findall(option, program.output(f"{command} --help"), re.M):
            default, variable = re.search(r"\[default: (\S+)\]", text), re.search(r"\[env: (\w+)", text)
            found[name] = {"short": short, "default": default and default[1], "env": variable and variable[1]}
            values = re.findall(r"^ +- ([\w-]+)(?::|$)", text, re.M)
            values += re.findall(r"[\w-]+", "".join(re.findall(r"\[possible values: ([^]]*)\]", text)))
            found[name] |= {f"={value}": True for value in values}


def record_config(program, record):
    """What holds when nothing but a name, a dataset and an output is set."""
    least = program.folder / "least.toml"
    least.write_text('[device]\nid = "box"\n[dataset]\npath = "d"\n[output]\npath = "o"\n')
    wish = program.environment.pop("HANDLOOM_RUN_ACCELERATOR")
    text = program.output(f"check --print --config {least}")
    program.environment["HANDLOOM_RUN_ACCELERATOR"] = wish
    for section, keys in tomllib.loads(text).items():
        record["config"] |= {f"{section}.{key}": value for key, value in keys.items()}
    for part in f"\n{text}".split("\n[")[1:]:
        section = part.partition("]")[0]
        record["config"] |= {f"{section}.{key}": "not set" for key in re.findall(r"^# ?([a-z_]+)\b", part, re.M)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=pathlib.Path)
    parser.add_argument("record", type=pathlib.Path)
    parser.add_argument("--shared", type=pathlib.Path, default=HERE.parent.parent.parent / "shared")
    args = parser.parse_args()
    goldens = args.shared.resolve() / "goldens"
    public, still = goldens / "public", goldens / STILL
    if not (public / METADATA).exists() or not still.exists():
        print(f"record: SKIPPED: the golden clips are not in {goldens}, so nothing is recorded", file=sys.stderr)
        return ABSENT
    # What was started ends, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("record: ended by SIGTERM"))
    record = {section: {} for section in ("npz", "schemas", "mqtt", "options", "exit", "config")}
    with tempfile.TemporaryDirectory() as folder:
        program = Program(args.binary.resolve(strict=True), pathlib.Path(folder))
        places = make_places(program.folder, public)
        record_options(program, record)
        record_config(program, record)
        record_exit_codes(program, places, record)
        record_jobs(program, public, record)
        record_interruption(program, public, record)
        record_camera(program, places, still, record)
        record_reports(program, places, record)
        record_daemon(program, places["service"], still, record)
    args.record.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
