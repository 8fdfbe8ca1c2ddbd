"""Runs a handloom binary and reduces its output to what must not change: keys, types, digests."""
import contextlib
import hashlib
import json
import os
import shlex
import sqlite3
import subprocess
import sys

# Limit of one run, in seconds.
TIMEOUT_S = 900
# Prefixes of variables that would change the binary's behaviour.
FOREIGN = ("HANDLOOM_", "CREDENTIALS_DIRECTORY", "CACHE_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_")
# Keys whose strings are from a fixed set.
ENUM_KEYS = {"ended_by", "state", "status", "verdict", "subject", "component", "command", "colour", "dtype"}
# Keys that are null at times or on some machines.
NULLABLE = {
    "eta_s", "clips_per_min", "temperature_c", "throttled", "load_1min", "memory_available_mib",
    "memory_resident_mib", "disk_free_mib", "before", "after",
}
# Keys of manifest.jsonl with texts for people or with values that differ between runs.
VARYING = {"reason", "stopped_early", "device", "taken", "clock_synced"}


class Program:
    """The binary, run in `folder` without the caller's settings. Commands are written as in a shell."""

    def __init__(self, binary, folder):
        self.binary, self.folder = str(binary), folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
        self.environment |= {"XDG_CACHE_HOME": str(folder / "cache"), "HANDLOOM_RUN_ACCELERATOR": "cpu"}

    @contextlib.contextmanager
    def start(self, command, **options):
        """Starts the process and waits for it at the end; kills it after an exception."""
        options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "text": True} | options
        command = [self.binary, *shlex.split(command)]
        place = {"cwd": self.folder, "env": self.environment}
        with subprocess.Popen(command, stdout=subprocess.PIPE, **place, **options) as child:
            try:
                yield child
            except BaseException:
                child.kill()
                raise

    def run(self, command):
        """Exit code and stdout."""
        with self.start(command) as child:
            out, _ = child.communicate(timeout=TIMEOUT_S)
        return child.returncode, out

    def output(self, command):
        """Stdout of a command that must succeed."""
        code, out = self.run(command)
        if code:
            sys.exit(f"record: {command}: exit {code}\n{out[-2000:]}")
        return out

    def lines(self, command):
        return [json.loads(line) for line in self.output(command).splitlines()]


def shape(values, enum_keys=frozenset(ENUM_KEYS)):
    """Path of keys → types of its values, and `path=value` → true for each value of `enum_keys`."""
    found = {}

    def add(value, path, key):
        kind = "any" if key in NULLABLE else "null" if value is None else type(value).__name__
        found.setdefault(path, set()).add(kind)
        if isinstance(value, dict):
            for name, item in value.items():
                add(item, f"{path}.{name}".removeprefix("."), name)
        elif isinstance(value, list):
            for item in value:
                add(item, f"{path}[]", key)
        elif key in enum_keys and value is not None:
            found[f"{path}={value}"] = True

    for value in values:
        add(value, "", "")
    return {path: kinds if kinds is True else "|".join(sorted(kinds)) for path, kinds in found.items()}


def manifest(out):
    return [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]


def ledger(out):
    """The columns of the ledger's tables, and its version."""
    with contextlib.closing(sqlite3.connect(out / "ledger.sqlite")) as database:
        columns = "SELECT t.name || '.' || c.name, c.type FROM sqlite_schema t, pragma_table_info(t.name) c"
        found = dict(database.execute(f"{columns} WHERE t.type = 'table'"))
        return found | {"user_version": database.execute("PRAGMA user_version").fetchone()[0]}


def digests(out):
    """SHA-256 of the results in an output folder."""
    files = {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*.npz"))}
    lines = manifest(out)
    for part in [*lines, *(line["clip"] for line in lines if "clip" in line)]:
        for key in VARYING & part.keys():
            del part[key]
    files["manifest.jsonl without texts"] = json.dumps(lines, sort_keys=True).encode()
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
