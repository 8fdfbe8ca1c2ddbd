"""Runs in place of the program inside its unit and prints, as a Python literal, what the sandbox allows.

usage: probe.py NODE...     opens each node; tests all directories and files for write access
"""
import errno
import os
import stat
import sys


def attempt(path):
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY))
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]


def writable():
    """The topmost writable directories, and the writable files outside them."""
    for folder, folders, files in os.walk("/"):
        # A process may write to its own entries.
        if folder == "/proc":
            folders[:] = [name for name in folders if not name.isdigit() and name not in ("self", "thread-self")]
            continue
        if os.access(folder, os.W_OK):
            folders[:] = []
            yield folder
            continue
        for name in files:
            path = os.path.join(folder, name)
            try:
                is_file = stat.S_ISREG(os.lstat(path).st_mode)
            except OSError:
                continue
            if is_file and os.access(path, os.W_OK):
                yield path


def nodes():
    """Device nodes that can be opened."""
    for folder, _, files in os.walk("/dev"):
        for name in files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and attempt(path) == "ok":
                yield path


status = dict(line.rstrip("\n").split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
print({
    "user": os.getuid(),
    "capabilities": [status[key] for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"],
    "seccomp": status["Seccomp"],
    "nodes": {path: attempt(path) for path in sys.argv[1:]},
    "openable": sorted(nodes()),
    "writable": sorted(writable()),
    "environment": {key: os.environ.get(key) for key in ("HOME", "STATE_DIRECTORY", "CACHE_DIRECTORY", "XDG_CACHE_HOME", "GST_REGISTRY")},
    "password": open(os.path.join(os.environ["CREDENTIALS_DIRECTORY"], "mqtt-password")).read().strip(),
})
