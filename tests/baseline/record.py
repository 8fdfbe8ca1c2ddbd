#!/usr/bin/env python3
"""Records the public behaviour of a handloom binary, for compare.py.

usage: record.py BINARY RECORD [--shared DIR]      DIR is ../shared of the repository by default

Runs BINARY in a temporary folder on the public golden clips, with its own mosquitto. RECORD is a JSON file:
npz      SHA-256 of every npz file, and of manifest.jsonl without its texts
schemas  keys and types of JSON lines, manifest.jsonl, run.json and ledger; the settings that decide a resume
mqtt     topics with QoS and retain flag; keys and types of their messages; the replies to commands
options  options of every subcommand with default, environment variable and possible values, from its help
exit     exit codes of the command lines in situations.txt, and of some others
config   every config key with its default
Texts for people, times and paths are left out. Compare only records from one machine: the model runtime's kernels
depend on the processor.

Exit codes: 0 recorded, 1 BINARY did not behave as the recording requires, 77 the golden clips are missing.
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
from program import Program, ENUM_KEYS, digests, ledger, manifest, shape

HERE = pathlib.Path(__file__).resolve().parent
ABSENT = 77
METADATA = "WLASL_v0.3.json"
# The small dataset: clips that are accepted, too short, without hands, unreadable, and one that is missing.
SMALL = ["14893", "53199", "90015", "90005", "90006", "69536", "99999"]
HANDLESS = ["90006"]
VIDEO = "14882.mp4"
STILL = "photos/images/wlasl_15753_f010.png"
# A service without broker, with low limits so that a small machine suffices.
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
    """Makes a dataset of one gloss; ids without a golden clip are missing clips."""
    (folder / "videos").mkdir(parents=True)
    instance = {"frame_start": 1, "frame_end": -1, "split": "train", "signer_id": 9, "instance_id": 0}
    entry = {"gloss": "hello", "instances": [instance | {"video_id": name} for name in ids]}
    (folder / METADATA).write_text(json.dumps([entry]))
    for clip in (public / "videos").iterdir():
        if clip.stem in ids:
            shutil.copy(clip, folder / "videos")
    return folder


def make_substitutions(folder, public):
    """Makes what stands in braces in situations.txt."""
    substitutions = {name: folder / name for name in ("text", "empty", "damaged", "service")}
    substitutions["text"].write_text("no video, no model, no archive, no config\n")
    substitutions["empty"].mkdir()
    substitutions["damaged"].mkdir()
    (substitutions["damaged"] / "ledger.sqlite").write_text("scrambled" * 500)
    substitutions["service"] = folder / "service.toml"
    substitutions["service"].write_text(SERVICE)
    for name, ids in {"small": SMALL, "handless": HANDLESS, "broken": []}.items():
        substitutions[name] = make_dataset(folder / name, public, ids)
    (substitutions["broken"] / METADATA).write_text("{ no JSON")
    return substitutions | {"public": public, "video": f"file:{public / 'videos' / VIDEO}"}


def record_exit_codes(program, substitutions, record):
    for line in (HERE / "situations.txt").read_text().splitlines():
        if not line.startswith("#"):
            record["exit"][line or "no arguments"] = program.run(line.format_map(substitutions))[0]


def record_events(program, name, lines, record):
    """Records the shape of JSON lines, grouped by `event` where they have one."""
    for event in sorted({line.get("event", "") for line in lines}):
        # The state in a camera's status depends on timing.
        enum_keys = ENUM_KEYS - {"state"} if event == "status" else ENUM_KEYS
        found = shape([line for line in lines if line.get("event", "") == event], enum_keys)
        record["schemas"].setdefault(f"{name} {event}".strip(), {}).update(found)


def record_output(name, out, record):
    run = json.loads((out / "run.json").read_text())
    record["npz"][name] = digests(out)
    record["schemas"][f"{name}: settings"] = run["settings"]
    record["schemas"][f"{name}: run.json"] = shape([run])
    record["schemas"][f"{name}: manifest.jsonl"] = shape(manifest(out))
    record["schemas"][f"{name}: ledger"] = ledger(out)


def record_jobs(program, public, record):
    """Runs `process` over all golden clips: as a folder, as a zip, with tracking, with one worker and two."""
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
    """Interrupts a job after its first clip, resumes it, and repeats the command when the job is complete."""
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


def record_camera(program, substitutions, still, record):
    """Runs `camera` on a clip without dropping a frame, and on a still with commands on stdin."""
    for more in ("--gloss deaf", "--signer 4 --split val"):
        command = f"camera --device {substitutions['video']} --at-once --max-seconds 1 --out takes {more}"
        record_events(program, "camera", program.lines(command), record)
    record_output("camera", program.folder / "takes", record)
    # Pairs of an event to wait for and the command to type then.
    script = [("status", None), ("sign", "make coffee"), ("refused", "record thank you 2"), ("record", None)]
    script += [("sign", "undo"), ("undo", "cancel"), ("cancel", None), ("status", "quit"), ("done", None)]
    command = f"camera --device file:{still} --fps 10 --max-seconds 1.2 --seconds 300 --preview 127.0.0.1:0"
    command += " --out typed --gloss wave"
    lines = []
    with program.start(command, stdin=subprocess.PIPE) as child:
        for line in child.stdout:
            lines.append(json.loads(line))
            # A busy machine drops frames, so a sign may be too short.
            if script and lines[-1]["event"] == script[0][0] and lines[-1].get("state") != "too_short":
                if typed := script.pop(0)[1]:
                    print(typed, file=child.stdin, flush=True)
    if script:
        sys.exit(f"record: {command}: no event {script[0][0]} among {lines}")
    record["exit"]["camera, typed commands"] = child.returncode
    record_events(program, "camera, typed commands", lines, record)


def record_reports(program, substitutions, record):
    """Records the JSON of other subcommands, and the demo's files."""
    for name, args in {
        "process --list": f"{substitutions['public']}",
        "inspect --json": "folder/wlasl_landmarks.npz folder/batches/00000.npz takes/batches/00000.npz",
        "check --json": f"--config {substitutions['service']}",
        "bench --json": "--seconds 0.2 --workers 1",
    }.items():
        record_events(program, name, program.lines(f"{name} {args}"), record)
    program.output("demo --out demo --workers 2")
    [demo] = (program.folder / "demo").rglob("manifest.jsonl")
    record["npz"]["demo"] = digests(demo.parent)


def record_options(program, record):
    """Records the options in each help. A default of several words is prose and is ignored."""
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
    """Records the config with only a name, a dataset and an output set."""
    least = program.folder / "least.toml"
    least.write_text('[device]\nid = "box"\n[dataset]\npath = "d"\n[output]\npath = "o"\n')
    preference = program.environment.pop("HANDLOOM_RUN_ACCELERATOR")
    text = program.output(f"check --print --config {least}")
    program.environment["HANDLOOM_RUN_ACCELERATOR"] = preference
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
        print(f"record: SKIPPED: no golden clips in {goldens}, so nothing is recorded", file=sys.stderr)
        return ABSENT
    # An exception ends the child processes, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("record: ended by SIGTERM"))
    record = {section: {} for section in ("npz", "schemas", "mqtt", "options", "exit", "config")}
    with tempfile.TemporaryDirectory() as folder:
        program = Program(args.binary.resolve(strict=True), pathlib.Path(folder))
        substitutions = make_substitutions(program.folder, public)
        record_options(program, record)
        record_config(program, record)
        record_exit_codes(program, substitutions, record)
        record_jobs(program, public, record)
        record_interruption(program, public, record)
        record_camera(program, substitutions, still, record)
        record_reports(program, substitutions, record)
        record_daemon(program, substitutions["service"], still, record)
    args.record.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
